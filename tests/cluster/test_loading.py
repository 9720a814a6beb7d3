"""The clients of the tests of clusters, held against a server of one process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.support.history import History, disordered, failed_beats, granted, lost, unheard
from tests.support.loading import AUTHORITY, Beater, Writer, more, register, running, shown_at
from tests.support.running import Server, servers_in
from tests.support.signing import wait_for_the_next_second


class At(NamedTuple):
    name: str
    address: tuple[str, int]

    @classmethod
    def of(cls, server: Server) -> At:
        return cls("a", server.address)


def test_clients_note_what_a_server_did_and_judges_agree(tmp_path: Path) -> None:
    with servers_in(tmp_path) as start:
        server = start("--authority", AUTHORITY, "--workers", "2")
        place, history = At.of(server), History()
        wait_for_the_next_second()
        register(place, "beating")
        writers = [Writer(history, [place], f"w{number}") for number in range(2)]
        with running([*writers, Beater(history, place, ["beating"])]):
            more(history, 40)
        assert {change.what for change in history.changes} == {
            "register",
            "move",
            "key",
            "former claim",
            "leave",
            "forget",
        }
        server.stop()
        place = At.of(start("--authority", AUTHORITY))
        shown, last_seen = shown_at(place, [*history.possible(), "beating"])
        assert not lost(history, shown, "a")
        assert not granted(history)
        assert not disordered(history)
        assert not unheard(history, last_seen)
        assert not failed_beats(history)
        victim = next(node_id for node_id, node in shown.items() if node.state == "active")
        assert lost(history, {name: node for name, node in shown.items() if name != victim}, "a")


def test_clients_outlive_the_death_of_a_server(tmp_path: Path) -> None:
    with servers_in(tmp_path) as start:
        server, history = start(), History()
        with running([Writer(history, [At.of(server)], "w"), Beater(history, At.of(server), ["nobody"])]):
            more(history, 5)
            server.kill()
        shown, _ = shown_at(At.of(start()), history.possible())
        assert not lost(history, shown, "a")
