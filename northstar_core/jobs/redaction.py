"""What a secret looks like, and how text is cleaned of it.

Two uses: parameters that look like a secret are refused before anything runs (names, known forms, high entropy), and
text that is kept (executed notebooks) is cleaned of known values and known forms. Entropy is not used on kept text:
base64 images and figure data would drown in it.

The forms are those their issuers publish: AWS access key ids (``AKIA…``), Alpaca key ids (``PK…``, ``AK…``, ``CK…``),
GitHub, Slack, Stripe and Google keys, JWT (RFC 7519), ``Authorization: Bearer`` (RFC 6750), PEM private keys (RFC
7468), credentials in a URL (RFC 3986, section 3.2.1), and ``name=value`` pairs whose name says secret, which is how
Massive and Polygon keys show (they have no prefix of their own).
"""

from __future__ import annotations

import base64
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

REMOVED = "[redacted]"

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|pwd|secret|secrets|token|bearer|credential|credentials|apikey|dsn|authorization"
    r"|api_?key(?:_id)?|access_?key(?:_id)?|secret_?key|private_?key|auth_?key|client_?key|key_id|database_?url|connection_?string)"
    r"(?:_|$)",
    re.IGNORECASE,
)

_FORMS = re.compile(
    r"""
      \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                                          # AWS access key id
    | \b(?:PK|AK|CK)[0-9A-Z]{18}(?:[0-9A-Z]{6})?\b                           # Alpaca key id
    | \bgh[pousr]_[A-Za-z0-9]{36,}\b | \bgithub_pat_[A-Za-z0-9_]{40,}\b      # GitHub
    | \bxox[abposr]-[A-Za-z0-9-]{10,}                                        # Slack
    | \b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}\b                        # Stripe
    | \bdb-[A-Za-z0-9]{24,}\b                                                # Databento
    | \bsk-[A-Za-z0-9_-]{20,} | \bglpat-[A-Za-z0-9_-]{20,}                   # other services' keys with a prefix
    | \bAIza[0-9A-Za-z_-]{35}                                                # Google
    | \beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*           # JWT
    | -----BEGIN[ ](?:[A-Z0-9]+[ ])*PRIVATE[ ]KEY-----.*?(?:-----END[ ](?:[A-Z0-9]+[ ])*PRIVATE[ ]KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)

# Repetitions are bounded, so that megabytes of base64 cost linear time.
# The value alone is removed, so that a reader still sees which header, URL or variable it was.
_VALUES_IN_CONTEXT = (
    re.compile(r"(?P<keep>\bbearer\s+)(?P<value>[A-Za-z0-9._~+/=-]{16,})", re.IGNORECASE),
    re.compile(r"(?P<keep>\bbasic\s+)(?P<value>[A-Za-z0-9+/]{16,}={0,2})", re.IGNORECASE),
    re.compile(
        r"(?P<keep>\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@'\"]{0,200}:)(?P<value>[^\s/@'\"]{1,500})(?=@)", re.IGNORECASE
    ),
    re.compile(
        r"(?P<keep>(?<![A-Za-z0-9])(?:[A-Za-z0-9]{1,30}[_-]){0,6}"
        r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key(?:[_-]?id)?|access[_-]?key(?:[_-]?id)?|secret[_-]?key"
        r"|private[_-]?key|key[_-]?id)"
        r"['\"]?\s*[:=]\s*(?:[bru]{0,2}['\"])?)(?P<value>[^\s'\",;&)\]}]{8,})",
        re.IGNORECASE,
    ),
)

# What the patterns above need; one cheap scan skips them for the many texts without it.
_HINT = re.compile(
    r"AKIA|ASIA|\b[PAC]K[0-9A-Z]{18}|gh[pousr]_|github_pat_|xox[abposr]-|_live_|_test_|sk-|glpat-|db-|AIza|eyJ"
    r"|PRIVATE KEY|bearer|basic\s|://|passw|passphrase|pwd|secret|token|key",
    re.IGNORECASE,
)

_BINARY = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"})

_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z])?")

_OPAQUE = re.compile(r"[A-Za-z0-9+/_=-]{24,}")


def is_secret_name(name: str) -> bool:
    """Whether a variable's name says that it holds a secret; ``PWD`` and ``OLDPWD``, the shell's folders, do not."""
    if name in ("PWD", "OLDPWD"):
        return False
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").replace(".", "_")
    return bool(_SECRET_NAME.search(snake))


def looks_secret(value: str) -> bool:
    """Whether a text has the form of a key, or is one long opaque token."""
    if _FORMS.search(value) or any(pattern.search(value) for pattern in _VALUES_IN_CONTEXT):
        return True
    return any(_is_opaque(token) for token in _OPAQUE.findall(value) if "/" not in token)


def _is_opaque(token: str) -> bool:
    """Whether a long token reads like random characters: digits among the letters, not words with a number behind."""
    kinds = [c.isdigit() for c in token if c.isalnum()]
    changes = sum(a != b for a, b in itertools.pairwise(kinds))
    if len(kinds) < 0.8 * len(token) or changes < 5:
        return False
    counts = Counter(token)
    entropy = -sum(n / len(token) * math.log2(n / len(token)) for n in counts.values())
    return entropy > 3.2  # bits a character; 32 random hexadecimal digits reach 3.6, 32 of base62 4.5


class Redactor:
    """Removes known values and known forms of secrets from text; counts what it removed."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        known: set[str] = set()
        for value in values:
            if len(value) >= 6:
                known |= {value, quote(value, safe=""), base64.b64encode(value.encode()).decode().rstrip("=")}
        self._known = (
            re.compile("|".join(re.escape(v) for v in sorted(known, key=len, reverse=True))) if known else None
        )
        self.removed = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], also: Iterable[str] = ()) -> Redactor:
        """Know every value of a variable whose name says secret, the passwords inside URLs, and ``also`` these."""
        values: list[str] = list(also)
        for name, value in environment.items():
            if is_secret_name(name) and value.lower() not in ("true", "false", "none", "disabled", "enabled"):
                values.append(value)
            if "://" in value:
                try:
                    password = urlsplit(value).password
                except ValueError:
                    continue
                if password:
                    values += [password, unquote(password)]
        return cls(values)

    def text(self, text: str) -> str:
        """Return ``text`` without secrets; unchanged if there were none.

        Terminal colours cut words in two and join them with letters of their own, so coloured text is judged without
        them, and loses them where something was removed.
        """
        if "\x1b" in text:
            plain = _COLOUR.sub("", text)
            cleaned = self.text(plain)
            return text if cleaned == plain else cleaned
        text = self.known(text)
        if not _HINT.search(text):
            return text
        text, count = _FORMS.subn(REMOVED, text)
        self.removed += count
        for pattern in _VALUES_IN_CONTEXT:
            text = pattern.sub(self._value, text)
        return text

    def _value(self, match: re.Match[str]) -> str:
        if match["value"].startswith(REMOVED):
            return match[0]
        self.removed += 1
        return match["keep"] + REMOVED

    def tree(self, value: Any) -> Any:
        """Return a JSON value with every text in it cleaned, keys included; a name that says secret hides its value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self.tree(item) for item in value]
        if isinstance(value, dict):
            cleaned: dict[Any, Any] = {}
            for key, item in value.items():
                if isinstance(item, str) and len(item) >= 6 and isinstance(key, str) and is_secret_name(key):
                    self.removed += item != REMOVED
                    item = REMOVED
                # Encoded numbers and pixels (plotly's ``bdata``, image outputs) hold any four letters by chance.
                binary = isinstance(item, str) and isinstance(key, str) and (key == "bdata" or key in _BINARY)
                cleaned[self.text(key) if isinstance(key, str) else key] = (
                    self.known(item) if binary else self.tree(item)
                )
            return cleaned
        return value

    def known(self, text: str) -> str:
        """Return ``text`` without the known values; known forms stay."""
        if self._known is None:
            return text
        text, count = self._known.subn(REMOVED, text)
        self.removed += count
        return text
