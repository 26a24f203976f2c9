"""Rules of the literature for when to retrain, as policies that a backtest compares a project's policy with."""
