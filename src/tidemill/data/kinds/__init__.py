"""Kinds of sources: files, objects, Delta tables, queries, frames in hand; each lists its batches and reads one."""
