"""Run the life cycle: sleep until the next deadline, and handle the nodes whose deadlines expired."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

from ..clock import AttendedTime, Now
from ..directory.directory import Directory
from ..directory.empathy.groups import name_of
from ..directory.empathy.watch import Darkness
from ..directory.life.expiry import ProbeRequest, is_crowded
from ..directory.life.mass_silence import Hold
from ..directory.lifecycle import DEADLINE_STEPS_PER_S
from ..directory.state.node import Transition, transition_kind
from ..histogram import Histogram
from ..wording import counted, rfc3339
from .periodic import PeriodicTask
from .prober import Submission

log = logging.getLogger("openred.scheduler")
server_log = logging.getLogger("openred.server")

# Nodes handled in one piece of work; then requests get a turn.
PIECE_NODES = 10
# While so many changes wait to be stored, no node changes state by silence: callers would wait long for their
# changes behind these.
PENDING_MAX = 1_000
# The shortest sleep, however close the deadline is, and while a deadline waits for signs of life.
PAUSE_S_MIN = 0.001
AWAIT_S = 0.05
# More transitions than this in one tick are logged as counts.
TRANSITIONS_LOGGED_MAX = 50


class Scheduler(PeriodicTask):
    """The task that advances attended time and handles deadlines, in bounded pieces.

    `tick_s` is the longest sleep. `store_reachable` returns whether changes can be stored; if not, attended
    time stands still. `submit_probe` is `Prober.submit`. `horizon_s` returns the attended time up to which
    all signs of life are known here: until it has passed a deadline, nobody knows whether that holds. A
    piece of work has `piece_nodes` nodes.
    """

    def __init__(
        self,
        directory: Directory,
        attended: AttendedTime,
        *,
        tick_s: float,
        store_reachable: Callable[[], bool],
        submit_probe: Callable[[ProbeRequest], Submission],
        horizon_s: Callable[[], float] = lambda: math.inf,
        piece_nodes: int = PIECE_NODES,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._attended = attended
        self._tick_s = tick_s
        self._store_reachable = store_reachable
        self._submit_probe = submit_probe
        self._horizon_s = horizon_s
        self._piece_nodes = piece_nodes
        self._unheard: Hold | None = None
        # The refusals for lack of bytes until the last tick, and whether that was logged.
        self._bytes_refusals = 0
        self._bytes_logged = False
        # How many learned values could not be stored at the last tick.
        self._unkept = 0
        self.ticks = 0
        self.late_s_max = 0.0
        # The delay of each tick that found an expired deadline.
        self.lateness = Histogram()

    def tick(self) -> bool:
        """Advance attended time and do one piece of work. Return whether more is due at once."""
        self.ticks += 1
        expiry = self._directory.expiry
        may_change = self._directory.may_change()
        behind = self._directory.saving.pending_records >= PENDING_MAX or not may_change
        now = self._attended.now()
        known = self._known(now)
        due_s = expiry.next_s()
        if due_s is not None and due_s <= known.attended_s:
            late_s = now.attended_s - due_s
            self.late_s_max = max(self.late_s_max, late_s)
            # Ticks that only wait for the store are many.
            if not behind:
                self.lateness.observe(late_s)
        held, aside = expiry.silence.hold, len(expiry.set_aside)
        handled = 0 if behind else expiry.expire_due(known, self._piece_nodes)
        for slot, reason in islice(expiry.set_aside.items(), aside, None):
            log.error("the transition of the node in slot %d failed, it is set aside: %s", slot, reason)
        # Advance the time last: while transitions are held, and until the tick after that, no node ages.
        attends = expiry.attend(now) and held is None
        jump = self._attended.tick(attending=attends and may_change and self._store_reachable())
        if jump is not None:
            log.warning("the wall clock jumped by %+.1f s; deadlines do not follow it", jump.jump_s)
        if expiry.silence.hold is not held:
            self._log_hold()
        self._log_silence_of_all()
        self._submit_probes(now)
        self._directory.nodes.transitions.report()
        self._log_bytes()
        self._log_unkept()
        return handled >= self._piece_nodes

    def pause_s(self) -> float:
        """Return the seconds until the next deadline, at most a tick."""
        expiry = self._directory.expiry
        due_s = expiry.next_s()
        if due_s is None or not self._attended.attending or len(expiry.waiting):
            return self._tick_s
        ahead_s = due_s - self._attended.now().attended_s
        awaits = ahead_s <= 0 and due_s >= self._horizon_s()
        return min(max(ahead_s, AWAIT_S if awaits else PAUSE_S_MIN), self._tick_s)

    async def work(self) -> float:
        """Tick. Return the seconds until the next tick."""
        return 0.0 if self.tick() else self.pause_s()

    def _known(self, now: Now) -> Now:
        """Return the latest moment up to which all signs of life are known."""
        # A sign of life of the very moment of the horizon may still be on its way.
        horizon_s = self._horizon_s() - 1 / DEADLINE_STEPS_PER_S
        if horizon_s >= now.attended_s:
            return now
        return Now(horizon_s, now.wall_at(horizon_s), now.monotonic_s)

    def _submit_probes(self, now: Now) -> None:
        expiry = self._directory.expiry
        while expiry.probe_requests:
            request = expiry.probe_requests.popleft()
            submission = self._submit_probe(request)
            if submission is Submission.REFUSED:
                # No probe is possible, so the silence of the node counts.
                expiry.probed(request.slot, request.node_id, alive=False, now=now)
            elif submission is Submission.LATER:
                expiry.postpone(request.slot, request.node_id, now)

    def _log_hold(self) -> None:
        hold = self._directory.expiry.silence.hold
        if hold is not None:
            log.warning("mass silence: transitions are held: %s", hold.reason)
        else:
            log.warning("mass silence: the hold has ended; held transitions go on at a bounded pace")

    def _log_silence_of_all(self) -> None:
        attendance = self._directory.expiry.attendance
        former, self._unheard = self._unheard, attendance.hold
        if attendance.hold is former:
            return
        if attendance.hold is not None:
            log.warning("nobody is heard, so attended time stands still: %s", attendance.hold.reason)
        elif attendance.released:
            log.warning(
                "attended time goes on although nobody is heard: after 180 days, or on an operator's word"
            )
        else:
            log.warning("attended time goes on: a node was heard")

    def _log_bytes(self) -> None:
        """Log once that the records of nodes reach their limit, and once that there is room again."""
        directory = self._directory
        held, bytes_max = directory.nodes.registry.bytes_held, directory.options.bytes_max
        if directory.bytes_refusals > self._bytes_refusals and not self._bytes_logged:
            self._bytes_logged = True
            log.warning(
                "the records of all nodes take %d of %d bytes: longer records are refused; "
                "raise OPENRED_NODES_BYTES_MAX if there is memory for more",
                held,
                bytes_max,
            )
        elif self._bytes_logged and not is_crowded(held, bytes_max):
            self._bytes_logged = False
            log.info("the records of all nodes take %d of %d bytes: there is room again", held, bytes_max)
        self._bytes_refusals = directory.bytes_refusals

    def _log_unkept(self) -> None:
        """Log when more learned values than before cannot be stored."""
        set_aside, former = self._directory.nodes.kept.set_aside, self._unkept
        self._unkept = len(set_aside)
        if self._unkept > former:
            name, fault = next(reversed(set_aside.items()))
            values = counted(self._unkept, "learned value")
            log.error("%s cannot be stored, and a restart forgets what is new; %r: %s", values, name, fault)


def log_darkness(darkness: Darkness, is_dark: bool, now: Now) -> None:
    """Log that a network or region fell silent as a whole, or is back."""
    name = name_of(darkness.group)
    if is_dark:
        server_log.warning(
            "%s is dark: %d of %.0f nodes were heard since %s",
            name,
            darkness.heard,
            darkness.expected,
            rfc3339(darkness.since_at),
        )
    else:
        server_log.info("%s is back", name)


def log_transitions(transitions: Sequence[Transition]) -> None:
    """Log one line for each transition, or for each kind if there are more than `TRANSITIONS_LOGGED_MAX`."""
    if len(transitions) <= TRANSITIONS_LOGGED_MAX:
        for change in transitions:
            server_log.info(
                "node %s: %s → %s (%s)",
                change.node_id,
                change.from_state.wire,
                change.to_state.wire,
                change.reason,
            )
        return
    for (from_state, to_state, reason), count in Counter(map(transition_kind, transitions)).items():
        server_log.info("%s: %s → %s (%s)", counted(count, "node"), from_state.wire, to_state.wire, reason)
