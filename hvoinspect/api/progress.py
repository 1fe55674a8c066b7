"""How whoever asks hears of what takes long."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Hears how much is done, and of how much, both in the same unit."""


def no_progress(_done: int, _total: int) -> None:
    """Show nothing."""
