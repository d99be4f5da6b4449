from __future__ import annotations

import fcntl
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from penstock.backends.artifact import atomic
from penstock.backends.artifact.atomic import staged_folder


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "net.penstock"


def write(final: Path, text: str) -> None:
    with staged_folder(final) as folder:
        (folder / "part").write_text(text)


def fail(final: Path, error: type[BaseException]) -> None:
    with staged_folder(final) as folder:
        (folder / "part").write_text("new")
        raise error


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "native_library", lambda: None)


@pytest.mark.parametrize("exchange", [True, False])
def test_writing_and_replacing(final: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        without_exchange(monkeypatch)
    for text in ("first", "second", "third"):
        write(final / "below", text)
        assert (final / "below" / "part").read_text() == text
    assert [path.name for path in final.iterdir()] == ["below"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_folder(final: Path, error: type[BaseException]) -> None:
    write(final, "old")
    with pytest.raises(error):
        fail(final, error)
    assert (final / "part").read_text() == "old"
    assert list(final.parent.iterdir()) == [final]


def test_an_interrupt_between_the_two_renames_brings_the_old_folder_back(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_exchange(monkeypatch)
    write(final, "old")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if target.name.endswith(".replaced"):
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(final, "new")
    assert (final / "part").read_text() == "old"
    assert list(final.parent.iterdir()) == [final]


def test_the_next_write_removes_what_killed_runs_left(final: Path) -> None:
    stale = final.with_name(".net.penstock.0123abcd.staging")
    other = final.with_name(".net.0123abcd.staging")
    for folder in (stale, other):
        folder.mkdir(parents=True)
        (folder / "part").write_text("half")
    write(final, "new")
    assert sorted(path.name for path in final.parent.iterdir()) == [other.name, "net.penstock"]


def test_the_staging_folder_of_a_live_writer_stays(final: Path) -> None:
    live = final.with_name(".net.penstock.0123abcd.staging")
    live.mkdir(parents=True)
    lock = os.open(live, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    write(final, "new")
    assert live.exists()
    os.close(lock)
    write(final, "newer")
    assert not live.exists()


def test_a_folder_that_a_killed_run_moved_aside_comes_back(final: Path) -> None:
    final.with_name(".net.penstock.0123abcd.replaced").mkdir(parents=True)
    with pytest.raises(RuntimeError):
        fail(final, RuntimeError)
    assert list(final.parent.iterdir()) == [final]


def test_two_writers_at_once(final: Path) -> None:
    with staged_folder(final) as slow:
        (slow / "part").write_text("slow")
        write(final, "quick")
        assert (final / "part").read_text() == "quick"
    assert (final / "part").read_text() == "slow"
    assert list(final.parent.iterdir()) == [final]


def test_a_handler_of_the_user_stays(final: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with staged_folder(final):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def write_forever(final: Path) -> None:
    count = 0
    while True:
        with staged_folder(final) as folder:
            for part in range(4):
                (folder / str(part)).write_text(str(count))
                time.sleep(0.001)
        count += 1


def start(final: Path) -> multiprocessing.process.BaseProcess:
    """A process that replaces the folder again and again; it has done so at least once."""
    writer = multiprocessing.get_context("fork").Process(target=write_forever, args=(final,))
    writer.start()
    while not final.exists():
        assert writer.is_alive()
        time.sleep(0.001)
    return writer


def assert_complete(final: Path) -> None:
    parts = [(final / str(part)).read_text() for part in range(4)]
    assert len(set(parts)) == 1
    assert parts[0].isdigit()


@pytest.mark.parametrize("exchange", [True, False])
def test_kill_at_any_moment(final: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        without_exchange(monkeypatch)
    moments = random.Random(0)
    for _ in range(10):
        writer = start(final)
        time.sleep(moments.uniform(0, 0.05))
        writer.kill()
        writer.join()
        if exchange or final.exists():
            assert_complete(final)
        else:
            assert [path.suffix for path in final.parent.iterdir() if path.suffix == ".replaced"] == [".replaced"]
    with pytest.raises(RuntimeError):
        fail(final, RuntimeError)
    assert_complete(final)
    assert list(final.parent.iterdir()) == [final]


def write_slowly(final: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    with staged_folder(final) as folder:
        (folder / "part").write_text("new")
        time.sleep(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_cleans_up(final: Path, number: signal.Signals) -> None:
    write(final, "old")
    writer = multiprocessing.get_context("fork").Process(target=write_slowly, args=(final,))
    writer.start()
    assert writer.pid is not None
    while not list(final.parent.glob(".*/part")):
        assert writer.is_alive()
        time.sleep(0.001)
    os.kill(writer.pid, number)
    writer.join()
    assert writer.exitcode != 0
    assert (final / "part").read_text() == "old"
    assert list(final.parent.iterdir()) == [final]
