"""Training: fits estimators on matrices; knows neither where rows come from nor where models go."""
