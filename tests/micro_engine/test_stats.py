"""The counters."""

from __future__ import annotations

from .harness import World, get, post


def test_requests_and_responses_are_counted() -> None:
    world = World()
    sent = world.send(get("/plain/a") + get("/nowhere") + post("/echo", b"bad") + b"garbage\r\n\r\n")
    stats = world.shared.stats
    assert stats.requests == 3
    assert stats.responses == [0, 0, 1, 0, 3, 0]
    assert stats.bytes_out == len(sent)
    assert stats.bytes_in == len(get("/plain/a") + get("/nowhere") + post("/echo", b"bad")) + 11
    world.close()


def test_what_went_wrong_is_counted() -> None:
    world = World()
    world.wait(10)
    assert world.shared.stats.timeouts == 1
    assert world.shared.stats.responses[4] == 1
    world.close()
