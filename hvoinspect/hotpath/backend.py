"""What can count: the way by bcc and the one by tracefs look alike from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Filter:
    """Whose hits count: everybody's, one process's, or those of the tasks below a cgroup.

    `process` is a thread group's number in the first PID namespace, `cgroup` a folder of
    cgroup v2.
    """

    process: int | None = None
    cgroup: Path | None = None

    def __bool__(self) -> bool:
        return self.process is not None or self.cgroup is not None


@dataclass(frozen=True)
class Cost:
    """What counting took so far: nanoseconds, in how many runs of the program."""

    nanoseconds: int
    runs: int


class Counter(Protocol):
    """Counts how often kernel addresses are reached. After `close` nothing of it is left."""

    name: str

    def attach(self, addresses: Sequence[int]) -> Mapping[int, str]:
        """Probe addresses; return those that could not be, with what the kernel said.

        Raises HvoinspectError if nothing at all can be probed here.
        """

    def read(self) -> Mapping[int, int]:
        """Return the hits since `attach`, of all addresses that were ever attached."""

    def detach(self, addresses: Iterable[int]) -> None:
        """Stop counting at some addresses; their hits so far stay."""

    def cost(self) -> Cost | None:
        """Return what counting took, None if that cannot be known."""

    def missed(self) -> int:
        """Return how many hits could not be counted, as one hit another's counting."""

    def close(self) -> None:
        """Detach all. May be called again."""
