"""Secrets in text that is kept."""

from __future__ import annotations

import base64
import random
import string
from urllib.parse import quote

import pytest

from northstar_core.jobs.redaction import REMOVED, Redactor, is_secret_name, looks_secret

DRAW = random.Random(7)


def drawn(alphabet: str, length: int) -> str:
    return "".join(DRAW.choice(alphabet) for _ in range(length))


UPPER, MIXED = string.ascii_uppercase + string.digits, string.ascii_letters + string.digits
#: Twenty kinds, ten of each: the secret, and the text it is planted in.
KINDS = {
    "aws id": lambda: (s := "AKIA" + drawn(UPPER, 16), f"id {s}."),
    "aws temporary id": lambda: (s := "ASIA" + drawn(UPPER, 16), f"{s}"),
    "aws secret": lambda: (s := drawn(MIXED + "/+", 40), f"aws_secret_access_key = {s}"),
    "alpaca id": lambda: (s := "PK" + drawn(UPPER, 18), f"connected with {s}"),
    "alpaca secret": lambda: (s := drawn(MIXED, 40), f"APCA-API-SECRET-KEY: {s}"),
    "massive key in url": lambda: (s := drawn(MIXED + "_", 32), f"https://api.massive.com/v3?n=1&apiKey={s}&to=2"),
    "massive key in python": lambda: (s := drawn(MIXED, 32), f"client = Client(api_key='{s}')"),
    "databento": lambda: (s := "db-" + drawn(MIXED, 29), f"Historical({s!r})"),
    "github": lambda: (s := "ghp_" + drawn(MIXED, 36), f"git clone https://{s}@github.com/a/b"),
    "slack": lambda: (s := "xoxb-" + drawn(string.digits, 12) + "-" + drawn(MIXED, 24), f"{s}"),
    "stripe": lambda: (s := "sk_live_" + drawn(MIXED, 24), f"{s}"),
    "google": lambda: (s := "AIza" + drawn(MIXED, 35), f"key={s}"),
    "jwt": lambda: (s := f"eyJ{drawn(MIXED, 20)}.eyJ{drawn(MIXED, 40)}.{drawn(MIXED, 43)}", f"session {s} expired"),
    "bearer": lambda: (s := drawn(MIXED, 30), f"{{'Authorization': 'Bearer {s}'}}"),
    "basic": lambda: (s := base64.b64encode(drawn(MIXED, 21).encode()).decode(), f"authorization: Basic {s}"),
    "database url": lambda: (s := drawn(MIXED, 12), f"could not connect to postgresql+asyncpg://desk:{s}@db:5432/x"),
    "password pair": lambda: (s := drawn(MIXED, 12), f'{{"user": "a", "password": "{s}"}}'),
    "environment line": lambda: (s := drawn(MIXED, 20), f"HOME=/home/a\nBROKER_TOKEN={s}\nLANG=C"),
    "private key": lambda: (s := drawn(MIXED, 64), f"-----BEGIN PRIVATE KEY-----\n{s}\n-----END PRIVATE KEY-----"),
    "passphrase": lambda: (s := drawn(MIXED, 16), f"passphrase = '{s}'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_planted_secret_is_removed_wherever_it_stands(kind: str) -> None:
    for _ in range(10):
        secret, text = KINDS[kind]()
        redactor = Redactor()
        output = {"data": {"text/plain": text, "nested": [{"deep": text}]}, "traceback": [f"\x1b[31m{text}\x1b[0m"]}
        cleaned = str(redactor.tree(output))
        assert secret not in cleaned
        assert REMOVED in cleaned
        assert redactor.removed >= 3


def test_known_values_of_the_environment_are_removed_also_encoded() -> None:
    environment = {
        "BROKER_SECRET": "correct horse/battery",
        "NORTHSTAR_DATABASE_URL": "postgresql://desk:p%40ss%2Fword@db/market",
        "HOME": "/home/trader",
        "USE_TOKEN": "true",
    }
    redactor = Redactor.from_environment(environment)
    for value in ("correct horse/battery", quote("correct horse/battery", safe=""), "p@ss/word", "p%40ss%2Fword"):
        assert value not in redactor.text(f"a {value} b")
    encoded = base64.b64encode(b"correct horse/battery").decode().rstrip("=")
    assert encoded not in redactor.text(encoded)
    assert redactor.text("/home/trader is true") == "/home/trader is true"


@pytest.mark.parametrize(
    "text",
    [
        "Sharpe 1.32, max drawdown -12.4 %, 1,024 trades",
        "order sma_cross-1-17 SPY230901C00430000 filled 100 @ 431.25",
        "https://example.com/docs?page=2#keys",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "for key in keys: print(key)",
        "2023-09-01 09:30:00-04:00",
        "the token bucket holds 200 orders",
        "sort_key: time",
    ],
)
def test_ordinary_text_passes_unchanged(text: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == text
    assert redactor.removed == 0


def test_encoded_numbers_and_pixels_pass_unchanged_unless_they_hold_a_known_value() -> None:
    pixels = "iVBORw0KGgo" + "AKIA" + "ABCDEFGHIJKLMNOP" + "=="
    redactor = Redactor(["ABCDEFGH"])
    assert Redactor().tree({"image/png": pixels, "y": {"bdata": pixels}}) == {
        "image/png": pixels,
        "y": {"bdata": pixels},
    }
    assert "ABCDEFGH" not in redactor.tree({"image/png": pixels})["image/png"]


def test_cleaning_megabytes_of_base64_stays_linear() -> None:
    text = drawn(MIXED + "+/_-", 400_000)
    assert len(Redactor().text(text)) > 390_000


def test_names_that_say_secret() -> None:
    assert all(map(is_secret_name, ["PASSWORD", "apiKey", "POLYGON_API_KEY", "APCA-API-KEY-ID", "pgPassword", "DSN"]))
    assert not any(map(is_secret_name, ["PWD", "OLDPWD", "fast", "sort_key", "keyboard", "tokens_per_day", "PATH"]))


def test_words_and_dates_do_not_look_secret() -> None:
    assert not looks_secret("a_rather_long_identifier_of_2024_with_words")
    assert looks_secret(drawn(MIXED, 40))
