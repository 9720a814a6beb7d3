"""Lines are written in order, `put` never waits, and lost lines are counted and reported."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from openred_central.log_writer import WAITING_BYTES_MAX, LogWriter
from tests.support.project import PACKAGE

LOGROTATE = PACKAGE / "docs" / "deploy" / "logrotate.conf"
WAIT_S = 20.0


def gap(lines: int) -> bytes:
    return b"missing: %d\n" % lines


@pytest.fixture
def stalled() -> Iterator[tuple[int, LogWriter]]:
    """Yield a pipe that nobody reads yet, and what writes into it."""
    reading, writing = os.pipe()
    yield reading, LogWriter(writing, gap)
    os.close(reading)


def test_lines_of_threads_arrive_whole_and_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), gap)

        def put_all(name: int) -> None:
            for number in range(200):
                writer.put(b"%d %d\n" % (name, number))

        threads = [threading.Thread(target=put_all, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.flush(WAIT_S)
    lines = [tuple(map(int, line.split())) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert len(lines) == 800
    for name in range(4):
        assert [number for owner, number in lines if owner == name] == list(range(200))


def test_a_stalled_reader_blocks_no_caller_and_learns_of_lost_lines(
    stalled: tuple[int, LogWriter],
) -> None:
    reading, writer = stalled
    line = b"%07d" % 0 + b"x" * 992 + b"\n"
    put = 0
    while not writer.dropped:
        writer.put(b"%07d" % put + line[7:])
        put += 1
    assert WAITING_BYTES_MAX - len(line) <= (put - 1) * len(line) <= WAITING_BYTES_MAX + 2 * 65_536
    # Shorter lines do not overtake those that are missing.
    writer.put(b"short\n")
    assert writer.dropped == 2
    assert not writer.flush(0.0)
    with open(reading, "rb", closefd=False) as reader:
        assert [int(reader.readline()[:7]) for _ in range(put - 1)] == list(range(put - 1))
        assert reader.readline() == b"missing: 2\n"
        writer.put(b"next\n")
        assert reader.readline() == b"next\n"
    assert writer.flush(WAIT_S)
    assert writer.dropped == 2


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = LogWriter(writing, gap)
    lines = [b"%06d\n" % number for number in range(30_000)]
    for line in lines:
        writer.put(line)
    with open(reading, "rb") as reader:
        assert [reader.readline() for _ in lines] == lines
    assert writer.dropped == 0


def test_lost_lines_are_counted_and_reported_later(tmp_path: Path) -> None:
    """The reader has gone, and then somebody reads again, as with a named pipe."""
    path = tmp_path / "log"
    os.mkfifo(path)
    first = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = LogWriter(os.open(path, os.O_WRONLY), gap)
    os.close(first)
    for expected in (1, 2, 3):
        writer.put(b"lost\n")
        assert writer.flush(WAIT_S)
        assert writer.dropped == expected
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        fcntl.fcntl(reader, fcntl.F_SETFL, 0)
        writer.put(b"next\n")
        assert writer.flush(WAIT_S)
        assert reader.read(1_000) == b"missing: 3\nnext\n"
    assert writer.dropped == 3


def test_a_cut_line_does_not_run_into_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that fills up in the middle of a line, and has room again later."""
    out, room = bytearray(), [8]

    def write(descriptor: int, content: bytes) -> int:
        taken = bytes(content[: room[0]])
        if not taken:
            raise OSError(28, "No space left on device")
        out.extend(taken)
        room[0] -= len(taken)
        return len(taken)

    monkeypatch.setattr(os, "write", write)
    writer = LogWriter(-1, gap)
    for line in (b"one\n", b"two and more\n", b"three\n"):
        writer.put(line)
        assert writer.flush(WAIT_S)
    room[0] = 1_000
    writer.put(b"four\n")
    assert writer.flush(WAIT_S)
    assert bytes(out) == b"one\ntwo \nmissing: 2\nfour\n"
    assert writer.dropped == 2


def test_a_log_that_is_emptied_goes_on_at_its_begin(tmp_path: Path) -> None:
    """Logrotate copies a file that is in use and empties it, and the writer appends."""
    log = tmp_path / "openred.log"
    with log.open("ab") as file:
        writer = LogWriter(file.fileno(), gap)
        for number in range(3):
            writer.put(b"before %d\n" % number)
            assert writer.flush(WAIT_S)
            rotate(log)
            assert log.read_bytes() == b""
            assert log.with_name(f"{log.name}.1").read_bytes() == b"before %d\n" % number
    assert writer.dropped == 0


def rotate(log: Path) -> None:
    """Rotate `log` as the documents say: by logrotate where it is installed, else as that does it."""
    program = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
        return
    rules = log.with_name("logrotate.conf")
    rules.write_text(LOGROTATE.read_text("utf-8").replace("/var/log/openred/openred.log", str(log)), "utf-8")
    rules.chmod(0o600)
    words = [program, "--force", "--state", str(log.with_name("state")), str(rules)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
