"""Everything a long run prints, in a file beside its notebook: whole lines without secrets, never more than two files' worth."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from northstar_core.jobs.redaction import Redactor

log = logging.getLogger("northstar.jobs")

FILE_LIMIT = 16_000_000  #: bytes of one file; there is the newest and the one before
LINE_LIMIT = 100_000  #: characters after which a line is cut in two


class OutputLog:
    """Appends printed text to a file; the file before is kept with ``.1`` behind its name.

    A disk that is full stops the log, not the run.
    """

    def __init__(self, path: Path, redactor: Redactor, limit: int = FILE_LIMIT) -> None:
        self.path, self.redactor, self.limit = path, redactor, limit
        self._rest = ""
        self._size = 0
        self._failed = False

    def write(self, text: str) -> None:
        """Take text as it comes; it is written by whole lines, since half a secret would be recognised by nobody."""
        *lines, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > LINE_LIMIT:
            lines.append(self._rest)
            self._rest = ""
        if lines:
            self._append("\n".join(lines) + "\n")

    def flush(self) -> None:
        """Write what is left of an unfinished line."""
        if self._rest:
            self._append(self._rest + "\n")
            self._rest = ""

    def _append(self, text: str) -> None:
        if self._failed:
            return
        data = self.redactor.text(text).encode("utf-8", "replace")
        try:
            if self._size + len(data) > self.limit and self._size:
                os.replace(self.path, self.path.with_name(self.path.name + ".1"))
                self._size = 0
            with open(self.path, "ab", opener=_private) as file:
                file.write(data[-self.limit :])
            self._size += len(data)
        except OSError as error:
            self._failed = True
            with suppress(Exception):
                log.warning(
                    "%s: cannot be written (%s); what is printed from here on is only in the notebook",
                    self.path,
                    error.strerror,
                )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
