"""Listening sockets by host and port, at a path or from the service manager; TLS and its certificate."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import socket
import ssl
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import crypto

# The first descriptor that systemd passes (sd_listen_fds(3)).
LISTEN_FDS_START: Final = 3
# This machine does not have the address, or not the protocol; no other process is in the way.
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

log = logging.getLogger(__name__)


class StartError(Exception):
    """The server cannot start. The message is one line for the operator."""


class PassingStartError(StartError):
    """A later start may succeed, without a change of a setting or a file."""


def listeners(
    host: str,
    port: int,
    unix_socket: str,
    *,
    backlog: int,
    environment: Mapping[str, str],
    process_id: int,
) -> list[socket.socket]:
    """Return the sockets that systemd passed to `process_id`, or else those of the other arguments.

    `environment` holds what systemd passed; `unix_socket` is a path, or empty for none. Raises `StartError`,
    with nothing left open.
    """
    opened: list[socket.socket] = []
    try:
        opened = inherited(environment, process_id)
        if opened:
            return opened
        opened = listen_tcp(host, port, backlog=backlog)
        if unix_socket:
            opened.append(listen_unix(Path(unix_socket), backlog=backlog))
    except OSError as error:
        for listener in opened:
            listener.close()
        raise StartError(error.strerror or str(error)) from error
    return opened


class WorkersListeners(NamedTuple):
    """The listening sockets of several processes: ``own[number]`` of one of them, `shared` of all."""

    own: list[list[socket.socket]]
    shared: list[socket.socket]

    def close(self) -> None:
        """Close them in this process."""
        for listener in itertools.chain(self.shared, *self.own):
            listener.close()


def listeners_of_workers(
    workers: int,
    host: str,
    port: int,
    unix_socket: str,
    *,
    backlog: int,
    environment: Mapping[str, str],
    process_id: int,
) -> WorkersListeners:
    """Return sockets for so many `workers`; the other arguments and the errors are those of `listeners`.

    Each worker gets sockets of its own at host and port, among which the system distributes connections.
    Those that systemd passed and the one at `unix_socket` are shared.
    """
    opened = WorkersListeners([[] for _ in range(workers)], [])
    try:
        opened.shared.extend(inherited(environment, process_id))
        if not opened.shared:
            copies = listen_tcp(host, port, copies=workers, backlog=backlog)
            opened = opened._replace(own=[copies[number::workers] for number in range(workers)])
            if unix_socket:
                opened.shared.append(listen_unix(Path(unix_socket), backlog=backlog))
    except OSError as error:
        opened.close()
        raise StartError(error.strerror or str(error)) from error
    return opened


class Certificate:
    """The certificate and key of the public listener, from the PEM files `certificate` and `key`.

    `context` serves TLS with both; `expires_at` is the wall time at which the certificate ends, 0 if its file
    does not say. Raises `StartError` if the files cannot be used.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._files = certificate, key
        self.context, self.expires_at = self._read()

    def renew(self) -> None:
        """Read both files again. Raises `StartError`, and changes nothing then."""
        self.context, self.expires_at = self._read()

    def _read(self) -> tuple[ssl.SSLContext, float]:
        certificate, key = map(Path, self._files)
        try:
            return tls_context(certificate, key), _expires_at(certificate.read_bytes())
        except (OSError, ssl.SSLError) as error:
            raise StartError(
                f"cannot use the certificate {certificate} with the key {key}: {error.strerror or error}"
            ) from error


def certificate_of(certificate: str, key: str) -> Certificate | None:
    """Return the certificate in the two files, None if none is named. Raises `StartError`."""
    return Certificate(certificate, key) if certificate else None


def _expires_at(content: bytes) -> float:
    try:
        return crypto.x509.load_pem_x509_certificate(content).not_valid_after_utc.timestamp()
    except ValueError:
        # OpenSSL has accepted it nevertheless.
        return 0.0


def listen_tcp(host: str, port: int, *, copies: int = 1, backlog: int) -> list[socket.socket]:
    """Return sockets that listen on every address of `host` at one `port`; 0 takes any that is free.

    An empty `host` is every interface, and so is ``::``, for IPv4 too. `backlog` is how many connections wait
    to be accepted. If this machine lacks one of several addresses, it is left out and logged. With more
    `copies`, each address has so many sockets in a row, and each connection comes to one of them.

    Raises `OSError` if no address exists or one is taken; its `strerror` names host and port.
    """
    listeners: list[socket.socket] = []
    missing: dict[str, OSError] = {}
    try:
        for family, kind, protocol, _, address in _addresses(host, port):
            # All addresses share the port that the first one got.
            chosen = listeners[0].getsockname()[1] if listeners else port
            try:
                listeners.append(_bound(family, kind, protocol, (address[0], chosen, *address[2:])))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing[address[0]] = error
        for name, why in missing.items():
            if not listeners:
                raise why
            log.warning("cannot listen on %s, port %d: %s", name, port, why.strerror)
        if copies > 1:
            listeners = _copied(listeners, copies)
        for listener in listeners:
            listener.listen(backlog)
            listener.setblocking(False)
    except (OSError, UnicodeError) as error:
        for listener in listeners:
            listener.close()
        raise _cannot_listen(f"on {host or 'any address'}, port {port}", error) from error
    return listeners


def _addresses(host: str, port: int) -> list[Any]:
    """Return the results of `socket.getaddrinfo` for `host`, each address once."""
    every = host in ("", "::")
    # Bytes spare the import of `encodings.idna`.
    name = host.encode("ascii") if host.isascii() else host
    found = socket.getaddrinfo(
        None if every else name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys(found))


def _copied(listeners: list[socket.socket], copies: int) -> list[socket.socket]:
    """Return so many `copies` of each of `listeners`, which are bound, in their place.

    Binding `listeners` has shown that no other server is at the port: copies would share it with one.
    """
    copied: list[socket.socket] = []
    try:
        for listener in listeners:
            place = listener.family, listener.type, listener.proto, listener.getsockname()
            listener.close()
            copied.extend(_bound(*place, reuse_port=True) for _ in range(copies))
    except OSError:
        for listener in copied:
            listener.close()
        raise
    return copied


def _bound(
    family: int, kind: int, protocol: int, address: tuple[Any, ...], *, reuse_port: bool = False
) -> socket.socket:
    """Return a socket bound to `address`, beside others that have `reuse_port` as well.

    Raises `OSError`, with nothing left open.
    """
    listener = socket.socket(family, kind, protocol)
    try:
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Connections of the last run that still close must not keep the new one from starting.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own: one for both would show mapped addresses.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def listen_unix(path: Path, *, mode: int = 0o660, backlog: int) -> socket.socket:
    """Return a socket that listens at `path`, with file permissions `mode` from its first moment on.

    A socket left over from a killed run is removed; one at which another process listens is not.

    Raises `OSError` if another process listens at `path`, if something other than a socket is there, or if
    nothing can be created there; its `strerror` names the path.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # Connecting needs the right to write: without it, nobody connects before `mode` is set.
        before = os.umask(0o777)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        path.chmod(mode)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise _cannot_listen(f"at {path}", error) from error
    listener.setblocking(False)
    return listener


def inherited(environment: Mapping[str, str], process_id: int) -> list[socket.socket]:
    """Return the listening sockets that the service manager passed (sd_listen_fds(3)), if any.

    `environment` holds ``LISTEN_PID`` and ``LISTEN_FDS``; they count only if meant for `process_id`.

    Raises `OSError` if a descriptor is no listening stream socket; its `strerror` names it.
    """
    if environment.get("LISTEN_PID") != str(process_id):
        return []
    count = environment.get("LISTEN_FDS", "")
    if not count.isascii() or not count.isdigit():
        raise OSError(errno.EINVAL, f"LISTEN_FDS is {count!r}; it must be a number")
    return adopted(range(LISTEN_FDS_START, LISTEN_FDS_START + int(count)))


def adopted(descriptors: Iterable[int]) -> list[socket.socket]:
    """Return the listening sockets that another process passed as `descriptors`.

    Raises `OSError` if one is no listening stream socket; its `strerror` names it.
    """
    listeners = [_passed(descriptor) for descriptor in descriptors]
    for listener in listeners:
        listener.setblocking(False)
    return listeners


def _passed(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        listener = socket.socket(fileno=descriptor)
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return listener
        listener.detach()
    except OSError:
        # The descriptor is no socket, or is closed.
        pass
    raise OSError(errno.EINVAL, f"descriptor {descriptor} was passed, but it is no listening socket")


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and above with the PEM files `certificate` (the whole chain) and `key`.

    Raises `OSError` if a file cannot be read or the key is encrypted, `ssl.SSLError` if the two do not match.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key, password=_refuse_to_decrypt)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _refuse_to_decrypt() -> str:
    # Without this callback OpenSSL would ask at the terminal, and block the server.
    raise OSError(
        errno.EINVAL, "the key is encrypted; write it without a passphrase, such as by openssl pkey -in -out"
    )


def address_of(listener: socket.socket) -> str:
    """Return where `listener` listens, for people: ``127.0.0.1:8000``, ``[::1]:8000`` or ``unix:/path``."""
    address = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{address}"
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cannot_listen(place: str, error: OSError | UnicodeError) -> OSError:
    """Return `error` with the `place` at which the server cannot listen."""
    if isinstance(error, UnicodeError):
        # DNS cannot express the name, such as one with two dots in a row.
        return OSError(errno.EINVAL, f"cannot listen {place}: this is not a host name")
    # The number of a `gaierror` is no errno.
    number = errno.EADDRNOTAVAIL if isinstance(error, socket.gaierror) else error.errno or errno.EINVAL
    return OSError(number, f"cannot listen {place}: {error.strerror or error}")


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "something other than a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except BlockingIOError:
            # Its backlog is full: another process listens.
            pass
    raise OSError(errno.EADDRINUSE, "another process listens there")
