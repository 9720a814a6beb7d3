"""Rounds of `make soak-cluster`: the primary of Patroni is killed under load, as often as `ROUNDS` says."""

from __future__ import annotations

import os
import time

import pytest

from tests.e2e.cluster.trial import FLAGS, trial
from tests.support.history import Outcome
from tests.support.instances import MakeCluster
from tests.support.postgres import Bench

from .patroni import Patroni

ROUNDS = int(os.environ.get("ROUNDS") or 20)
# The whole machine of the primary dies in each of so many rounds, which takes Patroni much longer to notice.
MACHINE_EACH = 5


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
def test_kills_of_the_primary_lose_nothing_that_was_acknowledged(
    cluster: MakeCluster,
    postgres_bench: Bench,
    capsys: pytest.CaptureFixture[str],
    synchronous: bool,
) -> None:
    with Patroni(postgres_bench, synchronous=synchronous) as patroni:
        made = cluster(patroni, flags=FLAGS, hosts=patroni.hosts)
        made.start()
        with trial(made, goes_back=not synchronous) as under:
            for number in range(1, ROUNDS + 1):
                under.more()
                is_machine = number % MACHINE_EACH == 0
                began_s, before = time.monotonic(), made.sql("SELECT seq FROM openred.cluster")
                if not synchronous:
                    # The standby stays behind, and lacks these when it is promoted.
                    patroni.primary_node().network.swallow("to_client")
                    under.more()
                    before = made.sql("SELECT seq FROM openred.cluster")
                killed = patroni.kill_primary(machine=is_machine)
                killed_s = time.monotonic()
                killed.network.cut()
                patroni.wait_promoted(killed)
                promoted_s = time.monotonic()
                under.more()
                changed_s = time.monotonic()
                killed.network.restore()
                if is_machine:
                    patroni.start(killed)
                patroni.wait_ready()
                with capsys.disabled():
                    print(
                        f"round {number}: {killed.name} killed at commit {before}; "
                        f"promoted after {promoted_s - killed_s:.1f} s, "
                        f"changes {changed_s - promoted_s:.1f} s later, "
                        f"all well after {time.monotonic() - began_s:.1f} s",
                        flush=True,
                    )
        unknown = sum(change.outcome is Outcome.UNKNOWN for change in under.history.changes)
        with capsys.disabled():
            print(
                f"{under.history.acknowledged} changes acknowledged, none lost; {unknown} of unknown outcome"
            )
