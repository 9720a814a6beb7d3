"""The hosts that the operators' listener answers for.

A page in an operator's browser may ask a name of its own author, which is then made to mean this machine (DNS
rebinding): the browser takes it for the page's own server, and lets the page read the answer. The field
``Host`` shows it: it names the host that the page asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import CallerError
from ...limits.origins import IPAddress, parse_address

# No name server is asked for these (RFC 6761 §6.3).
_LOOPBACK_NAME = "localhost"


class Hosts:
    """Loopback, in any spelling, and `known`: names and addresses, without ports.

    An unspecified address among them, such as ``0.0.0.0``, stands for every address: no name server is asked
    for an address, so that none can be made to mean another machine.
    """

    def __init__(self, known: Iterable[str]) -> None:
        hosts = [_host(each) for each in known]
        self._known = frozenset(hosts)
        self._every_address = any(not isinstance(each, str) and each.is_unspecified for each in hosts)

    def check(self, authority: str) -> None:
        """Raise `CallerError` 421 where the host of `authority`, which may have a port, is none of them."""
        host = _host(_without_port(authority))
        if host in self._known:
            return
        if isinstance(host, str):
            allowed = host == _LOOPBACK_NAME or host.endswith(f".{_LOOPBACK_NAME}")
        else:
            allowed = self._every_address or host.is_loopback
        if not allowed:
            raise CallerError(
                421,
                "misdirected_request",
                f"Operators call this server by other names than {authority!r}.",
                suggestion="Ask for localhost, OPENRED_ADMIN_HOST, or one of OPENRED_ADMIN_NAMES.",
            )


def _without_port(authority: str) -> str:
    """The host of `authority`, of an IPv6 address without its brackets."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _host(text: str) -> str | IPAddress:
    """An address, IPv4 where it is one mapped into IPv6, or else a name in lower case."""
    return parse_address(text) or text.lower().removesuffix(".")
