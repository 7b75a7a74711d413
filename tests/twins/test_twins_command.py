"""``northstar twins`` as a process: one line when it is ready, a market that plays, a clean end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from northstar_core.cli.main import main
from northstar_core.data.synthetic import synth

KEYS = {"APCA-API-KEY-ID": "KEY", "APCA-API-SECRET-KEY": "SECRET"}


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-m", "northstar_core.cli.main", "twins", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.kill()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command in this process; return the line it refuses with."""

    def run(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["northstar", "twins", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        return said.err

    return run


def fetched(port: int, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, KEYS)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_every_twin_is_served_from_one_market_until_told_to_stop() -> None:
    options = ("--alpaca", "0", "--massive", "0", "--ibkr", "0", "--synthetic", "3", "--speed", "600")
    with running(*options) as (process, ready):
        assert ready["ready"] is True
        assert ready["symbols"] == ["ALFA", "BETA", "GAMA"]
        assert len({ready["alpaca"], ready["massive"], ready["ibkr"]} - {0, None}) == 3
        clock = ready["clock"]
        assert (clock["desk"], clock["speed"]) == ("2024-01-03T14:25:00.000000000Z", 600)
        assert abs(clock["wall"] - time.time()) < 60
        fetched(
            ready["alpaca"],
            "/v2/orders",
            {"symbol": "ALFA", "qty": 1, "side": "buy", "type": "market", "time_in_force": "day"},
        )
        deadline = time.monotonic() + 30
        while fetched(ready["alpaca"], "/_twin/state")["positions"] != {"ALFA": "1"}:  # five minutes are half a second
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None and process.stderr.read() == ""
        assert process.stdout is not None and process.stdout.read() == ""


def test_faults_and_a_start_are_taken_from_the_command_line(tmp_path: Path) -> None:
    rules = tmp_path / "faults.json"
    rules.write_text('{"alpaca": [{"at": "clock", "do": "503"}]}')
    options = (
        "--alpaca",
        "0",
        "--faults",
        str(rules),
        "--start",
        "2024-03-11T12:00",
        "--symbols",
        "SPY",
        "--history",
        "2",
    )
    with running(*options) as (_, ready):
        assert (ready["massive"], ready["ibkr"], ready["symbols"]) == (None, None, ["SPY"])
        with pytest.raises(urllib.error.HTTPError, match="503") as error:
            fetched(ready["alpaca"], "/v2/clock")
        error.value.close()
        assert fetched(ready["alpaca"], "/v2/clock")["timestamp"].startswith("2024-03-11T12:00:0")
        days = [row["date"] for row in fetched(ready["alpaca"], "/v2/calendar")]
        assert days == ["2024-03-07", "2024-03-08", "2024-03-11"]


def test_recorded_data_are_played(tmp_path: Path) -> None:
    synth(tmp_path, symbols=("SPY",), days=3, options_on=None)
    with running("--alpaca", "0", "--data", str(tmp_path), "--days", "1", "--history", "1") as (process, ready):
        assert ready["clock"]["desk"].startswith("2024-01-03T14:25:00")
        assert len(fetched(ready["alpaca"], "/v2/calendar")) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_what_cannot_be_served_is_refused_in_one_line(tmp_path: Path, refused: Callable[..., str]) -> None:
    rules = tmp_path / "faults.json"
    rules.write_text('{"alpaca": [{"at": "clock", "do": "explode"}]}')
    assert "give --alpaca, --massive or --ibkr a port" in refused()
    assert "'explode' is not known; use one of" in refused("--alpaca", "0", "--faults", str(rules))
    assert "give a time such as" in refused("--alpaca", "0", "--start", "noon")
    assert "give one of them" in refused("--alpaca", "0", "--data", str(tmp_path), "--synthetic", "1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"--alpaca {port}: cannot listen" in refused("--alpaca", port, "--symbols", "SPY", "--history", "0")
