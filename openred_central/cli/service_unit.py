"""`systemd-unit`: the units with which systemd runs the server, as little privileged as it can be.

Everything in a unit follows from the settings: those that were given are written into it, and what they need
beside the state directory, a port below 1024 or a certificate, say, is granted, and nothing else.
Source of the directives: systemd.exec(5), systemd.service(5), systemd.socket(5), systemd.resource-control(5).
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import PurePosixPath
from typing import Final

from ..exit_codes import TO_BE_MENDED
from ..server.descriptors import needed
from ..settings.config import SETTINGS, ConfigError, Configuration

NAME: Final = "openred-central"
# Beside the drain: the last flush, and connections that have to be cut.
STOP_MARGIN_S: Final = 40.0
WATCHDOG_S: Final = 30
FIRST_UNPRIVILEGED_PORT: Final = 1_024
# What the unit names by other means than a setting's value, or not at all.
CREDENTIALS: Final = ("tls_certificate", "tls_key")
FOLDERS: Final = ("database", "snapshot_folder", "unix_socket")

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:=,@+-]+")

_SANDBOX: Final = """\
# It owns nothing but its state directory, and sees as little of the machine as it can.
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


def service_unit(configuration: Configuration, python: str) -> str:
    """The text of ``openred-central.service``.

    `python` is the absolute path of the interpreter that has this package. Where the unit that `socket_unit`
    makes is enabled too, systemd passes its sockets, and the server does not listen itself.

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
        "# A database of millions of nodes takes its time to load.",
        "TimeoutStartSec=15min",
        f"TimeoutStopSec={configuration.drain_timeout_s + STOP_MARGIN_S:.0f}s",
        f"WatchdogSec={WATCHDOG_S}s",
        "Restart=on-failure",
        "RestartSec=2s",
        "# Wrong usage, or what somebody has to mend: trying again does not help.",
        f"RestartPreventExitStatus=2 {TO_BE_MENDED}",
        f"LimitNOFILE={needed(configuration.connections_max, configuration.probes_max)}",
        "StateDirectory=openred",
        "StateDirectoryMode=0700",
        "RuntimeDirectory=openred",
        "WorkingDirectory=%S/openred",
        *_paths(configuration),
        "",
        _SANDBOX.format(
            # A user namespace of its own has no right to a low port of the machine.
            private_users="no" if port_is_low else "yes",
            capabilities="CAP_NET_BIND_SERVICE" if port_is_low else "",
        ),
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def socket_unit(configuration: Configuration) -> str:
    """The text of ``openred-central.socket``: systemd listens, also while the server restarts.

    Raises `ConfigError` for a host that is no address, and for port 0: systemd resolves and chooses nothing.
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
        # All addresses are those of IPv4, too, as where the server itself listens.
        *([f"ListenStream=0.0.0.0:{configuration.port}"] if host == "::" else []),
        *([f"ListenStream={quoted(configuration.unix_socket)}"] if configuration.unix_socket else []),
        "# As with the server's own sockets: IPv6 is IPv6.",
        "BindIPv6Only=ipv6-only",
        "SocketMode=0660",
        f"Backlog={configuration.engine().backlog}",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    ]
    return "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    """`word` as one word of a unit: in quotes where it has to be, and no specifier in it.

    Raises `ConfigError` for a word with a control character: a line break would begin another directive.
    """
    if any(character < " " or character == "\x7f" for character in word):
        raise ConfigError(f"{word!r} cannot stand in a unit, allowed is text without control characters")
    escaped = word.replace("%", "%%")
    if _PLAIN.fullmatch(escaped):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _environment(configuration: Configuration) -> list[str]:
    """Every setting that was given, and where the database lies where that was not."""
    lines = []
    if "database" not in configuration.given_as:
        lines.append(f"Environment={SETTINGS['database'].variable}=%S/openred/openred.db")
    for name in configuration.given_as:
        setting, value = SETTINGS[name], getattr(configuration, name)
        if name in CREDENTIALS and value:
            # The files stay readable for root only; systemd hands over copies.
            lines.append(f"LoadCredential={quoted(f'{name}:{value}')}")
            lines.append(f"Environment={setting.variable}=%d/{name}")
        else:
            lines.append(f"Environment={quoted(f'{setting.variable}={setting.kind.show(value)}')}")
    return lines


def _paths(configuration: Configuration) -> list[str]:
    """The folders beside the state directory that the settings name, which are to be writable."""
    folders = set()
    for name in FOLDERS:
        path = PurePosixPath(getattr(configuration, name))
        folder = path if name == "snapshot_folder" else path.parent
        if path.is_absolute() and not str(folder).startswith(("/var/lib/openred", "/run/openred")):
            folders.add(str(folder))
    return [f"ReadWritePaths={quoted(folder)}" for folder in sorted(folders)]
