"""Finds the code of a step: the objects that it reaches, the source of their modules, and installed packages."""
