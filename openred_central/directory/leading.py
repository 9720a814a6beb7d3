"""The side of the leader, the one process that changes records: frames and loads for its replicas. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from ..clock import Now
from .analytics.analytics import SHARED
from .directory import Directory
from .frame import Check, Frame, HabitChunk, LoadPart, Outlook
from .state.blocks import is_block, name_of, pack
from .state.changes import Batch
from .state.columns import columns_of
from .state.habits import CHUNK_SLOTS
from .state.signs import SignColumns, signs_in

# Slots, tombstones and chunks of habits of one part of a load.
LOAD_ROWS: Final = 500
LOAD_CHUNKS: Final = 32
# Rows of figures, which are compressed meanwhile.
LOAD_KEPT: Final = 20
# Chunks of habits in one frame.
FRAME_CHUNKS: Final = 16
# Touched chunks that one frame looks at.
LOOKED_AT: Final = 64


class Leading:
    """The leader's side of replication. Make it before the directory changes.

    Frames are numbered on from `seq`.
    """

    def __init__(self, directory: Directory, seq: int = 0) -> None:
        self._directory = directory
        # The number of the last frame, and that of the last change that its followers know with it.
        self.seq = seq
        self._as_of = directory.nodes.changes.last
        self._outlook: Outlook | None = None
        # Slots of nodes that were heard here since the last frame.
        self._heard = directory.nodes.changes.heard.added = set[int]()
        directory.hear = self._noting(directory.hear)
        # Chunks of habits are taken from here on, round and round.
        self._next_chunk = 0

    def _noting(self, hear: Callable[[int, Now], None]) -> Callable[[int, Now], None]:
        def hear_and_note(slot: int, now: Now) -> None:
            hear(slot, now)
            self._heard.add(slot)

        return hear_and_note

    def frame(self, batch: Batch, now: Now) -> Frame:
        """Return the next frame, of a batch that was just committed."""
        directory = self._directory
        self.seq += 1
        self._as_of = max(self._as_of, batch.last_change)
        former, self._outlook = self._outlook, self._present_outlook()
        return Frame(
            self.seq,
            now.wall_s,
            batch._replace(kept=[each for each in batch.kept if _is_shared(each[0])], pages=()),
            self._signs(),
            self._touched_habits(),
            None if self._outlook == former else self._outlook,
            None if directory.saving.pending_records else Check.of(directory.nodes),
        )

    def _signs(self) -> SignColumns:
        """Take the signs of life that came here, and not from followers.

        A node whose record is still to come is left out.
        """
        nodes, heard = self._directory.nodes, self._heard
        states, is_noted = nodes.registry.states, nodes.changes.is_noted
        signs = signs_in(nodes.registry, [slot for slot in heard if states[slot] and not is_noted(slot)])
        heard.clear()
        return signs

    def load(self) -> Iterator[LoadPart]:
        """Yield the whole directory, which may change between two parts.

        A change meanwhile is in a frame after `LoadPart.seq`, too. A whole record may be applied
        twice.
        """
        nodes = self._directory.nodes
        usual_per_h = self._directory.expiry.silence.usual_per_h
        head = LoadPart(self.seq, self._as_of, self._as_of, nodes.revision, usual_per_h)
        for slots in _slices(lambda: nodes.registry.slots_count, LOAD_ROWS):
            taken = [slot for slot in slots if not nodes.registry.is_free(slot)]
            if taken:
                yield head._replace(records=columns_of(nodes.registry.records(taken)))
        for tombstones in nodes.tombstones.slices(LOAD_ROWS):
            yield head._replace(tombstones=tombstones)
        blocks = [(name_of(block), pack(block)) for block in self._directory.blocking.blocks]
        for some in _slices(lambda: len(blocks), LOAD_ROWS):
            yield head._replace(kept=blocks[some.start : some.stop])
        if self._directory.visiting is not None:
            for chunks in _slices(lambda: nodes.habits.chunks, LOAD_CHUNKS):
                yield head._replace(habits=list(map(self._habit_chunk, chunks)))
        rows = self._directory.analytics.kept()
        while some_rows := list(islice(rows, LOAD_KEPT)):
            yield head._replace(kept=some_rows)
        yield head._replace(newest=nodes.changes.last, outlook=self._present_outlook())

    def _present_outlook(self) -> Outlook | None:
        forecast = self._directory.forecast
        if forecast is None:
            return None
        return Outlook(
            forecast.usual_score,
            forecast.fair_from_s,
            self._directory.nodes.habits.pace_first,
            forecast.returns.refreshed,
        )

    def _touched_habits(self) -> list[HabitChunk]:
        """Take chunks of habits that changed since they were sent.

        One of a record whose change is pending waits: replicas still hold the former node.
        """
        nodes, taken = self._directory.nodes, list[int]()
        if self._directory.visiting is None:
            return []
        touched, chunk = nodes.habits.touched, self._next_chunk
        for _ in range(LOOKED_AT):
            chunk = touched.find(1, chunk) if touched.find(1, chunk) >= 0 else touched.find(1, 0, chunk)
            if chunk < 0 or len(taken) == FRAME_CHUNKS:
                break
            if nodes.changes.are_settled(range(chunk * CHUNK_SLOTS, (chunk + 1) * CHUNK_SLOTS)):
                touched[chunk] = 0
                taken.append(chunk)
            chunk += 1
        self._next_chunk = max(chunk, 0)
        return list(map(self._habit_chunk, taken))

    def _habit_chunk(self, number: int) -> HabitChunk:
        habits = self._directory.nodes.habits
        odds = habits.odds[number * CHUNK_SLOTS : (number + 1) * CHUNK_SLOTS]
        # A replica makes no visits, so it needs not know when the last one of a day was.
        return HabitChunk(number, habits.pack(number, 0.0), odds.tobytes())


def _slices(end: Callable[[], int], count: int) -> Iterator[range]:
    """Yield ranges of at most `count` numbers from 0 to `end`, which may rise meanwhile."""
    first = 0
    while first < (stop := min(first + count, end())):
        yield range(first, stop)
        first = stop


def _is_shared(name: str) -> bool:
    """Return whether replicas need the kept value under `name`: a block, or a row of figures."""
    return is_block(name) or name.partition("/")[0] in SHARED
