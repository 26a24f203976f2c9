"""The nouns: what the ledger remembers, and nothing that does anything."""
