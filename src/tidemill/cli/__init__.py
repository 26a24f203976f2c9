"""The command line: one noun for each thing that is remembered, and a few verbs."""

import gc

# What a command imports stays: to look for garbage in it every 700 objects takes a twentieth of the start.
gc.set_threshold(10_000)
