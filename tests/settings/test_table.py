"""Each row of the table of settings is sound."""

from __future__ import annotations

import re

import pytest

from openred_central.settings.config import SETTINGS
from openred_central.settings.table import Settings


def test_a_server_without_settings_listens_on_loopback_only() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8_000)
    assert (settings.admin_host, settings.admin_port) == ("127.0.0.1", 8_001)


@pytest.mark.parametrize("name", SETTINGS)
def test_each_default_is_allowed(name: str) -> None:
    setting = SETTINGS[name]
    assert setting.kind.parse(setting.kind.show(setting.default)) == setting.default


@pytest.mark.parametrize("name", SETTINGS)
def test_each_meaning_is_a_sentence_and_each_name_ends_with_its_unit(name: str) -> None:
    setting = SETTINGS[name]
    assert re.fullmatch(r"[A-Z].*\.", setting.meaning)
    is_rate = name.endswith("_per_s")
    assert (name.endswith("_s") and not is_rate) == (setting.kind.form.startswith("seconds"))


@pytest.mark.parametrize("name", ["openred", "directory.example", "10.0.0.5", "fd00::5", "a,b.example"])
def test_operators_may_call_the_server_by_any_host(name: str) -> None:
    assert SETTINGS["admin_names"].kind.parse(name) == tuple(name.split(","))


@pytest.mark.parametrize("name", ["openred:8001", "a b", "http://openred", "[fd00::5]:1", "a,,b", "*"])
def test_other_text_is_no_name_for_operators(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the text depends on the name)
        SETTINGS["admin_names"].kind.parse(name)
