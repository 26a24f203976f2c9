"""Upkeep of a workspace: garbage collection, backup, restore and erasure."""
