"""Stores of rows and routes: the journal of predictions and labels, the tables of accepted rows, the board."""
