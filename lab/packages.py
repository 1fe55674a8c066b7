"""Picks the packages that make up a kernel out of Debian's package lists; runs nothing.

Debian's layouts, as seen in its archive: up to 6.18, `linux-image-RELEASE` holds kernel, config and
modules. From 6.19 on it is empty and depends on `linux-binary-RELEASE` (kernel),
`linux-modules-RELEASE` and `linux-base-RELEASE` (config). Once a newer build replaces it, only what
was signed stays: so kernels from 6.19 to 7.1 come without modules and config.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lab.errors import LabError

FLAVOUR = "-cloud-amd64"
_NAME = re.compile(
    rf"^linux-(?P<kind>image|binary|modules|base|headers)-(?P<release>\d+\.\d+\.\d+\S*{FLAVOUR})(?P<debug>-dbg)?$"
)
_COMMON_HEADERS = re.compile(r"^linux-headers-(?P<short>\d+\.\d+\.\d+\S*)-common$")
# Smaller ones are empty packages that only depend on others.
_SMALLEST_KERNEL = 1 << 20


@dataclass(frozen=True)
class Package:
    """One version of one package in a package list; `size` is the download's, in bytes."""

    name: str
    version: str
    size: int

    @property
    def exact(self) -> str:
        """The name by which apt gets just this version."""
        return f"{self.name}={self.version}"


@dataclass(frozen=True)
class Build:
    """A kernel that can be fetched: what `uname -r` will say, and the packages that hold it."""

    release: str
    version: str
    packages: tuple[Package, ...]
    debug: Package | None
    headers: tuple[Package, ...] = ()
    """For bcc: this flavour's headers and those that all flavours share; none, or both."""

    @property
    def short(self) -> str:
        """The release without the flavour, as `7.3.4+deb13`."""
        return self.release.removesuffix(FLAVOUR)

    def matches(self, wanted: str) -> bool:
        """Tell whether a user who says `wanted` means this kernel or one of its series."""
        return matches(self.release, self.version, wanted)


def matches(release: str, version: str, wanted: str) -> bool:
    """Tell whether `wanted` (`6.1`, `6.1.192`, `6.1.0-56` or a full release) names this kernel."""
    wanted = wanted.removesuffix(FLAVOUR)
    names = (release.removesuffix(FLAVOUR), version)
    return any(name == wanted or re.match(rf"{re.escape(wanted)}[.+~-]", name) for name in names)


def parse_packages(text: str) -> list[Package]:
    """Read a package list's stanzas (deb-control(5)); those without all fields are left out."""
    found = []
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Size): *(\S+)", stanza, re.MULTILINE))
        if len(fields) == 3 and fields["Size"].isdigit():
            found.append(Package(fields["Package"], fields["Version"], int(fields["Size"])))
    return found


def builds(packages: Iterable[Package]) -> list[Build]:
    """Return the kernels that `packages` hold, the oldest first."""
    kinds: dict[str, dict[str, Package]] = {}
    for package in packages:
        found_in = _release_and_kind(package.name)
        if found_in is None:
            continue
        release, kind = found_in
        have = kinds.setdefault(release, {})
        if kind not in have or version_key(have[kind].version) < version_key(package.version):
            have[kind] = package
    found = []
    for release, have in kinds.items():
        kernel = have.get("binary") or have.get("image")
        if kernel is None or kernel.size < _SMALLEST_KERNEL:
            continue
        same = {kind: p for kind, p in have.items() if p.version == kernel.version}
        parts = [kernel, *(same[kind] for kind in ("modules", "base") if kind in same)]
        headers = tuple(same[kind] for kind in ("headers", "common") if kind in same)
        found.append(
            Build(
                release,
                kernel.version,
                tuple(parts),
                same.get("debug"),
                headers if len(headers) == 2 else (),
            )
        )
    return sorted(found, key=lambda build: version_key(build.version))


def _release_and_kind(name: str) -> tuple[str, str] | None:
    """Return which kernel a package belongs to, and as what; None if to none."""
    if common := _COMMON_HEADERS.match(name):
        return common["short"] + FLAVOUR, "common"
    match = _NAME.match(name)
    if not match:
        return None
    return match["release"], "debug" if match["debug"] else match["kind"]


def pick(known: Iterable[Build], wanted: str, *, debug: bool = False) -> Build:
    """Return the newest kernel that `wanted` names; with `debug`, the newest that has DWARF.

    Raises LabError if there is none.
    """
    known = list(known)
    named = [build for build in known if build.matches(wanted)]
    if not named:
        raise LabError(f"Debian carries no kernel {wanted!r}", f"it carries {carried(known)}")
    fit = [build for build in named if build.debug or not debug]
    if not fit:
        raise LabError(
            f"Debian carries no debug package of kernel {wanted}",
            f"it carries one of {carried([build for build in known if build.debug])}",
        )
    return max(fit, key=lambda build: version_key(build.version))


def carried(known: Iterable[Build]) -> str:
    """Return the series among `known`, for people: `6.1, 6.12, 7.0`."""
    series = {tuple(int(n) for n in build.release.split(".")[:2]) for build in known}
    return ", ".join(f"{major}.{minor}" for major, minor in sorted(series)) or "none"


def version_key(version: str) -> tuple[object, ...]:
    """Return a key that sorts Debian versions as deb-version(7) says."""
    epoch, _, rest = version.rpartition(":") if ":" in version else ("0", "", version)
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return (int(epoch or 0), _part_key(upstream), _part_key(revision))


def _part_key(text: str) -> tuple[object, ...]:
    # Text and numbers take turns. In text, `~` comes before the end, the end before letters, and
    # letters before the rest.
    key: list[object] = []
    for letters, digits in re.findall(r"(\D*)(\d*)", text):
        order = [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in letters]
        key += [(*order, 0), int(digits or 0)]
    return tuple(key)
