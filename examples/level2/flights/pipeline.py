"""The pipelines of the project: the recipes of Tidemill."""

from tidemill.recipes import ingestion, training, watching

__all__ = ["ingestion", "training", "watching"]
