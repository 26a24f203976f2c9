"""Benchmarks: one file for each hot path, run as `python -m benchmarks.NAME [--quick] [--json]`."""
