"""Access: tokens, roles, and who made a request."""
