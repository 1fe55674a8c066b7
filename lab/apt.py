"""Runs apt in a folder of the lab's own: the system's sources, lists and cache stay as they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from lab.errors import LabError
from lab.packages import Build, Package, builds, parse_packages
from lab.sources import Mirrors, mirrors

SUITES = ("bookworm", "bookworm-backports", "trixie", "trixie-backports")
SECURITY_SUITES = ("bookworm-security", "trixie-security")
# Only for what the others do not carry: large lists that change by the day, and a release that has
# left support (its 5.10 has no HVO).
LAST_RESORT = ("sid", "bullseye")

KEYRINGS = tuple(
    Path(f"/usr/share/keyrings/debian-archive-keyring.{suffix}") for suffix in ("gpg", "pgp")
)
FRESH_SECONDS = 3600


class Apt:
    """Debian's package lists and packages, by way of the machine's own mirror.

    All methods raise LabError: if apt is missing, the mirror cannot be reached, or a signature
    is not by Debian's archive keys.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: list[Build] | None = None
        self._failure = ""

    def known(self, *, last_resort: bool = False) -> list[Build]:
        """Return the kernels that can be fetched, after refreshing lists older than an hour.

        `last_resort` also looks in suites that are left out because they are large.
        """
        stamp = self.folder / "sources.list"
        wanted = self._sources_list(mirrors(), last_resort=last_resort)
        try:
            old = stamp.read_text(encoding="utf-8")
            fresh = time.time() - stamp.stat().st_mtime < FRESH_SECONDS
        except OSError:
            old, fresh = "", False
        # A list that also has the last resort's suites serves those who do not ask for them.
        if not self._failure and not (fresh and old.startswith(wanted)):
            self._update(wanted)
            self._known = None
        if self._known is None:
            self._known = builds(self._list())
        if not self._known and self._failure:
            raise LabError(
                f"Debian's package lists cannot be fetched: {self._failure}",
                "check that the mirror can be reached; kernels fetched before can be used offline",
            )
        return self._known

    def download(self, packages: list[Package], folder: Path) -> list[Path]:
        """Get `packages` into `folder`; apt checks them against the signed lists."""
        need = sum(package.size for package in packages)
        free = shutil.disk_usage(folder).free
        if free < 4 * need + (256 << 20):
            raise LabError(
                f"{folder} has only {free >> 20} MiB left for {need >> 20} MiB of packages",
                "make room, or name another folder with HVOINSPECT_LAB_CACHE",
            )
        done = self._run(
            "apt-get", "-q", "download", *(package.exact for package in packages), cwd=folder
        )
        found = sorted(folder.glob("*.deb"))
        if done.returncode or len(found) != len(packages):
            raise LabError(
                f"apt could not get {packages[0].name}: {_reason(done)}",
                "check that the mirror can be reached, then run this again",
            )
        return found

    def _update(self, sources: str) -> None:
        for part in ("lists/partial", "cache/archives/partial"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        stamp = self.folder / "sources.list"
        new = self.folder / "sources.new"
        new.write_text(sources, encoding="utf-8")
        done = self._run("apt-get", "-q", "update", sources=new)
        new.replace(stamp)
        # A suite that cannot be reached is only a warning to apt. The others' lists, and older
        # ones, serve meanwhile; the next command tries again.
        self._failure = _reason(done) if done.returncode or "Failed to fetch" in done.stderr else ""
        if self._failure:
            os.utime(stamp, (0, 0))

    def _list(self) -> list[Package]:
        names = [
            name
            for kind in ("image", "binary", "modules", "base", "headers")
            for name in self._read("apt-cache", "pkgnames", f"linux-{kind}-").split()
            if "-cloud-amd64" in name or name.endswith("-common")
        ]
        return parse_packages(self._read("apt-cache", "show", *names)) if names else []

    def _read(self, *command: str) -> str:
        done = self._run(*command)
        if done.returncode:
            raise LabError(
                f"{command[0]} failed: {_reason(done)}", f"remove {self.folder} and try again"
            )
        return done.stdout

    def _run(
        self, program: str, *arguments: str, cwd: Path | None = None, sources: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        settings = {
            "Dir::State": self.folder,
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::SourceList": sources or self.folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Architecture": "amd64",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "APT::Get::List-Cleanup": "true",
            # The cache may lie in a home folder that apt's own user cannot enter.
            "APT::Sandbox::User": "root",
        }
        options = [f"-o{key}={value}" for key, value in settings.items()]
        try:
            return subprocess.run(
                [program, *options, *arguments],
                cwd=cwd or self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except FileNotFoundError:
            raise LabError(
                f"{program} is missing, so no kernel can be fetched",
                "use a Debian or Ubuntu machine, or copy a filled cache to this one",
            ) from None

    @staticmethod
    def _sources_list(where: Mirrors, *, last_resort: bool) -> str:
        keyring = next((path for path in KEYRINGS if path.exists()), None)
        if keyring is None:
            raise LabError(
                "Debian's archive keys are missing, so no package can be trusted",
                "install them with: sudo apt-get install debian-archive-keyring",
            )
        lines = [f"deb [signed-by={keyring}] {where.main} {suite} main" for suite in SUITES]
        if where.security:
            lines += [
                f"deb [signed-by={keyring}] {where.security} {suite} main"
                for suite in SECURITY_SUITES
            ]
        if last_resort:
            lines += [
                f"deb [signed-by={keyring}] {where.main} {suite} main" for suite in LAST_RESORT
            ]
        return "\n".join(lines) + "\n"


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W: Failed"))]
    return lines[0].split(":", 1)[1].strip() if lines else f"exit status {done.returncode}"
