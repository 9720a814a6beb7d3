"""The next release of the program, made of this one: with a link and a schema of the next version.

Its frames and parts of loads begin with a section that this release cannot read, and it commits by a function
that only its own schema has.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

import openred_central
from openred_central.storage.versions import LINK_VERSION, SCHEMA_VERSION

VERSION: Final = "9.9.9"
_NEXT_SCHEMA: Final = """
ALTER TABLE openred.cluster ADD COLUMN IF NOT EXISTS next_seq bigint NOT NULL DEFAULT 0;
CREATE OR REPLACE FUNCTION openred.commit_2({parameters})
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT openred.commit_1({names}) THEN
        RETURN false;
    END IF;
    UPDATE openred.cluster SET next_seq = p_next_seq;
    RETURN true;
END $$;
UPDATE openred.cluster SET schema_version = {version} WHERE schema_version < {version};
"""


def make_next_release(folder: Path) -> str:
    """Make the next release in `folder`; return the value of ``PYTHONPATH`` by which it runs."""
    package = folder / "openred_central"
    shutil.copytree(Path(openred_central.__file__).parent, package)
    storage = package / "storage"
    _edit(package / "__init__.py", r'(?m)^__version__ = ".*"$', f'__version__ = "{VERSION}"')
    for name, former in (("LINK_VERSION", LINK_VERSION), ("SCHEMA_VERSION", SCHEMA_VERSION)):
        _edit(storage / "versions.py", rf"(?m)^{name}: Final = {former}$", f"{name}: Final = {former + 1}")
    for kind in ("FRAME", "LOAD_PART"):
        _edit(
            storage / "frames.py",
            rf"_HEAD\.pack\(version, {kind}\),",
            rf'\g<0> b"" if version == {LINK_VERSION} else _section(b"next"),',
        )
    _edit(
        storage / "frames.py",
        r"( +)value = read\(reader\)\n",
        rf'\1if version > {LINK_VERSION} and reader.section().take(4) != b"next":\n'
        r"\1    raise FrameError('is not of the next release')" + "\n" + r"\g<0>",
    )
    _edit(storage / "postgres" / "store.py", r'filling\.write\("commit_1"', 'filling.write("commit_2"')
    _edit(storage / "postgres" / "store.py", r'_writer\.write\("commit_1"', '_writer.write("commit_2"')
    _extend_schema(storage / "postgres" / "schema.sql")
    return str(folder)


def _extend_schema(path: Path) -> None:
    written = path.read_text("utf-8")
    found = re.search(r"FUNCTION openred\.commit_1\(([^()]*)\)", written)
    assert found is not None
    names = ", ".join(re.findall(r"\bp_\w+", found[1]))
    path.write_text(
        written + _NEXT_SCHEMA.format(parameters=found[1], names=names, version=SCHEMA_VERSION + 1), "utf-8"
    )


def _edit(path: Path, pattern: str, replacement: str) -> None:
    """Replace the one place in a file that `pattern` matches."""
    written, count = re.subn(pattern, replacement, path.read_text("utf-8"))
    assert count == 1, f"{count} places of {path.name} match {pattern!r}, expected is one"
    path.write_text(written, "utf-8")
