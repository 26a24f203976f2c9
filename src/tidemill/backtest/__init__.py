"""The backtest: the loop of the daemon on a virtual clock, over historical rows, and its report."""
