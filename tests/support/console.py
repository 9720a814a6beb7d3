"""The console of a command under test."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping

from openred_central.cli.console import Console, Style
from openred_central.clock import Clock
from tests.support.clock import VirtualClock


class Recorded:
    """A `console` that keeps what a command says, complains of and writes to its output."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        environment: Mapping[str, str] | None = None,
        standard_input: bytes = b"",
        style: Style | None = None,
    ) -> None:
        self.said: list[str] = []
        self.complaints: list[str] = []
        self.output = io.BytesIO()
        self.errors = io.StringIO()
        self.console = Console(
            say=self.said.append,
            complain=self.complaints.append,
            input=io.BytesIO(standard_input),
            output=self.output,
            errors=self.errors,
            clock=clock or VirtualClock(),
            entropy=random.Random(4).randbytes,
            environment=environment or {},
            style=style or Style(),
        )
