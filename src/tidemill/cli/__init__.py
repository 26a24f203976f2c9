"""The command line: one noun for each thing that is remembered, and a few verbs."""
