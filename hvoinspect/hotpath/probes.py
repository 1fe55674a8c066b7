"""Counts by a BPF program, which bcc compiles: exact, per CPU, and gone with this process."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.hotpath import perf
from hvoinspect.hotpath.backend import Cost, Filter
from hvoinspect.hotpath.denied import (
    broken_bcc,
    no_bcc,
    no_headers,
    no_kprobes,
    not_root,
    other_bcc,
)
from hvoinspect.hotpath.host import header_places

SYSTEM_BCC = Path("/usr/lib/python3/dist-packages/bcc")
"""Where Debian's python3-bpfcc is, for the system's own Python."""
CLOSING_THREADS = 32
"""Measured under emulation: 290 probes are gone after 5 s, and after 25 s one by one."""

# Headers of 6.19 and later use Microsoft's extensions of C, which clang must be told.
_CFLAGS = ["-fms-extensions", "-Wno-microsoft-anon-tag", "-w"]


class BpfProgram:
    """A program of this folder, compiled and loaded, with room for the hits of some addresses.

    `timed`: the kernel measures how long it takes, which takes time of its own.
    """

    def __init__(
        self, name: str, kind: str, addresses: int, only: Filter, *, timed: bool = False
    ) -> None:
        bcc = import_bcc()
        check_headers()
        here = Path(__file__).parent
        text = (here / "filter.bpf.c").read_text() + (here / f"{name}.bpf.c").read_text()
        flags = [*_CFLAGS, f"-DMAX_ADDRESSES={addresses}"]
        if only.process is not None:
            flags.append("-DONLY_PROCESS")
        if only.cgroup is not None:
            flags.append("-DONLY_CGROUP")
        with _what_is_said() as said:
            try:
                self._bpf = bcc.BPF(text=text.encode(), cflags=flags)
                self.fd: int = self._bpf.load_func(b"count", getattr(bcc.BPF, kind)).fd
            except Exception as error:  # bcc raises bare ones
                raise _not_loaded(said(), error) from error
        self.hits: Any = self._bpf[b"hits"]
        self._closed = False
        self._stats: int | None = None
        if timed:
            with contextlib.suppress(OSError):
                self._stats = perf.enable_stats()
        if only.process is not None:
            wanted = self._bpf[b"wanted"]
            wanted[wanted.Key(0)] = wanted.Leaf(only.process)
        if only.cgroup is not None:
            self._let_in(only.cgroup)

    def read(self) -> dict[int, int]:
        """Return the hits by key, or index, of all CPUs."""
        return {key.value: int(sum(leaf)) for key, leaf in self.hits.items()}

    def cost(self) -> Cost | None:
        """Return what the program took, None where the kernel does not tell."""
        if self._stats is None:
            return None
        nanoseconds, runs, _ = perf.run_time(self.fd)
        return Cost(nanoseconds, runs)

    def missed(self) -> int:
        """Return how often the program could not run."""
        return perf.run_time(self.fd)[2]

    def close(self) -> None:
        """Unload it; may be called again."""
        if not self._closed:
            self._closed = True
            self._bpf.cleanup()
        if self._stats is not None:
            os.close(self._stats)
            self._stats = None

    def _let_in(self, folder: Path) -> None:
        table = self._bpf[b"cgroup"]
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                table[table.Key(0)] = handle
            finally:
                os.close(handle)
        except Exception as error:  # bcc raises bare ones
            raise HvoinspectError(
                f"{folder} is no cgroup: {getattr(error, 'strerror', None) or error}",
                "name a folder of cgroup v2, as /sys/fs/cgroup/system.slice",
                ExitStatus.USAGE,
            ) from error


class BpfCounter:
    """Counts by kprobes that run one BPF program. Raises HvoinspectError if there can be none."""

    name = "bcc"

    def __init__(
        self, most: int, only: Filter, *, timed: bool = False, root: Path = Path("/")
    ) -> None:
        """Make room for `most` addresses."""
        pmu = perf.kprobe_type(root)
        if pmu is None:
            raise no_kprobes()
        self._pmu = pmu
        self._links: dict[int, int] = {}
        self._counted: dict[int, int] = {}
        self._program = BpfProgram("count", "KPROBE", max(most, 1), only, timed=timed)

    def attach(self, addresses: Sequence[int]) -> Mapping[int, str]:
        """See `backend.Counter`."""
        allow_files(len(addresses))
        refused = {}
        for index, address in enumerate(addresses):
            try:
                self._links[address] = perf.attach_kprobe(
                    self._pmu, address, self._program.fd, index
                )
                self._counted[address] = index
            except OSError as error:
                if error.errno in (errno.EPERM, errno.EACCES, errno.EMFILE, errno.ENFILE):
                    self.close()
                    raise HvoinspectError(
                        f"the kernel lets nobody probe it: {error.strerror}",
                        "it may be locked down; --mode sample needs no probes",
                    ) from error
                refused[address] = f"{error.strerror} ({errno.errorcode.get(error.errno or 0)})"
        return refused

    def read(self) -> Mapping[int, int]:
        """See `backend.Counter`."""
        hits = self._program.read()
        return {address: hits[index] for address, index in self._counted.items()}

    def detach(self, addresses: Iterable[int]) -> None:
        """See `backend.Counter`."""
        links = [self._links.pop(address) for address in addresses if address in self._links]
        # The kernel waits for all CPUs at each; many at once wait together.
        with ThreadPoolExecutor(CLOSING_THREADS) as threads:
            list(threads.map(os.close, links))

    def cost(self) -> Cost | None:
        """See `backend.Counter`."""
        return self._program.cost()

    def missed(self) -> int:
        """See `backend.Counter`."""
        return self._program.missed()

    def close(self) -> None:
        """See `backend.Counter`."""
        self.detach(list(self._links))
        self._program.close()


def import_bcc() -> Any:
    """Import bcc. Raises HvoinspectError if it is missing, not this Python's, or not that bcc."""
    try:
        import bcc  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415
    except ImportError as error:
        raise no_bcc(error, elsewhere=SYSTEM_BCC.is_dir()) from error
    except Exception as error:
        raise broken_bcc(error) from error
    if not hasattr(bcc, "BPF"):
        raise other_bcc(getattr(bcc, "__file__", None) or "the bcc that Python finds")
    return bcc


def check_headers(root: Path = Path("/")) -> None:
    """Raise HvoinspectError if bcc would find no kernel headers."""
    given = os.environ.get("BCC_KERNEL_SOURCE")
    release = os.uname().release
    places = header_places(root, release, given)
    if not any(place.exists() for place in places):
        raise no_headers(release, given)


def allow_files(count: int) -> None:
    """Let this process have so many more files open, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, max(most, hard)))


def _not_loaded(said: str, error: Exception) -> HvoinspectError:
    lines = [line for line in said.splitlines() if "error:" in line or "not found" in line.lower()]
    reason = lines[0].strip() if lines else str(error)
    if os.geteuid() != 0:
        return not_root()
    return HvoinspectError(
        f"bcc cannot compile or load the counting program: {reason}",
        "check that the kernel's headers are complete; --backend tracefs needs neither",
    )


@contextlib.contextmanager
def _what_is_said() -> Iterator[Any]:
    """Keep what clang and libbpf write to standard error, which Python cannot catch."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)

        def said() -> str:
            file.seek(0)
            return file.read(1 << 20).decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)
