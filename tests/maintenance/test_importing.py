"""An export becomes the same directory again, or nothing at all happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openred_central.directory.lifecycle import LIVE_STATES, Event
from openred_central.directory.state.node import PROVEN, NodeEndpoint, Profile, Record, Tombstone, hash_id
from openred_central.maintenance.portable import LINE_BYTES_MAX, encode
from openred_central.storage.sqlite.lock import FileLock
from openred_central.storage.store import StoreError
from tests.support.maintenance import CLAIM_KEY, VITALS, command, fill
from tests.support.records import opened, record, records_of, tombstone, tombstones_of

WALL_TIMES = st.floats(0.0, 1e11)
ATTENDED_TIMES = st.floats(0.0, VITALS.attended_s)
NAMES = st.from_regex(r"[a-z0-9_.-]{1,8}", fullmatch=True)
TRANSITIONS = st.tuples(
    WALL_TIMES.map(lambda at: f"{at:.3f}"),
    st.sampled_from(LIVE_STATES).map(lambda state: state.wire),
    st.sampled_from(LIVE_STATES).map(lambda state: state.wire),
    st.sampled_from(Event).map(lambda event: event.value),
)
# Records that a directory with `VITALS` could hold.
RECORDS = st.builds(
    Record,
    slot=st.just(0),
    node_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,20}", fullmatch=True),
    state=st.sampled_from(LIVE_STATES).map(int),
    flags=st.sampled_from([flags | held for flags in range(8) for held in (0, 16, 32, 48)]),
    registered_at=WALL_TIMES,
    last_seen_at=WALL_TIMES,
    last_seen_s=ATTENDED_TIMES,
    since_s=ATTENDED_TIMES,
    usual_gap_s=st.floats(0.0, 1e9),
    revision=st.integers(0, VITALS.revision),
    services=st.lists(NAMES, max_size=4, unique=True).map(lambda names: ",".join(sorted(names))),
    region=NAMES | st.just(""),
    profile=st.builds(
        Profile,
        st.sampled_from(["192.0.2.1", "2001:db8::1", "node.example"]),
        st.integers(1, 65_535),
        st.text('ab"\\é', min_size=1, max_size=5),
        st.just(()) | st.just((NodeEndpoint("192.0.2.2", 80),)),
        st.dictionaries(st.text(max_size=4), st.none() | st.integers(0, 9) | st.text(max_size=4), max_size=3),
    ).map(Profile.encode),
    away_from_s=ATTENDED_TIMES,
    away_until_s=st.floats(0.0, 1e9),
    history=st.lists(TRANSITIONS.map(",".join), max_size=16).map(";".join),
    generation=st.integers(0, 1 << 62),
    next_key=st.sampled_from(["", "k" * 43]),
    longest=st.integers(0, 255),
)
TOMBSTONES = st.builds(
    Tombstone,
    st.text(max_size=9).map(hash_id),
    st.text("ab", max_size=3),
    WALL_TIMES,
    ATTENDED_TIMES,
    st.sampled_from(["deadline", "forgotten"]),
    st.integers(0, VITALS.revision),
    st.sampled_from((0, PROVEN)),
    st.sampled_from(["", "k" * 43]),
)


def content(database: Path) -> tuple[list[Record], list[Tombstone], object, bytes | None]:
    with opened(database) as store:
        return records_of(store), tombstones_of(store), store.load_vitals(), store.load_secret("claim_key")


@settings(max_examples=8)
@given(
    st.lists(RECORDS, max_size=5, unique_by=lambda one: one.node_id),
    st.lists(TOMBSTONES, max_size=3, unique_by=lambda one: one.id_hash),
)
def test_an_imported_export_is_the_same_directory(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], tombstones: list[Tombstone]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    alive = {hash_id(one.node_id) for one in records}
    fill(
        folder / "first.db",
        [one._replace(slot=slot) for slot, one in enumerate(records)],
        [one for one in tombstones if one.id_hash not in alive],
    )
    exported = command("export", folder / "first.db", file="-").output
    assert command("import", folder / "second.db", file="-", standard_input=exported).code == 0
    assert content(folder / "second.db") == content(folder / "first.db")
    again = command("export", folder / "second.db", file="-").output
    assert again.splitlines()[1:] == exported.splitlines()[1:]


@pytest.fixture
def exported(tmp_path: Path) -> list[bytes]:
    """The lines of a small export: header, vitals, secret, tombstone, five nodes, footer."""
    fill(tmp_path / "source.db", [record(slot) for slot in range(0, 10, 2)], [tombstone("a")])
    return command("export", tmp_path / "source.db", file="-").output.splitlines(keepends=True)


def import_lines(database: Path, lines: list[bytes], **options: object) -> list[str]:
    return command("import", database, file="-", standard_input=b"".join(lines), **options).said


def test_slots_without_a_node_are_closed_up(tmp_path: Path, exported: list[bytes]) -> None:
    said = import_lines(tmp_path / "new.db", exported)
    assert said[0].startswith("imported 5 nodes, 1 tombstone, 1 secret, digest ")
    records, tombstones, vitals, key = content(tmp_path / "new.db")
    assert [one.slot for one in records] == [0, 1, 2, 3, 4]
    assert [one.node_id for one in records] == [f"node-{slot}" for slot in range(0, 10, 2)]
    assert (tombstones, vitals, key) == ([tombstone("a")], VITALS, CLAIM_KEY)
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600


def test_the_order_and_spelling_of_lines_do_not_matter(tmp_path: Path, exported: list[bytes]) -> None:
    loose = [orjson.dumps(orjson.loads(line), option=orjson.OPT_SORT_KEYS) + b" \r\n" for line in exported]
    import_lines(tmp_path / "new.db", [*loose[:2], *reversed(loose[2:-1]), loose[-1].rstrip()])
    assert len(content(tmp_path / "new.db")[0]) == 5


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \n\n", b"  "])
def test_additions_of_editors_do_no_harm(tmp_path: Path, exported: list[bytes], end: bytes) -> None:
    first, *others = exported
    import_lines(tmp_path / "new.db", [b"\xef\xbb\xbf" + first, b"\n", *others, end])
    assert len(content(tmp_path / "new.db")[0]) == 5


Edit = Callable[[list[bytes]], list[bytes]]


def replaced(old: bytes, new: bytes) -> Edit:
    def edit(lines: list[bytes]) -> list[bytes]:
        assert any(old in line for line in lines)
        return [line.replace(old, new, 1) for line in lines]

    return edit


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda lines: lines[:-1], "the export is cut off: no footer follows line 9"),
        (lambda lines: [*lines[:-1], lines[-1][:20]], "line 10: it is not JSON"),
        (lambda lines: lines[:1], "no footer follows line 1"),
        (lambda lines: [], "line 1: this is no export"),
        (lambda lines: lines[1:], "line 1: this is no export"),
        (lambda lines: [*lines[:5], *lines[6:]], "line 9: the footer says 5 nodes, .* make 4 nodes"),
        (lambda lines: [*lines[:5], lines[4], *lines[5:]], "line 11: the footer says 5 nodes"),
        (lambda lines: [*lines, lines[4]], "line 11: a line follows the footer"),
        (lambda lines: [*lines[:1], *lines[2:]], "line 3: the vitals are missing"),
        (lambda lines: [*lines[:4], lines[1], *lines[4:]], "line 5: the vitals come once"),
        (replaced(b'"version":2', b'"version":3'), "line 1: the export has version 3"),
        (replaced(b'"region":"eu-west"', b'"region":"us-west"'), "line 10: the footer says digest"),
        (replaced(b'"last_seen_s":100.5', b'"last_seen_s":100.6'), "line 10: the footer says digest"),
        (replaced(b'"state":"active"', b'"state":"acitve"'), "line 5: node state is 'acitve'"),
        (replaced(b'"last_seen_s":100.5', b'"last_seen_s":1000.6'), "line 5: node last_seen_s is 1000.6"),
        (replaced(b'"revision":1,', b'"revision":1001,'), "line 5: revision is 1001"),
        (replaced(b'"node_id":"node-2"', b'"node_id":"a\\nb"'), "line 6: node node_id has to be 1 to 128 of"),
        (replaced(b'"attended_s":1000.0', b'"attended_s":1e12'), "line 2: vitals attended_s is 10"),
        (replaced(b"HNlY3JldP8", b"HNlY3JldP7"), "line 10: the footer says digest"),
        (replaced(b"node-2", b"x" * (LINE_BYTES_MAX + 1)), "line 6: it is not JSON"),
    ],
)
def test_a_cut_or_changed_export_is_refused_with_its_line(
    tmp_path: Path, exported: list[bytes], edit: Edit, complaint: str
) -> None:
    folder = tmp_path / "new"
    with pytest.raises(StoreError, match=complaint):
        import_lines(folder / "new.db", edit(exported))
    assert [path.name for path in folder.iterdir()] == ["new.db.lock"]


@pytest.mark.parametrize(
    ("records", "tombstones", "complaint"),
    [
        ([record(1), record(2, node_id="node-1")], [], "the node 'node-1' is there twice"),
        ([record(1)], [tombstone(hash_id("node-1"))], "the node 'node-1' is there and has a tombstone"),
    ],
)
def test_nodes_that_cannot_stand_together_are_refused(
    tmp_path: Path, records: list[Record], tombstones: list[Tombstone], complaint: str
) -> None:
    fill(tmp_path / "source.db", records, tombstones)
    lines = command("export", tmp_path / "source.db", file="-").output
    with pytest.raises(StoreError, match=complaint):
        command("import", tmp_path / "new.db", file="-", standard_input=lines)
    assert not (tmp_path / "new.db").exists()


def test_a_database_with_nodes_is_left_alone_or_set_aside(tmp_path: Path, exported: list[bytes]) -> None:
    database = tmp_path / "openred.db"
    fill(database, [record(7)])
    with pytest.raises(StoreError, match=r"is there already .* with --replace"):
        import_lines(database, exported)
    assert [one.node_id for one in content(database)[0]] == ["node-7"]
    said = import_lines(database, exported, replace=True)
    aside = tmp_path / "openred.db.replaced-20270115T080000Z"
    assert said[0] == f"the former database is now {aside}"
    assert [one.node_id for one in content(aside)[0]] == ["node-7"]
    assert len(content(database)[0]) == 5


def test_a_database_without_a_node_may_be_there(tmp_path: Path, exported: list[bytes]) -> None:
    with opened(tmp_path / "openred.db"):
        pass
    import_lines(tmp_path / "openred.db", exported)
    assert len(content(tmp_path / "openred.db")[0]) == 5


def test_a_file_that_is_no_database_is_not_replaced(tmp_path: Path, exported: list[bytes]) -> None:
    (tmp_path / "openred.db").write_text("my notes")
    with pytest.raises(StoreError, match="is there already"):
        import_lines(tmp_path / "openred.db", exported)
    assert (tmp_path / "openred.db").read_text() == "my notes"


def test_the_database_of_a_running_server_is_not_replaced(tmp_path: Path, exported: list[bytes]) -> None:
    lock = FileLock(tmp_path / "openred.db")
    lock.acquire()
    try:
        with pytest.raises(StoreError, match="in use by another server"):
            import_lines(tmp_path / "openred.db", exported, replace=True)
    finally:
        lock.release()


def test_an_empty_directory_can_be_exported_and_imported(tmp_path: Path) -> None:
    with opened(tmp_path / "first.db"):
        pass
    lines = command("export", tmp_path / "first.db", file="-").output
    command("import", tmp_path / "second.db", file="-", standard_input=lines)
    assert content(tmp_path / "second.db") == ([], [], None, None)


def test_more_than_one_batch_is_imported(tmp_path: Path, exported: list[bytes]) -> None:
    fill(tmp_path / "many.db", [record(slot, revision=1) for slot in range(11_000)])
    lines = command("export", tmp_path / "many.db", file="-").output
    command("import", tmp_path / "new.db", file="-", standard_input=lines)
    assert content(tmp_path / "new.db") == content(tmp_path / "many.db")


def test_missing_input_and_memory_database_are_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot read .*missing.jsonl: No such file"):
        command("import", tmp_path / "new.db", file=str(tmp_path / "missing.jsonl"))
    with pytest.raises(StoreError, match="memory: keeps nothing"):
        command("import", "memory:", file="-")


def test_a_line_with_an_odd_type_is_refused(tmp_path: Path, exported: list[bytes]) -> None:
    lines = [*exported[:4], encode(record(1)).replace(b'"node-1"', b'"\\ud800"') + b"\n", exported[-1]]
    with pytest.raises(StoreError, match="line 5: it is not JSON"):
        import_lines(tmp_path / "new.db", lines)
