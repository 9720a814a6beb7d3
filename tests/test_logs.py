"""The log: one line for each event whatever is in it, nothing secret, nothing forged."""

from __future__ import annotations

import io
import logging
import math
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central import logs
from openred_central.logs import (
    AUDIT,
    SHOWN_CHARACTERS_MAX,
    AccessLog,
    JsonFormatter,
    TextFormatter,
    configure,
    formatter_for,
    lines_dropped,
    shown,
)
from openred_central.micro_engine.wire.messages import Headers, Request

# Texts that pretend to be more: a second line, a colour, a text that runs backwards.
HOSTILE = [
    "a\n2026-01-01T00:00:00.000Z error openred.server: all is lost",
    "a\r\nb",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "abc\u202etxt.exe\u2066",
    "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven",
    "nul\0 bell\a back\b delete\x7f",
    "\ud800 unpaired",
    "\u200b\ufeff\u00ad\u200f\u061c",
    '{"level":"error"}"}\n{"level":"critical"}',
    "x" * 100_000,
    "%s %d %(name)s {} {0}",
    "\\n \\x1b[31m",
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(message: str, *args: Any, level: int = logging.INFO, **more: Any) -> logging.LogRecord:
    """Return the record that `log.info(message, *args)` hands to a formatter, made at a known time."""
    made = logging.LogRecord("openred.test", level, "test.py", 1, message, args, more.get("exc_info"))
    made.created = 1_800_000_000.25
    if "fields" in more:
        made.fields = more["fields"]
    return made


def broken(message: str) -> tuple[Any, Any, Any]:
    """The error, with its traceback, that a handler raises."""
    try:
        raise RuntimeError(message)
    except RuntimeError:
        return sys.exc_info()


FORMATTERS = {
    "plain": TextFormatter(),
    "terminal": TextFormatter(terminal=True),
    "json": JsonFormatter(),
}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", FORMATTERS)
def test_hostile_text_stays_within_its_line_and_is_cut(kind: str, text: str) -> None:
    fields = {"path": text, "user_agent": text}
    line = FORMATTERS[kind].format(record("node %s: %r", text, text, fields=fields))
    assert line.isprintable()
    # Escaped, one character is at most ten.
    assert len(line) < 4 * 10 * (SHOWN_CHARACTERS_MAX + 10)
    line.encode("utf-8")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", FORMATTERS)
def test_an_error_with_hostile_text_forges_no_line(kind: str, text: str) -> None:
    lines = FORMATTERS[kind].format(record("broken: %s", RuntimeError(text), exc_info=broken(text)))
    first, *below = lines.split("\n")
    assert all(line.isprintable() for line in (first, *below))
    assert bool(below) == (kind == "terminal")
    assert all(line.startswith("    ") for line in below)


@given(st.text(), st.text())
def test_any_text_is_one_reversible_line(message: str, text: str) -> None:
    made = record("%s", text, fields={"path": message})
    document = orjson.loads(JsonFormatter().format(made))
    assert document["message"] == shown(text)
    assert document["path"] == shown(message)
    assert "\n" not in TextFormatter().format(made)


@given(st.text(max_size=SHOWN_CHARACTERS_MAX))
def test_shown_text_is_printable_and_unambiguous(text: str) -> None:
    assert shown(text).isprintable()
    read_back = shown(text).encode("latin-1", "backslashreplace").decode("unicode_escape")
    assert read_back == text


def test_preformatted_text_is_escaped_too() -> None:
    assert TextFormatter().format(record("a\nb %d")).endswith("openred.test: a\\nb %d")


def test_text_lines_hold_time_level_logger_and_message() -> None:
    line = TextFormatter().format(record("%d nodes in %.1f s", 3, 0.25, level=logging.WARNING))
    assert line == "2027-01-15T08:00:00.250Z warning openred.test: 3 nodes in 0.2 s"


def test_a_json_line_has_all_fields() -> None:
    assert orjson.loads(
        JsonFormatter().format(record("%d nodes", 3, fields={"status": 200, "path": "/a"}))
    ) == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "info",
        "part": "openred.test",
        "message": "3 nodes",
        "status": 200,
        "path": "/a",
    }


def test_a_traceback_is_one_line_of_json() -> None:
    line = JsonFormatter().format(record("it broke", exc_info=broken("first\nsecond")))
    assert "\n" not in line
    traceback = orjson.loads(line)["traceback"]
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-2:] == ["RuntimeError: first", "second"]


def test_a_very_long_traceback_keeps_its_end() -> None:
    line = JsonFormatter().format(record("it broke", exc_info=broken("x" * 100_000 + " at last")))
    assert len(line) < 2 * logs.TRACEBACK_CHARACTERS_MAX
    assert orjson.loads(line)["traceback"][-1].endswith(" at last")


def test_fields_in_text_lines_are_unambiguous() -> None:
    line = TextFormatter().format(
        record("request", fields={"path": "/a status=200", "agent": 'x" y', "n": 1})
    )
    assert line.endswith(r'request path="/a status=200" agent="x\" y" n=1')


@pytest.mark.parametrize(
    ("kind", "stream", "environment", "coloured"),
    [
        ("auto", Terminal(), {}, True),
        ("auto", Terminal(), {"NO_COLOR": ""}, True),
        ("auto", Terminal(), {"NO_COLOR": "1"}, False),
        ("auto", Terminal(), {"TERM": "dumb"}, False),
        ("auto", io.StringIO(), {}, False),
        ("text", Terminal(), {}, False),
        ("json", Terminal(), {}, False),
    ],
)
def test_colours_are_for_terminals_whose_owner_wants_them(
    kind: str, stream: io.StringIO, environment: dict[str, str], coloured: bool
) -> None:
    line = formatter_for(kind, stream, environment).format(record("hello", level=logging.ERROR))
    assert ("\x1b[31m" in line) == coloured


def test_json_is_json_on_a_terminal_too() -> None:
    assert isinstance(formatter_for("json", Terminal(), {}), JsonFormatter)


# Requests


def asked(**fields: str) -> Request:
    headers = tuple((name.replace("_", "-"), value) for name, value in fields.items())
    return Request("GET", "/nodes/a", "claim=secret-1", headers=Headers(headers), peer="192.0.2.1")


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [made.fields for made in caplog.records]


def test_request_lines_hold_public_facts_and_no_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    request = asked(
        authorization="Claim secret-2", cookie="secret-3", x_nonce="secret-4", user_agent="node/1 \x1b[2J"
    )
    request.body = b"secret-5"
    with caplog.at_level(logging.INFO):
        AccessLog(1.0, lambda: 0.999, lambda: "made", lambda _: "198.51.100.7")(
            request, 404, 321, 0.001_234_5
        )
    (fields,) = logged(caplog)
    assert fields == {
        "method": "GET",
        "path": "/nodes/a",
        "status": 404,
        "bytes": 321,
        "duration_ms": 1.234,
        "peer": "192.0.2.1",
        "client": "198.51.100.7",
        "user_agent": "node/1 \x1b[2J",
        "request_id": "made",
    }
    for formatter in FORMATTERS.values():
        line = formatter.format(caplog.records[0])
        assert "secret" not in line
        assert "\x1b" not in line


def test_access_log_of_everything_lets_nothing_pass() -> None:
    log = AccessLog(1.0, Random(1).random, lambda: "id", lambda _: "")
    for _ in range(10):
        assert log.passes == 0
        log(asked(), 200, 0, 0.0)


def test_each_request_is_logged_independently(seed: int) -> None:
    # With independent choices, the number of requests that pass is geometric.
    share, count = 0.25, 20_000
    log = AccessLog(share, Random(seed).random, lambda: "id", lambda _: "")
    passed = []
    for _ in range(count):
        passed.append(log.passes)
        log(asked(), 200, 0, 0.0)
    for number in range(8):
        expected = share * (1 - share) ** number
        # Seven standard deviations.
        margin = 7 * math.sqrt(expected * (1 - expected) / count)
        assert abs(passed.count(number) / count - expected) < margin


@pytest.mark.parametrize("drawn", [0.0, 1.0 - 2.0**-53])
def test_access_log_takes_the_least_and_the_largest_random_number(drawn: float) -> None:
    assert AccessLog(1e-9, lambda: drawn, lambda: "id", lambda _: "").passes >= 0


# The whole


@contextmanager
def unconfigured() -> Iterator[logging.Logger]:
    """The root logger as it is in a process that has just begun; at the end all is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    root.handlers = []
    try:
        yield root
    finally:
        root.handlers, root.level = handlers, level
        logging.getLogger(AUDIT).setLevel(logging.NOTSET)
        sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks


def unruly() -> None:
    class Unruly:
        def __del__(self) -> None:
            raise ValueError("too late")

    Unruly()


def test_whatever_happens_in_a_process_is_a_line_of_json(tmp_path: Path) -> None:
    with unconfigured() as root, (tmp_path / "log").open("w", encoding="ascii") as stream:
        assert configure("json", "info", stream, {})
        logging.getLogger("openred.a").info("node %s: active → coma", "\ud800\n\x1b")
        logging.getLogger("openred.a").debug("not worth a line")
        logging.getLogger("asyncio").error("a library\nwith two lines")
        warnings.showwarning("old\nways", DeprecationWarning, "a.py", 1)
        sys.excepthook(*broken("the end"))
        thread = threading.Thread(target=lambda: 1 / 0, name="writer")
        thread.start()
        thread.join()
        unruly()
        root.handlers[0].flush()
    documents = [orjson.loads(line) for line in (tmp_path / "log").read_bytes().split(b"\n")[:-1]]
    assert [document["level"] for document in documents] == [
        *("info", "error", "warning", "critical", "critical", "error")
    ]
    assert documents[0]["message"] == "node \\ud800\\n\\x1b: active → coma"
    assert documents[3]["traceback"][-1] == "RuntimeError: the end"
    assert documents[4]["traceback"][-1].startswith("ZeroDivisionError")
    assert documents[5]["traceback"][-1] == "ValueError: too late"


def test_acts_of_operators_are_logged_at_every_level(tmp_path: Path) -> None:
    with unconfigured() as root, (tmp_path / "log").open("w", encoding="ascii") as stream:
        assert configure("text", "error", stream, {})
        logging.getLogger(AUDIT).info("alice purged a node")
        logging.getLogger("openred.a").warning("not worth a line")
        root.handlers[0].flush()
    (line,) = (tmp_path / "log").read_text(encoding="ascii").splitlines()
    assert line.endswith(" info openred.audit: alice purged a node")


@pytest.mark.parametrize("kind", ["text", "json"])
def test_unread_lines_are_dropped_counted_and_reported(kind: str) -> None:
    """The pipe is full and never read, but logging does not wait."""
    reading, writing = os.pipe()
    with (
        unconfigured() as root,
        open(reading, "rb") as reader,
        open(writing, "w", encoding="ascii") as stream,
    ):
        assert configure(kind, "info", stream, {})
        assert lines_dropped() == 0
        line = "x" * 10_000
        while not lines_dropped():
            root.warning("%r", (line,))
        for _ in range(9):
            root.warning("%r", (line,))
        assert lines_dropped() == 10
        told = next(read for read in reader if b"missing" in read)
        root.handlers[0].flush()
    assert b"10 lines are missing here" in told
    assert b"warning" in told
    assert kind == "text" or orjson.loads(told)["part"] == "openred"


def test_a_line_that_cannot_be_made_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with unconfigured() as root, (tmp_path / "log").open("w", encoding="ascii") as stream:
        assert configure("text", "info", stream, {})
        root.warning("%d", "no number")
        root.warning("what comes next")
        root.handlers[0].flush()
    assert "no number" in capsys.readouterr().err
    assert (tmp_path / "log").read_text().endswith("root: what comes next\n")


def test_a_log_configured_by_another_program_is_left_alone() -> None:
    handler = logging.NullHandler()
    with unconfigured() as root:
        root.handlers = [handler]
        hook = sys.excepthook
        assert not configure("json", "info", io.StringIO(), {})
        assert root.handlers == [handler]
        assert sys.excepthook is hook
