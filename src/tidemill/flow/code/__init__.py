"""What a step's code is made of: the objects that it reaches, the source of their modules, and installed packages."""
