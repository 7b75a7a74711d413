"""The worker's log file: one JSON object a line, without secrets."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from datetime import UTC, datetime
from pathlib import Path

from northstar_core.jobs.redaction import Redactor

LARGEST = 20_000_000  #: bytes of a file before a new one is begun


class JsonLines(logging.Formatter):
    """Formats a record as JSON; what looks like a secret is blotted out."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self.redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.redactor.text(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = self.redactor.text(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


def log_to(file: Path) -> logging.Handler:
    """Send the package's log, and what APScheduler complains of, to a file; return the handler."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.touch(mode=0o600)
    handler = logging.handlers.RotatingFileHandler(file, maxBytes=LARGEST, backupCount=3)
    handler.setFormatter(JsonLines(Redactor.from_environment(os.environ)))
    for name, level in (("northstar", logging.INFO), ("apscheduler", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(handler)
        logger.propagate = False
    return handler
