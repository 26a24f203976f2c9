"""Checks: functions that return a Verdict or Findings on rows and numbers; they use neither a store nor the engine."""
