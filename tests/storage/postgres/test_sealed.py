"""Secrets in the database open with the key secret alone, and while that is exchanged."""

from __future__ import annotations

import os

import pytest

from openred_central.security.sealing import Sealer
from openred_central.storage.store import StoreError
from tests.support.postgres import PgServer
from tests.support.postgres_store import LeadingStore, leading

FORMER, NEXT = b"a secret of operators", b"another secret of theirs"


def sealer(secret: bytes, *others: bytes) -> Sealer:
    return Sealer(secret, others, entropy=os.urandom)


def names_sealed_anew(store: LeadingStore, postgres: PgServer) -> list[str]:
    """Seal the secrets of `store` again, and return the names of those whose sealed values changed."""
    name = store.location.rpartition("/")[2]

    def rows() -> dict[str, str]:
        lines = postgres.execute("SELECT name, value FROM openred.secret", name).splitlines()
        return dict(line.split("|") for line in lines)

    before = rows()
    store.seal_again()
    return sorted(name for name, value in rows().items() if before[name] != value)


def test_the_database_shows_no_secret(postgres: PgServer, database_url: str) -> None:
    with leading(database_url, sealer=sealer(FORMER)) as store:
        store.save_secret("name", b"the value itself")
        assert store.load_secret("name") == b"the value itself"
    name = database_url.rpartition("/")[2]
    shown = postgres.execute("SELECT encode(value, 'hex') FROM openred.secret", name)
    assert shown
    assert b"the value itself".hex() not in shown


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE openred.secret SET value = (SELECT value FROM openred.secret WHERE name = 'other')",
        "UPDATE openred.secret SET value = set_byte(value, 20, get_byte(value, 20) # 1) WHERE name = 'one'",
        "UPDATE openred.secret SET value = '' WHERE name = 'one'",
    ],
)
def test_whoever_writes_to_the_database_puts_no_secret_in(
    change: str, postgres: PgServer, database_url: str
) -> None:
    with leading(database_url, sealer=sealer(FORMER)) as store:
        store.save_secret("one", b"1")
        store.save_secret("other", b"2")
        postgres.execute(change, database_url.rpartition("/")[2])
        with pytest.raises(StoreError, match=r"the sealed value [0-9a-f-]+/one .* give the secret file that"):
            store.load_secret("one")


def test_another_key_secret_is_told_with_advice(database_url: str) -> None:
    with leading(database_url, sealer=sealer(FORMER)) as store:
        store.save_secret("name", b"value")
    with leading(database_url, "next", sealer=sealer(NEXT)) as store:
        for use in (lambda: store.load_secret("name"), store.seal_again):
            with pytest.raises(StoreError, match="give the secret file that the other instances have"):
                use()


def test_leaders_exchange_the_key_secret_one_after_another(postgres: PgServer, database_url: str) -> None:
    values = {"one": b"1", "other": b"2"}
    with leading(database_url, "run-1", sealer=sealer(FORMER)) as store:
        assert names_sealed_anew(store, postgres) == []
        for name, value in values.items():
            store.save_secret(name, value)
    for number, (secrets, sealed_anew) in enumerate(
        [((FORMER, NEXT), []), ((NEXT, FORMER), ["one", "other"]), ((NEXT,), [])], 2
    ):
        with leading(database_url, f"run-{number}", sealer=sealer(*secrets)) as store:
            assert {name: store.load_secret(name) for name in values} == values
            assert names_sealed_anew(store, postgres) == sealed_anew
            assert {name: store.load_secret(name) for name in values} == values
