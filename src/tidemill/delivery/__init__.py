"""Delivery: how a release goes live, step by step, and back."""
