"""Limits of the engine, with units and reasons; `connection`, `acceptor` and `shortcut` have a few more."""

from __future__ import annotations

from dataclasses import dataclass, fields

# A request line of 8,000 bytes must be served (RFC 9112 §3); a longer one than this is a 414.
REQUEST_LINE_BYTES_MAX = 8 * 1024
# More header fields, more bytes of them, or a longer one than any real client sends is a 431 (RFC 6585 §5).
HEADER_FIELDS_MAX = 100
HEADER_BYTES_MAX = 32 * 1024
HEADER_FIELD_BYTES_MAX = 8 * 1024
# Old clients send a line too many after a body (RFC 9112 §2.2).
EMPTY_LINES_MAX = 8
# A connection remembers a header section up to this size, because the next request often has an equal one; an
# idle connection must stay small.
REMEMBERED_HEADER_BYTES_MAX = 2 * 1024
# No body limit has more digits. Python refuses to read a number of more than 4,300 (RFC 9112 §6.3).
CONTENT_LENGTH_DIGITS_MAX = 18
# No endpoint takes so many; each costs a decoding.
QUERY_FIELDS_MAX = 100
# Members of a list in one header field, such as Connection or Accept.
LIST_MEMBERS_MAX = 100
# Sixteen hexadecimal digits hold any length of practical use.
CHUNK_SIZE_DIGITS_MAX = 16
CHUNK_EXTENSION_BYTES_MAX = 4 * 1024
# All connections together may hold so many bytes of requests that are incomplete or wait for their turn. The
# first bytes of each are not counted: nearly every request is shorter, and must not suffer from long ones.
UNREAD_BYTES_MAX = 64 * 1024 * 1024
UNREAD_BYTES_FREE = 4 * 1024
# So many chunks are read at once; then other connections may have their turn.
CHUNKS_PER_READ_MAX = 256
# A body may have so many chunks of less data than that; a larger one makes up for others.
SMALL_CHUNKS_MAX = 4 * 1024
SMALL_CHUNK_BYTES = 16


@dataclass(frozen=True, eq=False)
class EngineLimits:
    """The limits of one engine. Durations in seconds, sizes in bytes.

    The last four have no setting.
    """

    body_bytes_max: int = 1024 * 1024
    head_timeout_s: float = 10.0
    body_timeout_s: float = 20.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    drain_timeout_s: float = 20.0
    connections_max: int = 10_000
    connections_per_address_max: int = 64
    exempt_networks: tuple[str, ...] = ()
    backlog: int = 2_048
    write_buffer_bytes_max: int = 64 * 1024
    # So much input is read and thrown away after an error, and for so long, so that the client receives the
    # answer and not a reset (RFC 9112 §9.6).
    linger_bytes_max: int = 256 * 1024
    linger_s: float = 2.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and value <= 0:
                raise ValueError(f"{each.name} is {value}, allowed is anything above 0")
        if self.connections_per_address_max > self.connections_max:
            raise ValueError(
                f"connections_per_address_max is {self.connections_per_address_max}, allowed is at most "
                f"connections_max, which is {self.connections_max}"
            )
