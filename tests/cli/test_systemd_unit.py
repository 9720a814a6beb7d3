"""The units for systemd use known directives, contain every given setting, and grant nothing more.

If `systemd-analyze` is installed, it checks the units as well.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.cli.systemd_unit import quoted, service_unit, socket_unit
from openred_central.server.assembly import descriptors_needed
from openred_central.settings.config import ConfigError, load

PYTHON = "/opt/openred/bin/python"
# Directives of systemd 247 (systemd.directives(7)); only LoadCredential with %d needs systemd 250.
KNOWN = {
    "Unit": {"Description", "Wants", "After"},
    "Install": {"WantedBy"},
    "Socket": {"ListenStream", "BindIPv6Only", "SocketMode", "Backlog"},
    "Service": {
        *("Type", "NotifyAccess", "ExecStart", "Environment", "EnvironmentFile", "LoadCredential"),
        *("TimeoutStartSec", "TimeoutStopSec", "WatchdogSec", "Restart", "RestartSec"),
        *("RestartPreventExitStatus", "LimitNOFILE", "StateDirectory", "StateDirectoryMode"),
        *("RuntimeDirectory", "WorkingDirectory", "ReadWritePaths", "DynamicUser", "ProtectSystem"),
        *("ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateUsers", "ProtectProc", "ProcSubset"),
        *("ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs"),
        *("ProtectKernelModules", "ProtectKernelTunables", "NoNewPrivileges", "CapabilityBoundingSet"),
        *("AmbientCapabilities", "RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime"),
        *("RestrictSUIDSGID", "RemoveIPC", "KeyringMode", "LockPersonality", "MemoryDenyWriteExecute"),
        *("SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber", "DevicePolicy", "UMask"),
    },
}
# Directives that may be repeated.
REPEATED = {"Environment", "LoadCredential", "ReadWritePaths", "SystemCallFilter", "ListenStream"}

Unit = dict[str, list[str]]


def parsed(text: str) -> Unit:
    """Return the directives of a unit with their values. Fail where systemd would only warn."""
    values: Unit = {}
    section = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        assert not line.endswith("\\"), line
        if line.startswith("["):
            section = line.strip("[]")
            assert section in KNOWN, line
            continue
        name, equals, value = line.partition("=")
        assert equals, line
        assert name in KNOWN[section], f"{name} is no directive of [{section}]"
        assert name in REPEATED or name not in values, f"{name} is repeated"
        values.setdefault(name, []).append(value)
    return values


def service(**flags: str) -> Unit:
    return parsed(service_unit(load(flags, {}), PYTHON))


def test_the_unit_waits_for_readiness_and_restarts_the_server() -> None:
    unit = service()
    assert unit["Type"] == ["notify"]
    assert unit["WatchdogSec"] == ["30s"]
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["2 78"]
    assert unit["ExecStart"] == [f"{PYTHON} -m openred_central serve"]


def test_the_unit_keeps_its_data_in_its_state_directory() -> None:
    unit = service()
    assert unit["StateDirectory"] == ["openred"]
    assert unit["Environment"] == ["OPENRED_DATABASE=%S/openred/openred.db"]
    assert "ReadWritePaths" not in unit


def test_the_unit_grants_no_privilege() -> None:
    unit = service(host="0.0.0.0")
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == [""]
    for name in (
        "DynamicUser",
        "NoNewPrivileges",
        "MemoryDenyWriteExecute",
        "PrivateUsers",
        "PrivateDevices",
    ):
        assert unit[name] == ["yes"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]


def test_a_low_port_needs_one_privilege() -> None:
    unit = service(port="443")
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert unit["PrivateUsers"] == ["no"]


def test_the_unit_contains_given_settings() -> None:
    configuration = load({"port": "9000", "grace_s": "48h"}, {"OPENRED_MAX_NODES": "7"})
    unit = parsed(service_unit(configuration, PYTHON))
    assert unit["Environment"] == [
        *("OPENRED_DATABASE=%S/openred/openred.db", "OPENRED_PORT=9000"),
        *("OPENRED_MAX_NODES=7", "OPENRED_GRACE_S=2d"),
    ]


def test_the_unit_follows_limits_of_the_server() -> None:
    unit = service(connections_max="50000", drain_timeout_s="5m")
    assert int(unit["LimitNOFILE"][0]) == descriptors_needed(50_000, 0)
    assert unit["TimeoutStopSec"] == ["340s"]


def test_the_files_of_a_certificate_are_credentials() -> None:
    unit = service(tls_certificate="/etc/a b/chain.pem", tls_key="/etc/key.pem")
    assert unit["LoadCredential"] == ['"tls_certificate:/etc/a b/chain.pem"', "tls_key:/etc/key.pem"]
    assert "OPENRED_TLS_KEY=%d/tls_key" in unit["Environment"]


def test_an_instance_of_a_cluster_needs_no_folder_and_gets_the_key_secret_from_root() -> None:
    unit = service(database="postgresql://openred@db1:5432,db2/openred", key_secret_file="/etc/key-secret")
    assert unit["LoadCredential"] == ["key_secret_file:/etc/key-secret"]
    assert "OPENRED_KEY_SECRET_FILE=%d/key_secret_file" in unit["Environment"]
    assert "ReadWritePaths" not in unit


def test_only_folders_of_settings_are_writable() -> None:
    unit = service(database="/srv/a/nodes.db", snapshot_folder="/backup/100%", unix_socket="/run/openred/s")
    assert unit["ReadWritePaths"] == ['"/backup/100%%"', "/srv/a"]
    assert "ReadWritePaths" not in service(database="memory:", unix_socket="/run/openred/s")


def test_the_socket_unit_listens_where_the_server_would() -> None:
    unit = parsed(socket_unit(load({"host": "::1", "port": "443", "unix_socket": "/run/openred/s"}, {})))
    assert unit["ListenStream"] == ["[::1]:443", "/run/openred/s"]
    assert unit["Backlog"] == ["2048"]


def test_a_socket_for_all_addresses_is_one_for_each_protocol() -> None:
    unit = parsed(socket_unit(load({"host": "::"}, {})))
    assert unit["ListenStream"] == ["[::]:8000", "0.0.0.0:8000"]
    assert unit["BindIPv6Only"] == ["ipv6-only"]


@pytest.mark.parametrize("flags", [{"host": "localhost"}, {"port": "0"}, {"host": "a b"}])
def test_an_address_that_systemd_cannot_use_is_refused(flags: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="allowed in a socket unit is"):
        socket_unit(load(flags, {}))


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/opt/bin/python", "/opt/bin/python"),
        ("100%", '"100%%"'),
        ("a b", '"a b"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("", '""'),
    ],
)
def test_a_word_is_one_word_for_systemd(word: str, written: str) -> None:
    assert quoted(word) == written


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x7f"])
def test_control_characters_are_refused(character: str) -> None:
    with pytest.raises(ConfigError, match="cannot stand in a unit"):
        service_unit(load({}, {}), f"/opt/a{character}ExecStartPre=/bin/python")


def test_the_zone_of_an_address_is_escaped() -> None:
    unit = parsed(socket_unit(load({"host": "fe80::1%eth0"}, {})))
    assert unit["ListenStream"] == ["[fe80::1%%eth0]:8000"]


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20), st.sampled_from(["", " "]))
def test_any_word_survives_quoting(text: str, space: str) -> None:
    word = text + space + text
    written = quoted(word)
    if written.startswith('"'):
        written = written[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    assert written.replace("%%", "%") == word


def test_systemd_analyze_accepts_the_units(tmp_path: Path) -> None:
    flags = {
        "host": "0.0.0.0",
        "database": "/srv/100% $HOME/nodes.db",
        "tls_certificate": "/a",
        "tls_key": "/b",
    }
    configuration = load(flags, {})
    units = [tmp_path / "openred-central.service", tmp_path / "openred-central.socket"]
    texts = service_unit(configuration, sys.executable), socket_unit(configuration)
    for unit, text in zip(units, texts, strict=True):
        assert parsed(text)
        unit.write_text(text)
    program = shutil.which("systemd-analyze")
    if program is None:
        # Without systemd, the strict parser above is the only check.
        return
    verified = subprocess.run(
        [program, "verify", *units], capture_output=True, text=True, timeout=60, check=False
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    # A score of at most 2.0; a unit without these directives has 9.6 of 10.
    offline = [program, "security", "--offline=true", "--threshold=20", units[0]]
    exposed = subprocess.run(offline, capture_output=True, text=True, timeout=60, check=False)
    assert exposed.returncode == 0, exposed.stdout + exposed.stderr
