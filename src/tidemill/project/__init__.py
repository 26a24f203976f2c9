"""The user's project: its configuration, and the loading of its code."""
