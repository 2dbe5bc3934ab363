"""Floor 5: what is approved, what an approver signs, and who counts. Pure: no store, no clock, no key."""
