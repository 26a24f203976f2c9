"""Labels: what turned out, matched with what was predicted."""
