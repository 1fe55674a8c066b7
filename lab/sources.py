"""Finds the machine's own Debian mirror in its apt sources, which are only read.

Formats: sources.list(5), the one-line style (`*.list`) and the deb822 style (`*.sources`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

MIRROR_VARIABLE = "HVOINSPECT_LAB_MIRROR"

RELEASES = ("bookworm", "trixie", "forky", "oldstable", "stable", "testing", "sid", "unstable")
_SUITE = re.compile(rf"^(?:{'|'.join(RELEASES)})(?:-updates|-backports|-security)?$")


@dataclass(frozen=True)
class Source:
    """One enabled `deb` source: one URI, its suites and components, and the keyring it names."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str


@dataclass(frozen=True)
class Mirrors:
    """Where Debian's archive and, if it is known, its security archive can be reached."""

    main: str
    security: str | None


def parse_one_line(text: str) -> Iterator[Source]:
    """Yield the `deb` sources of a `*.list` file's text; lines that are none are left out."""
    for line in text.splitlines():
        match = re.match(
            r"^\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<rest>.*)",
            line.split("#", 1)[0],
        )
        if not match:
            continue
        options = dict(
            option.split("=", 1) for option in (match["options"] or "").split() if "=" in option
        )
        yield Source(
            match["uri"],
            (match["suite"],),
            tuple(match["rest"].split()),
            options.get("signed-by", ""),
        )


def parse_deb822(text: str) -> Iterator[Source]:
    """Yield the enabled `deb` sources of a `*.sources` file's text, one for each URI."""
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in {" ", "\t"}:
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split():
            continue
        if fields.get("enabled", "yes").lower() in {"no", "false", "without", "off", "disable"}:
            continue
        for uri in fields.get("uris", "").split():
            yield Source(
                uri,
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                fields.get("signed-by", ""),
            )


def machine_sources(folder: Path) -> list[Source]:
    """Read all sources below `folder` (`/etc/apt`); files that cannot be read are left out."""
    found: list[Source] = []
    parts = folder / "sources.list.d"
    for path in (folder / "sources.list", *sorted(parts.glob("*.list"))):
        found += parse_one_line(_text(path))
    for path in sorted(parts.glob("*.sources")):
        found += parse_deb822(_text(path))
    return found


def choose_mirrors(sources: Iterable[Source]) -> Mirrors:
    """Return Debian's mirrors among `sources`; third parties' repositories are passed over.

    A third party may use Debian's suite names, or a path that ends in `/debian`. What it does not
    have is component `main` in a Debian suite, signed by Debian's archive keys; where no key is
    named, a path that ends as a Debian mirror's does is preferred, and a wrong guess fails when
    apt checks the signatures.
    Raises LabError if there is no Debian mirror.
    """
    main: list[str] = []
    security: list[str] = []
    for source in sources:
        suites = [suite.strip("/") for suite in source.suites if _SUITE.match(suite.strip("/"))]
        if not suites or "main" not in source.components or source.uri.startswith("cdrom:"):
            continue
        if source.signed_by.startswith("/") and "debian-archive" not in source.signed_by:
            continue
        uri = source.uri.rstrip("/")
        is_security = suites[0].endswith("-security") or uri.endswith("debian-security")
        (security if is_security else main).append(uri)
    if not main:
        raise LabError(
            "this machine's apt sources name no Debian mirror to fetch kernels from",
            f"name one with {MIRROR_VARIABLE}=http://MIRROR/debian",
        )
    best = min(main, key=lambda uri: not uri.endswith("/debian"))
    if security:
        return Mirrors(best, min(security, key=lambda uri: not uri.endswith("/debian-security")))
    return _with_security(best)


def mirrors(folder: Path = Path("/etc/apt")) -> Mirrors:
    """Return the mirrors to use: the environment's, else the machine's. Raises LabError."""
    named = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    return _with_security(named) if named else choose_mirrors(machine_sources(folder))


def _with_security(main: str) -> Mirrors:
    # Debian's mirrors that carry the security archive carry it beside the main one.
    return Mirrors(main, f"{main}-security" if main.endswith("/debian") else None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
