"""Secrets: looked up where their references point, never shown, and removed from whatever is about to be kept.

``file:PATH`` is a file that is ours alone (0400 or 0600). ``env:NAME`` and ``keyring:SERVICE/NAME`` are for accounts without real
money: an environment is inherited by every child, and a desktop's keyring answers any program of its user.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from northstar_core.gateway.files import owned_secret
from northstar_core.gateway.references import is_reference, kind_of, target_of
from northstar_core.gateway.settings import Settings
from northstar_core.model.errors import SettingsError

HIDDEN = "***"
SHORTEST = 4  #: characters of a value that is removed from text; a shorter one would take half the words along


class Secret:
    """A secret value that shows only when asked to."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value: for the wire, and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled or copied out of its process")


class Redaction(logging.Filter):
    """Removes known secrets from text; also a filter for log handlers."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        super().__init__()
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        for secret in secrets:
            self.add(secret)

    def __repr__(self) -> str:
        return f"Redaction({len(self._known)} values)"

    def add(self, secret: Secret) -> None:
        """Know one more; as it is, and as URLs and JSON write it."""
        value = secret.reveal()
        if len(value) < SHORTEST:
            return
        self._known |= {value, quote(value, safe=""), value.replace("\\", "\\\\").replace('"', '\\"')}
        longest_first = sorted(self._known, key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(known) for known in longest_first))

    def text(self, text: str) -> str:
        """Return a text without what is known."""
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean a log record: its message, and what its exception says."""
        if self._pattern is not None:
            record.msg, record.args = self.text(record.getMessage()), ()
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            if record.exc_text:
                record.exc_text = self.text(record.exc_text)
        return True


def resolve(
    reference: str, *, base: Path, real_money: bool, where: str, environ: Mapping[str, str] = os.environ
) -> Secret:
    """Return the secret a reference points at; a relative path counts from ``base``. Errors name ``where``, never a value.

    Raises
    ------
    SettingsError
        If it is no reference, there is nothing, it is open to others, or of a kind that real money may not use.
    """
    if not is_reference(reference):
        raise SettingsError(f"{where}: is no reference to a secret; give file:PATH, env:NAME or keyring:SERVICE/NAME")
    kind, target = kind_of(reference), target_of(reference)
    if kind == "file":
        return _from_file(base / Path(target).expanduser(), where)
    if real_money:
        raise SettingsError(
            f"{where}: an account with real money takes its secrets from files alone: file:PATH, mode 0400"
        )
    if kind == "env":
        value = environ.get(target, "")
        if not value:
            raise SettingsError(f"{where}: the environment has no {target}; set it, or give file:PATH")
        return Secret(value)
    return _from_keyring(target, where)


def account_secrets(settings: Settings, account: str) -> dict[str, Secret]:
    """Return the credentials of an account by name.

    Raises
    ------
    SettingsError
        As ``resolve``.
    """
    entry = settings.accounts[account]
    return {
        name: resolve(
            reference, base=settings.path.parent, real_money=entry.real_money,
            where=f"{settings.path}: accounts.{account}.secrets.{name}",
        )
        for name, reference in entry.secrets.items()
    }  # fmt: skip


def feed_key(settings: Settings, feed: str) -> Secret:
    """Return a feed's key; an empty one where none is configured.

    Raises
    ------
    SettingsError
        As ``resolve``.
    """
    reference = settings.feeds[feed].key
    if not reference:
        return Secret("")
    where = f"{settings.path}: feeds.{feed}.key"
    return resolve(reference, base=settings.path.parent, real_money=False, where=where)


def webhook_of(settings: Settings) -> Secret | None:
    """Return the URL alerts are posted to; None where none is configured.

    Raises
    ------
    SettingsError
        As ``resolve``.
    """
    if not settings.alerts.webhook:
        return None
    where = f"{settings.path}: alerts.webhook"
    return resolve(settings.alerts.webhook, base=settings.path.parent, real_money=False, where=where)


def _from_file(path: Path, where: str) -> Secret:
    content = owned_secret(path, where=where)
    try:
        value = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise SettingsError(f"{where}: {path}: is no text") from None
    if not value or "\n" in value:
        raise SettingsError(f"{where}: {path}: must hold one line, the secret")
    return Secret(value)


def _from_keyring(target: str, where: str) -> Secret:
    try:
        import keyring  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise SettingsError(
            f"{where}: the package keyring is not installed; pip install keyring, or give file:PATH"
        ) from None
    service, _, name = target.partition("/")
    try:
        value = keyring.get_password(service, name)
    except Exception as error:  # its back ends raise classes of their own
        raise SettingsError(f"{where}: the keyring does not answer: {type(error).__name__}; give file:PATH") from None
    if not value:
        raise SettingsError(f"{where}: the keyring has nothing under {target}; keyring set {service} {name}")
    return Secret(value)
