"""Looks for cases that go wrong with coverage as the guide, for as long as one likes.

    pip install -e .[fuzz]
    python -m tests.fuzz.guided btf -max_total_time=600

The arguments after the parser's name are libFuzzer's. It begins with cases of the parser's own
generator and keeps in a folder (the first argument that is one, or else a new one) what reaches
code that was not reached before. What it finds belongs into `cases/`, and from there into `known`.

It needs no knowledge of a format, and cannot do without one where a check sum or a length guards
what follows: so the ordinary test run has generators, which know what they damage, and this is for
parsers of plain bytes (btf, notes, json, pagetables).
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

from tests.fuzz.harness import Parser

SEEDS = 300


def main(name: str, *options: str) -> None:
    """Search, until libFuzzer has had enough."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["hvoinspect"]):
        parser = Parser(f"{__package__}.hostile_{name}")
    folders = [option for option in options if Path(option).is_dir()]
    corpus = Path(folders[0] if folders else tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number in (*parser.known(), *range(SEEDS)):
        content = parser.content(number)
        if len(content) < 1 << 16:
            (corpus / f"seed{number}").write_bytes(content)
    limits = ("-rss_limit_mb=1024", "-timeout=10", f"-artifact_prefix={corpus}/")
    atheris.Setup(
        [sys.argv[0], *limits, *options, *([] if folders else [str(corpus)])], parser.fuzzer.check
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
