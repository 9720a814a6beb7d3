"""Values of settings are parsed, bounded and shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.settings import kinds as setting_kinds
from openred_central.settings.kinds import Kind, Rate, parse_duration, show_duration


def kind(row: Any) -> Kind:
    return row.metadata["kind"]


def refuses(parse: Callable[[str], object], written: str) -> bool:
    try:
        parse(written)
    except ValueError:
        return True
    return False


PORT = kind(setting_kinds.whole(8_000, 0, 65_535, "Port."))
ADMIN_PORT = kind(setting_kinds.port_or_off(8_001, "Port."))
SHARE = kind(setting_kinds.number(0.05, 0.001, 1.0, "Share."))
COMA = kind(setting_kinds.duration(86_400.0, 0.5, 172_800.0, "Coma."))
PROBE = kind(setting_kinds.choice("none", ("none", "tcp", "udp"), "Probe."))
PRIVATE = kind(setting_kinds.switch(False, "Private."))
HOST = kind(setting_kinds.text("127.0.0.1", "an address", "Host."))
SOCKET = kind(setting_kinds.path("", "Socket."))
PROXIES = kind(setting_kinds.networks("Proxies.", words=("unix",)))
RATE = kind(setting_kinds.rate(10, 60, "Rate."))
EXEMPT = kind(setting_kinds.networks("Exempt."))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("90s", 90.0),
        ("1.5h", 5_400.0),
        ("15m", 900.0),
        ("48h", 172_800.0),
        ("180d", 15_552_000.0),
        ("0", 0.0),
    ],
)
def test_a_duration_is_seconds_or_has_a_unit(written: str, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "s", "-1", "+1", "1 s", "1S", "1w", "1_0", "1e3", "nan", "inf", "1.", ".5", "1h30m", "٣"]
)
def test_other_text_is_no_duration(written: str) -> None:
    assert refuses(parse_duration, written)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0s"), (0.5, "0.5s"), (75.0, "75s"), (5_400.0, "90m"), (86_400.0, "1d"), (172_801.0, "172801s")],
)
def test_a_duration_is_shown_in_its_largest_whole_unit(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


@given(st.integers(0, 3_000_000_000_000))
def test_a_shown_duration_parses_to_itself(milliseconds: int) -> None:
    assert parse_duration(show_duration(milliseconds / 1_000)) == pytest.approx(milliseconds / 1_000)


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        (PORT, "0", 0),
        (PORT, "65535", 65_535),
        (SHARE, "1", 1.0),
        (SHARE, "0.001", 0.001),
        (COMA, "0.5", 0.5),
        (COMA, "2d", 172_800.0),
        (PROBE, "tcp", "tcp"),
        (PRIVATE, "true", True),
        (PRIVATE, "false", False),
        (HOST, "::", "::"),
        (SOCKET, "", ""),
        (EXEMPT, "", ()),
        (EXEMPT, "127.0.0.0/8, ::1/128", ("127.0.0.0/8", "::1/128")),
        (EXEMPT, "10.1.2.3", ("10.1.2.3/32",)),
        (PROXIES, "unix, fd00::/8", ("unix", "fd00::/8")),
        (RATE, "1/1", Rate(1, 1)),
        (RATE, "90/15m", Rate(90, 900)),
        (RATE, "1000000/1d", Rate(1_000_000, 86_400)),
        (RATE, "off", None),
    ],
)
def test_a_value_may_reach_its_bounds(kind: Kind, written: str, value: object) -> None:
    assert kind.parse(written) == value


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (PORT, "65536"),
        (PORT, "-1"),
        (PORT, "+1"),
        (PORT, " 80"),
        (PORT, "8_0"),
        (PORT, "8.0"),
        (PORT, "٨"),
        (PORT, ""),
        (PORT, "9" * 5_000),
        (SHARE, "0"),
        (SHARE, "1.001"),
        (SHARE, "nan"),
        (SHARE, "5%"),
        (SHARE, "1e-2"),
        (SHARE, " 0.5"),
        (COMA, "0.4"),
        (COMA, "49h"),
        (COMA, "9" * 400 + "d"),
        (PROBE, "TCP"),
        (PROBE, ""),
        (PRIVATE, "yes"),
        (PRIVATE, ""),
        (HOST, ""),
        (EXEMPT, "10.0.0.1/8"),
        (EXEMPT, "10.0.0.0/33"),
        (EXEMPT, "10.0.0.0/8,"),
        (EXEMPT, "localhost"),
        (EXEMPT, "unix"),
        (PROXIES, "Unix"),
        (RATE, "10"),
        (RATE, "0/60s"),
        (RATE, "10/0s"),
        (RATE, "10/0.5s"),
        (RATE, "10/1.5s"),
        (RATE, "10/25h"),
        (RATE, "1000001/60s"),
        (RATE, "10/60s/2"),
        (RATE, "-1/60s"),
        (RATE, ""),
    ],
)
def test_a_value_beyond_its_bounds_or_malformed_is_refused(kind: Kind, written: str) -> None:
    assert refuses(kind.parse, written)


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        (PORT, "0 to 65535"),
        (SHARE, "0.001 to 1"),
        (COMA, "0.5s to 2d"),
        (PROBE, "none, tcp or udp"),
        (PRIVATE, "true or false"),
        (HOST, "an address"),
        (EXEMPT, "networks, or nothing"),
        (PROXIES, "networks, unix, or nothing"),
        (RATE, "off, or 1 to 1000000 in 1s to 1d"),
    ],
)
def test_each_kind_shows_its_allowed_values(kind: Kind, allowed: str) -> None:
    assert kind.allowed == allowed


@pytest.mark.parametrize(("written", "port"), [("0", 0), ("8001", 8_001), ("65535", 65_535), ("off", None)])
def test_a_port_may_be_off(written: str, port: int | None) -> None:
    assert ADMIN_PORT.parse(written) == port
    assert ADMIN_PORT.show(port) == written


@pytest.mark.parametrize("written", ["65536", "-1", "", "OFF", "none", "1.5"])
def test_other_text_is_no_port(written: str) -> None:
    assert refuses(ADMIN_PORT.parse, written)


def test_a_path_may_begin_with_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    assert SOCKET.parse("~/a/b") == "/home/alice/a/b"
    assert SOCKET.parse("~") == "/home/alice"
    assert SOCKET.parse("a/~/b~") == "a/~/b~"
    assert SOCKET.parse("~root/a") == os.path.expanduser("~root/a")
    # A user without a known home is refused.
    with pytest.raises(ValueError, match="~nobody-of-this-name/a"):
        SOCKET.parse("~nobody-of-this-name/a")
