"""Secrets are found where they may be, shown nowhere, and refused where others could read them."""

from __future__ import annotations

import io
import logging
import os
import pickle
import sys
import types
from pathlib import Path

import pytest

from northstar_core.gateway.secrets import Redaction, Secret, account_secrets, feed_key, resolve
from northstar_core.model.errors import SettingsError
from tests.gateway.configs import FULL, load

CANARY = 'Zq8"w\\canary/1234'


def kept(folder: Path, mode: int = 0o400, content: bytes = CANARY.encode() + b"\n") -> Path:
    file = folder / "secret"
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    file.chmod(mode)
    return file


def found(folder: Path, reference: str, *, real_money: bool = False, environ: dict[str, str] | None = None) -> str:
    return resolve(
        reference, base=folder, real_money=real_money, where="accounts.a.secrets.key", environ=environ or {}
    ).reveal()


@pytest.mark.parametrize("mode", [0o400, 0o600])
@pytest.mark.parametrize("real_money", [False, True])
def test_a_file_that_is_ours_alone_gives_its_line(tmp_path: Path, mode: int, real_money: bool) -> None:
    kept(tmp_path, mode)
    assert found(tmp_path, "file:secret", real_money=real_money) == CANARY
    assert found(Path("/"), f"file:{tmp_path}/secret", real_money=real_money) == CANARY


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o644, 0o660, 0o606, 0o700, 0o4400, 0o410, 0o401])
def test_a_file_others_could_read_is_refused(tmp_path: Path, mode: int) -> None:
    kept(tmp_path, mode)
    with pytest.raises(SettingsError, match=rf"accounts.a.secrets.key: .*secret: has mode {mode:04o}") as caught:
        found(tmp_path, "file:secret")
    assert CANARY not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(kept(tmp_path), 12345, -1)
    with pytest.raises(SettingsError, match="belongs to another user"):
        found(tmp_path, "file:secret")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\n", "must hold one line"),
        (b"a\nb\n", "must hold one line"),
        (b"\xff\xff", "is no text"),
        (b"x" * 70_000, "too large"),
    ],
)
def test_a_file_without_one_line_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    kept(tmp_path, content=content)
    with pytest.raises(SettingsError, match=told):
        found(tmp_path, "file:secret")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o400)
    for name, told in (("none", "cannot be read: No such file"), ("pipe", "is not a file"), (".", "is not a file")):
        with pytest.raises(SettingsError, match=told):
            found(tmp_path, f"file:{name}")


def test_an_environment_variable_serves_accounts_without_real_money(tmp_path: Path) -> None:
    assert found(tmp_path, "env:KEY", environ={"KEY": CANARY}) == CANARY
    with pytest.raises(SettingsError, match="the environment has no KEY; set it, or give file:PATH"):
        found(tmp_path, "env:KEY")
    for reference in ("env:KEY", "keyring:a/b"):
        with pytest.raises(SettingsError, match="takes its secrets from files alone"):
            found(tmp_path, reference, real_money=True, environ={"KEY": CANARY})


def test_a_keyring_is_asked_when_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(SettingsError, match="the package keyring is not installed; pip install keyring"):
        found(tmp_path, "keyring:alpaca/key")

    def get_password(service: str, name: str) -> str | None:
        if service == "locked":
            raise RuntimeError(CANARY)
        return CANARY if (service, name) == ("alpaca", "key") else None

    ring = types.ModuleType("keyring")
    ring.get_password = get_password  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", ring)
    assert found(tmp_path, "keyring:alpaca/key") == CANARY
    with pytest.raises(SettingsError, match="the keyring has nothing under alpaca/other"):
        found(tmp_path, "keyring:alpaca/other")
    with pytest.raises(SettingsError, match="the keyring does not answer: RuntimeError; give file:PATH") as caught:
        found(tmp_path, "keyring:locked/key")
    assert CANARY not in str(caught.value)


def test_what_is_no_reference_is_refused_without_being_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no reference to a secret") as caught:
        found(tmp_path, CANARY)
    assert CANARY not in str(caught.value)


def test_a_configurations_secrets_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path)
    monkeypatch.setenv("MASSIVE", "feed-key")
    settings = load(
        tmp_path, FULL.replace("~/.config/northstar/alpaca.key", "secret").replace("~/.config/northstar/alpaca.secret", "secret")
        .replace("file:~/.config/northstar/massive.key", "env:MASSIVE"),
    )  # fmt: skip
    assert account_secrets(settings, "alpaca-1") == {"key": Secret(CANARY), "secret": Secret(CANARY)}
    assert account_secrets(settings, "paper-1") == {}
    assert feed_key(settings, "massive").reveal() == "feed-key"
    assert CANARY not in repr(settings)


def test_a_secret_shows_nowhere() -> None:
    secret = Secret(CANARY)
    for text in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>40}",
        repr([secret]),
        repr({"a": secret}),
    ):
        assert CANARY not in text and "***" in text
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_known_secrets_are_removed_from_logs_and_their_tracebacks() -> None:
    redaction = Redaction([Secret(CANARY), Secret("abc")])
    assert repr(redaction) == "Redaction(3 values)"
    assert redaction.text(f"a {CANARY} b {CANARY}") == "a *** b ***"
    assert (
        redaction.text('url?key=Zq8%22w%5Ccanary%2F1234 {"k": "Zq8\\"w\\\\canary/1234"} abc')
        == 'url?key=*** {"k": "***"} abc'
    )
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(redaction)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError(f"no {CANARY}")
    except ValueError:
        logger.exception("login with %s failed", CANARY)
    assert (
        CANARY not in out.getvalue()
        and "login with *** failed" in out.getvalue()
        and "ValueError: no ***" in out.getvalue()
    )
    assert Redaction().text("as it is") == "as it is"
