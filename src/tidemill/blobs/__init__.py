"""Bytes by digest: blobs on disk or in an object store, codecs, artifacts and model packages."""
