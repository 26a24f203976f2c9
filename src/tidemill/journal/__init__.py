"""Rows that arrive: the journal of predictions and labels, the tables of accepted rows, the board of routes."""
