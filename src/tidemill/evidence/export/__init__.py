"""The evidence file of a release: documents from the facts in the ledger, in one archive that verifies offline."""
