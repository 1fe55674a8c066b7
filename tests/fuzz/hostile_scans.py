"""Scans that are read back: JSON that anyone may have written."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from hvoinspect.errors import HvoinspectError
from hvoinspect.report.result import to_json
from hvoinspect.report.scanfile import read_scan
from tests.fuzz.harness import Fuzzer, promised
from tests.fuzz.hostile_json import changed
from tests.fuzz.mutate import damaged
from tests.report.situations import situation

SEEDS = tuple(to_json(situation(name)).encode() for name in ("pointer", "error", "own view"))


def generate(random: Random) -> bytes:
    seed = random.choice(SEEDS)
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
            scan = read_scan(path)
        except HvoinspectError as error:
            promised(error)
            return
        # What was read is a scan: it can be written, and then reads as the same.
        text = to_json(scan)
        assert json.dumps(scan, ensure_ascii=False, allow_nan=False).isprintable()
        path.write_text(text)
        assert read_scan(path) == scan


def many(name: str, item: Any, count: int) -> bytes:
    """Make a scan whose list `name` holds `item` that often."""
    whole = json.loads(SEEDS[1])
    whole[name] = [item] * count
    return json.dumps(whole).encode()


FINDING = json.loads(SEEDS[1])["findings"][0]

FUZZER = Fuzzer(
    generate,
    check,
    cases=2000,
    known={
        "60,000 findings": lambda: many("findings", FINDING, 60_000),
        "150,000 pools of one size and node": lambda: many(
            "hugetlb", json.loads(SEEDS[0])["hugetlb"][0], 150_000
        ),
        "5,000,000 notes": lambda: many("notes", "", 5_000_000),
        "a list in a list, 100,000 deep": lambda: SEEDS[0].replace(
            b'"notes": []', b'"notes": ' + b"[" * 100_000 + b"]" * 100_000
        ),
    },
    seconds=3.0,
    mebibytes=600,
)
