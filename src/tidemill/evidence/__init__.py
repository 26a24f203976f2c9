"""Evidence: explains records afterwards, from the ledger and the journal."""
