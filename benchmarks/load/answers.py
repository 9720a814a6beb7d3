"""Where one answer ends and the next begins, read by httptools."""

from __future__ import annotations

import httptools


class UnreadableError(ValueError):
    """Bytes that are no answer, or one whose end cannot be found."""


class AnswerReader:
    """Cuts the bytes of one connection into answers; interim ones (1xx) are left out.

    `body` is that of the last answer. `closing`: the server closes the connection after it.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._statuses: list[int] = []
        self._pieces: list[bytes] = []
        self.body = b""
        self.closing = False

    def feed(self, data: bytes) -> list[int]:
        """Return the status of every answer that is complete now. Raises `UnreadableError`."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise UnreadableError(f"an answer cannot be read: {error}") from error
        statuses, self._statuses = self._statuses, []
        return statuses

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._statuses.append(status)
            self.body = b"".join(self._pieces)
            self._pieces.clear()
            if not self._parser.should_keep_alive():
                self.closing = True
