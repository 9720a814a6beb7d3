"""The table of settings: what stands in each row."""

from __future__ import annotations

import re

import pytest

from openred_central.config import SETTINGS
from openred_central.setting_table import Settings


def test_a_server_that_nobody_configured_is_open_to_nobody_else() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8_000)
    assert (settings.admin_host, settings.admin_port) == ("127.0.0.1", 8_001)


@pytest.mark.parametrize("name", SETTINGS)
def test_each_default_is_allowed_and_reads_as_itself(name: str) -> None:
    setting = SETTINGS[name]
    assert setting.kind.parse(setting.kind.show(setting.default)) == setting.default


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_says_what_it_means_in_a_sentence_with_its_unit_last(name: str) -> None:
    setting = SETTINGS[name]
    assert re.fullmatch(r"[A-Z].*\.", setting.meaning)
    assert name.endswith("_s") == (setting.kind.form.startswith("seconds"))
