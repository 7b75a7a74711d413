"""The gateway's log file: one JSON object a line, with the desk's sequence number, and no secret."""

from __future__ import annotations

import json
import logging
import logging.handlers
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from northstar_core.gateway.secrets import Redaction

LARGEST = 50_000_000  #: bytes of a file before a new one is begun


class JsonLines(logging.Formatter):
    """Formats a record as JSON; known secrets are blotted out, wherever they come from."""

    def __init__(self, seq: Callable[[], int], redaction: Redaction) -> None:
        super().__init__()
        self.seq, self.redaction = seq, redaction

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "seq": self.seq(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return self.redaction.text(json.dumps(line, default=str))


def log_to(file: Path | None, seq: Callable[[], int], redaction: Redaction) -> logging.Handler:
    """Send the package's log to a file, or to stderr where there is none; returns the handler."""
    handler: logging.Handler
    if file is None:
        handler = logging.StreamHandler()
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        handler = logging.handlers.RotatingFileHandler(file, maxBytes=LARGEST, backupCount=5)
    handler.setFormatter(JsonLines(seq, redaction))
    root = logging.getLogger("northstar")
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    root.propagate = False
    return handler
