"""Checks: everything that judges takes numbers and returns a Verdict; none knows where they come from."""
