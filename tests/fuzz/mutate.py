"""Damages data: what every generator of hostile input is built from."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

EDGES = (
    *(0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 127, 128, 255, 256, 511, 512, 4095, 4096, 4097),
    *(
        (1 << bits) + off
        for bits in (15, 16, 20, 21, 30, 31, 32, 39, 47, 48, 52)
        for off in (-1, 0)
    ),
    *((1 << 63) - 1, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1),
)
"""Numbers at which something changes: of bytes, pages, tables, addresses and signs."""


def number(random: Random, size: int = 8) -> int:
    """Return a number of `size` bytes: at an edge, near one, or anything."""
    most = (1 << 8 * size) - 1
    choice = random.random()
    if choice < 0.7:
        return random.choice(EDGES) & most
    if choice < 0.85:
        return (random.choice(EDGES) + random.randint(-8, 8)) & most
    return random.getrandbits(8 * size)


def damaged(random: Random, data: bytes, most: int = 6) -> bytes:
    """Return `data` with 1 to `most` damages."""
    result = bytearray(data)
    for _ in range(random.randint(1, most)):
        if not result:
            return random.randbytes(random.randint(0, 32))
        random.choice(_DAMAGES)(random, result)
    return bytes(result)


def _flip(random: Random, data: bytearray) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _byte(random: Random, data: bytearray) -> None:
    data[random.randrange(len(data))] = random.getrandbits(8)


def _number(random: Random, data: bytearray) -> None:
    size = random.choice((1, 2, 4, 8))
    at = random.randrange(0, len(data), size)
    new = number(random, size).to_bytes(size, "little")
    data[at : at + size] = (new[::-1] if random.random() < 0.1 else new)[: len(data) - at]


def _step(random: Random, data: bytearray) -> None:
    """Change a number by a little."""
    size = random.choice((1, 2, 4, 8))
    at = random.randrange(0, len(data), size)
    old = int.from_bytes(data[at : at + size], "little")
    new = (old + random.randint(-4, 4)) % (1 << 8 * size)
    data[at : at + size] = new.to_bytes(size, "little")[: len(data) - at]


def _copy(random: Random, data: bytearray) -> None:
    """Write one part over another."""
    size = min(random.choice((4, 8, 16, 56, 512, 4096)), len(data))
    source, to = (random.randrange(0, len(data) - size + 1) & -4 for _ in range(2))
    data[to : to + size] = data[source : source + size]


def _fill(random: Random, data: bytearray) -> None:
    size = min(random.choice((4, 8, 16, 64, 256)), len(data))
    at = random.randrange(0, len(data) - size + 1)
    data[at : at + size] = bytes([random.choice((0, 0xFF, 0x41))]) * size


def _cut(random: Random, data: bytearray) -> None:
    del data[random.randrange(len(data)) :]


def _remove(random: Random, data: bytearray) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.choice((1, 4, 12, 64))]


def _repeat(random: Random, data: bytearray) -> None:
    size = min(random.choice((1, 4, 12, 64, 512)), len(data))
    at = random.randrange(0, len(data) - size + 1)
    data[at:at] = data[at : at + size] * random.choice((1, 2, 30))


_DAMAGES: tuple[Callable[[Random, bytearray], None], ...] = (
    *(_flip, _byte, _number, _number, _number, _step, _step),
    *(_copy, _fill, _cut, _remove, _repeat),
)
