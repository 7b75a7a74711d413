"""Every id the log ever used, in little memory: what uniqueness needs to remember for ever.

An id is remembered as its 64-bit hash beside one number, in a table of plain integers: at most 54 bytes an id, however
it is spelled. Two ids with one hash would be taken for the same; among ten million ids the chance is one in 370,000.
What is to be remembered of an ended order lies in a spooled temporary file, found by its offset, so that memory stays
bound to what is open.
"""

from __future__ import annotations

from array import array
from tempfile import SpooledTemporaryFile
from typing import Generic, TypeVar

import msgspec

START = 1 << 10  #: places of an empty table; always a power of two
FULL = 0.6  #: part of the places taken before the table doubles
IN_MEMORY = 16 << 20  #: bytes of ended orders kept in memory before the file is a real one
ABSENT = -1

S = TypeVar("S", bound=msgspec.Struct)


class IdMap:
    """A map from ids to numbers from 0 up: open addressing with linear probing; nothing is ever taken out."""

    def __init__(self) -> None:
        self._count = 0
        self._make(START)

    def _make(self, size: int) -> None:
        self._mask = size - 1
        self._keys = array("q", bytes(8 * size))
        self._numbers = array("q", bytes(8 * size))

    def _place(self, key: int) -> int:
        """Return where a hash is, or where it would go."""
        keys, mask = self._keys, self._mask
        at = key & mask
        while (found := keys[at]) and found != key:
            at = (at + 1) & mask
        return at

    def get(self, key: str) -> int:
        """Return the number of an id; -1 if it has none."""
        at = self._place(hash(key) or 1)  # 0 marks an empty place
        return self._numbers[at] if self._keys[at] else ABSENT

    def put(self, key: str, number: int) -> None:
        """Give an id its number."""
        if self._count >= FULL * self._mask:
            self._grow()
        hashed = hash(key) or 1
        at = self._place(hashed)
        if not self._keys[at]:
            self._keys[at] = hashed
            self._count += 1
        self._numbers[at] = number

    def _grow(self) -> None:
        keys, numbers = self._keys, self._numbers
        self._make(2 * len(keys))
        for key, number in zip(keys, numbers, strict=True):
            if key:
                at = self._place(key)
                self._keys[at], self._numbers[at] = key, number

    def __contains__(self, key: str) -> bool:
        return self.get(key) != ABSENT

    def __len__(self) -> int:
        return self._count


class Shelf(Generic[S]):
    """Structs by id, written once, read seldom."""

    def __init__(self, kind: type[S]) -> None:
        self._offsets = IdMap()
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)
        self._end = 0
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def __contains__(self, key: str) -> bool:
        return key in self._offsets

    def put(self, key: str, value: S) -> None:
        """Lay a struct down under an id."""
        data = self._encode(value)
        self._file.seek(self._end)
        self._file.write(len(data).to_bytes(4, "little") + data)
        self._offsets.put(key, self._end)
        self._end += 4 + len(data)

    def get(self, key: str) -> S | None:
        """Return the struct of an id."""
        offset = self._offsets.get(key)
        if offset == ABSENT:
            return None
        self._file.seek(offset)
        length = int.from_bytes(self._file.read(4), "little")
        return self._decode(self._file.read(length))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
