"""The desk from the command line: up and down in order, refusals in one line, questions and orders by hand. A real gateway, no feed."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from northstar_core.cli.first_config import TEXT
from northstar_core.cli.processes import DeskProcess
from northstar_core.client.desk import DeskClient, GatewayError
from northstar_core.gateway.tokens import Tokens
from tests.cli.shell import Ran, finished

Start = Callable[..., subprocess.Popen[str]]
Command = Callable[..., Ran]


@pytest.fixture(scope="module")
def desk(home: Path, start: Start) -> Iterator[Path]:
    """The home of a desk that is up, gateway and worker; its exchange never closes, so that weekends are days like any."""
    config = home / "northstar.toml"
    config.write_text(TEXT.replace('name = "desk"', 'name = "by-hand"').replace('"XNYS"', '"24/7"'))
    ran = finished(start("up", "--json"))
    assert ran.code == 0, ran.err
    yield home
    ran = finished(start("down", "--json"))
    assert ran.code == 0 and ran.json == {"stopped": ["worker", "gateway"]}, ran.err
    config.unlink()


def test_up_says_where_things_are_and_what_runs(desk: Path, northstar: Command) -> None:
    ran = northstar("status", "--json")
    assert ran.code == 0 and ran.json["up"] is True and ran.json["home"] == str(desk)
    assert {name: facts["pid"] for name, facts in ran.json["processes"].items()} == {
        name: DeskProcess(name, desk).pid for name in ("gateway", "worker")
    }
    assert list(ran.json["desk"]["accounts"]) == ["paper-1"] and ran.json["desk"]["desk"] == "by-hand"
    shown = northstar("status")
    assert shown.code == 0 and "paper-1" in shown.out and "simulated" in shown.out and "100,000.00" in shown.out


def test_a_second_up_is_refused(desk: Path, start: Start) -> None:
    pid = DeskProcess("gateway", desk).pid
    ran = finished(start("up"))
    assert ran.code == 2
    assert ran.complaint == f"the desk in {desk} is up already, gateway pid {pid}; northstar down stops it"
    assert DeskProcess("gateway", desk).pid == pid


def test_what_runs_leaves_nothing_others_may_read(desk: Path) -> None:
    for name in (
        "gateway/operator.key",
        "gateway/token.key",
        "gateway/session.sock",
        "run/gateway.lock",
        "logs/gateway.out",
    ):
        assert stat.S_IMODE((desk / name).stat().st_mode) & 0o077 == 0, name
    for name in (".", "gateway", "run", "logs"):
        assert stat.S_IMODE((desk / name).stat().st_mode) == 0o700, name


def test_an_order_without_a_price_is_denied_in_words_and_is_on_the_record(desk: Path, northstar: Command) -> None:
    ran = northstar("order", "place", "buy", "10", "spy", "--account", "paper-1", "--limit", "400.10")
    assert ran.code == 1 and ran.out == ""
    assert ran.err.startswith("manual-") and " DENIED " in ran.err and "price" in ran.err
    as_json = northstar("order", "place", "sell", "0.5", "SPY", "--account", "paper-1", "--json")
    assert as_json.code == 1 and as_json.json["status"] == "DENIED" and as_json.json["denied"]
    assert northstar("order", "list", "--json").json == []
    assert northstar("fills", "--json").json == []
    assert northstar("positions", "--json").json == []
    assert northstar("bars", "SPY", "-n", "3", "--json").json == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["place", "buy", "10", "SPY", "--account", "paper-9"], "paper-9"),
        (["place", "buy", "ten", "SPY", "--account", "paper-1"], "qty 'ten': give a number"),
        (["place", "buy", "-1", "SPY", "--account", "paper-1"], "no such option '-1'"),
        (["place", "buy", "0", "SPY", "--account", "paper-1"], "qty 0: must be above zero"),
        (["place", "buy", "nan", "SPY", "--account", "paper-1"], "qty 'nan': give a number"),
        (
            ["place", "buy", "1", "SPY", "--account", "paper-1", "--limit", "1e999999999"],
            "price=1E+999999999 must be above 0 and below 1e9",
        ),
        (["place", "buy", "1", "S PY", "--account", "paper-1"], "neither a ticker"),
        (["place", "hold", "1", "SPY", "--account", "paper-1"], "is not one of 'buy', 'sell'"),
        (["place", "buy", "1", "SPY"], "missing option '--account'"),
        (["cancel", "manual-x-1"], "no order manual-x-1; northstar order list shows them"),
        (["replace", "manual-x-1", "--qty", "5"], "no order manual-x-1"),
        (["replace", "manual-x-1"], "order replace: give --qty, --limit or --stop"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    desk: Path, northstar: Command, arguments: list[str], told: str
) -> None:
    ran = northstar("order", *arguments)
    assert ran.code != 0
    assert told in ran.err and "Traceback" not in ran.err and len(ran.err.splitlines()) == 1


def test_preflight_without_a_feed_is_a_no_go_with_its_reason(desk: Path, northstar: Command) -> None:
    ran = northstar("preflight", "--json")
    assert ran.code == 1 and ran.json["go"] is False
    assert ran.json["reasons"] == ["account:paper-1 feed: no feed is configured: there are no prices to decide on"]
    shown = northstar("preflight", "--account", "paper-1")
    assert shown.code == 1 and "NO-GO: 1 of" in shown.out and "credentials" in shown.out


def test_the_schedule_is_shown_with_its_next_times(desk: Path, northstar: Command) -> None:
    assert northstar("schedule", "list", "--json").json == []
    assert northstar("schedule", "run-now", "none").complaint == f"no job 'none'; {desk / 'northstar.toml'} has none"


def test_a_run_in_an_unknown_account_or_without_a_notebook_is_refused(
    desk: Path, northstar: Command, notebook: Callable[..., Path]
) -> None:
    assert (
        northstar("run", "none.ipynb", "--account", "paper-1").complaint == "notebook none.ipynb: there is no such file"
    )
    ran = northstar("run", notebook(), "--account", "live-9")
    assert ran.complaint == f"--account live-9: {desk / 'northstar.toml'} has paper-1"
    ran = northstar("run", notebook(), "--account", "paper-1", "-p", "fast", "2", "-p", "fast", "3")
    assert ran.complaint == "-p fast: given twice"


def test_a_notebook_runs_detached_once_and_ends_in_order_when_asked(
    desk: Path, northstar: Command, start: Start, notebook: Callable[..., Path]
) -> None:
    book = notebook()
    ran = finished(start("run", book, "--account", "paper-1", "-p", "fast", "3", "--detach", "--json"))
    assert ran.code == 0, ran.err
    assert (ran.json["strategy"], ran.json["account"]) == ("sma_cross", "paper-1")
    (row,) = northstar("status", "--json").json["desk"]["sessions"]
    assert (row["strategy"], row["session"]) == ("sma_cross", ran.json["session"])
    assert "sma_cross" in northstar("status").out
    second = finished(start("run", book, "--account", "paper-1"))
    assert second.code != 0 and "sma_cross" in second.complaint and "paper-1" in second.complaint
    assert northstar("logs", "sma_cross-paper-1").code == 0
    with DeskClient(desk) as client:
        assert client.request("stop", strategy="sma_cross", account="paper-1", reason="enough", grace_s=20) is True
        with open(os.pidfd_open(ran.json["pid"]), "rb") as alive:
            assert select.select([alive], [], [], 120.0)[0], "the run does not end"
        assert client.request("status")["sessions"] == []
    report = next((desk / "runs").glob("sma_cross-paper-1-*")) / "report.json"
    found = json.loads(report.read_text())
    assert found["outcome"] == "completed" and found["parameters"]["fast"] == 3


def test_logs_are_shown_for_people_and_for_programs(desk: Path, northstar: Command) -> None:
    shown = northstar("logs", "gateway")
    assert shown.code == 0 and "INFO" in shown.out and "ready, epoch" in shown.out
    raw = northstar("logs", "worker", "-n", "1", "--json")
    assert json.loads(raw.out)["message"].startswith("ready")
    assert "no run 'nothing'" in northstar("logs", "nothing").complaint


# ── the gateway's door ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("token", ["", "x", "a.b", "é" * 100, "A" * 5000])
def test_a_wrong_token_opens_nothing(desk: Path, token: str) -> None:
    with DeskClient(desk, token=token) as client, pytest.raises(GatewayError, match="the gateway refused") as caught:
        client.request("status")
    assert caught.value.code == "BAD_TOKEN"


def test_a_readers_token_reads_and_does_nothing_else(desk: Path) -> None:
    tokens = Tokens.open(desk)
    token = tokens.issue(strategy="*", account="*", capability="read", now=time.time_ns(), seconds=60)
    with DeskClient(desk, token=token) as client:
        assert client.request("status")["desk"] == "by-hand"
        with pytest.raises(GatewayError, match="needs an operator's token"):
            client.request("cancel", order_id="manual-x-1")


def test_a_kernels_token_is_no_login(desk: Path) -> None:
    with DeskClient(desk) as client:
        ticket = client.request("token", strategy="sma_cross", account="paper-1", hours=1)
        with pytest.raises(GatewayError, match="no grant for other in paper-1"):
            client.request("token", strategy="other", account="paper-1", hours=1)
    with DeskClient(desk, token=ticket["token"]) as client, pytest.raises(GatewayError) as caught:
        client.request("status")
    assert caught.value.code == "WRONG_SCOPE"


def test_an_unknown_request_names_those_there_are_and_the_connection_goes_on(desk: Path) -> None:
    with DeskClient(desk) as client:
        with pytest.raises(GatewayError, match=r"no request 'reboot'; there are .*status"):
            client.request("reboot")
        with pytest.raises(GatewayError, match="unexpected keyword argument 'colour'"):
            client.request("status", colour="red")
        assert client.request("status")["desk"] == "by-hand"


# ── what can happen to it ───────────────────────────────────────────────────────────────────────────


def test_a_killed_gateway_is_seen_and_started_again_where_it_was(desk: Path, northstar: Command, start: Start) -> None:
    gateway, worker = DeskProcess("gateway", desk), DeskProcess("worker", desk)
    before = northstar("status", "--json").json["desk"]
    pid, worker_pid = gateway.pid, worker.pid
    os.kill(pid, signal.SIGKILL)
    assert gateway.wait_gone(30.0)
    assert (desk / "gateway" / "session.sock").exists()  # it could not clean up
    down = northstar("status", "--json")
    assert down.code == 1 and down.json["up"] is False and down.json["processes"]["gateway"] is None
    assert down.json["error"] == f"no gateway is running in {desk}; northstar up starts one"
    assert northstar("positions").complaint == down.json["error"]
    ran = finished(start("up", "--json"))
    assert ran.code == 0, ran.err
    assert ran.json["pids"]["gateway"] != pid and ran.json["pids"]["worker"] == worker_pid  # left alone
    after = northstar("status", "--json").json["desk"]
    assert after["epoch"] > before["epoch"] and after["seq"] > before["seq"]


def test_in_the_foreground_it_stays_shows_its_log_and_goes_down_with_an_interrupt(
    home: Path, desk: Path, start: Start
) -> None:
    """The module's desk makes room, and comes back."""
    assert finished(start("down", "--json")).json == {"stopped": ["worker", "gateway"]}
    for how, code in ((signal.SIGINT, 0), (signal.SIGKILL, 2)):
        up = start("up", "--foreground", "--no-worker")
        assert up.stdout is not None
        lines = [up.stdout.readline() for _ in range(6)]
        assert lines[0].startswith("the desk is up: gateway pid ") and "ready, epoch" in lines[5]
        pid = DeskProcess("gateway", home).pid
        if how is signal.SIGINT:
            up.send_signal(how)
        else:
            os.kill(pid, how)
        ran = finished(up)
        assert ran.code == code and DeskProcess("gateway", home).facts() is None
        assert (how is signal.SIGINT) == ("the gateway ended by itself" not in ran.err)
    assert finished(start("up", "--json")).code == 0


def test_a_stranger_on_the_gateways_socket_is_a_clear_refusal(tmp_path: Path, start: Start) -> None:
    (tmp_path / "gateway").mkdir(mode=0o700)
    (tmp_path / "northstar.toml").write_text(TEXT)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.bind(str(tmp_path / "gateway" / "session.sock"))
        stranger.listen()
        ran = finished(start("up", home=tmp_path))
    assert ran.complaint.endswith(
        "session.sock: a gateway listens there that northstar up did not start; stop it first"
    )
    assert not (tmp_path / "postgres").exists()


def test_a_configuration_that_is_wrong_or_missing_starts_nothing(tmp_path: Path, start: Start) -> None:
    ran = finished(start("up", home=tmp_path))
    assert ran.complaint == f"{tmp_path / 'northstar.toml'}: there is no configuration; northstar init writes one"
    (tmp_path / "northstar.toml").write_text(TEXT.replace("leverage = 1.5", "leverage = 150"))
    ran = finished(start("up", home=tmp_path))
    assert (
        ran.complaint == f"{tmp_path / 'northstar.toml'}: limits.careful.account.leverage: 150 is too large; up to 10"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["northstar.toml"]


def test_a_secret_that_others_could_read_starts_nothing(tmp_path: Path, start: Start) -> None:
    feed = '#[feeds.massive]\n#kind = "massive"\n#key = "file:~/.config/northstar/massive.key"'
    assert feed in TEXT
    text = TEXT.replace(feed, '[feeds.massive]\nkind = "massive"\nkey = "file:massive.key"')
    (tmp_path / "northstar.toml").write_text(text)
    key = tmp_path / "massive.key"
    key.write_text("feed-key-1234567")
    key.chmod(0o644)
    ran = finished(start("up", home=tmp_path))
    assert ran.complaint == (
        f"{tmp_path / 'northstar.toml'}: feeds.massive.key: {key}: has mode 0644; a secret's file has 0400: chmod 400 {key}"
    )
    assert not (tmp_path / "run").exists() and "feed-key" not in ran.err


def test_what_is_not_up_is_not_taken_down(tmp_path: Path, northstar: Command) -> None:
    assert northstar("down", "--home", tmp_path).out == f"nothing runs in {tmp_path}\n"
    ran = northstar("status", "--home", tmp_path)
    assert ran.code == 1
    assert ran.err == f"no gateway is running in {tmp_path}; northstar up starts one\n"


def test_a_first_configuration_is_written_once(tmp_path: Path, northstar: Command) -> None:
    ran = northstar("init", "--home", tmp_path / "desk", "--json")
    file = tmp_path / "desk" / "northstar.toml"
    assert ran.code == 0 and ran.json["config"] == str(file) and file.read_text() == TEXT
    file.write_text("mine")
    assert (
        northstar("init", "--home", tmp_path / "desk").complaint
        == f"{file}: is there already; edit it, or move it away first"
    )
    assert file.read_text() == "mine"
    beside = northstar("init", "--home", tmp_path / "project" / ".northstar")
    assert beside.code == 0 and (tmp_path / "project" / "northstar.toml").exists()
