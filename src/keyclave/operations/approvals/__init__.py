"""Approvals: asked for, signed by others, used once. What is sensitive is held here, whichever protocol it comes by."""
