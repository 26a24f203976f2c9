"""Training: fits, searches and evaluates estimators on matrices."""
