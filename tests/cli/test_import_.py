"""`import` reads what `export` writes."""

from __future__ import annotations

from pathlib import Path

from tests.support.maintenance import command, fill
from tests.support.records import record


def test_an_export_can_be_imported(tmp_path: Path) -> None:
    fill(tmp_path / "first.db", [record(1)])
    file = str(tmp_path / "directory.jsonl")
    exported = command("export", tmp_path / "first.db", file=file)
    imported = command("import", tmp_path / "second.db", file=file)
    assert exported.code == imported.code == 0
    digest = exported.said[0].partition("digest ")[2].partition(" ")[0]
    assert imported.said == [
        f"imported 1 node, 0 tombstones, 1 secret, digest {digest} into {tmp_path / 'second.db'}"
    ]
