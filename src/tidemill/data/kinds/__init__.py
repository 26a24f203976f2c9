"""Kinds of sources: files, objects, Delta tables, queries and frames; each lists its batches and reads one of them."""
