"""A whole life in seconds: every state in order, and a way back from each of them."""

from __future__ import annotations

import re
import time
from typing import Any

from tests.support.running import Client, Start, proof, until

DWELL_S = 0.7
WATCH_S_MAX = 40.0
PAUSE_S = 0.01
AWAY_S = 1.0
LIFE = ["active", "pending_1st", "failed_1st", "retry_48h", "retry_2w", "retry_2m", "coma", "dead"]
DWELL_TIMES = (
    "--heartbeat-tolerance-s",
    "--grace-s",
    "--second-look-s",
    "--retry-48h-s",
    "--retry-2w-s",
    "--retry-2m-s",
    "--coma-s",
)
SAID: dict[str, Any] = {"services": ["relay"], "metadata": {"a": 1}, "region": "eu"}
KEPT = ("registered_at", "public_key", "services", "metadata", "region", "revision")


def transitions(log: str, node_id: str) -> list[tuple[str, str]]:
    """Return the transitions of a node as the server's log tells them."""
    return re.findall(rf"node {node_id}: (\w+) → (\w+) \(", log)


class Sleeper:
    """A node that is to be woken in one certain state, however often it takes to meet it there."""

    def __init__(self, client: Client, state: str) -> None:
        self._client = client
        self._state = state
        self._node_id = f"wakes-in-{state}"
        self.woken = False
        self._register()

    def _register(self) -> None:
        reply = self._client.register(self._node_id, **SAID)
        assert reply.document["status"] == "registered"
        self._claim = reply.document["claim"]
        self._before = self._client.ask("GET", f"/nodes/{self._node_id}").document

    def look(self) -> None:
        """Wake it if it is in its state; if it is past that, wake it or register it to begin anew."""
        shown = self._client.ask("GET", f"/nodes/{self._node_id}")
        if shown.status == 404:
            self._register()
        elif LIFE.index(shown.document["state"]) >= LIFE.index(self._state):
            self._wake()

    def _wake(self) -> None:
        reply = self._client.ask("POST", f"/heartbeat/{self._node_id}")
        if reply.status == 410:
            return
        assert reply.document["current_state"] == "active"
        after = self._client.ask("GET", f"/nodes/{self._node_id}").document
        assert {name: after[name] for name in KEPT} == {name: self._before[name] for name in KEPT}
        history = [(entry["from"], entry["to"], entry["reason"]) for entry in after["explain"]["history"]]
        assert (reply.document["previous_state"], "active", "sign_of_life") in history
        if reply.document["previous_state"] == self._state:
            changed = self._client.register(self._node_id, **SAID, claim=self._claim, port=9)
            assert changed.status == 200, changed
            self.woken = True


def test_a_silent_node_passes_every_state_and_sleepers_return(start: Start) -> None:
    dwell = [text for flag in DWELL_TIMES for text in (flag, str(DWELL_S))]
    server = start(*dwell, "--tick-s", "0.1", OPENRED_FLUSH_INTERVAL_S="0.1")
    with Client(server.address) as client:
        silent = client.register("silent", **SAID).document
        assert silent["heartbeat_advice_s"] <= DWELL_S / 2
        sleepers = [Sleeper(client, state) for state in LIFE[1:-1]]

        seen = ["active"]
        ends_s = time.monotonic() + WATCH_S_MAX
        while seen[-1] != "dead" or not all(sleeper.woken for sleeper in sleepers):
            assert time.monotonic() < ends_s, f"saw {seen}"
            time.sleep(PAUSE_S)
            reply = client.ask("GET", "/nodes/silent")
            state = reply.document["state"] if reply.status == 200 else "dead"
            if state != seen[-1]:
                seen.append(state)
            for sleeper in sleepers:
                if not sleeper.woken:
                    sleeper.look()

        # A slow test may miss states; the log has all of them.
        assert seen == [state for state in LIFE if state in seen]
        told = list(zip(["absent", *LIFE], LIFE, strict=False))
        until(lambda: transitions(server.log, "silent") == told, f"the log to tell {told}")

        assert client.ask("GET", "/nodes/silent").status == 404
        assert client.ask("POST", "/heartbeat/silent").status == 410
        taken = client.register("silent", public_key="the key of another")
        assert (taken.status, taken.document["error"]) == (409, "node_id_taken")
        again = client.register("silent", **SAID)
        assert (again.status, again.document["status"]) == (201, "registered")
        assert again.document["claim"] != silent["claim"]
        assert client.register("silent", port=9, claim=silent["claim"]).status == 403
        assert client.ask("DELETE", "/nodes/silent", **proof(again.document["claim"])).status == 200


def test_the_time_without_a_server_is_no_silence(start: Start) -> None:
    server = start()
    with Client(server.address) as client:
        read_s = time.monotonic()
        before_s = client.ask("GET", "/stats").document["empathy"]["attended_s"]
    server.stop()
    stopping_s = time.monotonic() - read_s
    time.sleep(AWAY_S)
    with Client(start().address) as client:
        stats = client.ask("GET", "/stats").document
        attended_s = stats["empathy"]["attended_s"] - before_s
        assert attended_s <= stopping_s + stats["performance"]["uptime_s"] + 0.01
