"""Three stores, three shapes: blobs (bytes by digest), ledger (facts, SQL), journal (rows that arrive)."""
