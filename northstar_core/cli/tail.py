"""The end of a log file, and what is added to it; lines of JSON as a person reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from northstar_core.model.errors import SettingsError

BLOCK = 1 << 20  #: bytes looked at from the end


class Tail:
    """The last ``lines`` of a file, then what is added; goes on with the new file where the log is rotated."""

    def __init__(self, file: Path, lines: int, *, raw: bool = False) -> None:
        self.file, self.lines, self.raw = file, lines, raw
        self._at: int | None = None
        self._inode = 0
        self._rest = b""

    def skip(self) -> None:
        """Leave out what is there now."""
        self.lines = 0
        for _ in self.more():
            pass

    def more(self) -> Iterator[str]:
        """Yield the lines added since the last time; at first the last ones."""
        try:
            with self.file.open("rb") as source:
                found = os.fstat(source.fileno())
                if self._at is None:
                    source.seek(max(0, found.st_size - BLOCK))
                    data = source.read()
                    whole = data[: data.rfind(b"\n") + 1]
                    self._at = found.st_size - len(data) + len(whole)
                    self._inode = found.st_ino
                    chosen = whole.splitlines()[-self.lines :] if self.lines else []
                else:
                    if found.st_ino != self._inode or found.st_size < self._at:
                        self._at, self._inode, self._rest = 0, found.st_ino, b""
                    source.seek(self._at)
                    data = self._rest + source.read()
                    self._at = source.tell()
                    *chosen, self._rest = data.split(b"\n")
        except FileNotFoundError:
            self._at = 0 if self._at is None else self._at
            return
        for line in chosen:
            text = line.decode(errors="replace")
            yield text if self.raw else pretty(text)


def pretty(line: str) -> str:
    """Return a line of JSON as a person reads it; any other line as it is."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or "message" not in entry:
        return line
    words: list[Any] = [str(entry.get("time", ""))[:23].replace("T", " "), str(entry.get("level", "")).upper().ljust(8)]
    words += [f"#{entry['seq']}"] if entry.get("seq") else []
    words.append(entry["message"])
    shown = " ".join(str(word) for word in words)
    return f"{shown}\n{entry['error']}" if entry.get("error") else shown


def log_file(home: Path, what: str) -> Path:
    """Return the log a word names: a process of the desk, or a run by the beginning of its id.

    Raises
    ------
    SettingsError
        If there is none, or more than one.
    """
    if what in ("gateway", "worker"):
        file = home / "logs" / f"{what}.log"
        if file.exists():
            return file
        raise SettingsError(f"{file}: there is no log yet; northstar up starts the desk")
    folder = home / "runs"
    runs = (
        sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        if folder.is_dir()
        else []
    )
    exact = [path for path in runs if path.name == what]
    found = exact or [path for path in runs if what and what in path.name]
    if not found:
        raise SettingsError(f"no run {what!r} in {folder}; give gateway, worker or the beginning of a run's id")
    for name in ("output.log", "launcher.log"):
        if (found[-1] / name).is_file() and (found[-1] / name).stat().st_size:
            return found[-1] / name
    return found[-1] / "output.log"  # where what it prints will be
