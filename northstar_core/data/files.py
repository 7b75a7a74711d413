"""From a path to a table: find the files, read their bytes once, recognise their format by content, parse with Arrow.

The bytes are read whole so that their sha256 is of exactly what was parsed. Nothing here knows what the columns mean.
"""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from northstar_core.model.errors import DataError

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet", ".dbn", ".dbn.zst")
SUPPORTED = "csv, csv.gz, parquet, dbn or dbn.zst"


class File(NamedTuple):
    """A file's bytes as they are stored, and what they are: "csv", "csv.gz", "parquet" or "dbn"."""

    path: Path
    data: bytes
    kind: str
    sha256: str


def expand(source: str | Path) -> list[Path]:
    """Return the data files a path, a folder (with its subfolders) or a glob pattern stands for, sorted.

    Raises
    ------
    DataError
        If nothing is there.
    """
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and _is_data(p.relative_to(path)))
            if not found:
                raise DataError(f"{path}: the folder holds no market data; expected {SUPPORTED} files")
            return found
        if path.exists():
            return [path]
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from None
    if any(mark in str(source) for mark in "*?["):
        matches = sorted(
            Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file() and _is_data(Path(p))
        )
        if matches:
            return matches
        raise DataError(f"{source}: no file matches; check the pattern")
    raise DataError(f"{path}: no such file or folder; check the path")


def _is_data(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and not any(
        part.startswith((".", "_")) for part in path.parts if part != ".."
    )


def open_file(path: Path) -> File:
    """Read a file's bytes and recognise its format by its first bytes, whatever its name says.

    Raises
    ------
    DataError
        If it cannot be read, is empty or is of no supported format.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from None
    if not data:
        raise DataError(f"{path}: is empty; give a file with a header and rows")
    if data[:2] == b"\x1f\x8b":
        kind = "csv.gz"
    elif data[:4] == b"PAR1":
        kind = "parquet"
    elif data[:3] == b"DBN" or (data[:4] == b"\x28\xb5\x2f\xfd" and ".dbn" in path.name.lower()):
        kind = "dbn"
    elif b"\x00" in data[:4096] or data[:4] == b"\x28\xb5\x2f\xfd":
        raise DataError(f"{path}: is not a supported format; give {SUPPORTED}")
    else:
        kind = "csv"
    return File(path, data, kind, hashlib.sha256(data).hexdigest())


def text_of(file: File) -> bytes:
    """Return the text of a plain or gzipped file.

    Raises
    ------
    DataError
        If the compressed data end too early or are damaged.
    """
    data = file.data
    if file.kind == "csv.gz":
        try:
            data = gzip.decompress(data)
        except EOFError:
            raise DataError(f"{file.path}: the gzip data end too early (truncated); fetch the file again") from None
        except (OSError, zlib.error) as error:
            raise DataError(f"{file.path}: the gzip data are damaged ({error}); download the file again") from None
    data = data.removeprefix(b"\xef\xbb\xbf")  # the byte order mark spreadsheets write
    if not data.strip():
        raise DataError(f"{file.path}: is empty; give a file with a header and rows")
    return data if data.endswith(b"\n") else data + b"\n"


def header_of(path: Path, text: bytes) -> tuple[list[str], str]:
    """Return the column names of the first line, as written, and the delimiter (comma, semicolon or tab)."""
    try:
        line = text.lstrip(b"\r\n").split(b"\n", 1)[0].decode("utf-8").rstrip("\r")
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not a supported format (not UTF-8 text); give {SUPPORTED}") from None
    delimiter = max(",;\t", key=line.count)
    return next(csv.reader(io.StringIO(line), delimiter=delimiter), []), delimiter


def csv_table(path: Path, text: bytes, delimiter: str, types: dict[str, Any]) -> pa.Table:
    """Return the named columns of a csv as Arrow columns of the given types; empty fields are null.

    Raises
    ------
    DataError
        If a row has too many or too few fields, or a field is not of its column's type; names row, field and text.
    """
    try:
        return _parse(text, delimiter, types)
    except pa.ArrowInvalid as error:
        _explain(path, text, delimiter, types, error)


def _parse(
    text: bytes, delimiter: str, types: dict[str, Any], on_bad_row: Callable[[Any], str] | None = None
) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(text),
        read_options=pyarrow.csv.ReadOptions(use_threads=on_bad_row is None),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=on_bad_row),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=list(types), column_types=types, null_values=[""], strings_can_be_null=True
        ),
    )


def _explain(path: Path, text: bytes, delimiter: str, types: dict[str, Any], error: pa.ArrowInvalid) -> NoReturn:
    """Find the field that could not be parsed: slowly, once, on the way to a refusal."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as bad:
        row_number = text[: bad.start].count(b"\n")
        raise DataError(f"{path}: row {row_number}: is not UTF-8 text; save the file as UTF-8") from None
    bad_rows: list[Any] = []

    def note(row: Any) -> str:
        bad_rows.append(row)
        return "skip"

    try:
        table = _parse(text, delimiter, dict.fromkeys(types, pa.string()), note)
    except pa.ArrowInvalid as again:
        raise DataError(f"{path}: cannot be parsed as csv ({_one_line(again)}); check the file") from None
    if bad_rows:
        row = bad_rows[0]
        raise DataError(
            f"{path}: row {row.number - 1}: has {row.actual_columns} fields, the header has {row.expected_columns}; "
            "correct the row"
        )
    for name, wanted in types.items():
        if pa.types.is_string(wanted) or pa.types.is_dictionary(wanted):
            continue
        for row_number, value in enumerate(table[name].to_pylist(), start=1):
            try:
                if value is not None:
                    pa.scalar(value.strip()).cast(wanted)
            except pa.ArrowInvalid:
                kind = "a whole number" if pa.types.is_integer(wanted) else "a number"
                raise DataError(
                    f"{path}: row {row_number}: {name} {value!r} is not {kind}; correct the field"
                ) from None
    raise DataError(f"{path}: cannot be parsed as csv ({_one_line(error)}); check the file")


def parquet_table(file: File) -> pa.Table:
    """Return a parquet file's columns.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    try:
        return pyarrow.parquet.read_table(pa.BufferReader(file.data))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file.path}: the parquet data are damaged ({_one_line(error)}); write the file again"
        ) from None


def require_rows(path: Path | str, rows: int, columns: Sequence[str]) -> None:
    """Refuse a table that has a header and nothing below it."""
    if rows == 0:
        raise DataError(f"{path}: has a header ({', '.join(columns)}) and no rows; give a file with data")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
