"""The URL of a database on a server. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from ..store import StoreError

PARAMETERS: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_PASSWORD: Final = re.compile(r"(password=)[^&]*", re.IGNORECASE)


class Address(NamedTuple):
    """Where a database is: the parts of its URL. `hosts` have their ports, as they were written."""

    user: str
    hosts: tuple[str, ...]
    database: str
    query: str

    @property
    def location(self) -> str:
        """The URL, which has no secret in it."""
        return f"postgresql://{self.user}{','.join(self.hosts)}/{self.database}"

    def at(self, host: str) -> str:
        """Return the URL for one host."""
        return f"postgresql://{self.user}{host}/{self.database}{self.query and '?' + self.query}"


def parse(url: str) -> Address:
    """Return the parts of a URL such as ``postgresql://user@host1:5432,host2/name``.

    Raises `StoreError` where it cannot be used; no error shows a password.
    """
    shown = redacted(url)
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    named = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if ":" in user or "password" in named:
        raise StoreError(
            f"{shown} has a password in it, which logs and lists of processes would show; "
            "put it into a file, and name that in OPENRED_DATABASE_PASSWORD_FILE"
        )
    unknown = next((name for name in named if name not in PARAMETERS), None)
    if unknown is not None:
        raise StoreError(f"{shown} has the parameter {unknown!r}, allowed are {', '.join(PARAMETERS)}")
    database = parts.path.removeprefix("/")
    if not all(hosts.split(",")) or not re.fullmatch(r"[^/@]+", database) or parts.fragment:
        raise StoreError(
            f"{shown} names no database; give postgresql://user@host:5432/name, "
            "with several hosts separated by commas"
        )
    return Address(user + at, tuple(hosts.split(",")), database, parts.query)


def redacted(url: str) -> str:
    """Return the URL of a database without a password that it has, for people. Other text stays as it is."""
    scheme, separator, rest = url.partition("://")
    # Unless it is written as it should, a password may hold any of the characters that part a URL.
    userinfo, at, place = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    place = _PASSWORD.sub(r"\1***", place)
    return f"{scheme}{separator}{user}{colon and ':***'}{at}{place}" if separator else url
