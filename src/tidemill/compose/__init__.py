"""The composition root: opens every store by its URL and gives sessions what steps ask for."""
