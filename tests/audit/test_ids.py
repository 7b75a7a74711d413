"""What uniqueness remembers: every id, in little memory, exactly."""

from __future__ import annotations

import sys

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from northstar_core.audit.ids import IdMap, Shelf


class Note(msgspec.Struct):
    text: str


@given(st.dictionaries(st.text(), st.integers(0, 2**62)), st.lists(st.text()))
def test_it_is_a_map(given_ids: dict[str, int], others: list[str]) -> None:
    found = IdMap()
    for key, number in given_ids.items():
        found.put(key, number)
    assert len(found) == len(given_ids)
    assert {key: found.get(key) for key in given_ids} == given_ids
    assert [found.get(key) for key in others] == [given_ids.get(key, -1) for key in others]


def test_ids_of_any_form_take_little_memory_each() -> None:
    found = IdMap()
    n = 50_000
    for k in range(n):
        found.put(f"sma-20231114-{k}-1", k)
    assert found.get("sma-20231114-49999-1") == 49_999
    assert (sys.getsizeof(found._keys) + sys.getsizeof(found._numbers)) / n < 55


def test_a_shelf_gives_back_the_latest_of_each() -> None:
    shelf = Shelf(Note)
    for k in range(100):
        shelf.put(f"a-{k}", Note(f"note {k}"))
    shelf.put("a-7", Note("another"))
    assert shelf.get("a-7") == Note("another")
    assert shelf.get("a-99") == Note("note 99")
    assert shelf.get("a-100") is None
    shelf.close()
