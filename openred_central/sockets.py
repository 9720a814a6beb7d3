"""Listening sockets: by host and port, at a path, or inherited from the service manager; and TLS."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

# The first descriptor that systemd passes (sd_listen_fds(3)).
LISTEN_FDS_START: Final = 3
# This machine does not have the address, or not the protocol; no other process is in the way.
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

log = logging.getLogger(__name__)


def listen_tcp(host: str, port: int, *, backlog: int) -> list[socket.socket]:
    """Sockets that listen on every address of `host` at one `port`; 0 stands for one that is free.

    An empty `host` is every interface, and so is ``::``, for IPv4 too. `backlog` is how many connections wait
    to be accepted. Where this machine lacks one of several addresses, that is left out, and the log says so.

    Raises `OSError` where no address exists or one is taken; its `strerror` names host and port.
    """
    listeners: list[socket.socket] = []
    missing: dict[str, OSError] = {}
    try:
        for family, kind, protocol, _, address in _addresses(host, port):
            # Where any free port will do, it is the same one for all.
            chosen = listeners[0].getsockname()[1] if listeners else port
            try:
                listeners.append(_listening(family, kind, protocol, (address[0], chosen, *address[2:])))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing[address[0]] = error
        for name, why in missing.items():
            if not listeners:
                raise why
            log.warning("cannot listen on %s, port %d: %s", name, port, why.strerror)
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
    # As bytes where that is the same: text is turned by `encodings.idna`, 1.5 ms and 0.4 MB to import.
    name = host.encode("ascii") if host.isascii() else host
    found = socket.getaddrinfo(
        None if every else name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys(found))


def _listening(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
    """A socket bound to `address`. Raises `OSError`, with nothing left open."""
    listener = socket.socket(family, kind, protocol)
    try:
        # Connections of the last run that are still winding down must not keep the new one from starting.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has its own socket: one that took both would show mapped addresses.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def listen_unix(path: Path, *, mode: int = 0o660, backlog: int) -> socket.socket:
    """A socket that listens at `path`, with file permissions `mode` from its first moment on.

    A socket left over from a run that was killed is removed; one at which somebody listens is not.

    Raises `OSError` where somebody listens at `path`, or something else than a socket is there, or nothing
    can be; its `strerror` names the path.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # Connecting needs the right to write: with none, nobody gets in before `mode` is set.
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
    """The listening sockets that the service manager passed (sd_listen_fds(3)); none where it passed none.

    `environment` holds ``LISTEN_PID`` and ``LISTEN_FDS``; they count only if meant for `process_id`.

    Raises `OSError` where a descriptor is no listening stream socket; its `strerror` names it.
    """
    if environment.get("LISTEN_PID") != str(process_id):
        return []
    count = environment.get("LISTEN_FDS", "")
    if not count.isascii() or not count.isdigit():
        raise OSError(errno.EINVAL, f"LISTEN_FDS is {count!r}, allowed is a number")
    listeners: list[socket.socket] = []
    for descriptor in range(LISTEN_FDS_START, LISTEN_FDS_START + int(count)):
        listener = _passed(descriptor)
        listener.setblocking(False)
        listeners.append(listener)
    return listeners


def _passed(descriptor: int) -> socket.socket:
    """The listening socket that `descriptor` is."""
    try:
        os.set_inheritable(descriptor, False)
        listener = socket.socket(fileno=descriptor)
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return listener
        listener.detach()
    except OSError:
        # Not even a socket, or closed.
        pass
    raise OSError(errno.EINVAL, f"descriptor {descriptor} was passed, but it is no listening socket")


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What serves TLS 1.2 and above with the PEM files `certificate` (the whole chain) and `key`.

    Raises `OSError` where a file cannot be read or the key is encrypted, `ssl.SSLError` where the two do not
    belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key, password=_refuse_to_decrypt)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _refuse_to_decrypt() -> str:
    # Without this OpenSSL asks at the terminal, and a server that waits for a person hears no signal.
    raise OSError(
        errno.EINVAL, "the key is encrypted; write it without a passphrase, such as by openssl pkey -in -out"
    )


def address_of(listener: socket.socket) -> str:
    """Where `listener` listens, for people: ``http``-like ``127.0.0.1:8000``, ``[::1]:8000`` or a path."""
    address = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{address}"
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cannot_listen(place: str, error: OSError | UnicodeError) -> OSError:
    """`error`, with the place at which nobody can listen because of it."""
    if isinstance(error, UnicodeError):
        # A name that cannot be written as the Domain Name System wants it, such as one with two dots.
        return OSError(errno.EINVAL, f"cannot listen {place}: this is no host name")
    # A name that is not found has a number of its own kind, which means something else among these.
    number = errno.EADDRNOTAVAIL if isinstance(error, socket.gaierror) else error.errno or errno.EINVAL
    return OSError(number, f"cannot listen {place}: {error.strerror or error}")


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "something that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except BlockingIOError:
            # Its backlog is full: somebody listens.
            pass
    raise OSError(errno.EADDRINUSE, "another process listens there")
