"""Recipes: pipelines ready to use, and their steps, of which a project may replace any; neither opens a store.

A project's `pipeline.py` imports those that it wants: `from tidemill.recipes import ingestion, training, watching`.
"""

from tidemill.recipes.ingestion import ingestion, materialization
from tidemill.recipes.training import training
from tidemill.recipes.watching import watching

__all__ = ["ingestion", "materialization", "training", "watching"]
