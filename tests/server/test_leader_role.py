"""An instance that cannot lead just now goes on, and one that never can ends with the reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from openred_central.directory.state.changes import Vitals
from openred_central.server.assembly import Assembly
from openred_central.server.leader_role import LeaderRole
from openred_central.settings.config import Configuration
from openred_central.storage.postgres.leasing import Fenced, RolledBack
from openred_central.storage.store import PassingError, StoreError
from tests.support.building import DictStore


class Refusing(DictStore):
    """A store that refuses to be loaded."""

    def __init__(self, error: StoreError) -> None:
        super().__init__()
        self._error = error

    def reading(self) -> AbstractContextManager[Refusing]:
        return nullcontext(self)

    def load_vitals(self) -> Vitals | None:
        raise self._error


class Leadership:
    """A lease of the first of `terms`, and of the last one afterwards."""

    def __init__(self, *terms: int | None) -> None:
        self._terms = iter(terms)
        self._last = terms[-1]

        self.given_up: list[Exception] = []

    @property
    def term(self) -> int | None:
        return next(self._terms, self._last)

    async def give_up(self, why: Exception) -> None:
        self.given_up.append(why)


async def lead(error: StoreError, *terms: int | None, has_copy: bool = False) -> list[Exception]:
    """Lead in the first of `terms` on a store that refuses with `error`; the lease has the last one then.

    Return for what the lease was given up.
    """
    leadership = Leadership(*terms)
    membership: Any = SimpleNamespace(
        assembly=Assembly.here(Configuration()),
        leadership=leadership,
        standing=object() if has_copy else None,
    )
    store: Any = Refusing(error)
    others: Any = None
    with ThreadPoolExecutor(max_workers=1) as loader:
        await LeaderRole(membership, store, others, others, loader, others).run()
    return leadership.given_up


@pytest.mark.parametrize("error", [Fenced("b leads in term 2"), RolledBack(3, 1.0)])
async def test_a_lead_that_is_lost_before_it_began_ends_no_instance(error: StoreError) -> None:
    # The row may not tell yet that another run leads.
    await lead(error, 1)


async def test_a_database_that_is_away_ends_no_instance_whose_lease_has_run_out() -> None:
    await lead(PassingError("the connection broke"), 1, None)
    # It may have been taken again at once.
    await lead(PassingError("the connection broke"), 1, 2)


async def test_a_directory_that_nobody_can_load_ends_the_instance() -> None:
    with pytest.raises(StoreError, match="damaged"):
        await lead(StoreError("damaged"), 1)


async def test_an_instance_that_has_a_copy_goes_on_with_it_and_leaves_the_lease_to_others() -> None:
    damaged = StoreError("damaged")
    assert await lead(damaged, 1, has_copy=True) == [damaged]


async def test_a_database_that_is_away_for_a_moment_costs_nobody_the_lease() -> None:
    assert await lead(PassingError("the connection broke"), 1, has_copy=True) == []
