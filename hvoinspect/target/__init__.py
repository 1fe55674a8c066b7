"""A kernel to look at: how it is opened, and every fact about it that is used."""
