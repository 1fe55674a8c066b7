"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure; what must not take long has a test that says so.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
