"""`systemd-unit`: print the units with which systemd runs the server with few privileges.

A unit contains the settings that were given. Besides the state directory, it grants only what they need, such
as a port below 1024 or a certificate.
Sources: systemd.exec(5), systemd.service(5), systemd.socket(5), systemd.resource-control(5).
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import sys
from pathlib import PurePosixPath
from typing import Final

from ..exit_codes import ExitCode
from ..server.assembly import descriptors_needed
from ..settings.config import SETTINGS, ConfigError, Configuration
from .command import Command, argument, configuration_of
from .console import Console

NAME: Final = "openred-central"
# Time for what follows the drain: the last flush, and closing connections.
STOP_MARGIN_S: Final = 40.0
WATCHDOG_S: Final = 30
FIRST_UNPRIVILEGED_PORT: Final = 1_024
# Settings whose files systemd copies for the server, and settings whose folders must be writable.
CREDENTIALS: Final = ("tls_certificate", "tls_key", "key_secret_file", "database_password_file")
FOLDERS: Final = ("database", "snapshot_folder", "unix_socket")

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:=,@+-]+")

_SANDBOX: Final = """\
# The server owns only its state directory, and sees as little of the machine as possible.
DynamicUser=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers={private_users}
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
DevicePolicy=closed
UMask=0077
"""


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the unit of the server, or of its socket."""
    configuration = configuration_of(options, console)
    if options.socket:
        console.say(socket_unit(configuration).rstrip("\n"))
        return ExitCode.DONE
    console.say(service_unit(configuration, sys.executable).rstrip("\n"))
    if sys.executable.startswith(("/home/", "/root/", "/run/user/")):
        console.complain(
            f"warning: the unit hides {sys.executable.split('/')[1]}, where this program lies: "
            f"{sys.executable}; install it elsewhere, such as in /opt/openred"
        )
    return ExitCode.DONE


def service_unit(configuration: Configuration, python: str) -> str:
    """Return the text of ``openred-central.service``.

    `python` is the absolute path of the interpreter that has this package. If the unit of `socket_unit` is
    enabled too, systemd passes its sockets and the server does not listen itself.

    Raises `ConfigError` for an interpreter whose path cannot stand in a unit.
    """
    port_is_low = 0 < configuration.port < FIRST_UNPRIVILEGED_PORT
    lines = [
        f"# Save as /etc/systemd/system/{NAME}.service, then:",
        f"#   systemctl daemon-reload && systemctl enable --now {NAME}.service",
        "[Unit]",
        "Description=OpenRed Central, a directory of the nodes of decentralised networks",
        "Wants=network-online.target",
        f"After=network-online.target {NAME}.socket",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={quoted(python).replace('$', '$$')} -m openred_central serve",
        *_environment(configuration),
        "# Further settings, such as OPENRED_MAX_NODES=1000000, one a line.",
        f"EnvironmentFile=-/etc/{NAME}.env",
        "# Loading millions of nodes takes time.",
        "TimeoutStartSec=15min",
        f"TimeoutStopSec={configuration.drain_timeout_s + STOP_MARGIN_S:.0f}s",
        f"WatchdogSec={WATCHDOG_S}s",
        "Restart=on-failure",
        "RestartSec=2s",
        "# Wrong usage, or a setting or file that the operator has to fix: another try does not help.",
        f"RestartPreventExitStatus={ExitCode.USAGE:d} {ExitCode.CONFIG:d}",
        f"LimitNOFILE={descriptors_needed(configuration.connections_max, configuration.probes_max)}",
        "StateDirectory=openred",
        "StateDirectoryMode=0700",
        "RuntimeDirectory=openred",
        "WorkingDirectory=%S/openred",
        *_paths(configuration),
        "",
        _SANDBOX.format(
            # In a user namespace of its own, the server could not use a low port.
            private_users="no" if port_is_low else "yes",
            capabilities="CAP_NET_BIND_SERVICE" if port_is_low else "",
        ),
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def socket_unit(configuration: Configuration) -> str:
    """Return the text of ``openred-central.socket``: systemd listens, also while the server restarts.

    Raises `ConfigError` for a host that is no address, and for port 0: systemd resolves no names and chooses
    no ports.
    """
    try:
        ipaddress.ip_address(configuration.host)
    except ValueError:
        raise ConfigError(
            f"host is {configuration.host!r}, allowed in a socket unit is an address such as 0.0.0.0 or ::"
        ) from None
    if configuration.port == 0:
        raise ConfigError("port is 0, allowed in a socket unit is 1 to 65535")
    # The zone of an address, such as fe80::1%eth0, is no specifier.
    host = configuration.host.replace("%", "%%")
    lines = [
        f"# Save as /etc/systemd/system/{NAME}.socket, beside {NAME}.service, then:",
        f"#   systemctl daemon-reload && systemctl enable --now {NAME}.socket",
        "[Unit]",
        "Description=The listening socket of OpenRed Central",
        "",
        "[Socket]",
        f"ListenStream={f'[{host}]' if ':' in host else host}:{configuration.port}",
        # For ::, the server itself listens on all addresses of IPv4, too.
        *([f"ListenStream=0.0.0.0:{configuration.port}"] if host == "::" else []),
        *([f"ListenStream={quoted(configuration.unix_socket)}"] if configuration.unix_socket else []),
        "# The server's own IPv6 sockets accept no IPv4 connections either.",
        "BindIPv6Only=ipv6-only",
        "SocketMode=0660",
        f"Backlog={configuration.engine().backlog}",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    ]
    return "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    """Return `word` as one word of a unit: quoted if necessary, with specifiers escaped.

    Raises `ConfigError` for a word with a control character: a line break would begin another directive.
    """
    if any(character < " " or character == "\x7f" for character in word):
        raise ConfigError(f"{word!r} cannot stand in a unit, allowed is text without control characters")
    escaped = word.replace("%", "%%")
    if _PLAIN.fullmatch(escaped):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _environment(configuration: Configuration) -> list[str]:
    """Return a line for each setting that was given, and one for the database."""
    lines = []
    if "database" not in configuration.given_as:
        lines.append(f"Environment={SETTINGS['database'].variable}=%S/openred/openred.db")
    for name in configuration.given_as:
        setting, value = SETTINGS[name], getattr(configuration, name)
        if name in CREDENTIALS and value:
            # Only root needs to read the files: systemd passes copies.
            lines.append(f"LoadCredential={quoted(f'{name}:{value}')}")
            lines.append(f"Environment={setting.variable}=%d/{name}")
        else:
            lines.append(f"Environment={quoted(f'{setting.variable}={setting.kind.show(value)}')}")
    return lines


def _paths(configuration: Configuration) -> list[str]:
    """Return a line for each writable folder of the settings outside of the state directory."""
    folders = set()
    for name in FOLDERS:
        path = PurePosixPath(getattr(configuration, name))
        folder = path if name == "snapshot_folder" else path.parent
        if path.is_absolute() and not str(folder).startswith(("/var/lib/openred", "/run/openred")):
            folders.add(str(folder))
    return [f"ReadWritePaths={quoted(folder)}" for folder in sorted(folders)]


COMMAND = Command(
    "systemd-unit",
    "print a unit with which systemd runs the server, with these settings",
    run,
    (argument("--socket", action="store_true", help="print the unit of the listening socket instead"),),
)
