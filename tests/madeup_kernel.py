"""Compiles a made-up kernel with DWARF, whose copies of helpers are known from its source."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "hotpath/madeup_kernel.c"

# As the kernel is built: no libraries, at the kernel's addresses. Functions that are alike stay
# two, and loops are left as they are.
FLAGS = """
    -g -O2 -std=gnu11 -ffreestanding -nostdlib -static -no-pie -fno-pic -mcmodel=kernel
    -fcf-protection=none -fno-stack-protector -fno-asynchronous-unwind-tables -fno-ipa-icf
    -fno-tree-vectorize -Wall -Wextra -Werror -Wno-unused-function
    -Wl,-Ttext-segment=0xffffffff81000000 -Wl,-e,_stext -Wl,-z,noseparate-code
"""

EXPECTED = {
    ("_compound_head", "keyed"): [True],
    ("_compound_head", "looped"): [False, True],
    ("_compound_head", "once"): [False],
    ("_compound_head", "referenced"): [False],
    ("_compound_head", "rejected"): [False],
    ("_compound_head", "rejoined"): [False],
    ("_compound_head", "retried"): [True],
    ("_compound_head", "twice"): [False, False],
    ("folio_try_get", "referenced"): [False],
    ("page_ref_add_unless", "referenced"): [False],
    ("try_get_page", "tried"): [False],
    ("try_get_page", "try_get_page"): [False],
}
"""(helper, function) -> whether each of its copies is in a loop, as the source has it."""


def compile_kernel(folder: Path, *flags: str) -> Path:
    """Return a new vmlinux in `folder`; `flags` are added to the compiler's."""
    vmlinux = folder / "vmlinux"
    command = ["gcc", *FLAGS.split(), "-Wl,--build-id=sha1", *flags, "-o", str(vmlinux)]
    subprocess.run([*command, str(SOURCE)], check=True, timeout=60)
    return vmlinux
