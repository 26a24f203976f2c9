"""Features: the point-in-time join, and the windows over what was known."""
