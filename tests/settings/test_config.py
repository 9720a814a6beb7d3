"""A configuration comes from flags and variables, and every part gets its options from it."""

from __future__ import annotations

from dataclasses import astuple, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.api.caller.limiting import LimitOptions
from openred_central.directory.lifecycle import LifecycleOptions
from openred_central.limits.gcra import Policy
from openred_central.micro_engine.limits import EngineLimits
from openred_central.settings.config import LEADER_SETTINGS, SETTINGS, ConfigError, Configuration, load
from tests.support.options import lifecycle_options, limit_options

# Limits without a setting: operators have no reason to change them.
ENGINE_CONSTANTS = {"backlog", "write_buffer_bytes_max", "linger_bytes_max", "linger_s"}


def test_no_setting_is_required() -> None:
    assert vars(load({}, {})) == vars(Configuration())


def test_a_setting_has_a_variable_and_a_flag() -> None:
    assert SETTINGS["max_nodes"].variable == "OPENRED_MAX_NODES"
    assert SETTINGS["max_nodes"].flag == "--max-nodes"


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default() -> None:
    environment = {"OPENRED_PORT": "1000", "OPENRED_GRACE_S": "48h"}
    configuration = load({"port": "2000"}, environment)
    assert (configuration.port, configuration.grace_s, configuration.shards) == (2_000, 172_800.0, 64)
    assert configuration.given_as == {"port": "--port", "grace_s": "OPENRED_GRACE_S"}


def test_a_variable_that_a_flag_replaces_is_not_read() -> None:
    assert load({"port": "2000"}, {"OPENRED_PORT": "many"}).port == 2_000


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        ({"port": "70000"}, {}, "--port is '70000', allowed is 0 to 65535 (a whole number)"),
        ({}, {"OPENRED_PORT": ""}, "OPENRED_PORT is '', allowed is 0 to 65535 (a whole number)"),
        (
            {"tick_s": "1 s"},
            {},
            "--tick-s is '1 s', allowed is 0.01s to 1m (seconds, or a number followed by s, m, h or d)",
        ),
        ({"admin_port": "no"}, {}, "--admin-port is 'no', allowed is 0 to 65535, or off"),
        ({}, {"OPENRED_PROBE": "udp"}, "OPENRED_PROBE is 'udp', allowed is none or tcp"),
        ({}, {"OPENRED_HOST": "a\nb"}, "OPENRED_HOST is 'a\\nb', allowed is an address or a name"),
        (
            {"trusted_proxies": "fe80::1%eth0\nExecStartPre=x"},
            {},
            (
                r"--trusted-proxies is 'fe80::1%eth0\nExecStartPre=x', allowed is networks, unix, or nothing "
                "(such as 10.0.0.0/8,::1/128, without bits after the prefix)"
            ),
        ),
    ],
)
def test_error_names_the_given_value_and_the_allowed_ones(
    flags: dict[str, str], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(flags, environment)
    assert str(raised.value) == message


def test_error_names_every_wrong_setting() -> None:
    with pytest.raises(ConfigError) as raised:
        load({"port": "many", "shards": "0"}, {"OPENRED_TICK_S": "soon"})
    assert [line.split(" is ")[0] for line in str(raised.value).splitlines()] == [
        "--port",
        "--shards",
        "OPENRED_TICK_S",
    ]
    with pytest.raises(ConfigError) as raised:
        load({"tls_key": "key.pem", "auth": "strict", "connections_max": "1"}, {})
    assert [line.split(" is ")[0] for line in str(raised.value).splitlines()] == [
        "--tls-key",
        "--auth",
        "connections_per_address_max",
    ]


@given(st.sampled_from(sorted(SETTINGS)), st.text(max_size=200))
def test_any_text_is_a_value_or_an_error_of_one_line(name: str, written: str) -> None:
    try:
        load({name: written}, {})
        return
    except ConfigError as error:
        message = str(error)
    assert SETTINGS[name].flag in message
    assert len(message.splitlines()) == 1
    assert len(message) < 1_000


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (
            {"tls_key": "key.pem"},
            {},
            "--tls-key is set but tls_certificate is not, allowed is both or neither",
        ),
        (
            {},
            {"OPENRED_TLS_CERTIFICATE": "chain.pem"},
            "OPENRED_TLS_CERTIFICATE is set but tls_key is not, allowed is both or neither",
        ),
        (
            {"connections_per_address_max": "100"},
            {"OPENRED_CONNECTIONS_MAX": "10"},
            "--connections-per-address-max is 100, allowed is at most OPENRED_CONNECTIONS_MAX, which is 10",
        ),
        (
            {"flush_interval_s": "1m"},
            {"OPENRED_HEARTBEAT_TOLERANCE_S": "2"},
            (
                "--flush-interval-s is 1m, allowed is at most OPENRED_HEARTBEAT_TOLERANCE_S, which is 2s: "
                "a crash must not forget more than is forgiven"
            ),
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    flags: dict[str, str], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(flags, environment)
    assert str(raised.value) == message


def test_a_certificate_with_its_key_is_accepted() -> None:
    assert load({"tls_key": "key.pem", "tls_certificate": "chain.pem"}, {}).tls_key == "key.pem"


def test_the_life_cycle_gets_every_dwell_time() -> None:
    names = [row.name for row in fields(LifecycleOptions)]
    flags = {name: str(100 + index) for index, name in enumerate(names)}
    options = load(flags, {}).lifecycle()
    assert astuple(options) == tuple(100.0 + index for index in range(len(names)))


def test_a_whole_life_may_last_ten_seconds() -> None:
    names = [row.name for row in fields(LifecycleOptions)]
    assert load(dict.fromkeys(names, "1.25"), {}).lifecycle().coma_s == 1.25


def test_the_second_look_can_be_skipped() -> None:
    assert load({"second_look_s": "0"}, {}).lifecycle().second_look_s == 0.0


def test_the_engine_gets_every_limit_that_has_a_setting() -> None:
    names = {row.name for row in fields(EngineLimits)} - ENGINE_CONSTANTS - {"exempt_networks"}
    flags = dict.fromkeys(names, "2000")
    engine = load({**flags, "rate_limit_exempt": "127.0.0.0/8"}, {}).engine()
    assert {name: getattr(engine, name) for name in names} == dict.fromkeys(names, 2_000)
    assert engine.exempt_networks == ("127.0.0.0/8",)


def test_trusted_proxies_are_exempt_from_connection_limits() -> None:
    engine = load({"trusted_proxies": "10.0.0.1,unix", "rate_limit_exempt": "::1"}, {}).engine()
    assert engine.exempt_networks == ("::1/128", "10.0.0.1/32")


def test_every_rate_limit_has_a_setting() -> None:
    policies = [row.name for row in fields(LimitOptions) if isinstance(row.default, Policy)]
    assert load({f"limit_{name}": "off" for name in policies}, {}).limits() == limit_options(
        **dict.fromkeys(policies)
    )
    limits = load({f"limit_{name}": "7/90s" for name in policies}, {}).limits()
    for name in policies:
        expected = getattr(limit_options(), name).name, 7, 90, 8 if name == "heartbeat" else 7
        policy = getattr(limits, name)
        assert (policy.name, policy.limit, policy.window_s, policy.burst) == expected
    flags = {"nodes_per_network_max": "9", "forwarded_header": "forwarded", "trusted_proxies": "unix"}
    assert load({**flags, "rate_limit_exempt": "::1"}, {}).limits() == limit_options(
        nodes_per_network_max=9,
        forwarded_header="forwarded",
        trusted_proxies=("unix",),
        exempt_networks=("::1/128",),
    )


def test_default_settings_are_the_defaults_of_the_parts() -> None:
    assert Configuration().lifecycle() == lifecycle_options()
    assert vars(Configuration().engine()) == vars(EngineLimits())
    assert Configuration().limits() == limit_options()


def test_what_directory_and_keys_are_made_of_is_told_by_a_leader() -> None:
    configuration = Configuration()
    parts = (configuration.directory(), configuration.lifecycle(), configuration.keys())
    names = {each.name for part in parts for each in fields(part)}
    # Each process has shards of its own.
    assert names & SETTINGS.keys() - {"shards"} <= set(LEADER_SETTINGS)


def test_what_a_leader_uses_is_told_as_it_is_written() -> None:
    told = load({"auth": "strict", "authority": "one.example,two.example", "coma_s": "48h"}, {}).of_leader()
    assert len(told) == len(LEADER_SETTINGS)
    assert {"OPENRED_AUTH": "strict", "OPENRED_AUTHORITY": "one.example,two.example"}.items() <= told.items()
    assert (told["OPENRED_COMA_S"], told["OPENRED_LIMIT_TOKEN"]) == ("2d", "5/60s")
    again = load({name: told[SETTINGS[name].variable] for name in LEADER_SETTINGS}, {})
    assert again.of_leader() == told


def test_a_configuration_made_in_code_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="connections_per_address_max is 64"):
        Configuration(connections_max=1)


def test_instances_need_keys_that_the_next_leader_finds() -> None:
    shared = {"database": "postgresql://user@host/name", "key_secret_file": "secret", "token_suite": "R"}
    with pytest.raises(ConfigError, match="offline_root is set but key_folder is not"):
        Configuration(**shared, offline_root=True)
    assert Configuration(**shared, offline_root=True, key_folder="keys").is_shared
    with pytest.raises(ConfigError, match="key_secret_file is not set"):
        Configuration(database=shared["database"])
