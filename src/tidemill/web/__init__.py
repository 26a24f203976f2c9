"""The web pages: the records of an environment in a browser, and the report of a backtest."""
