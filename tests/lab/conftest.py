"""Guests for tests: each configuration boots once and is shared by all tests that want it.

A test asks by parametrizing `guest` indirectly with a `lab.machine.Config`:

    @pytest.mark.parametrize("guest", [Config("7.3", hvo=True)], indirect=True, ids=str)
    def test_something(guest: Guest) -> None: ...

Tests that share a guest must leave it as they found it, or discard it.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

from lab.cost import workload
from lab.errors import GuestError, LabError
from lab.guest import Guest, boot
from lab.kernels import Cache
from lab.machine import Config, check_host

# More would not fit a small machine's memory and processors.
MOST_ALIVE = 2
# So often a guest is booted that lacks hugepages, before the tests have to make do with it.
BOOTS = 3

RESTORES_WRONGLY = ["6.12"]
"""Kernels that break struct pages when they restore a hugepage's vmemmap.

6.12.118's `vmemmap_restore_pte()` copies the head's frame to each tail vmemmap page, and lacks the
`reset_struct_pages()` of 6.1 and of other 6.12: what was a fake head is then one in memory of its
own, with the head's flags and type. Measured: once such pages are freed, hugepages that are made of
a 1 GiB page have a stale HPG_vmemmap_optimized, the static key falls to 0 too early ("WARNING ...
static_key_dec_not_one"), and taking memory offline ends in an oops in `has_unmovable_pages()`.
"""

COST_OPERATIONS = (
    "map",
    "fault-anon",
    "fault-file",
    "fault-cow",
    "fault-hugetlb",
    "zap-anon",
    "zap-file",
    "zap-hugetlb",
    "fork",
    "gup-file",
    "gup-hugetlb",
    "read",
)


SOME_KERNELS = ("6.12", "7.0", "7.3")
"""One that is long supported, the last with pointers, the newest."""


def some(configs: list[Config]) -> list[Config]:
    """Return those of `configs` that are run unless HVOINSPECT_EVERY_KERNEL asks for all.

    For what is looked at on every kernel by other tests too, with HVO on: the lab takes long.
    """
    if os.environ.get("HVOINSPECT_EVERY_KERNEL"):
        return configs
    return [config for config in configs if config.kernel in SOME_KERNELS]


def cannot(reason: str) -> NoReturn:
    """Skip the test; fail it instead if the lab is required."""
    if os.environ.get("HVOINSPECT_LAB") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def debug_vmlinux(kernel: str) -> Path:
    """Return a real kernel's vmlinux with DWARF; skip the test if it cannot be had here."""
    try:
        vmlinux = Cache().get(kernel, debug=True).vmlinux
    except LabError as error:
        cannot(f"no debug data of {kernel}: {error}")
    assert vmlinux is not None
    return vmlinux


class LabPool:
    """Guests that are alive, the one used last at the end."""

    def __init__(self) -> None:
        self._alive: OrderedDict[Config, tuple[Guest, ExitStack]] = OrderedDict()
        self._cannot: dict[str, LabError] = {}
        self._failed: dict[Config, GuestError] = {}

    def require(self, kernel: str) -> None:
        """Skip the test if the lab cannot run it here; fail it instead if the lab is required."""
        if kernel not in self._cannot:
            try:
                check_host()
                Cache().get(kernel)
            except LabError as error:
                self._cannot[kernel] = error
        if kernel in self._cannot:
            cannot(f"no lab for {kernel}: {self._cannot[kernel]}")

    def guest(self, config: Config) -> Guest:
        """Return a guest of this configuration, booting it if none is alive."""
        self.require(config.kernel)
        if config in self._failed:
            raise self._failed[config]
        if config in self._alive and not self._alive[config][0].alive():
            self.discard(config)
        if config not in self._alive:
            while len(self._alive) >= MOST_ALIVE:
                self._alive.popitem(last=False)[1][1].close()
            try:
                self._alive[config] = _boot_with_all_hugepages(config)
            except GuestError as error:
                # Booting again would fail again, minutes later.
                self._failed[config] = error
                raise
        self._alive.move_to_end(config)
        return self._alive[config][0]

    def discard(self, config: Config) -> None:
        """End a guest that must not be used again; the next who asks gets a new one."""
        if config in self._alive:
            self._alive.pop(config)[1].close()

    def close(self) -> None:
        """End all guests."""
        while self._alive:
            self._alive.popitem()[1][1].close()


def _boot_with_all_hugepages(config: Config) -> tuple[Guest, ExitStack]:
    """Boot a guest that has the hugepages its command line asks for.

    A kernel makes as many as it finds memory for, and boots all the same with fewer. Which memory
    that is hangs on where it put itself.
    """
    for left in range(BOOTS, 0, -1):
        stack = ExitStack()
        guest = stack.enter_context(boot(config))
        if left == 1 or all(_pages_in_pool(guest, size) >= n for size, n in config.hugepages):
            break
        stack.close()
    return guest, stack


def _pages_in_pool(guest: Guest, size: int) -> int:
    pool = f"/sys/kernel/mm/hugepages/hugepages-{size >> 10}kB"
    return int(guest.read_file(f"{pool}/nr_hugepages"))


@pytest.fixture(scope="session")
def lab_pool() -> Iterator[LabPool]:
    """The guests of this test session."""
    pool = LabPool()
    yield pool
    pool.close()


@pytest.fixture
def guest(request: pytest.FixtureRequest, lab_pool: LabPool) -> Guest:
    """A booted guest of the configuration that the test is parametrized with."""
    config: Config = request.param
    return lab_pool.guest(config)


@pytest.fixture(scope="session")
def program() -> Iterator[Path]:
    """The workload of `lab cost`, where anyone may run it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        try:
            yield workload.build(Path(folder))
        except LabError as error:
            pytest.skip(str(error))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test that boots; where several processes test, one has all of a file and kernel.

    Not later: pytest-xdist looks at the groups before any other hook sees the whole collection.
    """
    if {"guest", "lab_pool"} & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.lab)
    if config := config_of(item):
        item.add_marker(pytest.mark.xdist_group(f"{config.kernel} {item.path.stem}"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of one configuration run one after the other."""
    order: dict[Config | None, int] = {None: 0}
    for item in items:
        order.setdefault(config_of(item), len(order))
    items.sort(key=lambda item: order[config_of(item)])


def config_of(item: pytest.Item) -> Config | None:
    """Return the configuration of the guest that a test asks for, if it does."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    return next((value for value in params.values() if isinstance(value, Config)), None)
