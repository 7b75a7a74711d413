"""A token lets its bearer do what it says, until it expires, and nothing else."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from northstar_core.gateway.tokens import ANY, Claim, TokenCode, TokenRefused, Tokens, operator_file
from northstar_core.model.errors import SettingsError

NOW = 1_700_000_000 * 10**9
KEY = bytes(range(32))
CAPABILITIES = ("read", "trade", "operate")


def kernel_token(tokens: Tokens, **changes: object) -> str:
    asked = {
        "strategy": "sma_cross",
        "account": "live-1",
        "capability": "trade",
        "now": NOW,
        "seconds": 3600,
        **changes,
    }
    return tokens.issue(**asked)  # type: ignore[arg-type]


def code(tokens: Tokens, token: str, now: int = NOW, **scope: str) -> TokenCode:
    """Why a token is refused."""
    with pytest.raises(TokenRefused) as caught:
        tokens.check(token, now, **scope)  # type: ignore[arg-type]
    assert len(token) < 40 or token not in str(caught.value)
    return caught.value.code


def test_a_token_says_what_it_was_issued_for() -> None:
    tokens = Tokens(KEY)
    claim = tokens.check(kernel_token(tokens), NOW, strategy="sma_cross", account="live-1", capability="trade")
    assert claim == Claim(
        strategy="sma_cross", account="live-1", capability="trade", expires=NOW + 3600 * 10**9, serial=claim.serial
    )


@pytest.mark.parametrize(
    ("scope", "why"),
    [
        ({"strategy": "other"}, "sma_cross in live-1, not read as other in"),
        ({"account": "live-2"}, "not read as * in live-2"),
        ({"capability": "operate"}, "not operate"),
        ({"strategy": "sma_cross", "account": "live-1", "capability": "operate"}, "not operate as sma_cross in live-1"),
    ],
)
def test_another_strategy_account_or_capability_is_refused(scope: dict[str, str], why: str) -> None:
    tokens = Tokens(KEY)
    with pytest.raises(TokenRefused, match="the token allows trade as") as caught:
        tokens.check(kernel_token(tokens), NOW, **scope)  # type: ignore[arg-type]
    assert caught.value.code is TokenCode.WRONG_SCOPE and why in str(caught.value)


@pytest.mark.parametrize("has", CAPABILITIES)
@pytest.mark.parametrize("asked", CAPABILITIES)
def test_a_capability_includes_the_smaller_ones(has: str, asked: str) -> None:
    tokens = Tokens(KEY)
    token = kernel_token(tokens, capability=has)
    if CAPABILITIES.index(asked) <= CAPABILITIES.index(has):
        assert tokens.check(token, NOW, capability=asked).capability == has  # type: ignore[arg-type]
    else:
        assert code(tokens, token, capability=asked) is TokenCode.WRONG_SCOPE


def test_a_token_expires_to_the_nanosecond() -> None:
    tokens = Tokens(KEY)
    token = kernel_token(tokens)
    assert tokens.check(token, NOW + 3600 * 10**9 - 1)
    assert code(tokens, token, NOW + 3600 * 10**9) is TokenCode.EXPIRED


def test_a_kernels_token_lasts_a_day_at_most_and_names_one_strategy_and_one_account() -> None:
    tokens = Tokens(KEY)
    for changes in ({"seconds": 86_401}, {"seconds": 0}, {"seconds": -1}, {"strategy": ANY}, {"account": ANY}):
        with pytest.raises(TokenRefused) as caught:
            kernel_token(tokens, **changes)
        assert caught.value.code is TokenCode.WRONG_SCOPE


def test_a_token_under_another_key_is_no_token() -> None:
    token = kernel_token(Tokens(KEY))
    assert code(Tokens(KEY[::-1]), token) is TokenCode.BAD_TOKEN


@given(data=st.data())
def test_no_altered_token_counts(data: st.DataObject) -> None:
    tokens = Tokens(KEY)
    token = kernel_token(tokens)
    how = data.draw(st.sampled_from(["replace", "insert", "delete", "append"]))
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABCabc019-_.=~é \n"))
    altered = {
        "replace": token[:at] + letter + token[at + 1 :],
        "insert": token[:at] + letter + token[at:],
        "delete": token[:at] + token[at + 1 :],
        "append": token + letter,
    }[how]
    if altered.strip() == token:  # a line's end that an editor adds
        assert tokens.check(altered, NOW)
    else:
        assert code(tokens, altered) is TokenCode.BAD_TOKEN


@given(st.text(max_size=300))
def test_no_text_is_a_token_by_chance(text: str) -> None:
    assert code(Tokens(KEY), text) is TokenCode.BAD_TOKEN


def test_a_token_longer_than_any_of_ours_is_not_even_looked_at() -> None:
    assert code(Tokens(KEY), "A" * 10_000_000) is TokenCode.BAD_TOKEN


def test_a_claim_with_more_in_it_than_we_write_is_no_claim() -> None:
    tokens = Tokens(KEY)
    body = msgspec.msgpack.encode(
        {"strategy": "s", "account": "a", "capability": "trade", "expires": 2**62, "serial": 1, "x": 1}
    )
    from northstar_core.gateway.tokens import _text

    assert code(tokens, f"{_text(body)}.{_text(tokens._mac(body))}") is TokenCode.BAD_TOKEN


def test_serials_are_never_given_twice() -> None:
    tokens = Tokens(KEY)
    serials = [tokens.check(kernel_token(tokens), NOW).serial for _ in range(20)]
    assert len(set(serials)) == 20


def test_a_revoked_token_counts_no_more_also_after_a_restart(tmp_path: Path) -> None:
    tokens = Tokens.open(tmp_path)
    good, bad = kernel_token(tokens), kernel_token(tokens)
    tokens.revoke(tokens.check(bad, NOW).serial)
    again = Tokens.open(tmp_path)
    for each in (tokens, again):
        assert each.check(good, NOW)
        assert code(each, bad) is TokenCode.BAD_TOKEN


def test_a_revocation_list_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    Tokens.open(tmp_path)
    (tmp_path / "gateway" / "revoked").write_text("12\nrubbish\n")
    with pytest.raises(SettingsError, match="is no list of revoked tokens"):
        Tokens.open(tmp_path)


def test_the_key_is_the_gateways_alone_and_stays_the_same(tmp_path: Path) -> None:
    token = kernel_token(Tokens.open(tmp_path))
    assert Tokens.open(tmp_path).check(token, NOW)
    key = tmp_path / "gateway" / "token.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o400 and stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    key.chmod(0o440)
    with pytest.raises(SettingsError, match=r"has mode 0440; a secret's file has 0400: chmod 400"):
        Tokens.open(tmp_path)
    key.chmod(0o600)
    key.write_bytes(b"short")
    with pytest.raises(SettingsError, match="a token key has 32 bytes, not 5"):
        Tokens.open(tmp_path)


def test_the_operators_token_is_new_with_every_start_and_the_old_one_is_done(tmp_path: Path) -> None:
    tokens = Tokens.open(tmp_path)
    file = tokens.write_operator(tmp_path, NOW)
    first = file.read_text()
    assert file == operator_file(tmp_path) and stat.S_IMODE(file.stat().st_mode) == 0o400
    assert tokens.check(first, NOW, capability="operate", account="any").account == ANY
    again = Tokens.open(tmp_path)
    again.write_operator(tmp_path, NOW + 1)
    assert code(again, first, NOW + 2) is TokenCode.BAD_TOKEN
    assert again.check(file.read_text(), NOW + 2, capability="operate")


def test_tokens_do_not_show_their_key() -> None:
    assert repr(Tokens(KEY)) == "Tokens()"
