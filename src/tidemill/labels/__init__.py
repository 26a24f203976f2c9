"""Labels: the true outcomes of predictions."""
