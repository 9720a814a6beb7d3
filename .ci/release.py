"""Make a release: `make release VERSION=x.y.z` sets version, changelog and schema notes in one tagged commit.

Nothing leaves this machine: it ends with the command that publishes the commit and its tag.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from openred_central import __version__  # noqa: E402
from openred_central.maintenance import portable  # noqa: E402
from openred_central.security.signatures import TAG  # noqa: E402
from openred_central.storage import versions  # noqa: E402
from openred_central.storage.sqlite import schema  # noqa: E402

VERSION_FILE = ROOT / "openred_central" / "__init__.py"
CHANGELOG = ROOT / "openred_central" / "docs" / "changelog.md"
UPGRADE = ROOT / "openred_central" / "docs" / "upgrade.md"
UNRELEASED = "## Unreleased\n"
# The cell of a schema version that no release has yet.
NEW_SCHEMA = "| unreleased |"


class Refused(Exception):
    """There can be no such release. The message is one line."""


def parts_of(version: str) -> tuple[int, ...]:
    """Return the numbers of a version. Raises `Refused` for text that is none."""
    if not re.fullmatch(r"(0|[1-9]\d{0,5})(\.(0|[1-9]\d{0,5})){2}", version):
        raise Refused(f"VERSION is {version!r}, expected is MAJOR.MINOR.PATCH such as 3.1.0")
    return tuple(map(int, version.split(".")))


def contents(version: str) -> dict[Path, str]:
    """Return the new content of each file that a release changes. Raises `Refused`."""
    before, after = parts_of(__version__), parts_of(version)
    if after <= before:
        raise Refused(f"VERSION is {version}, and the present one is {__version__}; name a later one")
    changelog, upgrade = CHANGELOG.read_text("utf-8"), UPGRADE.read_text("utf-8")
    head, found, rest = changelog.partition(UNRELEASED)
    entries = rest.partition("\n## ")[0].strip()
    if not found or not entries:
        raise Refused(f"{CHANGELOG.name} has nothing under Unreleased; say what is new")
    if not re.search(rf"^\| {schema.SCHEMA_VERSION} \|", upgrade, re.MULTILINE):
        raise Refused(f"{UPGRADE.name} does not say what came with schema {schema.SCHEMA_VERSION}")
    if NEW_SCHEMA in upgrade and after[:2] == before[:2]:
        raise Refused(f"the database has a new schema, so {version} must raise MINOR: see {UPGRADE.name}")
    notes = (
        f"Wire contract `{TAG}`, database schema {schema.SCHEMA_VERSION}, in PostgreSQL "
        f"{versions.SCHEMA_VERSION}, link {versions.LINK_VERSION}, export format {portable.VERSION}."
    )
    source = VERSION_FILE.read_text("utf-8")
    return {
        VERSION_FILE: source.replace(f'__version__ = "{__version__}"', f'__version__ = "{version}"'),
        CHANGELOG: f"{head}{UNRELEASED}\n## {version}\n\n{notes}\n{rest}",
        UPGRADE: upgrade.replace(NEW_SCHEMA, f"| {version} |"),
    }


def git(*words: str) -> str:
    """Return what git prints. Raises `Refused` if it fails."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout


def release(version: str) -> None:
    """Write, commit and tag the release. Raises `Refused`, and then nothing is changed."""
    if git("status", "--porcelain", "--untracked-files=no"):
        raise Refused("there are changes that are not committed; commit them, or put them away")
    if git("tag", "--list", f"v{version}"):
        raise Refused(f"there is a tag v{version} already")
    changed = contents(version)
    for path, content in changed.items():
        path.write_text(content, "utf-8")
    git("add", *map(str, changed))
    git("commit", "--quiet", "--message", f"Release {version}")
    git("tag", "--annotate", f"v{version}", "--message", f"Release {version}")


def main(arguments: list[str]) -> int:
    """Make the release that the one argument names, and return the exit code."""
    version = arguments[0] if arguments else ""
    try:
        release(version)
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    sys.stdout.write(f"{version} is committed and tagged; `git push --follow-tags` publishes it\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
