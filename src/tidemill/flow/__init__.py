"""The one engine: plans a pipeline, runs its steps, and leaves the lineage in the ledger."""
