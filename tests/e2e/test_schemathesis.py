"""The running server against its own description: schemathesis makes requests of it, and judges the answers.

No 5xx, no status, header, media type or body that is not described, nothing invalid taken and nothing valid
refused. The profile ``soak`` tries until there are ten thousand cases.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import SOAK
from tests.support.running import UNLIMITED, Start, environment

from ..support.parts import needs_module

# `use_after_free`: a node that has left is still there, and may be looked at.
EXCLUDED = "use_after_free"
# An answer without end is nothing to wait for.
ENDLESS = "/events"
# A request may be about a dead node, whether it is valid or not.
CONFIGURATION = """\
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 410, 429]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 410, 415, 422, 428, 429, "5xx"]
"""
SHORT = ("--max-examples", "4", "--exclude-deprecated")
LONG = ("--max-examples", "600")
LONG_CASES_MIN = 10_000


def test_the_server_keeps_to_its_description(start: Start, tmp_path: Path, seed: int) -> None:
    needs_module("schemathesis")
    server = start(**UNLIMITED)
    host, port = server.address
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)),
        *("run", f"http://{host}:{port}/openapi.json", "--exclude-checks", EXCLUDED),
        *("--exclude-path", ENDLESS),
        *("--seed", str(seed), "--continue-on-failure", "--no-color", "--warnings", "off"),
        *(LONG if SOAK else SHORT),
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.e2e.schemathesis_hooks"}
    done = subprocess.run(
        command,
        env=environment(**hooks),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-20_000:], done.stderr[-2_000:])
    assert done.returncode == 0
    generated = re.search(r"([\d,]+) generated", done.stdout)
    assert generated is not None
    cases = int(generated[1].replace(",", ""))
    assert cases >= (LONG_CASES_MIN if SOAK else 200)
    assert "Traceback" not in server.log
