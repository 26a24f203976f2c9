"""Evidence: what can be told afterwards, from the ledger and the journal alone."""
