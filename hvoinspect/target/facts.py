"""Single facts of a kernel, each with where it came from: VMCOREINFO first, then its types.

The types are BTF's or DWARF's, through drgn; a fact that neither has is None, or an error that
names it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from drgn import Program, TypeMember, offsetof, sizeof

from hvoinspect.errors import HvoinspectError

DAMAGED = "the memory that was opened is not a kernel's, or is damaged"
"""What to say of a fact that no kernel has."""


class Facts:
    """Looks facts up in VMCOREINFO and in the types of `prog`, and keeps where each was found.

    `types_from` names the types' origin, "btf" or "dwarf".
    """

    def __init__(self, prog: Program, vmcoreinfo: Mapping[str, str], types_from: str) -> None:
        self._prog = prog
        self._vmcoreinfo = vmcoreinfo
        self._types_from = types_from
        self.origins: dict[str, str] = {}

    def number(self, name: str) -> int | None:
        """Return NUMBER(name) of VMCOREINFO, a signed decimal, or the constant of that name."""
        text = self._vmcoreinfo.get(f"NUMBER({name})", "")
        if re.fullmatch("-?[0-9]{1,20}", text):
            return self._found(name, int(text), "vmcoreinfo")
        return self.constant(name)

    def constant(self, name: str) -> int | None:
        """Return the value of an enumerator."""
        try:
            return self._found(name, int(self._prog.constant(name).value_()), self._types_from)
        except LookupError:
            return None

    def size(self, struct: str) -> int | None:
        """Return sizeof(struct NAME) in bytes."""
        text = self._vmcoreinfo.get(f"SIZE({struct})", "")
        if re.fullmatch("[0-9]{1,9}", text):
            return self._found(f"sizeof({struct})", int(text), "vmcoreinfo")
        try:
            size = sizeof(self._prog.type(f"struct {struct}"))
        except (LookupError, TypeError):
            return None
        return self._found(f"sizeof({struct})", size, self._types_from)

    def offset(self, struct: str, member: str) -> int | None:
        """Return offsetof(struct NAME, member) in bytes."""
        text = self._vmcoreinfo.get(f"OFFSET({struct}.{member})", "")
        if re.fullmatch("[0-9]{1,9}", text):
            return self._found(f"{struct}.{member}", int(text), "vmcoreinfo")
        try:
            offset = offsetof(self._prog.type(f"struct {struct}"), member)
        except (LookupError, TypeError):
            return None
        return self._found(f"{struct}.{member}", offset, self._types_from)

    def array_length(self, struct: str, member: str) -> int | None:
        """Return how many elements the array `member` of a structure has."""
        found = self.member(struct, member)
        length = getattr(found.type, "length", None) if found else None
        return self._found(f"len({struct}.{member})", length, self._types_from) if length else None

    def member(self, struct: str, member: str) -> TypeMember | None:
        """Return a member of a structure as drgn has it."""
        try:
            return self._prog.type(f"struct {struct}").member(member)
        except (LookupError, TypeError):
            return None

    def missing(self, what: str) -> HvoinspectError:
        """Return the error that says `what` could not be learned."""
        sources = "VMCOREINFO and BTF" if self._types_from == "btf" else "VMCOREINFO and DWARF"
        return HvoinspectError(
            f"neither {sources} of this kernel tell {what}",
            "give the kernel's debug symbols with --symbols PATH",
        )

    def _found(self, fact: str, value: int, origin: str) -> int:
        self.origins.setdefault(fact, origin)
        return value
