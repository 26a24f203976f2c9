"""The pipelines of the vehicles project: the unchanged recipes."""

from tidemill.recipes import ingestion, recalling, training, watching

__all__ = ["ingestion", "recalling", "training", "watching"]
