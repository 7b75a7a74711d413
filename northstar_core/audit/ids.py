"""Every id the log ever used, in little memory: what uniqueness needs to remember for ever.

Ids here are derived, so they end in a counter (``strategy-session-17``): a page of eight-byte numbers a stem and 512
counters holds them at about eight bytes each. Other ids are kept as they are. What is to be remembered of an ended
order lies in a spooled temporary file, found by its offset, so that memory stays bound to what is open.
"""

from __future__ import annotations

from array import array
from tempfile import SpooledTemporaryFile
from typing import Generic, TypeVar

import msgspec

PAGE = 512
IN_MEMORY = 16 << 20  #: bytes of ended orders kept in memory before the file is a real one
ABSENT = -1

S = TypeVar("S", bound=msgspec.Struct)


class IdMap:
    """A map from ids to numbers from 0 up, dense for ids that end in a counter."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, int], array[int]] = {}
        self._others: dict[str, int] = {}
        self._blank = array("q", [ABSENT]) * PAGE

    def get(self, key: str) -> int:
        """Return the number of an id; -1 if it has none."""
        stem, counter = _split(key)
        if counter < 0:
            return self._others.get(key, ABSENT)
        page = self._pages.get((stem, counter // PAGE))
        return ABSENT if page is None else page[counter % PAGE]

    def put(self, key: str, number: int) -> None:
        """Give an id its number."""
        stem, counter = _split(key)
        if counter < 0:
            self._others[key] = number
            return
        where = stem, counter // PAGE
        page = self._pages.get(where)
        if page is None:
            page = self._pages[where] = self._blank[:]
        page[counter % PAGE] = number

    def __contains__(self, key: str) -> bool:
        return self.get(key) != ABSENT


def _split(key: str) -> tuple[str, int]:
    """Return an id's stem and its counter; -1 where it ends in none that would spell the same again."""
    stem = key.rstrip("0123456789")
    digits = key[len(stem) :]
    if not digits or len(digits) > 15 or (digits[0] == "0" and len(digits) > 1):
        return key, ABSENT
    return stem, int(digits)


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
