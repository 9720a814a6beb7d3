"""The rows of days and months go with an export, and what is no such row is refused."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from openred_central.directory.analytics.days import Day, Month, packed
from openred_central.directory.state.changes import Batch
from openred_central.maintenance.admitting import admit
from openred_central.maintenance.portable import LineError, Secret
from tests.directory.analytics.test_analytics import count, rows
from tests.support.building import DictStore, at, make_directory, register, save_all
from tests.support.maintenance import VITALS, command, fill
from tests.support.records import opened, record


def kept_rows() -> dict[str, bytes]:
    """Return the rows of a directory of two days."""
    directory, store = make_directory(), DictStore()
    register(directory, "a", at(0.0))
    for now_s in (0.0, 86_400.0):
        count(directory, at(now_s))
        save_all(directory, store, at(now_s))
    assert len(rows(directory)) == 2
    return {name: value for name, value in store.kept.items() if name.startswith(("day/", "month/"))}


def test_figures_go_with_an_export(tmp_path: Path) -> None:
    path, copy, kept = tmp_path / "openred.db", tmp_path / "copy.db", kept_rows()
    fill(path, [record(0)], [])
    with opened(path) as store:
        store.commit(Batch([], [], [], [], VITALS, 0, kept=[*kept.items(), ("returns", b"{}")]))
    exported = command("export", path, file="-", without_secrets=True).output
    assert orjson.loads(exported.splitlines()[-1])["secrets"] == 0
    command("import", copy, file="-", standard_input=exported)
    with opened(copy) as store:
        assert dict(store.load_kept()) == kept


def whole_row() -> bytes:
    row = orjson.loads(Day("2027-01-15", forecast=True).row())
    return orjson.dumps(row | {"counted_at": "2027-01-15T12:00:00.000Z", "services": [["chat", 5]]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("day/2027-01-16", packed(whole_row())),
        ("day/2027-01-15", whole_row()),
        ("day/2027-01-15", packed(whole_row())[:-1]),
        ("day/2027-01-15", packed(whole_row().replace(b"chat", b"chat\xff"))),
        ("day/2027-01-15", packed(whole_row().replace(b'"flows":[]', b'"flows":[["a","b","c",1]]'))),
        ("day/2027-01-15", packed(whole_row().replace(b"T12", b"T99"))),
        ("day/2027-01-15", packed(whole_row().replace(b'"chat"', b'"chat,5"'))),
        ("day/2027-01-15", packed(whole_row().replace(b'"chat",5', b'"chat","5"'))),
        ("day/2027-01-15", packed(whole_row().replace(b'"chat",5', b'"chat", 5'))),
        ("day/2027-01-15", packed(whole_row().replace(b'"chat",5', b'["chat"],5'))),
        ("day/2027-01-15", packed(whole_row().replace(b'"dues":0', b'"dues":{"flows":[["a",1]]}'))),
        ("day/2027-01-15", packed(whole_row().replace(b'"complete"', b'"late":{"a":["1,2"]},"complete"'))),
        ("day/2027-01-1,", packed(whole_row().replace(b'"2027-01-15"', b'"2027-01-1,"'))),
        ("day/2027-13-15", packed(whole_row().replace(b"2027-01-15", b"2027-13-15"))),
        ("month/2027-01", packed(Month("2027-02").row())),
        ("month/2027-00", packed(Month("2027-00").row())),
        ("month/2027-01", packed(Month("2027-01").row().replace(b"{}", b"[1]"))),
        ("month/2027-01", packed(Month("2027-01").row().replace(b"{}", b'{"2027-00":[1,1]}'))),
    ],
)
def test_rows_that_no_directory_wrote_are_not_imported(name: str, value: bytes) -> None:
    admit(Secret("day/2027-01-15", packed(whole_row())), VITALS)
    admit(Secret("month/2027-01", packed(Month("2027-01").row())), VITALS)
    with pytest.raises(LineError, match="cannot be read"):
        admit(Secret(name, value), VITALS)
