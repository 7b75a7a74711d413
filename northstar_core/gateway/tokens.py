"""Session tokens: who may speak for which strategy in which account, and until when.

A token is a claim and its HMAC-SHA256 under a key that only the gateway reads. Kernels get one that trades for one strategy in one
account; the operator's, in a file of mode 0400, is what commands, the jobs worker and dashboards log in with. Time is the wall's:
a faster desk clock makes no token older.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from northstar_core.gateway.files import owned_secret, write_new, write_private
from northstar_core.model.errors import NorthstarError, SettingsError

Capability = Literal["trade", "read", "operate"]
ANY = "*"  #: every strategy, every account: the operator's
LONGEST_S = 24 * 3600  #: a kernel's token lives no longer
OPERATOR_S = 400 * 24 * 3600  #: the operator's is made anew with every start of the gateway
KEY_BYTES = 32
LARGEST = 1024  #: characters of a token that are looked at

#: what each capability includes
_INCLUDES: dict[str, frozenset[str]] = {
    "read": frozenset({"read"}),
    "trade": frozenset({"trade", "read"}),
    "operate": frozenset({"operate", "trade", "read"}),
}


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token says."""

    strategy: str
    account: str
    capability: Capability
    expires: int  #: wall time, ns UTC
    serial: int

    def covers(self, strategy: str, account: str, capability: Capability) -> bool:
        """Whether the claim reaches this far."""
        return (
            capability in _INCLUDES[self.capability]
            and self.strategy in (strategy, ANY)
            and self.account in (account, ANY)
        )


class TokenCode(StrEnum):
    """Why a token is refused."""

    BAD_TOKEN = "BAD_TOKEN"  #: not ours, altered or revoked
    EXPIRED = "EXPIRED"
    WRONG_SCOPE = "WRONG_SCOPE"  #: another strategy, account or capability


class TokenRefused(NorthstarError):
    """A token does not let its bearer in; ``code`` says why, the text never shows the token."""

    def __init__(self, code: TokenCode, text: str) -> None:
        self.code = code
        super().__init__(text)


class Tokens:
    """Issues and checks tokens under one key; ``revoked`` holds serials that no longer count."""

    def __init__(self, key: bytes, revoked: Path | None = None) -> None:
        if len(key) != KEY_BYTES:
            raise SettingsError(f"a token key has {KEY_BYTES} bytes, not {len(key)}; remove the file, and one is made")
        self._key = key
        self._file = revoked
        self._revoked = _serials(revoked)
        self._last = 0

    @classmethod
    def open(cls, home: Path) -> Tokens:
        """Return the gateway's tokens: its key is made where there is none, in ``gateway/token.key`` (0400).

        Raises
        ------
        SettingsError
            If the key's file is not ours alone.
        """
        folder = home / "gateway"
        file = folder / "token.key"
        write_new(file, os.urandom(KEY_BYTES))
        return cls(owned_secret(file), folder / "revoked")

    def __repr__(self) -> str:
        """Never the key."""
        return "Tokens()"

    def issue(self, *, strategy: str, account: str, capability: Capability, now: int, seconds: float) -> str:
        """Return a token for ``seconds`` from ``now`` (wall, ns UTC); only the operator's lasts longer than a day.

        Raises
        ------
        TokenRefused
            If it would last longer, or not at all, or reach further than its capability may.
        """
        longest = OPERATOR_S if capability == "operate" else LONGEST_S
        if not 0 < seconds <= longest:
            raise TokenRefused(TokenCode.WRONG_SCOPE, f"a token of {seconds:g} s: {capability} lasts up to {longest} s")
        if capability == "trade" and ANY in (strategy, account):
            raise TokenRefused(TokenCode.WRONG_SCOPE, "a token that trades names one strategy and one account")
        self._last = serial = max(self._last + 1, now)
        claim = Claim(
            strategy=strategy, account=account, capability=capability, expires=now + round(seconds * 1e9), serial=serial
        )
        body = msgspec.msgpack.encode(claim)
        return f"{_text(body)}.{_text(self._mac(body))}"

    def check(
        self, token: str, now: int, *, strategy: str = "", account: str = "", capability: Capability = "read"
    ) -> Claim:
        """Return what a token says, if it counts at ``now`` (wall, ns UTC) and reaches as far as asked; empty asks nothing.

        Raises
        ------
        TokenRefused
            BAD_TOKEN, EXPIRED or WRONG_SCOPE.
        """
        claim = self._claim(token)
        if claim is None or claim.serial in self._revoked:
            raise TokenRefused(
                TokenCode.BAD_TOKEN, "the token is not this gateway's, or was revoked; ask for a new one"
            )
        if now >= claim.expires:
            raise TokenRefused(TokenCode.EXPIRED, "the token has expired; ask for a new one")
        if not claim.covers(strategy or claim.strategy, account or claim.account, capability):
            asked = f"{capability} as {strategy or ANY} in {account or ANY}"
            has = f"{claim.capability} as {claim.strategy} in {claim.account}"
            raise TokenRefused(TokenCode.WRONG_SCOPE, f"the token allows {has}, not {asked}")
        return claim

    def revoke(self, serial: int) -> None:
        """Let a token count no longer, also after a restart."""
        if serial not in self._revoked:
            self._revoked.add(serial)
            if self._file is not None:
                write_private(self._file, "".join(f"{each}\n" for each in sorted(self._revoked)).encode(), 0o600)

    def write_operator(self, home: Path, now: int) -> Path:
        """Write a new operator's token to ``gateway/operator.key`` (0400), revoke the one before, and return the path."""
        file = operator_file(home)
        if file.exists() and (old := self._claim(file.read_text())) is not None and old.expires > now:
            self.revoke(old.serial)
        token = self.issue(strategy=ANY, account=ANY, capability="operate", now=now, seconds=OPERATOR_S)
        write_private(file, token.encode(), 0o400)
        return file

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()

    def _claim(self, token: str) -> Claim | None:
        """What a token of ours says; None where it is not ours."""
        body, _, mac = token.strip().partition(".") if len(token) <= LARGEST else ("", "", "")
        try:
            raw, given = _bytes(body), _bytes(mac)
        except ValueError:
            return None
        if not hmac.compare_digest(self._mac(raw), given):
            return None
        try:
            return msgspec.msgpack.decode(raw, type=Claim)
        except msgspec.MsgspecError:
            return None


def operator_file(home: Path) -> Path:
    """Return where the operator's token is."""
    return home / "gateway" / "operator.key"


def _serials(file: Path | None) -> set[int]:
    if file is None or not file.exists():
        return set()
    try:
        return {int(line) for line in file.read_text().split()}
    except ValueError:
        # refused, not skipped: a list that cannot be read could let a revoked token in again
        raise SettingsError(
            f"{file}: is no list of revoked tokens; remove it together with token.key beside it"
        ) from None


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    found = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(found) != text:
        raise ValueError("written in another way than ours")
    return found
