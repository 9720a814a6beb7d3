"""What is known of a snapshot without opening it: a JSON document beside the copy of the database."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from ...directory.state.changes import Vitals


class Manifest(NamedTuple):
    """`taken_at` is wall time; `file_bytes` and `sha256` (hexadecimal) are those of the file."""

    database: str
    taken_at: float
    schema_version: int
    file_bytes: int
    sha256: str
    records: int
    tombstones: int
    vitals: Vitals | None

    def encode(self) -> bytes:
        """The manifest as JSON for people and programs."""
        fields = self._asdict()
        fields["vitals"] = None if self.vitals is None else self.vitals._asdict()
        return orjson.dumps(fields, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def decode(cls, encoded: bytes) -> Manifest:
        """The manifest that `encode` wrote. Raises `ValueError` for anything else."""
        fields = orjson.loads(encoded)
        if not isinstance(fields, dict) or fields.keys() != set(cls._fields):
            raise ValueError(f"a manifest has the fields {', '.join(cls._fields)}")
        vitals = fields["vitals"]
        if vitals is not None:
            if not isinstance(vitals, dict) or vitals.keys() != set(Vitals._fields):
                raise ValueError(f"the vitals of a manifest are {', '.join(Vitals._fields)}")
            fields["vitals"] = Vitals(**vitals)
        manifest = cls(**fields)
        for name, kind in _KINDS.items():
            if not isinstance(getattr(manifest, name), kind):
                raise ValueError(f"the manifest's {name} is {getattr(manifest, name)!r}")
        return manifest


_KINDS: dict[str, type | tuple[type, ...]] = {
    "database": str,
    "taken_at": (int, float),
    "schema_version": int,
    "file_bytes": int,
    "sha256": str,
    "records": int,
    "tombstones": int,
}
