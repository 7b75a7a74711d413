"""The chain: any byte, any row, any order of rows that was changed afterwards is found, and the place is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from northstar_core.audit.verify import Row, read_lines, verify
from northstar_core.model.errors import JournalError


def index_of(rows: list[Row], seq: int) -> int:
    return next(i for i, row in enumerate(rows) if row.seq == seq)


def test_one_changed_byte_of_a_payload_names_its_row(log) -> None:
    rows = log.rows()
    at = index_of(rows, log.seq("fill1"))
    rows[at] = rows[at]._replace(payload=rows[at].payload.replace(b'"100.1"', b'"100.9"'))
    report = verify(rows, head=log.head)
    assert report["L2"].violated == 1
    assert report["L2"].first_seq == log.seq("fill1")
    assert "this row was changed" in report["L2"].detail


def test_a_deleted_row_is_named_by_the_numbers_it_left(log) -> None:
    rows = log.rows()
    gone = log.seq("fill1")
    del rows[index_of(rows, gone)]
    report = verify(rows, head=log.head)
    assert report["L1"].first_seq == gone
    assert f"between seq {gone - 1} and {gone + 1}" in report["L1"].detail
    assert "deleted" in report["L2"].detail


def test_a_deleted_row_between_ticks_is_found_by_the_count_of_rows(log) -> None:
    rows = log.rows()
    gone = log.seq("open")  # three ticks follow: their numbers and its own cannot be told apart by themselves
    del rows[index_of(rows, gone)]
    report = verify(rows, head=log.head)
    assert report["L1"].violated == 1
    assert report["L1"].first_seq == gone
    assert "1 number(s)" in report["L1"].detail


def test_a_deleted_tail_is_found_by_the_head(log) -> None:
    report = verify(log.rows()[:-2], head=log.head)
    assert "deleted" in report["L1"].detail
    assert report["L1"].first_seq == log.seq("read2")


@pytest.mark.parametrize("names", [("fill1", "fill2"), ("signal", "canceled"), ("fill1-report", "fill1")])
@pytest.mark.parametrize("with_hash", [False, True])
@pytest.mark.parametrize("only_payload", [False, True])
def test_two_swapped_rows_are_both_named(log, names, with_hash, only_payload) -> None:
    rows = log.rows()
    first, second = (index_of(rows, log.seq(name)) for name in names)
    one, two = rows[first], rows[second]
    if only_payload:
        rows[first], rows[second] = one._replace(payload=two.payload), two._replace(payload=one.payload)
        if with_hash:
            rows[first], rows[second] = rows[first]._replace(hash=two.hash), rows[second]._replace(hash=one.hash)
    else:
        keep = {} if with_hash else {"hash": one.hash}
        rows[first] = two._replace(seq=one.seq, **keep)
        keep = {} if with_hash else {"hash": two.hash}
        rows[second] = one._replace(seq=two.seq, **keep)
    report = verify(rows, head=log.head)
    assert report["L2"].first_seq == log.seq(names[0])
    assert f"rows of seq {log.seq(names[0])} and {log.seq(names[1])} were swapped" in report["L2"].detail


def test_a_changed_hash_is_told_from_a_changed_row(log) -> None:
    rows = log.rows()
    at = index_of(rows, log.seq("fill1"))
    rows[at] = rows[at]._replace(hash=bytes(32))
    report = verify(rows, head=log.head)
    assert report["L2"].first_seq == log.seq("fill1")
    assert "stored hash of this row was changed" in report["L2"].detail


def test_a_changed_column_is_held_against_the_payload(log) -> None:
    rows = log.rows()
    at = index_of(rows, log.seq("fill1"))
    rows[at] = rows[at]._replace(strategy="other")
    report = verify(rows, head=log.head)
    assert report["L2"].first_seq == log.seq("fill1")
    assert "strategy 'other'" in report["L2"].detail


def test_a_payload_with_a_blank_more_is_not_canonical(log) -> None:
    lines = log.lines()
    lines[3] = lines[3].replace(b'","', b'", "', 1)
    report = verify(lines)
    assert "canonical" in report["L2"].detail


def test_a_thousand_random_edits_are_all_found(log) -> None:
    honest = log.rows()
    head = log.head
    draw = random.Random(20231114)
    missed = []
    for n in range(1000):
        rows = list(honest)
        kind = n % 4
        at = other = draw.randrange(len(rows))
        if kind == 0:  # one byte of a payload
            payload = bytearray(rows[at].payload)
            where = draw.randrange(len(payload))
            payload[where] ^= 1 << draw.randrange(8)
            rows[at] = rows[at]._replace(payload=bytes(payload))
        elif kind == 1:  # another column
            change = draw.choice(
                [
                    {"seq": rows[at].seq + 1},
                    {"epoch": 1},
                    {"ts": rows[at].ts + 1},
                    {"cause": rows[at].cause + 1},
                    {"kind": "Bar"},
                    {"strategy": "x"},
                    {"account": "x"},
                    {"order_id": "x"},
                    {"hash": draw.randbytes(32)},
                ]
            )
            rows[at] = rows[at]._replace(**change)
        elif kind == 2:
            del rows[at]
        else:
            other = draw.choice([i for i in range(len(rows)) if i != at])
            rows[at], rows[other] = rows[other]._replace(seq=rows[at].seq), rows[at]._replace(seq=rows[other].seq)
        report = verify(rows, head=head)
        near = {honest[i].seq for place in (at, other) for i in range(max(0, place - 1), min(len(honest), place + 2))}
        near |= {row.seq for row in rows[at : at + 1]}
        named = {seq for found in ("L1", "L2") for seq, _ in report[found].places} if report.exit_code == 1 else set()
        if not near & named:
            missed.append((n, kind, honest[at].seq, report.lines()))
    assert not missed, missed[0]


def test_a_thousand_random_edits_of_the_file_are_found_by_the_head(log) -> None:
    honest, head = log.lines(), log.head
    draw = random.Random(7)
    for _ in range(1000):
        lines = list(honest)
        at = draw.randrange(len(lines))
        text = bytearray(lines[at])
        text[draw.randrange(len(text))] ^= 1 << draw.randrange(8)
        lines[at] = bytes(text)
        assert verify(lines, head=head).exit_code == 1 or at == 0


def test_a_line_that_was_not_written_to_its_end_is_refused(log, tmp_path: Path) -> None:
    data = b"".join(line + b"\n" for line in log.lines())
    (tmp_path / "journal.log").write_bytes(data)
    assert verify(read_lines(tmp_path), head=log.head).exit_code == 0
    (tmp_path / "journal.log").write_bytes(data[:-5])
    with pytest.raises(JournalError, match="not written to its end"):
        list(read_lines(tmp_path))


def test_a_missing_journal_could_not_be_verified(tmp_path: Path) -> None:
    report = verify(read_lines(tmp_path))
    assert report.exit_code == 2
    assert "journal.log" in report.error
