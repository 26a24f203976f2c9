"""The host: the tools of the machine that are called, never imported."""
