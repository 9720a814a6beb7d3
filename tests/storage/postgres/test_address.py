"""The URL of a database is read strictly, and never shown with a password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.storage.postgres.address import parse, redacted
from openred_central.storage.store import StoreError


def test_several_hosts_are_taken_in_their_order() -> None:
    address = parse("postgresql://openred@one:5432,two,[::1]:5433/directory?sslmode=verify-full")
    assert address.hosts == ("one:5432", "two", "[::1]:5433")
    assert address.at("two") == "postgresql://openred@two/directory?sslmode=verify-full"
    assert address.location == "postgresql://openred@one:5432,two,[::1]:5433/directory"


def test_the_user_may_be_left_out() -> None:
    assert parse("postgresql://host/name").at("host") == "postgresql://host/name"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host",
        "postgresql:///name",
        "postgresql://one,,two/name",
        "postgresql://host/a/b",
        "postgresql://host/",
        "postgresql://user:pass/word@host",
        "postgresql://host/name#part",
    ],
)
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="names no database; give postgresql://user@host:5432/name"):
        parse(url)


def test_a_parameter_that_nothing_reads_is_refused() -> None:
    with pytest.raises(StoreError, match="has the parameter 'sslmod', allowed are sslmode, sslrootcert"):
        parse("postgresql://host/name?sslmod=require")


def test_a_password_in_front_is_refused_and_not_shown() -> None:
    with pytest.raises(StoreError, match="OPENRED_DATABASE_PASSWORD_FILE") as refused:
        parse("postgresql://openred:hunter2@host/name")
    assert "hunter2" not in str(refused.value)
    assert str(refused.value).startswith("postgresql://openred:***@host/name has a password in it")


@given(secret=st.text("xyz@:/?#%", min_size=1), host=st.text("abc,.1", min_size=1))
def test_no_password_is_shown_however_it_is_written(secret: str, host: str) -> None:
    assert redacted(f"postgresql://user:{secret}@{host}/name") == f"postgresql://user:***@{host}/name"


def test_a_password_among_the_parameters_is_refused_and_not_shown() -> None:
    with pytest.raises(StoreError, match="OPENRED_DATABASE_PASSWORD_FILE") as refused:
        parse("postgresql://openred@host/name?password=hunter2&sslmode=require")
    assert "name?password=***&sslmode=require has a password in it" in str(refused.value)


@pytest.mark.parametrize("text", ["data/openred.db", "memory:", "postgresql://user@host/name", ""])
def test_other_text_is_shown_as_it_is(text: str) -> None:
    assert redacted(text) == text
