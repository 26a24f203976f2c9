"""Frames in and out, what they hold, and how they are cut: knows no store and no engine."""
