"""The log: a line for each event, for people or as JSON, in which nothing that was sent seems to be more.

Three forms. On a terminal: the time of day, colours, and tracebacks over several indented lines. Elsewhere:
one line of text that begins with the time in UTC (RFC 3339). As JSON: one object a line, with ``time``,
``level``, ``part``, ``message``, ``traceback`` after a failure, and the fields of `AccessLog` for a request.

`shown` escapes every part of a line: characters that end lines, move the cursor, turn the direction of text
or cannot be seen. It cuts text in a line at 256 characters. So a name or a path with a line break forges no
second line, and one with an escape sequence paints no terminal.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

import orjson

from .log_writer import LogWriter
from .micro_engine.wire.messages import Request
from .wording import printable, rfc3339

SHOWN_CHARACTERS_MAX: Final = 256
# Errors may say at length what to do; they hold no more than this of what was sent.
ERROR_CHARACTERS_MAX: Final = 2_048
# The end of a traceback is where the error stands.
TRACEBACK_CHARACTERS_MAX: Final = 16_384

_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31;1"}
# Arguments that stay as they are: formats of numbers, such as %d or %.1f, need numbers.
_NUMBERS: Final = (int, float)

# The log of the acts of operators.
AUDIT: Final = "openred.audit"

access_log = logging.getLogger("openred.access")


def shown(text: str, characters_max: int = SHOWN_CHARACTERS_MAX) -> str:
    r"""Return `text` for use within a line: cut to `characters_max`, escaped as in a Python literal.

    The backslash is escaped, so that no text can imitate an escape, and so is everything that is not
    printable: control characters (C0, DEL, C1), line separators, marks of direction, unpaired surrogates.
    """
    cut = text if len(text) <= characters_max else text[:characters_max] + "…"
    return printable(cut, escaped="\\")


class _Shown:
    """Something that is put into a message, shown however its format draws it."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return shown(str(self._value), self._characters_max())

    def __repr__(self) -> str:
        return shown(repr(self._value), self._characters_max())

    def _characters_max(self) -> int:
        return SHOWN_CHARACTERS_MAX if isinstance(self._value, str) else ERROR_CHARACTERS_MAX


def message_of(record: logging.LogRecord) -> str:
    """Return the message of `record`, with each of its arguments shown."""
    given = record.args
    if not given:
        # Text of a program, or of a library that formats its messages itself.
        return shown(str(record.msg), TRACEBACK_CHARACTERS_MAX)
    if isinstance(given, Mapping):
        return str(record.msg) % {name: _argument(value) for name, value in given.items()}
    return str(record.msg) % tuple(map(_argument, given))


def _argument(value: object) -> object:
    return value if isinstance(value, _NUMBERS) else _Shown(value)


class TextFormatter(logging.Formatter):
    """Lines for people: for a terminal where `terminal`, in colours where `colour`."""

    def __init__(self, *, terminal: bool = False, colour: bool = False) -> None:
        super().__init__()
        self._terminal = terminal
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """One line; on a terminal a traceback stands below it, indented."""
        level = record.levelname.lower()
        if self._colour:
            level = f"\x1b[{_COLOURS.get(level, '0')}m{level}\x1b[0m" + " " * (7 - len(level))
        if self._terminal:
            begins = f"{datetime.fromtimestamp(record.created, UTC).astimezone():%H:%M:%S} {level:7}"
        else:
            begins = f"{rfc3339(record.created)} {level}"
        line = f"{begins} {shown(record.name)}: {message_of(record)}"
        fields = getattr(record, "fields", None)
        if fields:
            line += " " + " ".join(f"{name}={_text(value)}" for name, value in fields.items())
        traceback = _traceback(self, record)
        if not traceback:
            return line
        if self._terminal:
            return "\n".join([line, *(f"    {_show_all(below)}" for below in traceback.splitlines())])
        return f"{line} {_show_all(traceback)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII but for printable text."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "part": shown(record.name),
            "message": message_of(record),
        }
        for name, value in getattr(record, "fields", {}).items():
            document[name] = shown(value) if isinstance(value, str) else value
        traceback = _traceback(self, record)
        if traceback:
            document["traceback"] = [_show_all(line) for line in traceback.splitlines()]
        return orjson.dumps(document).decode("utf-8")


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Return the traceback of `record`, cut to its end if it is very long; nothing if it has none."""
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)[-TRACEBACK_CHARACTERS_MAX:]


def _show_all(text: str) -> str:
    return shown(text, TRACEBACK_CHARACTERS_MAX)


def _text(value: object) -> str:
    """Return the value of a field, in quotes where it could be taken for several."""
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    text = shown(value)
    return text if text and not set(' "=') & set(text) else '"' + text.replace('"', '\\"') + '"'


class AccessLog:
    """A line for a share of all requests, to be the `observer` of an `Engine`.

    Arguments: `share` of the requests, above 0 up to 1, each chosen independently; `random` returns floats in
    [0, 1); `new_id` makes the id of a request that brings none; `client` returns the address that a request
    counts as, which trusted proxies report.

    A line has the method, the path without its query, status, bytes sent, milliseconds, the address that
    connected and the client's behind it, its user agent and the id of the request. It has no other header
    field, and never a body, since those may prove an identity.
    """

    def __init__(
        self,
        share: float,
        random: Callable[[], float],
        new_id: Callable[[], str],
        client: Callable[[Request], str],
    ) -> None:
        self._share = share
        self._random = random
        self._new_id = new_id
        self._client = client
        self.passes = self._draw()

    def _draw(self) -> int:
        """Return how many requests pass before the next one that is logged.

        If each is chosen independently, this number has the geometric distribution.
        """
        if self._share >= 1.0:
            return 0
        return int(math.log(1.0 - self._random()) / math.log1p(-self._share))

    def __call__(self, request: Request, status: int, sent_bytes: int, duration_s: float) -> None:
        """Log this exchange, and choose the next one."""
        self.passes = self._draw()
        fields = {
            "method": request.method,
            "path": request.path,
            "status": status,
            "bytes": sent_bytes,
            "duration_ms": round(duration_s * 1_000, 3),
            "peer": request.peer,
            "client": self._client(request),
            "user_agent": request.headers.get("user-agent") or "",
            "request_id": request.identify(self._new_id),
        }
        access_log.info("request", extra={"fields": fields})


def formatter_for(kind: str, stream: TextIO, environment: Mapping[str, str]) -> logging.Formatter:
    """Return the formatter of lines for `stream`. `kind` is ``auto``, ``text`` or ``json``.

    ``auto`` is for people where `stream` is a terminal, and in colours unless `environment` has NO_COLOR (as
    no-color.org has it: set, and not empty) or a terminal that has none.
    """
    if kind == "json":
        return JsonFormatter()
    terminal = kind == "auto" and stream.isatty()
    return TextFormatter(terminal=terminal, colour=terminal and takes_colours(environment))


def takes_colours(environment: Mapping[str, str]) -> bool:
    """Return whether `environment` allows colours on a terminal; NO_COLOR counts unless it is empty."""
    return not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


class LogHandler(logging.Handler):
    """The handler that passes each line to a `LogWriter` for `descriptor`, so that logging never waits."""

    def __init__(self, descriptor: int, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._writer = LogWriter(descriptor, self._gap)

    @property
    def dropped(self) -> int:
        """Return how many lines were dropped, because they were not read or could not be written."""
        return self._writer.dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Queue `record` behind the lines before it."""
        try:
            self._writer.put(self._line(record))
        except Exception:  # noqa: BLE001
            self.handleError(record)

    def flush(self) -> None:
        """Wait a moment for lines that are not written yet; `logging.shutdown` calls this."""
        self._writer.flush()

    def _line(self, record: logging.LogRecord) -> bytes:
        # A character without a form in UTF-8 must not lose the line.
        return f"{self.format(record)}\n".encode("utf-8", "backslashreplace")

    def _gap(self, lines: int) -> bytes:
        text = "%d lines are missing here: they could not be written, or the lines before them were not read"
        return self._line(logging.LogRecord(_log.name, logging.WARNING, "", 0, text, (lines,), None))


def lines_dropped() -> int:
    """Return how many lines this process has dropped, 0 if another program configured the log."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, LogHandler))


def configure(kind: str, level: str, stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Log everything from `level` on to `stream`, in the form of `kind` (see `formatter_for`).

    A thread writes the lines straight to the descriptor of `stream` (see `log_writer`). Acts of operators
    (`AUDIT`) are logged at every level. Warnings of Python, and errors that end the process or a thread, are
    logged as well. Return False, and change nothing, if the log is configured already.
    """
    root = logging.getLogger()
    if root.handlers:
        return False
    root.addHandler(LogHandler(stream.fileno(), formatter_for(kind, stream, environment)))
    root.setLevel(level.upper())
    logging.getLogger(AUDIT).setLevel(logging.INFO)
    sys.excepthook = _log_end
    threading.excepthook = _log_thread_end
    sys.unraisablehook = _log_unraisable
    warnings.showwarning = _log_warning
    return True


_log = logging.getLogger("openred")


def _log_end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Log an error that ends the process, in place of `sys.excepthook`."""
    _log.critical("ended by an error: %s", kind.__name__, exc_info=(kind, error, traceback))


def _log_thread_end(ended: threading.ExceptHookArgs) -> None:
    name = ended.thread.name if ended.thread is not None else "unknown"
    if ended.exc_value is not None:
        error = ended.exc_type, ended.exc_value, ended.exc_traceback
        _log.critical("the thread %s was ended by an error", name, exc_info=error)


def _log_unraisable(raised: Any) -> None:
    error = (raised.exc_type, raised.exc_value, raised.exc_traceback)
    _log.error("an error that no code could handle: %r", raised.object, exc_info=error)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In the place of `warnings.showwarning`, and with its signature."""
    _log.warning("%s in line %d of %s: %s", category.__name__, lineno, filename, message)
