"""The kernels the lab knows by name, and the cache that holds those it has fetched."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.apt import Apt
from lab.errors import LabError
from lab.packages import Build, matches, pick, version_key

CACHE_VARIABLE = "HVOINSPECT_LAB_CACHE"

# What the project is tested on: https://git.kernel.org/torvalds/c/8c846c879e22 and its neighbours,
# merged for 7.1, replaced head pointers by masks and fake heads by shared tails.
KNOWN = {
    "6.1": "fake heads",
    "6.12": "fake heads",
    "7.0": "last before the rework: pointers, fake heads",
    "7.1": "first after it: masks, shared tails",
    "7.3": "newest",
}

# Debian's packages have a System.map of a line that only points to the debug package.
_STUB = 4096


@dataclass(frozen=True)
class Kernel:
    """A fetched kernel: `release` is what `uname -r` says, `version` the package's version."""

    release: str
    version: str
    folder: Path

    @property
    def vmlinuz(self) -> Path:
        """The compressed kernel, as QEMU boots it."""
        return self.folder / "vmlinuz"

    @property
    def config(self) -> Path | None:
        """The build's configuration; None where Debian no longer carries it."""
        return _existing(self.folder / "config")

    @property
    def modules(self) -> Path | None:
        """The folder that would be /lib/modules/RELEASE; None if there are no modules."""
        return _existing(self.folder / "lib/modules" / self.release / "kernel")

    @property
    def vmlinux(self) -> Path | None:
        """The kernel with DWARF; None unless fetched with `--debug`."""
        return _existing(self.folder / "debug/vmlinux")

    @property
    def headers(self) -> Path | None:
        """The headers, one tree of all; None unless fetched with `--headers`."""
        return _existing(self.folder / "headers")

    @property
    def system_map(self) -> Path | None:
        """The symbol table's text; None unless fetched with `--debug`."""
        return _existing(self.folder / "debug/System.map")


class Cache:
    """A folder of fetched kernels; what lies in it under its final name is complete."""

    def __init__(self, folder: Path | None = None) -> None:
        named = os.environ.get(CACHE_VARIABLE)
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        self.folder = (
            (folder or Path(named or Path(home) / "hvoinspect" / "lab")).expanduser().absolute()
        )
        self.apt = Apt(self.folder / "apt")

    def kernels(self) -> list[Kernel]:
        """Return what is cached, the oldest first."""
        found = []
        for path in self.folder.glob("kernels/*/kernel.json"):
            facts = json.loads(path.read_text(encoding="utf-8"))
            found.append(Kernel(facts["release"], facts["version"], path.parent))
        return sorted(found, key=lambda kernel: version_key(kernel.version))

    def find(self, wanted: str, *, debug: bool = False) -> Kernel | None:
        """Return the newest cached kernel that `wanted` names, or None."""
        named = [
            kernel
            for kernel in self.kernels()
            if matches(kernel.release, kernel.version, wanted) and (kernel.vmlinux or not debug)
        ]
        return named[-1] if named else None

    def get(
        self, wanted: str, *, debug: bool = False, say: Callable[[str], None] = lambda _: None
    ) -> Kernel:
        """Return the cached kernel that `wanted` names, after fetching it if there is none.

        Raises LabError if it cannot be fetched.
        """
        return self.find(wanted, debug=debug) or self.fetch(wanted, debug=debug, say=say)

    def fetch(
        self,
        wanted: str,
        *,
        debug: bool = False,
        headers: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> Kernel:
        """Return the newest kernel Debian carries under that name, fetching it if it is new.

        `debug` and `headers` get what Debian has beside it; that may be no headers. `say` gets a
        line for what takes time. Offline, a cached kernel serves, and `say` is told.
        Raises LabError if there is neither.
        """
        with self._lock():
            try:
                build = self._resolve(wanted, debug=debug)
            except LabError as error:
                cached = self.find(wanted, debug=debug)
                if cached is None:
                    raise
                say(f"keeping {cached.release}: {error.why}")
                return cached
            final = self.folder / "kernels" / build.release
            if not (final / "kernel.json").exists():
                size = sum(package.size for package in build.packages)
                say(f"fetching {build.release} ({size / 1e6:.0f} MB)")
                self._install(build, final)
            if debug and build.debug and not (final / "debug").exists():
                say(f"fetching debug data of {build.release} ({build.debug.size / 1e6:.0f} MB)")
                self._install_debug(build, final)
            if headers and build.headers and not (final / "headers").exists():
                size = sum(package.size for package in build.headers)
                say(f"fetching headers of {build.release} ({size / 1e6:.0f} MB)")
                self._install_headers(build, final)
        return Kernel(build.release, build.version, final)

    def carried(self) -> list[Build]:
        """Return what Debian carries now, the oldest first. Raises LabError."""
        with self._lock():
            return self.apt.known()

    def _resolve(self, wanted: str, *, debug: bool) -> Build:
        try:
            return pick(self.apt.known(), wanted, debug=debug)
        except LabError:
            if not wanted[:1].isdigit():
                raise
            return pick(self.apt.known(last_resort=True), wanted, debug=debug)

    def _install(self, build: Build, final: Path) -> None:
        with self._scratch() as scratch:
            new = scratch / "new"
            new.mkdir()
            downloads = scratch / "packages"
            downloads.mkdir()
            for package in self.apt.download(list(build.packages), downloads):
                _extract(package, new, _kernel_members(build.release))
            if not (new / "vmlinuz").exists():
                raise LabError(
                    f"the packages of {build.release} hold no kernel", "fetch another version"
                )
            facts = {"release": build.release, "version": build.version}
            (new / "kernel.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
            final.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(final, ignore_errors=True)
            new.rename(final)

    def _install_debug(self, build: Build, final: Path) -> None:
        assert build.debug is not None  # noqa: S101 - for the type checker
        with self._scratch() as scratch:
            new = scratch / "debug"
            new.mkdir()
            downloads = scratch / "packages"
            downloads.mkdir()
            for package in self.apt.download([build.debug], downloads):
                _extract(package, new, _debug_members(build.release))
            if not (new / "vmlinux").exists():
                raise LabError(
                    f"the debug package of {build.release} holds no vmlinux",
                    "fetch another version",
                )
            new.rename(final / "debug")

    def _install_headers(self, build: Build, final: Path) -> None:
        with self._scratch() as scratch:
            new = scratch / "headers"
            new.mkdir()
            downloads = scratch / "packages"
            downloads.mkdir()
            for package in self.apt.download(list(build.headers), downloads):
                _extract(package, new, _header_members)
            new.rename(final / "headers")

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=self.folder) as name:
            yield Path(name)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            for part in (self.folder, self.apt.folder):
                part.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / "lock").open("w")
        except OSError as error:
            raise LabError(
                f"the cache {self.folder} cannot be written: {error.strerror}",
                f"name another folder with {CACHE_VARIABLE}",
            ) from None
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Nobody else fetches now: what lies here was left by a fetch that was killed.
            for left in self.folder.glob("fetch-*"):
                shutil.rmtree(left, ignore_errors=True)
            yield


def _kernel_members(release: str) -> Callable[[str, int], str | None]:
    modules = f"lib/modules/{release}/"
    files = {
        f"boot/vmlinuz-{release}": "vmlinuz",
        f"{modules}vmlinuz": "vmlinuz",
        f"boot/config-{release}": "config",
        f"{modules}config": "config",
    }

    def place(name: str, _size: int) -> str | None:
        name = name.removeprefix("usr/")
        if name in files:
            return files[name]
        return name if name.startswith(modules) and name != f"{modules}System.map" else None

    return place


def _debug_members(release: str) -> Callable[[str, int], str | None]:
    # vmlinux lay in boot/ up to 6.1 at least; a link leads there from the other place, or back.
    files = {
        f"usr/lib/debug/boot/vmlinux-{release}": "vmlinux",
        f"usr/lib/debug/lib/modules/{release}/vmlinux": "vmlinux",
        f"usr/lib/debug/boot/System.map-{release}": "System.map",
        f"usr/lib/debug/lib/modules/{release}/System.map": "System.map",
    }
    return lambda name, size: files.get(name) if size > _STUB else None


def _header_members(name: str, _size: int) -> str | None:
    # usr/src/linux-headers-RELEASE/ and usr/src/linux-headers-SHORT-common/ hold parts of one tree.
    match = re.fullmatch(r"usr/src/linux-headers-[^/]+/(.+)", name)
    return match[1] if match else None


def _extract(package: Path, folder: Path, place: Callable[[str, int], str | None]) -> None:
    """Write the regular files that `place(name, size)` gives a name below `folder`."""
    try:
        unpacker = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
        )
    except FileNotFoundError:
        raise LabError("dpkg-deb is missing", "use a Debian or Ubuntu machine") from None
    with unpacker:
        assert unpacker.stdout is not None  # noqa: S101 - for the type checker
        with tarfile.open(fileobj=unpacker.stdout, mode="r|") as archive:
            for member in archive:
                target = place(member.name.removeprefix("./"), member.size)
                content = archive.extractfile(member) if target and member.isreg() else None
                if target is None or content is None:
                    continue
                path = folder / target
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)
        # Anything after the archive's end, so that the unpacker does not die of a broken pipe.
        while unpacker.stdout.read(1 << 20):
            pass
    if unpacker.returncode:
        raise LabError(f"{package.name} cannot be unpacked", "run this again")


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None
