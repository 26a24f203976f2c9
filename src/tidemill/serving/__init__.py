"""The prediction service: routes rows to releases, predicts, and writes every prediction to the journal."""
