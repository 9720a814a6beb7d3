"""Traces: when each node was up. Readers for four formats, and a timeline without the unobserved days.

A reader skips what it cannot read, and names it with file and line. All times are seconds since the Unix
epoch, or since the begin of the trace.
"""

from __future__ import annotations

import bz2
import gzip
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from openred_central.directory.lifecycle import DAY_S
from openred_central.simulation.population import Presence, Span

WEEK_S = 7 * DAY_S
# Spans that are so close to each other touch.
TOUCH_S = 1.0
# Status of a connected probe in the archive of RIPE Atlas.
CONNECTED = 1


class Trace(NamedTuple):
    """The nodes of a trace, and a complaint for each line that was skipped."""

    nodes: list[Presence]
    faults: list[str]


class _Fault(Exception):
    """A line that cannot be read, and why."""


def read(path: Path, form: str) -> Trace:
    """Return a trace in one of `FORMATS`. Raise `OSError` where there is nothing to read."""
    return READERS[form](path)


def read_sessions(path: Path) -> Trace:
    """Return a trace of lines `user, first state 0 or 1, start ms, zone, alternating ms …`.

    Fields are separated by white space or commas. A line is one observed span of its user; spans that touch
    are one, and the time between others was not observed.
    """
    spans: dict[str, list[tuple[float, float, list[Span]]]] = {}

    def take(line: str) -> None:
        fields = _fields(line)
        if len(fields) < 5:
            raise _Fault("has fewer than five fields")
        user, first = fields[0], fields[1]
        if first not in ("0", "1"):
            raise _Fault(f"begins with state {first!r}, not 0 or 1")
        at = start = _number(fields[2]) / 1_000
        up: list[Span] = []
        is_up = first == "1"
        for field in fields[4:]:
            passed_s = _number(field) / 1_000
            if passed_s < 0:
                raise _Fault(f"has a negative duration, {field}")
            if is_up and passed_s:
                up.append((at, at + passed_s))
            at += passed_s
            is_up = not is_up
        known = spans.setdefault(user, [])
        if any(start < end - TOUCH_S and at > begin + TOUCH_S for begin, end, _ in known):
            raise _Fault("covers time that an earlier line of its user covers")
        known.append((start, at, up))

    faults = _each_line(path, take)
    nodes = []
    for user, parts in spans.items():
        parts.sort(key=lambda part: part[0])
        up = _joined(span for part in parts for span in part[2])
        nodes.append(Presence(user, up, _joined((begin, end) for begin, end, _ in parts)))
    return Trace(nodes, faults)


def read_avt(path: Path) -> Trace:
    """Return a trace of lines `id count start end start end …`, with inclusive whole seconds."""
    ups: dict[str, list[Span]] = {}

    def take(line: str) -> None:
        if line.startswith("#"):
            return
        fields = _fields(line)
        if len(fields) < 2:
            raise _Fault("has fewer than two fields")
        times = [_number(field) for field in fields[2:]]
        if len(times) != 2 * _number(fields[1]):
            raise _Fault(f"announces {fields[1]} spans and has {len(times)} times")
        spans = list(zip(times[::2], times[1::2], strict=True))
        if any(end < start for start, end in spans):
            raise _Fault("has a span that ends before it starts")
        ups.setdefault(fields[0], []).extend((start, end + 1) for start, end in spans)

    faults = _each_line(path, take)
    return _observed_together(ups, faults)


def read_csv(path: Path) -> Trace:
    """Return a trace of lines `node,start,end`, in seconds or as RFC 3339; the first may be a heading."""
    ups: dict[str, list[Span]] = {}
    seen = 0

    def take(line: str) -> None:
        nonlocal seen
        seen += 1
        fields = [field.strip().strip('"') for field in line.split(",")]
        if len(fields) < 3:
            raise _Fault("has fewer than three fields")
        try:
            start, end = _time(fields[1]), _time(fields[2])
        except _Fault:
            if seen == 1:
                return
            raise
        if end < start:
            raise _Fault("ends before it starts")
        ups.setdefault(fields[0], []).append((start, end))

    faults = _each_line(path, take)
    return _observed_together(ups, faults)


def read_atlas(path: Path) -> Trace:
    """Return a trace of a folder of daily snapshots, as RIPE Atlas keeps them of its probes.

    Each is JSON, perhaps packed by bzip2 or gzip, with `objects` that have an `id`, a `status` (or
    `status.id`; 1 is connected), the time `status_since` and perhaps `last_connected`. A change that no
    snapshot dates took place in the middle of the time in which it must have taken place.
    """
    faults: list[str] = []
    seen: dict[str, list[tuple[float, bool, float, float]]] = {}
    files = sorted(file for file in path.rglob("*") if re.search(r"\.json(\.bz2|\.gz)?$", file.name))
    if not files:
        raise FileNotFoundError(f"no .json, .json.bz2 or .json.gz files in {path}")
    for file in files:
        try:
            document = json.loads(_unpacked(file))
            objects = document["objects"] if isinstance(document, dict) else document
            rows = list(enumerate(objects, 1))
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            faults.append(f"{file.name}: {type(error).__name__}: {error}")
            continue
        probes = {}
        for number, row in rows:
            try:
                probes[str(row["id"])] = _probe(row)
            except (_Fault, KeyError, TypeError) as fault:
                faults.append(f"{file.name}: object {number}: {_why(fault)}")
        taken_at = max((max(since, last) for _, since, last in probes.values()), default=0.0)
        taken_at = max(taken_at, _date_in(file.name))
        for name, (is_up, since, last) in probes.items():
            seen.setdefault(name, []).append((taken_at, is_up, since, last))
    return Trace([_of_snapshots(name, rows) for name, rows in seen.items()], faults)


READERS: dict[str, Callable[[Path], Trace]] = {
    "sessions": read_sessions,
    "avt": read_avt,
    "atlas": read_atlas,
    "csv": read_csv,
}


def settled(nodes: Iterable[Presence]) -> list[Presence]:
    """Return the nodes on one timeline, without the whole days on which a node was not observed.

    Attended time stands still in them, so each node keeps its hours of the day. All nodes begin within one
    week, each on its own weekday.
    """
    found = [node for node in nodes if node.up]
    if not found:
        return []
    first = min(node.observed[0][0] for node in found)
    result = []
    for node in sorted(found, key=lambda node: node.name):
        cut_s = (node.observed[0][0] - first) // WEEK_S * WEEK_S
        shifts = [(node.observed[0][0], cut_s)]
        for (_, end), (start, _) in pairwise(node.observed):
            cut_s += (start - end) // DAY_S * DAY_S
            shifts.append((start, cut_s))
        observed = [
            (start - shift, end - shift)
            for (start, end), (_, shift) in zip(node.observed, shifts, strict=True)
        ]
        up = []
        for start, end in node.up:
            shift = next((shift for begin, shift in reversed(shifts) if begin <= start + TOUCH_S), cut_s)
            up.append((start - shift, end - shift))
        result.append(node._replace(up=_joined(up), observed=_joined(observed)))
    return result


def _each_line(path: Path, take: Callable[[str], None]) -> list[str]:
    """Hand each line that is not empty to `take`. Return a complaint for each one that it refuses."""
    faults = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if stripped := line.strip().lstrip("\ufeff"):
                try:
                    take(stripped)
                except _Fault as fault:
                    faults.append(f"{path.name}: line {number} {fault}")
    return faults


def _fields(line: str) -> list[str]:
    return re.sub(r"[,;\s]+", " ", line).split(" ") if line else []


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _Fault(f"has {text[:40]!r} where a number belongs") from None
    if not math.isfinite(value):
        raise _Fault(f"has {text!r} where a number belongs")
    return value


def _time(given: object) -> float:
    """Return a time in seconds, which may be a number or RFC 3339; without a zone, it is UTC."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    text = str(given).strip()
    try:
        return _number(text)
    except _Fault:
        pass
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise _Fault(f"has {text[:40]!r} where a time belongs") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _observed_together(ups: dict[str, list[Span]], faults: list[str]) -> Trace:
    """Return a trace in which every node was observed for the whole time of the trace."""
    joined = {name: _joined(spans) for name, spans in ups.items()}
    joined = {name: spans for name, spans in joined.items() if spans}
    if not joined:
        return Trace([], faults)
    whole = (min(spans[0][0] for spans in joined.values()), max(spans[-1][1] for spans in joined.values()))
    return Trace([Presence(name, spans, [whole]) for name, spans in joined.items()], faults)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order; those that overlap or touch are one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if end <= start:
            continue
        if joined and start <= joined[-1][1] + TOUCH_S:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _unpacked(file: Path) -> bytes:
    packed = file.read_bytes()
    unpack = {".bz2": bz2.decompress, ".gz": gzip.decompress}.get(file.suffix)
    return packed if unpack is None else unpack(packed)


def _probe(row: dict[str, Any]) -> tuple[bool, float, float]:
    """Return whether a probe was connected, since when, and when it was connected last; 0 if unknown."""
    status = row["status"]
    number = status["id"] if isinstance(status, dict) else status
    since = row.get("status_since")
    if since is None and isinstance(status, dict):
        since = status.get("since")
    if since is None:
        raise _Fault("has no status_since")
    last = row.get("last_connected")
    return _number(str(number)) == CONNECTED, _time(since), 0.0 if last is None else _time(last)


def _why(fault: Exception) -> str:
    return f"has no {fault}" if isinstance(fault, KeyError) else str(fault)


def _date_in(name: str) -> float:
    """Return the begin of the day that a file name holds, as 20260131 or 2026-01-31; 0 without one."""
    for year, month, day in re.findall(r"(\d{4})-?(\d{2})-?(\d{2})", name):
        try:
            return datetime(int(year), int(month), int(day), tzinfo=UTC).timestamp()
        except ValueError:
            continue
    return 0.0


def _of_snapshots(name: str, rows: list[tuple[float, bool, float, float]]) -> Presence:
    """Return a node by its snapshots, each with its time, up or not, since when, and connected until when."""
    rows.sort()
    first, last = rows[0][0], rows[-1][0]
    up = list(_between(rows))
    clipped = ((max(start, first), min(end, last)) for start, end in up)
    return Presence(name, _joined(clipped), [(first, last)])


def _between(rows: list[tuple[float, bool, float, float]]) -> Iterator[Span]:
    before: tuple[float, bool] | None = None
    for taken_at, is_up, since, last in rows:
        since = min(since, taken_at)
        if is_up:
            yield since, taken_at
        if before is not None and before[0] < since:
            # It changed between two snapshots, twice if the status is the same.
            former_at, was_up = before
            middle = (former_at + since) / 2
            if is_up and was_up:
                yield former_at, middle
            elif not is_up:
                ended = last if former_at < last <= since else since
                yield (former_at if was_up else (former_at + ended) / 2), ended
        before = taken_at, is_up
