"""Where a directory is: its URL, taken apart."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from ..micro_engine.wire.target import parse_authority
from ..security.authority import signed_authority

_PORTS = {"http": 80, "https": 443}
# RFC 1035 §2.3.4.
_NAME_CHARACTERS_MAX = 253
_LABEL_CHARACTERS_MAX = 63


class Address(NamedTuple):
    """Where to connect to, and as what. From `of`.

    `url` is without a slash at its end, `authority` what stands in the Host field, `tls` whether to speak
    TLS, `unix_socket` the path of a Unix socket to connect to instead of `host` and `port`.
    """

    url: str
    host: str
    port: int
    authority: str
    tls: bool
    unix_socket: str | None = None

    @classmethod
    def of(cls, url: str, unix_socket: str | None = None) -> Address:
        """The address that `url` is, such as ``http://127.0.0.1:8000``. Raises `ValueError`."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        else:
            extras = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
            if parts.scheme not in _PORTS or extras or not parts.netloc.isascii() or not _may_be_host(host):
                host = None
        if not host or parse_authority(parts.netloc) is None:
            raise ValueError(
                f"{url!r} is not where a directory is; allowed is a URL such as http://host:8000"
            )
        return cls(
            url=f"{parts.scheme}://{parts.netloc}",
            host=host,
            port=_PORTS[parts.scheme] if port is None else port,
            authority=parts.netloc.lower(),
            tls=parts.scheme == "https",
            unix_socket=unix_socket,
        )

    @property
    def signed_authority(self) -> str:
        """The authority as signatures cover it."""
        return signed_authority(self.authority)


def _may_be_host(host: str | None) -> bool:
    """Whether a name has no label that is empty or too long: it could not be looked up."""
    if not host or len(host) > _NAME_CHARACTERS_MAX:
        return False
    # The dot at the end of a full name stands for the root.
    return all(0 < len(label) <= _LABEL_CHARACTERS_MAX for label in host.removesuffix(".").split("."))
