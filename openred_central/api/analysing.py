"""``GET /analytics``: the years of the directory, as tables in JSON or CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from itertools import chain
from typing import Any, Final, NamedTuple

import orjson

from ..directory.analytics.calendar import month_of
from ..directory.analytics.census import HEARD_DAYS
from ..directory.analytics.days import figures, lists_of
from ..directory.analytics.tables import (
    HORIZON_NAMES,
    TOLD_MIN,
    calibration_rows,
    cohort_rows,
    return_rows,
)
from ..directory.directory import Directory
from ..directory.empathy.forecast import TOLD
from ..micro_engine.wire.messages import JSON_TYPE, Request, Response
from ..wording import parse_rfc3339
from .endpoint import CACHED, LIMITED, UNCHANGED, Endpoint, Reply, Where
from .service import Api
from .status import HOLDS
from .wire.accepting import VARY, prefers
from .wire.caching import StaticDocument
from .wire.fields import Field, Fields, Wrong, or_null, takes, text_like
from .wire.schemas import (
    AMOUNT,
    ANY_STATE,
    COUNT,
    DURATION_S,
    FLAG,
    IGNORED,
    SHARE,
    TEXT,
    TIME,
    listing,
    thing,
)
from .wire.sheets import (
    CALIBRATION,
    CAME_AND_WENT,
    COHORTS,
    COLUMNS,
    DAYS,
    EXPECTED,
    RETURNS,
    STATES,
    TABLES,
    age_cells,
    day_cells,
    line,
    lines,
    objects,
    quoted,
    sheet,
)

CSV_TYPE: Final = "text/csv; charset=utf-8"
JSON, CSV = "json", "csv"
_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"


@takes({"enum": list(TABLES)})
def table(value: Any) -> str:
    """Read the name of a table."""
    if value not in TABLES:
        raise Wrong(f"has to be one of {', '.join(TABLES)}")
    return str(value)


@takes(text_like(_DATE, format="date", examples=["2027-01-31"]))
def date(value: Any) -> str:
    """Read a day in UTC."""
    try:
        parse_rfc3339(f"{value}T00:00:00Z")
    except ValueError:
        raise Wrong("has to be a day such as 2027-01-31") from None
    return str(value)


@takes({"enum": [JSON, CSV]})
def form(value: Any) -> str:
    """Read a form of answers."""
    if value not in (JSON, CSV):
        raise Wrong(f"has to be {JSON} or {CSV}")
    return str(value)


TABLE = Field("table", table, "The table; without it, the answer says what there is.")
FROM = Field("from", date, "The first day in UTC; of `cohorts`, the month of it counts.")
TO = Field("to", date, "The last day in UTC, inclusive; of `cohorts`, the month of it counts.")
FORMAT = Field(
    "format", form, "`json` or `csv`; without it, `Accept` decides. CSV is that of `days` by default."
)
FIELDS = (TABLE, FROM, TO, FORMAT)

_KNOWN = "Null where the directory keeps no habits."
_DAY = thing(
    "DayRow",
    {
        "date": TEXT,
        "complete": {**FLAG, "description": "False for the day that is not over."},
        "counted_at": TIME,
        "attended_s": DURATION_S,
        "held_s": {**DURATION_S, "description": "How long time stood still while the server ran."},
        "holds": HOLDS,
        "nodes": COUNT,
        "by_state": thing("DayByState", dict.fromkeys(STATES, COUNT)),
        **dict.fromkeys(CAME_AND_WENT, COUNT),
        "flows": {**listing(listing({})), "description": "Transitions: from, to, reason, how many."},
        "listed": {**COUNT, "description": "Nodes that can be found; the counts after it are of these."},
        "heard": thing("DayHeard", {f"{days}d": COUNT for days in HEARD_DAYS}),
        **dict.fromkeys(EXPECTED, or_null({**COUNT, "description": _KNOWN})),
        "availability": or_null(
            {**listing(COUNT), "description": f"Nodes by the chance that they are up: {TOLD}. {_KNOWN}"}
        ),
        "dues": or_null({**COUNT, "description": _KNOWN}),
        "brier": or_null(SHARE),
        "calibration_error": or_null(SHARE),
        "returns": or_null(thing("DayReturns", {"expected": AMOUNT, "happened": COUNT})),
        "dark": or_null(COUNT),
        "services": {
            **listing(listing({})),
            "description": "The most offered services, and by how many nodes.",
        },
    },
)
OVERVIEW = thing(
    "Analytics",
    {
        "tables": listing({"enum": list(TABLES)}),
        "counted_at": or_null(TIME),
        "days": COUNT,
        "from": or_null(TEXT),
        "to": or_null(TEXT),
        "last": or_null(_DAY),
        "ignored": IGNORED,
    },
    optional=("ignored",),
)
ANSWER = thing(
    "AnalyticsTable",
    {
        "table": {"enum": list(TABLES)},
        "from": or_null(TEXT),
        "to": or_null(TEXT),
        "counted_at": or_null(TIME),
        "rows": listing(
            {
                "anyOf": [
                    _DAY,
                    thing(
                        "FlowRow",
                        {"date": TEXT, "from": ANY_STATE, "to": ANY_STATE, "reason": TEXT, "nodes": COUNT},
                    ),
                    thing("ServiceRow", {"date": TEXT, "service": TEXT, "nodes": COUNT}),
                    thing(
                        "CohortRow",
                        {
                            "registered_month": TEXT,
                            "registered": COUNT,
                            "here": listing(or_null(COUNT)),
                            "heard": listing(or_null(COUNT)),
                        },
                    ),
                    thing(
                        "ReturnRow",
                        {
                            "cohort": TEXT,
                            "late_s": COUNT,
                            "events": or_null(COUNT),
                            **dict.fromkeys(HORIZON_NAMES, SHARE),
                        },
                    ),
                    thing(
                        "CalibrationRow",
                        {
                            "pace_s": or_null(COUNT),
                            "from": SHARE,
                            "to": SHARE,
                            "dues": COUNT,
                            "expected": SHARE,
                            "happened": SHARE,
                        },
                    ),
                ]
            }
        ),
        "ignored": IGNORED,
    },
    optional=("ignored",),
)


class Question(NamedTuple):
    """A request for a table, or with None for what there is; days and months as text, or None."""

    table: str | None
    first: str | None
    last: str | None
    is_csv: bool
    ignored: tuple[str, ...]


class _Days:
    """Rows by the names of their days, in order; and the one that was written last.

    They are sorted in the thread that needs them.
    """

    def __init__(self, rows: Sequence[tuple[str, bytes]], open_row: bytes | None) -> None:
        self._rows, self._open_row = rows, open_row

    @cached_property
    def rows(self) -> Sequence[tuple[str, bytes]]:
        return sorted(self._rows)

    @cached_property
    def newest(self) -> bytes | None:
        return self._open_row or (self.rows[-1][1] if self.rows else None)


_Span = tuple[str | None, str | None]


async def analytics(api: Api, request: Request) -> Response:
    question = read_question(request)
    prepare = partial(_prepare, api.directory, question)
    if not api.directory.analytics.days:
        # It changes within seconds.
        return prepare()().answer(request)
    document = await api.analyses.get(question, api.now().monotonic_s, prepare)
    return document.answer(request)


ANALYTICS = Endpoint(
    "GET",
    "/analytics",
    analytics,
    name="getAnalytics",
    tag="Server",
    summary="See the years of the directory",
    description="A row for each day, cohorts of nodes by the month of their registration, how likely late "
    "nodes come back, and how good the expectations are. Each answer is made at most once a minute.",
    query=FIELDS,
    headers={"Accept": "`text/csv` for CSV (RFC 4180)."},
    replies={
        200: Reply(
            "What there is, or a table.",
            {"anyOf": [OVERVIEW, ANSWER]},
            headers=(*CACHED, "Vary", *LIMITED),
            also_as=CSV_TYPE,
        ),
        304: UNCHANGED,
    },
    problems=("rate_limited",),
    caches=True,
    limit="discover",
    where=Where.ANYWHERE,
)


def read_question(request: Request) -> Question:
    """Return what a request asks for. Raises `CallerError` 400 ``bad_request``."""
    fields = Fields.of_query(request.query, FIELDS)
    name, first, last = fields.take(TABLE), fields.take(FROM), fields.take(TO)
    asked = fields.take(FORMAT)
    fields.finish()
    is_csv = prefers(request.headers.get("accept") or "", "text/csv") if asked is None else asked == CSV
    return Question(DAYS if name is None and is_csv else name, first, last, is_csv, tuple(fields.ignored))


def _prepare(directory: Directory, question: Question) -> Callable[[], StaticDocument]:
    """Gather what an answer needs, and return what makes it, in a thread."""
    found = directory.analytics
    days = _Days(list(found.days.items()), found.open_row())
    if question.table in (RETURNS, CALIBRATION):
        return partial(_learned, question, days, list(_learned_rows(directory, question.table)))
    if question.table == COHORTS:
        return partial(_cohorts, question, days, list(found.months.values()))
    return partial(_of_days, question, days)


def _learned_rows(directory: Directory, name: str) -> Iterable[dict[str, Any]]:
    """Return what was learned; nothing from few nodes, since it would tell of one."""
    if directory.forecast is None or directory.visiting is None or len(directory) < TOLD_MIN:
        return ()
    if name == RETURNS:
        return return_rows(directory.forecast.returns)
    return calibration_rows(directory.visiting.calibration, directory.paces)


def _learned(question: Question, days: _Days, rows: Sequence[dict[str, Any]]) -> StaticDocument:
    """Make a table that has no dates."""
    if question.is_csv:
        return _csv(question, (quoted(map(row.get, COLUMNS[question.table or DAYS])) for row in rows))
    return _json(question, days, (None, None), [orjson.dumps(rows)[1:-1]])


def _cohorts(question: Question, days: _Days, months: Sequence[bytes]) -> StaticDocument:
    first, last = (day and month_of(day) for day in (question.first, question.last))
    rows = [
        row
        for row in cohort_rows(map(orjson.loads, months))
        if (first or "") <= row["registered_month"] <= (last or "~")
    ]
    if question.is_csv:
        return _csv(question, map(line, chain.from_iterable(map(age_cells, rows))))
    span = _span([row["registered_month"] for row in rows], first, last)
    return _json(question, days, span, [orjson.dumps(rows)[1:-1]])


def _of_days(question: Question, days: _Days) -> StaticDocument:
    if question.table is None:
        newest = orjson.loads(days.newest) if days.newest else None
        first, last = _span([name for name, _ in days.rows], None, None)
        overview = {
            "tables": TABLES,
            "counted_at": newest and newest["counted_at"],
            "days": len(days.rows),
            "from": first,
            "to": last,
            "last": newest,
            **_ignored(question),
        }
        return StaticDocument.of(orjson.dumps(overview), JSON_TYPE, (VARY,))
    chosen = [each for each in days.rows if (question.first or "") <= each[0] <= (question.last or "~")]
    span = _span([name for name, _ in chosen], question.first, question.last)
    if question.table == DAYS and question.is_csv:
        return _csv(question, (line(day_cells(figures(row))) for _, row in chosen))
    if question.table == DAYS:
        # Rows are stored as they are told.
        return _json(question, days, span, [row for _, row in chosen])
    listed = [(name, lists) for name, row in chosen if (lists := lists_of(row, question.table))]
    if question.is_csv:
        return _csv(question, (lines(name, lists) for name, lists in listed))
    return _json(question, days, span, [objects(question.table, name, lists) for name, lists in listed])


def _span(names: Sequence[str], first: str | None, last: str | None) -> _Span:
    """Return the first and the last name; those that were asked for instead where there are such."""
    return first or (names[0] if names else None), last or (names[-1] if names else None)


def _csv(question: Question, lines_of_rows: Iterable[bytes]) -> StaticDocument:
    return StaticDocument.of(sheet(question.table or DAYS, lines_of_rows), CSV_TYPE, (VARY,))


def _json(question: Question, days: _Days, span: _Span, rows: Sequence[bytes]) -> StaticDocument:
    """Make a table of encoded rows; each of `rows` may be several with commas between them."""
    counted_at = orjson.loads(days.newest)["counted_at"] if days.newest else None
    head = orjson.dumps(
        {
            "table": question.table,
            "from": span[0],
            "to": span[1],
            "counted_at": counted_at,
            **_ignored(question),
        }
    )
    pieces = list(rows) or [b""]
    # Ten years are copied only once.
    pieces[0] = b'%b,"rows":[%b' % (head[:-1], pieces[0])
    pieces[-1] += b"]}"
    return StaticDocument.of(b",".join(pieces), JSON_TYPE, (VARY,))


def _ignored(question: Question) -> dict[str, Any]:
    return {"ignored": question.ignored} if question.ignored else {}
