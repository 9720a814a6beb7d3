"""The cluster of an instance, as it is shown: who leads, and how far this copy of the directory is."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from .fields import or_null
from .schemas import COUNT, DURATION_S, TEXT, listing, thing

LEADER: Final = "leader"
FOLLOWER: Final = "follower"
# It followed, and is away.
MISSING: Final = "missing"
ROLES: Final = (FOLLOWER, "catching_up", LEADER, "without_lease")

_ROLE = {"enum": [*ROLES]}
CLUSTER = thing(
    "Cluster",
    {
        "instance": {**TEXT, "description": "The name of the instance that answers."},
        "role": _ROLE,
        "term": {**COUNT, "description": "Each leadership has a higher one."},
        "leader": {**or_null(TEXT), "description": "The name of the instance that leads, if any is known."},
        "seq": {**COUNT, "description": "The number of the last commit that is known here."},
        "behind_s": {
            **DURATION_S,
            "description": "How long ago this copy was surely up to date, in seconds.",
        },
        "instances": listing(
            thing(
                "Instance",
                {
                    "name": TEXT,
                    "role": {"enum": [*ROLES, MISSING]},
                    "heard_s": {**DURATION_S, "description": "How long ago the leader heard it, in seconds."},
                    "version": {**or_null(TEXT), "description": "The version of its program, if known."},
                },
            )
        ),
    },
)


class InstanceFigures(NamedTuple):
    """One instance, as the leader knows it; `heard_s` ago it was heard, `version` is None where unknown."""

    name: str
    role: str
    heard_s: float
    version: str | None = None


class ClusterFigures(NamedTuple):
    """The cluster, as one of its instances knows it.

    `instance` is its own name, `leader` that of the one that leads, None while none is known. `seq` is the
    number of the last commit that is known here, and `behind_s` how long ago this copy was surely up to date.
    `confirmed_s` ago the database was asked the last question that it answered to the leader; None at others.
    `instances` are all that the leader knows, itself first; none at others.
    """

    instance: str
    role: str
    term: int
    leader: str | None
    seq: int
    behind_s: float
    confirmed_s: float | None
    instances: tuple[InstanceFigures, ...]

    def document(self) -> dict[str, Any]:
        """Return the figures for ``GET /stats``."""
        return {
            "instance": self.instance,
            "role": self.role,
            "term": self.term,
            "leader": self.leader,
            "seq": self.seq,
            "behind_s": round(self.behind_s, 3),
            "instances": [
                {
                    "name": each.name,
                    "role": each.role,
                    "heard_s": round(each.heard_s, 3),
                    "version": each.version,
                }
                for each in self.instances
            ],
        }
