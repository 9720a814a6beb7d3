"""Instances are upgraded one after another under load: only what was under way fails."""

from __future__ import annotations

import re
from pathlib import Path

from openred_central import __version__
from openred_central.exit_codes import ExitCode
from openred_central.storage.versions import LINK_VERSION, SCHEMA_VERSION
from tests.support.instances import Cluster, Instance, MakeCluster
from tests.support.loading import Loop, running
from tests.support.next_release import VERSION, make_next_release
from tests.support.world import Reply

from .trial import PATIENT, WRITERS, Trial, trial


class Reader(Loop):
    """Looks a node up, and discovers, at one instance; `failures` are answers other than 200."""

    def __init__(self, place: Instance) -> None:
        super().__init__([place])
        self.failures: list[Reply] = []
        self.cut = 0

    def once(self) -> None:
        for target in ("/nodes/at-a-0", "/discover"):
            if not self.caller.connect():
                return
            reply = self.caller.ask("GET", target)
            if reply is None:
                self.cut += 1
            elif reply.status != 200:
                self.failures.append(reply)


def restart(under: Trial, instance: Instance, **settings: str) -> None:
    # Its clients find nobody while it starts again.
    under.spared.add(instance.name)
    under.more()
    instance.stop()
    under.cluster.start(instance, **settings)
    under.more()


def programs(leader: Instance) -> dict[str, str]:
    """Return the version of the program of each instance."""
    _, document = leader.ask("/stats")
    return {each["name"]: each["version"] for each in document["cluster"]["instances"]}


def links(leader: Instance) -> dict[str, int]:
    """Return the version of the last link of each instance that followed a leader."""
    found = re.findall(r"instance (\w+) follows, .*, link version (\d+)", leader.log)
    return {name: int(version) for name, version in found}


def schema_version(cluster: Cluster) -> int:
    return int(cluster.sql("SELECT schema_version FROM openred.cluster"))


def test_a_rolling_upgrade_and_a_way_back_fail_only_what_was_under_way(
    cluster: MakeCluster, tmp_path: Path
) -> None:
    made = cluster(flags=PATIENT)
    made.start()
    following = {"PYTHONPATH": make_next_release(tmp_path / "next")}
    names = {instance.name for instance in made.instances}
    readers = [Reader(instance) for instance in made.instances]
    with trial(made) as under, running(readers):
        former, (first, second) = made.leader(), made.followers()
        restart(under, first, **following)
        # The present release leads on over the schema and before a follower of the next one.
        assert schema_version(made) == SCHEMA_VERSION + 1
        assert made.leader() is former
        assert made.sql("SELECT next_seq FROM openred.cluster") == "0"
        assert links(former)[first.name] == LINK_VERSION
        restart(under, second, **following)
        restart(under, former, **following)
        leader = made.leader()
        assert programs(leader) == dict.fromkeys(names, VERSION)
        assert links(leader) == dict.fromkeys(names - {leader.name}, LINK_VERSION + 1)
        assert made.sql("SELECT seq = next_seq FROM openred.cluster") == "t"
        restart(under, former)
        assert made.leader() is leader
        assert programs(leader)[former.name] == __version__
        assert links(leader)[former.name] == LINK_VERSION
    failed = [change for change in under.history.changes if change.status in (None, 503)]
    # Each of four stops cut at most the request that each client had under way, to the instance that stopped
    # or from another one to it, and nothing else failed.
    assert len(failed) <= 4 * WRITERS, failed
    assert {change.error for change in failed if change.status == 503} <= {"outcome_unknown"}
    assert not [beat for beat in under.history.beats if beat.status not in (200, None)]
    assert sum(beat.status is None for beat in under.history.beats) <= 4
    assert not [reader.failures for reader in readers if reader.failures]
    assert sum(reader.cut for reader in readers) <= 4
    # Two versions are too many.
    former.stop()
    made.sql(f"UPDATE openred.cluster SET schema_version = {SCHEMA_VERSION + 2}")
    assert made.begin(former).wait() == ExitCode.CONFIG
    assert (
        f"has schema version {SCHEMA_VERSION + 2}, this server works with {SCHEMA_VERSION} to" in former.log
    )
