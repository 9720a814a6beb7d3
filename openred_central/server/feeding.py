"""The leader's part towards its followers: what they need to begin, and what they hear as it happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..api.feed.broadcast import Broadcast
from ..api.feed.event_log import BEGINNING, Cursor, EventFeed
from ..api.service import Api
from ..clock import AttendedTime
from ..cluster.hub import Hub
from ..directory.directory import Directory
from ..directory.leading import Leading
from ..directory.merging import Merger
from ..directory.state.signs import SignColumns
from .front import Figures


class Feeding:
    """The links to all followers of one leader. Make it before the directory changes; then `attach`.

    `run` names the numbers of commits, which go on from `seq`. `more` returns what followers of this kind
    need beside the rest to begin; `reported` takes the figures of a follower, with its name.
    """

    def __init__(
        self,
        directory: Directory,
        attended: AttendedTime,
        run: str,
        *,
        seq: int = 0,
        more: Callable[[], Mapping[str, Any]],
        reported: Callable[[str, Any], None],
    ) -> None:
        self._attended = attended
        self._run = run
        self._more = more
        self._directory, self._merger = directory, Merger(directory)
        self.leading = Leading(directory, seq)
        self.hub = Hub(
            self.leading,
            self._merger,
            attended.now,
            hello=self._hello,
            tick=self._tick,
            news=self._news,
            reported=reported,
        )

    def attach(self, api: Api, feed: EventFeed, broadcast: Broadcast, figures: Figures) -> None:
        """Take what followers are told of; as in `Front`."""
        self._api, self._feed, self._broadcast, self._figures = api, feed, broadcast, figures

    def take(self, signs: SignColumns) -> None:
        """Take signs of life that this process heard itself, by the present slots."""
        self._merger.merge(signs, self._directory.nodes.changes.last, self._attended.now())

    def _hello(self) -> dict[str, Any]:
        prover = self._api.prover
        return {
            "told": self._tick(),
            "run": self._run,
            "session_key": prover.sessions.key.hex(),
            "started_s": prover.started_s,
            "steady_ahead_s": prover.steady_ahead_s,
            "events": self._broadcast.log.epoch,
            "history": self._broadcast.history.rows(),
            **self._more(),
        }

    def _tick(self) -> dict[str, Any]:
        now = self._attended.now()
        return {
            "attended_s": now.attended_s,
            "hold": self._directory.expiry.silence.told_hold(now.monotonic_s),
            "attending": self._attended.attending,
            "store": self._api.store_state().value,
            "figures": self._figures(),
        }

    def _news(self, cursor: Cursor | None) -> tuple[dict[str, Any], Cursor]:
        return self._feed.news(cursor or BEGINNING)
