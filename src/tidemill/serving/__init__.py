"""The prediction service: routes rows to releases, answers, and keeps every answer in the journal."""
