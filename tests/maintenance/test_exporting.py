"""Everything that a database holds is in its export, which has its name only when it is whole."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from openred_central.maintenance.exporting import output_file
from openred_central.security.tokens.revocations import TOKENS_MAX
from openred_central.storage.loading import load_revocations
from openred_central.storage.store import StoreError
from tests.support.maintenance import VITALS, command, fill
from tests.support.records import alter, opened, record, tombstone


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "openred.db"
    fill(path, [record(slot) for slot in range(5)], [tombstone("a"), tombstone("b")])
    return path


def test_an_export_has_a_header_everything_and_a_footer(database: Path, tmp_path: Path) -> None:
    done = command("export", database, file=str(tmp_path / "out.jsonl"))
    lines = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    kinds = [line["type"] for line in lines]
    assert kinds == ["header", "vitals", "secret", *["tombstone"] * 2, *["node"] * 5, "footer"]
    assert lines[1] == {"type": "vitals", **VITALS._asdict()}
    assert (lines[-1]["nodes"], lines[-1]["tombstones"], lines[-1]["secrets"]) == (5, 2, 1)
    assert done.code == 0
    assert done.said[0].startswith("exported 5 nodes, 2 tombstones, 1 secret, digest ")
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o600
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_secrets_can_be_left_out(database: Path) -> None:
    done = command("export", database, file="-", without_secrets=True)
    assert b"claim_key" not in done.output
    assert done.said == []
    assert b"claim_key" in command("export", database, file="-").output


def test_revoked_tokens_stay_revoked_after_an_import(database: Path, tmp_path: Path) -> None:
    revoked = {f"{number:022}": 2e9 for number in range(TOKENS_MAX)}
    with opened(database) as store:
        store.save_revocations(revoked | {"A" * 22: 1.0})
    for without_secrets in (False, True):
        exported = command("export", database, file="-", without_secrets=without_secrets).output
        copy = tmp_path / f"copy-{without_secrets}.db"
        command("import", copy, file="-", standard_input=exported)
        with opened(copy) as store:
            assert load_revocations(store) == (revoked, []), "all but the one that has expired"


def test_a_damaged_revocation_is_not_exported(database: Path) -> None:
    alter(database, "INSERT INTO revocation VALUES ('torn', 2e9)")
    with pytest.raises(StoreError, match=r"cannot export the revocations: b'torn' is revoked.* `.* verify`"):
        command("export", database, file="-")


def test_a_database_in_use_can_be_exported(database: Path) -> None:
    with opened(database):
        done = command("export", database, file="-")
    assert done.output.count(b'"type":"node"') == 5


def test_a_row_that_cannot_be_exported_leaves_no_file(database: Path, tmp_path: Path) -> None:
    alter(database, "UPDATE node SET history = 'never' WHERE slot = 3")
    with pytest.raises(StoreError, match=r"cannot export record 3: .* see `openred-central verify`"):
        command("export", database, file=str(tmp_path / "out.jsonl"))
    assert not [path for path in tmp_path.iterdir() if "out.jsonl" in path.name]


def test_an_older_export_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError), output_file(path) as output:  # noqa: PT012
        output.write(b"new")
        raise RuntimeError
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]
    assert path.read_bytes() == b"older"
    with output_file(path) as output:
        output.write(b"new")
        assert path.read_bytes() == b"older"
    assert path.read_bytes() == b"new"


def test_a_device_is_written_and_not_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("file")
    with output_file(link) as output:
        output.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    with output_file(Path(os.devnull)) as output:
        output.write(b"new")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("missing", ["missing.db", "memory:"])
def test_a_missing_database_is_reported(tmp_path: Path, missing: str) -> None:
    with pytest.raises(StoreError, match="with --database"):
        command("export", missing if missing == "memory:" else tmp_path / missing, file="-")


def test_a_place_without_write_access_is_reported(database: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*/missing/out.jsonl: No such file"):
        command("export", database, file=str(tmp_path / "missing" / "out.jsonl"))
