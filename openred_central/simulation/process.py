"""The process of a directory on a virtual clock: attended time, the scheduler, and the visits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ..clock import AttendedTime
from ..directory.directory import Directory
from ..directory.empathy.visiting import PIECE_SLOTS, VISITS_PER_DAY
from ..directory.state.changes import Batch
from ..tasks.prober import Submission
from ..tasks.scheduler import PENDING_MAX, Scheduler

# Changes that are saved in one batch.
BATCH_ROWS: Final = 1_000


class Process:
    """A process that serves `directory`, and knows the time by `attended`.

    `tick_s` is the longest time between two calls of `tick`. `commit` takes the records that are to be
    stored; if it is None, nothing is.
    """

    def __init__(
        self,
        directory: Directory,
        attended: AttendedTime,
        *,
        tick_s: float,
        commit: Callable[[Batch], object] | None,
    ) -> None:
        self.directory, self.attended, self._commit = directory, attended, commit
        self.scheduler = Scheduler(
            directory,
            attended,
            tick_s=tick_s,
            store_reachable=lambda: True,
            submit_probe=lambda _: Submission.REFUSED,
            piece_nodes=PENDING_MAX,
        )
        # Seconds of visits that are due, times the slots of all nodes.
        self._visits_due_s = 0.0
        if directory.visiting is not None:
            directory.visiting.resumed(attended.now().attended_s)

    def tick(self) -> None:
        """Let the scheduler tick until nothing more is due at once, and save what changed."""
        saving, more = self.directory.saving, True
        while more:
            more = self.scheduler.tick()
            if saving.pending_records >= PENDING_MAX:
                self.save()
                more = True
        self.save()

    def save(self) -> None:
        """Save all changes of records."""
        saving, changes = self.directory.saving, self.directory.nodes.changes
        if self._commit is None:
            # Nobody would read the records, and to make them takes long.
            changes.take(changes.noted)
            return
        while saving.pending_records:
            batch = saving.take_changes(BATCH_ROWS, self.attended.now(), flush=False)
            if batch is None:
                break
            self._commit(batch)

    def visit(self, passed_s: float, *, apart_s: float, ahead: Iterable[int]) -> None:
        """Make the visits of `passed_s` seconds, and those of the slots that come `ahead` of their turn.

        Each node has its turn every `apart_s` seconds. Each turn also does what a server does once a day.
        """
        visiting = self.directory.visiting
        if visiting is None:
            return
        now, visiting.visit_s = self.attended.now(), apart_s / VISITS_PER_DAY
        if not self.attended.attending:
            # Nobody is blamed for what could not be heard.
            visiting.resumed(now.attended_s)
            return
        piece_s = apart_s * PIECE_SLOTS
        self._visits_due_s += passed_s * len(self.directory.nodes.habits.paces)
        while self._visits_due_s >= piece_s:
            self._visits_due_s -= piece_s
            visiting.visit(now)
        for slot in ahead:
            visiting.visit_ahead(slot, now)
