"""Reading of files: bytes and a dialect become columns of text, and these become typed columns."""
