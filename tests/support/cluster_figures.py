"""Two instances of one cluster, as each of them tells of it."""

from openred_central.api.wire.cluster import ClusterFigures, InstanceFigures

LEADER = ClusterFigures(
    instance="one",
    role="leader",
    term=3,
    leader="one",
    seq=17,
    behind_s=0.0,
    confirmed_s=0.25,
    instances=(InstanceFigures("one", "leader", 0.0, "3.0.0"), InstanceFigures("two", "follower", 0.5004)),
)
FOLLOWER = ClusterFigures(
    instance="two",
    role="follower",
    term=3,
    leader="one",
    seq=16,
    behind_s=0.5,
    confirmed_s=None,
    instances=(),
)
