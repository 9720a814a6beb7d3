"""The public engine of an instance: its sockets and connections live through all changes of its role."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from ..listening import Certificate, certificate_of
from ..micro_engine.engine import Engine
from .assembly import Assembly
from .signals import renew


class Public:
    """The public listeners of this process, which open with its first role."""

    def __init__(self, assembly: Assembly) -> None:
        configuration = assembly.configuration
        self._assembly = assembly
        self.engine: Engine = assembly.engine()
        self.certificate: Certificate | None = certificate_of(
            configuration.tls_certificate, configuration.tls_key
        )
        self.addresses: list[str] = []

    async def serve(self, install: Callable[[], None]) -> list[str]:
        """Serve what `install` registers, in place of what was served; return the addresses.

        Raises `StartError` if the listeners cannot open.
        """
        if self.addresses:
            self.engine.reroute(install)
            return self.addresses
        listeners = self._assembly.listeners()
        install()
        context: ssl.SSLContext | None = self.certificate.context if self.certificate else None
        self.addresses = await self.engine.start(listeners, tls=context)
        return self.addresses

    def renew_tls(self) -> None:
        """Read the certificate again, for new connections."""
        renew(self.certificate, self.engine.renew_tls)
