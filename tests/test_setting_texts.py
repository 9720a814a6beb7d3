"""What is told of the settings."""

from __future__ import annotations

from openred_central.config import SETTINGS
from openred_central.setting_texts import settings_markdown, unknown_variables


def test_an_unknown_variable_is_warned_of_with_the_nearest_setting() -> None:
    environment = {"OPENRED_PROT": "1", "OPENRED_PORT": "1", "PATH": "/bin", "OPENRED_MAXNODES": "5"}
    environment["OPENRED_URL"] = "http://directory.example"
    assert unknown_variables(environment) == [
        "OPENRED_MAXNODES is not a setting and is ignored; the nearest is OPENRED_MAX_NODES",
        "OPENRED_PROT is not a setting and is ignored; the nearest is OPENRED_PORT",
    ]


def test_the_markdown_table_has_a_row_for_each_setting() -> None:
    rows = settings_markdown().splitlines()
    assert rows[0] == "| variable | default | allowed | meaning |"
    assert (
        "| `OPENRED_GRACE_S` | `2d` | 0.001s to 36525d | Grace after a missed heartbeat (pending_1st). |"
        in rows
    )
    assert "| `OPENRED_TLS_KEY` | nothing |" in settings_markdown()
    assert [row.split("`")[1] for row in rows[2:]] == [setting.variable for setting in SETTINGS.values()]
    assert all(row.count("|") == 5 for row in rows)
