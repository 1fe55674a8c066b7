"""Whole questions in one call each: what the commands ask, for other programs to ask too."""
