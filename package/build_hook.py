"""Puts the manual pages of all commands into wheels, where `man` finds them: share/man/man1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface[BuilderConfig]):
    """A custom build hook of hatchling, of wheels only."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages, and name them as data that is installed."""
        if version == "editable":
            return
        folder = Path(self.root) / "build" / "man"
        script = Path(self.root) / "package" / "manpages.py"
        # In a process of its own: what builds may have imported another hvoinspect.
        subprocess.run([sys.executable, "-P", script, folder], check=True, env=dict(os.environ))
        for page in sorted(folder.iterdir()):
            build_data["shared_data"][str(page)] = f"share/man/man1/{page.name}"
