"""The composition root: opens every store by its URL, and creates sessions with the resources of steps."""
