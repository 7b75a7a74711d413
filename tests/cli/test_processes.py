"""The desk's processes are known by a lock that dies with them: none is started twice, none that is another's is signalled."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from northstar_core.cli.processes import DeskProcess, ProcessError

STANDIN = "tests.cli.standin"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeskProcess]:
    """A process that can be started; whatever still lives is killed at the end."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    process = DeskProcess("standin", tmp_path / "home")
    yield process
    if process.child is not None and process.child.poll() is None:
        process.child.kill()
        process.child.wait()


def start(process: DeskProcess, what: str = "wait") -> int:
    process.home.mkdir(exist_ok=True)
    config = process.home / "config"
    config.write_text(what)
    return process.start(STANDIN, config)


def test_a_process_is_started_found_and_stopped(desk: DeskProcess) -> None:
    assert desk.facts() is None and desk.pid == 0
    pid = start(desk)
    said = desk.wait_ready()
    assert said["pid"] == pid == desk.pid
    assert Path(said["folder"]) == desk.home
    facts = desk.facts()
    assert facts is not None and facts["config"] == str(desk.home / "config") and facts["since"] > 0
    for file in (desk.lock, desk.out, desk.err):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # another command finds it too
    other = DeskProcess("standin", desk.home)
    assert other.pid == pid
    assert other.stop(30.0) is True
    assert desk.facts() is None and not desk.lock.exists()
    assert other.stop(30.0) is False
    assert desk.child is not None and desk.child.wait() == -signal.SIGTERM


def test_a_second_one_is_refused_and_the_first_undisturbed(desk: DeskProcess) -> None:
    pid = start(desk)
    desk.wait_ready()
    second = DeskProcess("standin", desk.home)
    with pytest.raises(ProcessError, match=rf"the standin is up already, pid {pid}; northstar down stops the desk"):
        start(second)
    assert desk.pid == pid and desk.wait_ready()["pid"] == pid


def test_a_killed_one_leaves_no_lock_behind(desk: DeskProcess) -> None:
    pid = start(desk)
    desk.wait_ready()
    os.kill(pid, signal.SIGKILL)
    assert desk.wait_gone(30.0)
    assert desk.lock.exists() and desk.facts() is None
    again = start(desk)
    assert desk.wait_ready()["pid"] == again != pid
    desk.stop(30.0)


def test_a_stale_file_that_names_a_living_process_harms_nobody(desk: DeskProcess) -> None:
    desk.lock.parent.mkdir(parents=True)
    desk.lock.write_text(json.dumps({"pid": os.getpid(), "since": 1}))
    assert desk.facts() is None and desk.pid == 0
    assert desk.stop(1.0) is False  # or this test would end here
    assert not desk.lock.exists()


def test_one_that_refuses_to_start_says_why_in_its_own_words(desk: DeskProcess) -> None:
    start(desk, "refuse")
    with pytest.raises(ProcessError) as caught:
        desk.wait_ready()
    assert str(caught.value) == "the standin did not start: port 1 is taken; choose another"


def test_one_that_does_not_end_is_named_and_can_be_killed(desk: DeskProcess) -> None:
    pid = start(desk, "deaf")
    desk.wait_ready()
    with pytest.raises(
        ProcessError, match=rf"the standin \(pid {pid}\) does not end in 0 s; northstar down --force kills it"
    ):
        desk.stop(0.2)
    desk.kill()
    assert desk.facts() is None


def test_one_that_is_not_ready_in_time_is_named(desk: DeskProcess) -> None:
    start(desk)
    desk.wait_ready()
    desk.out.write_text("")
    with pytest.raises(ProcessError, match="the standin is not ready after 0 s; see"):
        desk.wait_ready(0.1)


def test_a_request_to_end_comes_before_any_signal(desk: DeskProcess) -> None:
    start(desk, "deaf")
    desk.wait_ready()
    assert desk.child is not None
    assert desk.stop(30.0, ask=desk.child.kill) is True
    assert desk.child.wait() == -signal.SIGKILL
