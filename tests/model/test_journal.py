"""The log's lines: one event, one line, one hash; written and read back the same."""

from __future__ import annotations

from decimal import Decimal
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from northstar_core.model import events as e
from northstar_core.model.errors import JournalError
from northstar_core.model.journal import GENESIS, Journal, books_digest, chain, decode, encode, line, parse, plain
from northstar_core.model.order import PlaceOrder, Side

D = Decimal
ORDER = PlaceOrder(5, "s-1-1", "s", "main", "SPY", Side.BUY, D("10.50"), limit_price=D("1E+2"))


def journal(n: int = 5) -> Journal:
    made = Journal()
    for k in range(n):
        made.ticks += k
        made.append(e.SetTimer(k, "s", "x", k), k, k and 1)
    return made


def test_a_line_is_its_number_epoch_time_cause_and_event() -> None:
    made = Journal(epoch=7)
    made.append(ORDER, 5, 3)
    (text,) = made.lines()
    assert text.startswith(b'1 7 5 3 {"type":"PlaceOrder","ts":5,"order_id":"s-1-1"')
    assert b"\n" not in text
    assert text == line(made.records[0], 7)
    taken = parse(text)
    assert taken[:4] == (1, 7, 5, 3)
    assert decode(taken.payload) == ORDER
    assert encode(decode(taken.payload)) == taken.payload


def test_consumed_rows_take_part_in_the_numbering() -> None:
    assert [record.seq for record in journal(4).records] == [1, 3, 6, 10]
    assert journal(4).seq == 10


def test_each_hash_covers_every_line_before() -> None:
    made = journal()
    by_hand = GENESIS
    for text in made.lines():
        by_hand = sha256(by_hand + text).digest()
    assert made.head == by_hand == list(chain(made.lines()))[-1]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), max_size=12))
def test_the_head_is_the_same_whenever_lines_are_asked_for(steps: list[tuple[int, int]]) -> None:
    made, plainly = Journal(), Journal()
    for k, (count, first) in enumerate(steps):
        for _ in range(count):
            for log in (made, plainly):
                log.append(e.SetTimer(k, "s", "x", k), k, 0)
        made.lines(min(first, len(made.records)))
    assert made.head == plainly.head
    assert made.lines() == plainly.lines()


@pytest.mark.parametrize("text", [b"", b"1 2 3 4", b"x 0 0 0 {}", b"1 0 0"])
def test_what_is_no_line_is_an_error(text: bytes) -> None:
    with pytest.raises(JournalError):
        parse(text)


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"type":"Nothing"}', b'{"type":"SetTimer","ts":"x"}'])
def test_what_is_no_event_is_an_error(payload: bytes) -> None:
    with pytest.raises(JournalError):
        decode(payload)


@pytest.mark.parametrize(("number", "text"), [
    ("10.50", "10.5"), ("1E+2", "100"), ("0.00", "0"), ("-0", "0"), ("-3.1000", "-3.1"), ("1E-7", "1E-7"),
])  # fmt: skip
def test_a_plain_number_has_one_form(number: str, text: str) -> None:
    assert str(plain(D(number))) == text


def test_equal_books_are_equal_bytes() -> None:
    def books(qty: str) -> e.Books:
        return e.Books({"main": plain(D("100.00"))}, (e.Holding("main", "s", "SPY", plain(D(qty))),), ())

    assert books_digest(books("1.0")) == books_digest(books("1"))
    assert books_digest(books("1")) != books_digest(books("2"))
