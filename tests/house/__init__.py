"""The rules of the house, each tried on the repository and on a planted breach, so that one that finds nothing can be trusted."""
