"""The authorities (host and port) a directory answers for, so that a signature made for another is refused.

A signature covers the authority that its maker spoke to. Without this list another directory could pass a
request on to us, with the ``Host`` it was made for.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator

from ..limits.origins import PORT_MAX
from .refusals import ProofError

# The default ports of http and https (RFC 9110 §4.2) are not part of a signed authority (RFC 9421 §2.2.3).
_DEFAULT_PORTS = (":80", ":443")
# Added where a proxy may be the cause, which the signer cannot fix.
HOST_CHANGED = (
    "Where this is not the host, with its port, of the URL that you asked, a proxy has changed the header "
    "Host, and has to pass it on as it came (nginx: proxy_set_header Host $http_host)."
)
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9](?:[a-z0-9._-]{0,252})))(?::([0-9]{1,5}))?", re.ASCII)


def signed_authority(authority: str) -> str:
    """Return `authority` as signatures cover it: lower-case, without port 80 or 443 (RFC 9421 §2.2.3)."""
    authority = authority.lower()
    return authority.rpartition(":")[0] if authority.endswith(_DEFAULT_PORTS) else authority


class Authorities:
    """The authorities that requests may be signed for; an empty list allows any.

    Arguments: `texts`, each a host name, an IPv4 address or an IPv6 address in brackets, with ``:port``
    where the port is neither 80 nor 443. Raises `ValueError` for anything else.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._allowed = frozenset(_one_form(text) for text in texts)

    def __bool__(self) -> bool:
        return bool(self._allowed)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._allowed))

    def check(self, authority: str) -> None:
        """Raise `ProofError` ``wrong_authority`` where a request is for an `authority` that is not ours."""
        if not self._allowed or signed_authority(authority) in self._allowed:
            return
        try:
            if _one_form(authority) in self._allowed:
                return
        except ValueError:
            pass
        allowed = ", ".join(sorted(self._allowed))
        raise ProofError(
            "wrong_authority",
            f"The request came for {authority[:200]!r}, and this directory is {allowed}. "
            f"Sign for the host in the URL. {HOST_CHANGED}",
        )


def _one_form(text: str) -> str:
    """Return `text` as a signed authority, an IPv6 address in its shortest form. Raises `ValueError`."""
    match = _AUTHORITY.fullmatch(text.strip().lower())
    if match is None or (match[3] and int(match[3]) > PORT_MAX):
        raise ValueError(
            f"{text!r} is no authority; allowed are a host name, an IPv4 address, or an IPv6 address in "
            "brackets, and a port after a colon, such as directory.example.org:8000"
        )
    host = match[2]
    if host is None:
        try:
            host = f"[{ipaddress.IPv6Address(match[1]).compressed}]"
        except ValueError:
            raise ValueError(f"{text!r} has no IPv6 address in its brackets") from None
    return signed_authority(f"{host}:{int(match[3])}" if match[3] else host)
