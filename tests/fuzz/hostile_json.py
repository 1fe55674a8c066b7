"""Files of the hot path: JSON that anyone may have written."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from hvoinspect.errors import HvoinspectError
from hvoinspect.hotpath.run import read_run, run_json
from hvoinspect.hotpath.sitesfile import Copy, Sites, read_sites, sites_json
from tests.fuzz.harness import Fuzzer, promised
from tests.fuzz.mutate import damaged, number

RUN = (Path(__file__).parents[1] / "hotpath/examples/before/1.json").read_bytes()
COPY = Copy(
    "_compound_head", "do_wp_page", 0xFFFFFFFF81001000, 12, 3, ((0xFFFFFFFF81001000, 12),), True
)
SITES = sites_json(Sites("ab" * 20, "6.12.0", 0xFFFFFFFF81000000, (COPY,) * 5)).encode()


def value(random: Random, depth: int = 0) -> Any:
    """Make anything that JSON can hold."""
    makers: tuple[Callable[[], Any], ...] = (
        lambda: number(random),
        lambda: -number(random),
        lambda: 10 ** random.choice((19, 20, 300)),
        lambda: random.choice((1e308, -0.0, 1e-320, 0.5)),
        lambda: random.choice(
            (None, True, False, "", "x" * 5000, "0x", "0xffffffffffffffff", "\0")
        ),
        lambda: (
            [value(random, depth + 1) for _ in range(random.randint(0, 3))] if depth < 4 else []
        ),
        lambda: (
            {random.choice(("a", "schema", "function")): value(random, depth + 1)}
            if depth < 4
            else {}
        ),
    )
    return random.choice(makers)()


def changed(random: Random, whole: Any) -> Any:
    """Change one value somewhere in `whole`, or take it away."""
    if not isinstance(whole, dict | list) or not whole or random.random() < 0.15:
        return value(random)
    key = random.choice(list(whole) if isinstance(whole, dict) else range(len(whole)))
    if isinstance(whole, dict) and random.random() < 0.1:
        del whole[key]
    else:
        whole[key] = changed(random, whole[key])
    return whole


def generate(random: Random) -> bytes:
    seed = random.choice((RUN, SITES))
    if random.random() < 0.3:
        return damaged(random, seed)
    whole = json.loads(seed)
    for _ in range(random.randint(1, 3)):
        whole = changed(random, whole)
    return json.dumps(whole).encode("utf-8", "replace")


def check(case: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        os.pwrite(file.fileno(), case, 0)
        path = Path(file.name)
        try:
            run_json(read_run(path))
        except HvoinspectError as error:
            promised(error)
        try:
            sites_json(read_sites(path))
        except HvoinspectError as error:
            promised(error)


def deep(count: int) -> bytes:
    return b'{"schema": "hvoinspect.hotpath/1", "kernel": ' + b"[" * count + b"]" * count + b"}"


FUZZER = Fuzzer(
    generate,
    check,
    cases=2000,
    known={
        "a list in a list, 100,000 deep": lambda: deep(100_000),
        "a number of 4,000,000 digits": lambda: b'{"schema": ' + b"9" * 4_000_000 + b"}",
        "a float of 4,000,000 digits": lambda: b'{"schema": 1.' + b"9" * 4_000_000 + b"}",
        "5,000,000 small lists": lambda: b'{"schema": [' + b"[]," * 5_000_000 + b"0]}",
    },
)
