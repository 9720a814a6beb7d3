"""The one task that lets the life cycle run: it sleeps to the next deadline and handles what is due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

from ..clock import AttendedTime, Now
from ..directory.directory import Directory
from ..directory.life.expiry import ProbeRequest, is_crowded
from ..directory.state.node import Transition, transition_kind
from ..histogram import Histogram
from ..wording import counted
from .prober import Submission

log = logging.getLogger("openred.scheduler")
_transition_log = logging.getLogger("openred.server")

# Nodes handled in one piece of work, after which everybody else gets a turn: two or three milliseconds.
PIECE_NODES = 200
# A deadline this close is not worth being early for.
PAUSE_S_MIN = 0.001
# Transitions of one tick that are logged one by one. Beyond it, each kind is logged as a count.
TRANSITIONS_LOGGED_MAX = 50


class Scheduler:
    """Moves time on and handles deadlines, in bounded pieces.

    `tick_s` is the longest sleep; `store_reachable` tells whether changes can be kept, without which time
    stands still; `ask` hands a probe to whoever can make it.
    """

    def __init__(
        self,
        directory: Directory,
        attended: AttendedTime,
        *,
        tick_s: float,
        store_reachable: Callable[[], bool],
        ask: Callable[[ProbeRequest], Submission],
    ) -> None:
        self._directory = directory
        self._attended = attended
        self._tick_s = tick_s
        self._store_reachable = store_reachable
        self._ask = ask
        self._stopping = asyncio.Event()
        # How many refusals for want of bytes there were by the last tick, and whether that was told.
        self._bytes_refusals = 0
        self._bytes_told = False
        self.ticks = 0
        self.late_s_max = 0.0
        # How late each tick came that found something due.
        self.lateness = Histogram()

    def tick(self) -> bool:
        """Take in the time that passed and do one piece of work. True where more is due at once."""
        self.ticks += 1
        expiry = self._directory.expiry
        now = self._attended.now()
        due_s = expiry.next_s()
        if due_s is not None:
            late_s = now.attended_s - due_s
            self.late_s_max = max(self.late_s_max, late_s)
            if late_s >= 0:
                self.lateness.observe(late_s)
        held, aside = expiry.silence.hold, len(expiry.set_aside)
        handled = expiry.expire_due(now, PIECE_NODES)
        for slot, reason in islice(expiry.set_aside.items(), aside, None):
            log.error("the transition of the node in slot %d failed, it is set aside: %s", slot, reason)
        # After the deadlines: while transitions are held, and until the tick after that, no node ages.
        holds = held is not None or expiry.silence.hold is not None
        jump = self._attended.tick(attending=not holds and self._store_reachable())
        if jump is not None:
            log.warning("the wall clock jumped by %+.1f s; deadlines do not follow it", jump.jump_s)
        if expiry.silence.hold is not held:
            self._tell_hold()
        self._have_asked(now)
        self._directory.nodes.transitions.report()
        self._tell_bytes()
        return handled >= PIECE_NODES

    def pause_s(self) -> float:
        """How long nothing needs to be done, in seconds; never more than a tick."""
        expiry = self._directory.expiry
        due_s = expiry.next_s()
        if due_s is None or not self._attended.attending or len(expiry.waiting):
            return self._tick_s
        ahead_s = due_s - self._attended.now().attended_s
        return min(max(ahead_s, PAUSE_S_MIN), self._tick_s)

    async def run(self) -> None:
        """Tick until `stop`."""
        while not self._stopping.is_set():
            if self.tick():
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self.pause_s())

    def stop(self) -> None:
        """Let `run` end after the piece of work at hand."""
        self._stopping.set()

    def _have_asked(self, now: Now) -> None:
        expiry = self._directory.expiry
        while expiry.probe_requests:
            request = expiry.probe_requests.popleft()
            submission = self._ask(request)
            if submission is Submission.REFUSED:
                # Nobody can ask: its silence counts as it would without asking.
                expiry.probed(request.slot, request.node_id, alive=False, now=now)
            elif submission is Submission.LATER:
                expiry.postpone(request.slot, request.node_id, now)

    def _tell_hold(self) -> None:
        hold = self._directory.expiry.silence.hold
        if hold is not None:
            log.warning("mass silence: transitions are held: %s", hold.reason)
        else:
            log.warning("mass silence: the hold has ended; whoever is still silent goes on at a bounded pace")

    def _tell_bytes(self) -> None:
        """Tell once that the nodes take all the bytes that they may, until there is room again."""
        directory = self._directory
        held, bytes_max = directory.nodes.registry.bytes_held, directory.options.bytes_max
        if directory.bytes_refusals > self._bytes_refusals and not self._bytes_told:
            self._bytes_told = True
            log.warning(
                "the records of all nodes take %d of %d bytes: longer records are refused; "
                "raise OPENRED_NODES_BYTES_MAX where there is memory for more",
                held,
                bytes_max,
            )
        elif self._bytes_told and not is_crowded(held, bytes_max):
            self._bytes_told = False
            log.info("the records of all nodes take %d of %d bytes: there is room again", held, bytes_max)
        self._bytes_refusals = directory.bytes_refusals


def log_transitions(transitions: Sequence[Transition]) -> None:
    """Log one line for each transition, or for each kind if there are more than `TRANSITIONS_LOGGED_MAX`."""
    if len(transitions) <= TRANSITIONS_LOGGED_MAX:
        for change in transitions:
            _transition_log.info(
                "node %s: %s → %s (%s)",
                change.node_id,
                change.from_state.wire,
                change.to_state.wire,
                change.reason,
            )
        return
    for (from_state, to_state, reason), count in Counter(map(transition_kind, transitions)).items():
        _transition_log.info(
            "%s: %s → %s (%s)", counted(count, "node"), from_state.wire, to_state.wire, reason
        )
