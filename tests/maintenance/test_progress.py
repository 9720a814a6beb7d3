"""A terminal sees a bar, everything else a line now and then, and nobody sees what is over at once."""

from __future__ import annotations

import io

from openred_central.maintenance.progress import LINE_S, REDRAW_S, Progress
from tests.support.clock import VirtualClock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, *steps: tuple[float, int, int]) -> str:
    """Return the output when so many seconds pass before each step of (done, total)."""
    clock = VirtualClock()
    progress = Progress(stream, "copying", clock.monotonic_s)
    for pause_s, done, total in steps:
        clock.advance(pause_s)
        progress(done, total)
    progress.close()
    return stream.getvalue()


def test_a_terminal_sees_a_bar_and_in_the_end_nothing() -> None:
    written = shown(Terminal(), (REDRAW_S, 1, 2), (REDRAW_S / 2, 3, 4), (REDRAW_S, 4, 4))
    half, whole, end = written.removeprefix("\r\x1b[K").split("\r\x1b[K")
    assert half == f"copying [{'#' * 15}{' ' * 15}]  50%"
    assert whole == f"copying [{'#' * 30}] 100%"
    assert end == ""


def test_without_a_total_the_number_is_shown() -> None:
    assert "copying 12,345" in shown(Terminal(), (REDRAW_S, 12_345, 0))


def test_elsewhere_there_is_a_line_now_and_then() -> None:
    steps = [(LINE_S / 4, number, 16) for number in range(1, 17)]
    assert shown(io.StringIO(), *steps) == "copying: 25%\ncopying: 50%\ncopying: 75%\ncopying: 100%\n"


def test_a_short_step_shows_nothing() -> None:
    assert shown(Terminal(), (0.0, 1, 2), (REDRAW_S / 2, 2, 2)) == ""
    assert shown(io.StringIO(), (0.0, 1, 2), (LINE_S / 2, 2, 2)) == ""
