"""Monitoring: reads the journal, returns verdicts; what follows from them is the policy's."""
