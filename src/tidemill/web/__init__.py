"""The pages: what happened and why, to look at in a browser, and the report of a backtest."""
