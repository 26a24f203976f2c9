"""Faults, tried on real projects: what is lost, what recovers, and what is reported."""
