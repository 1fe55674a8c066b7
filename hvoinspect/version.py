"""The version of hvoinspect."""

__version__ = "0.1.0"
