"""Unknown variables are reported, and the settings are documented."""

from __future__ import annotations

import pytest

from openred_central.settings.config import SETTINGS, Configuration, load
from openred_central.settings.texts import settings_markdown, unknown_variables


def test_a_warning_of_an_unknown_variable_names_the_nearest_setting() -> None:
    environment = {"OPENRED_PROT": "1", "OPENRED_PORT": "1", "PATH": "/bin", "OPENRED_MAXNODES": "5"}
    environment["OPENRED_URL"] = "http://directory.example"
    assert unknown_variables(environment) == [
        "OPENRED_MAXNODES is not a setting and is ignored; the nearest is OPENRED_MAX_NODES",
        "OPENRED_PROT is not a setting and is ignored; the nearest is OPENRED_PORT",
    ]


# Variables that Kubernetes sets for a service with the port 8000, without the name of the service.
LINK = {
    "SERVICE_HOST": "10.0.0.1",
    "SERVICE_PORT": "8000",
    "SERVICE_PORT_HTTP": "8000",
    "PORT": "tcp://10.0.0.1:8000",
    "PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "PORT_8000_TCP_PROTO": "tcp",
    "PORT_8000_TCP_PORT": "8000",
    "PORT_8000_TCP_ADDR": "10.0.0.1",
}


@pytest.mark.parametrize("service", ["OPENRED", "OPENRED_ADMIN", "OPENRED_CENTRAL"])
def test_variables_of_a_kubernetes_service_are_ignored_with_one_hint(service: str) -> None:
    environment = {f"{service}_{name}": value for name, value in LINK.items()}
    assert vars(load({}, environment)) == vars(Configuration())
    (warning,) = unknown_variables(environment)
    assert warning.startswith(f"{service}_PORT is tcp://10.0.0.1:8000, which Kubernetes sets for a service")
    assert "enableServiceLinks: false" in warning
    # A flag still counts, and a variable that is no such link stays unknown.
    assert load({"port": "9000", "admin_port": "9001"}, environment).port == 9_000
    assert len(unknown_variables({"OPENRED_SERVICE_PORT": "8000"})) == 1


def test_a_setting_that_is_no_port_is_never_ignored() -> None:
    environment = {"OPENRED_KEY_FOLDER": "tcp://10.0.0.1:8000"}
    assert load({}, environment).key_folder == "tcp://10.0.0.1:8000"


def test_the_markdown_table_has_a_row_for_each_setting() -> None:
    rows = settings_markdown().splitlines()
    assert rows[0] == "| variable | default | allowed | meaning |"
    assert (
        "| `OPENRED_GRACE_S` | `2d` | 0.001s to 36525d | Grace once the tolerance is over (pending_1st). |"
        in rows
    )
    assert "| `OPENRED_TLS_KEY` | nothing |" in settings_markdown()
    assert [row.split("`")[1] for row in rows[2:]] == [setting.variable for setting in SETTINGS.values()]
    assert all(row.count("|") == 5 for row in rows)
