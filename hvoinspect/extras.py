"""What only some installations have."""

from __future__ import annotations

from importlib.util import find_spec

from hvoinspect.errors import HvoinspectError


def needed(extra: str, *modules: str) -> None:
    """Raise HvoinspectError, which says how to install them, if one of `modules` is missing.

    `extra` is the optional dependency set that has them, called as the command that needs them.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise HvoinspectError(
            f"{' and '.join(missing)} cannot be found, which `hvoinspect {extra}` is built on",
            f"install what it needs with: pip install 'hvoinspect[{extra}]'",
        )
