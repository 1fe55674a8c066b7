"""The inlined copies of a kernel's helpers, and the file that keeps them for a host."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hvoinspect.errors import HvoinspectError
from hvoinspect.jsonfile import Members, read_members

SCHEMA = "hvoinspect.sites/1"

MAX_BYTES = 16 << 20
"""A kernel's some 3,000 copies take about 500 KB."""

MAX_IMAGE = 1 << 30
"""KERNEL_IMAGE_SIZE of x86-64: no code lies farther from `_stext`, nor wraps once it is shifted."""

SYSTEM_FOLDER = Path("/var/lib/hvoinspect/sites")
"""Where a host's administrator leaves the files of its kernels, as BUILD_ID.json."""


@dataclass(frozen=True)
class Copy:
    """One inlined copy of `helper` in `function`, or its out-of-line body if the two are the same.

    `address` is where it is entered, as the kernel was linked (without KASLR's shift). `ranges` are
    its pieces, as (address, bytes); `bytes` and `instructions` are those of all of them. `in_loop`
    says whether control can come back to it within one call of `function`, so that one call may
    run it many times.
    """

    helper: str
    function: str
    address: int
    bytes: int
    instructions: int
    ranges: tuple[tuple[int, int], ...]
    in_loop: bool


@dataclass(frozen=True)
class Sites:
    """All copies of one build of a kernel.

    `build_id` is lower-case hexadecimal, `stext` the link address of `_stext`, which tells a
    running kernel's shift.
    """

    build_id: str
    release: str
    stext: int
    copies: tuple[Copy, ...]


def sites_json(sites: Sites) -> str:
    """Return `sites` as JSON, a line for each copy; `read_sites` reads it back."""
    head = {
        "schema": SCHEMA,
        "build_id": sites.build_id,
        "release": sites.release,
        "stext": f"{sites.stext:#x}",
    }
    lines = (",\n".join(_compact(_copy_json(copy)) for copy in sites.copies)).join(("[\n", "\n]"))
    return f'{_compact(head)[:-1]},"copies":{lines}}}\n'


def read_sites(path: Path) -> Sites:
    """Read what `sites_json` wrote. Raises HvoinspectError if `path` holds anything else."""
    remedy = "give a file that `hvoinspect hotpath sites -o FILE` wrote"
    members = read_members(path, SCHEMA, remedy, MAX_BYTES)
    stext = _address(members, "stext")
    return Sites(
        build_id=_build_id(members),
        release=members.text("release"),
        stext=stext,
        copies=tuple(_copy(copy, stext) for copy in members.objects("copies")),
    )


def check_build_id(sites: Sites, running: str | None, path: Path | None = None) -> None:
    """Raise HvoinspectError unless `sites`, read from `path`, are of the kernel that is running.

    `running` is its build-id, None if it is not known: addresses of another build would count
    something else, so what cannot be verified is refused.
    """
    if sites.build_id != running:
        of = f"{path} is" if path is not None else "the sites are"
        raise HvoinspectError(
            f"{of} of another kernel: {sites.release}, build-id {sites.build_id}; "
            f"the running one's is {running or 'not known'}",
            "make the file from this kernel's vmlinux: hvoinspect hotpath sites -o FILE",
        )


def find_sites(
    build_id: str, environment: Mapping[str, str] = os.environ, system: Path = SYSTEM_FOLDER
) -> Sites | None:
    """Return the sites of a kernel from the places where they are kept, or None.

    These are $XDG_DATA_HOME/hvoinspect/sites/BUILD_ID.json (~/.local/share, if it is not set), and
    SYSTEM_FOLDER. Raises HvoinspectError if a file is there and is not what its name says.
    """
    if not _is_build_id(build_id):
        return None
    for folder in _folders(environment, system):
        path = folder / f"{build_id}.json"
        if os.path.exists(path):  # noqa: PTH110 - Path.exists() raises where a folder is closed
            sites = read_sites(path)
            check_build_id(sites, build_id, path)
            return sites
    return None


def _folders(environment: Mapping[str, str], system: Path) -> Iterator[Path]:
    named, home = environment.get("XDG_DATA_HOME", ""), environment.get("HOME", "")
    # A path that is not absolute is to be ignored, says the XDG Base Directory Specification.
    if Path(named).is_absolute():
        yield Path(named) / "hvoinspect/sites"
    elif Path(home).is_absolute():
        yield Path(home) / ".local/share/hvoinspect/sites"
    yield system


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _copy_json(copy: Copy) -> dict[str, object]:
    return {
        "helper": copy.helper,
        "function": copy.function,
        "address": f"{copy.address:#x}",
        "bytes": copy.bytes,
        "instructions": copy.instructions,
        "ranges": [[f"{start:#x}", size] for start, size in copy.ranges],
        "in_loop": copy.in_loop,
    }


def _copy(members: Members, stext: int) -> Copy:
    address = _address(members, "address")
    if abs(address - stext) >= MAX_IMAGE:
        members.refuse("address", "is too far from stext")
    ranges = tuple(_ranges(members, stext))
    size = members.count("bytes")
    if size != sum(length for _, length in ranges):
        members.refuse("bytes", "is not what the ranges add up to")
    instructions = members.count("instructions")
    if not 0 < instructions <= size:
        members.refuse("instructions", "does not fit into bytes")
    in_loop = members.values.get("in_loop")
    if not isinstance(in_loop, bool):
        members.refuse("in_loop", "is neither true nor false")
    return Copy(
        helper=members.text("helper"),
        function=members.text("function"),
        address=address,
        bytes=size,
        instructions=instructions,
        ranges=ranges,
        in_loop=in_loop,
    )


def _ranges(members: Members, stext: int) -> Iterator[tuple[int, int]]:
    ranges = members.values.get("ranges")
    if not isinstance(ranges, list):
        members.refuse("ranges", "is no list")
    for piece in ranges:
        match piece:
            case [str(text), int(size)] if not isinstance(size, bool):
                start = _parsed(text)
            case _:
                start, size = None, 0
        if start is None or size <= 0:
            members.refuse("ranges", "is no list of addresses with their bytes")
        if not stext - MAX_IMAGE < start <= start + size < stext + MAX_IMAGE:
            members.refuse("ranges", "is too far from stext")
        yield start, size


def _build_id(members: Members) -> str:
    text = members.text("build_id")
    if not _is_build_id(text):
        members.refuse("build_id", "is no build-id in lower-case hexadecimal")
    return text


def _is_build_id(text: str) -> bool:
    # 20 bytes of SHA-1 by default; the kernel takes no longer ones (BUILD_ID_SIZE_MAX).
    return re.fullmatch(r"([0-9a-f]{2}){1,20}", text) is not None


def _address(members: Members, name: str) -> int:
    address = _parsed(members.text(name))
    if address is None:
        members.refuse(name, "is no address in hexadecimal")
    return address


def _parsed(text: str) -> int | None:
    return int(text, 16) if re.fullmatch(r"0x[0-9a-f]{1,16}", text) else None
