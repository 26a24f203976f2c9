"""Model packages: how each flavor is packed, loaded and used for predictions."""
