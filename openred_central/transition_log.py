"""The log of what becomes of nodes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from .directory.state.node import Transition, transition_kind
from .wording import counted

log = logging.getLogger("openred.server")

# Beyond so many in one tick they are told as counts: a million transitions are not a million lines.
TRANSITIONS_LOGGED_MAX = 50


def log_transitions(transitions: Sequence[Transition]) -> None:
    """One line for each transition, or for each kind of them where there are very many at once."""
    if len(transitions) <= TRANSITIONS_LOGGED_MAX:
        for change in transitions:
            log.info(
                "node %s: %s → %s (%s)",
                change.node_id,
                change.from_state.wire,
                change.to_state.wire,
                change.reason,
            )
        return
    for (from_state, to_state, reason), count in Counter(map(transition_kind, transitions)).items():
        log.info("%s: %s → %s (%s)", counted(count, "node"), from_state.wire, to_state.wire, reason)
