"""Features: the point-in-time join and the statistics over windows."""
