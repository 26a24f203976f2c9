"""Recipes: pipelines that are ready to use, and their steps. A project can replace each step; no step opens a store.

A project's `pipeline.py` imports those that it uses: `from tidemill.recipes import ingestion, training, watching`.
"""

from tidemill.recipes.ingestion import ingestion, materialization
from tidemill.recipes.learning import learning
from tidemill.recipes.recalling import recalling
from tidemill.recipes.training import training
from tidemill.recipes.watching import watching

__all__ = ["ingestion", "learning", "materialization", "recalling", "training", "watching"]
