"""The table of settings: a line of `Settings` for each, with its default, allowed values and meaning.

A setting is given as a flag (``--port 9000``), as an environment variable (``OPENRED_PORT=9000``), or has its
default; the flag wins over the variable. To add a setting, add a line to the table; `config` passes it
on to the part that needs it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..directory.lifecycle import DWELL_S_MAX
from ..directory.patience import FACTOR_MAX
from ..limits.network_quota import NODES_MAX
from ..limits.origins import FORWARDED, PORT_MAX, UNIX, X_FORWARDED_FOR
from ..micro_engine.limits import EngineLimits
from ..security.authority import Authorities
from ..security.directory_keys.root import QuantumPolicy
from ..security.node_keys import RSA_BITS_MAX, RSA_BITS_MIN
from .kinds import (
    DAY_S,
    Rate,
    choice,
    duration,
    networks,
    number,
    path,
    port_or_off,
    rate,
    switch,
    text,
    texts,
    whole,
)

_ENGINE = EngineLimits()
# More would share no machine of today.
WORKERS_MAX: Final = 256
# Names of regions and instances.
_NAME: Final = re.compile(r"[a-z0-9_.-]{1,64}")
_PLACE: Final = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


def _dwell(default_s: float, meaning: str, *, minimum_s: float = 0.001) -> Any:
    return duration(default_s, minimum_s, DWELL_S_MAX, meaning)


def _check_host(written: str) -> None:
    """Raise `ValueError` unless `written` is a host name or an address, without a port."""
    if ":" in written:
        ipaddress.IPv6Address(written)
    else:
        Authorities((written,))


# A configuration is neither compared nor printed.
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Settings:
    """One value for each setting. Durations are in seconds, sizes in bytes.

    `given_as` holds, for each setting that was given, its flag or variable; the others have their defaults.
    """

    given_as: Mapping[str, str] = field(default_factory=dict)

    # Loopback by default: nobody opens a directory to a network by accident.
    host: str = text(
        "127.0.0.1", "an address or a name", "Address to listen on; 0.0.0.0 for all IPv4, :: for all."
    )
    port: int = whole(8_000, 0, PORT_MAX, "Port to listen on; 0: any free port.")
    unix_socket: str = path("", "Path of a Unix socket to listen on as well.")
    workers: int = whole(
        1,
        1,
        WORKERS_MAX,
        "Processes that serve; 1: one process does everything, more: another one leads them.",
    )
    tls_certificate: str = path("", "File with the certificate chain (PEM).")
    tls_key: str = path("", "File with the certificate's private key (PEM).")
    admin_host: str = text("127.0.0.1", "an address or a name", "Address to listen on for operators.")
    admin_port: int | None = port_or_off(
        8_001, "Port to listen on for operators; 0: any free port, off: none."
    )
    admin_names: tuple[str, ...] = texts(
        "Names by which operators call this server, beside loopback and `OPENRED_ADMIN_HOST`.",
        "host names or addresses",
        _check_host,
    )
    admin_socket: str = path("", "Path of a Unix socket for operators, of mode 0600.")
    admin_secret_file: str = path("", "File with the operators' secret; nothing: beside the database.")
    log_level: str = choice(
        "info", ("debug", "info", "warning", "error"), "Least severe messages that are logged."
    )
    log: str = choice(
        "auto",
        ("auto", "text", "json"),
        "Form of the log: auto is text, coloured on a terminal; text is never coloured; json is JSON Lines.",
    )
    access_log: float = number(
        0.0, 0.0, 1.0, "Share of the requests that get a line in the log; 0: none, 1: all."
    )
    fast_path: bool = switch(
        True,
        "Answer repeated heartbeats without parser, router and handler, and read usual registrations by one "
        "flat check.",
    )

    database: str = path(
        "data/openred.db",
        "Path of the database; `memory:` stores nothing; `postgresql://user@host/name`: shared by instances.",
        word="memory:",
    )
    database_password_file: str = path(
        "", "File with the password for a database on a server; it is read at each connection."
    )
    database_pooled: bool = switch(
        False, "A pooler before the database may serve each transaction by another session."
    )
    instance: str = text(
        "",
        "1 to 64 of a-z 0-9 _ . -",
        "Name of this instance of a cluster; nothing: the name of the host.",
        _NAME,
    )
    cluster_host: str = text(
        "127.0.0.1", "an address or a name", "Address to listen on for the other instances."
    )
    cluster_port: int = whole(8_100, 0, PORT_MAX, "Port to listen on for the other instances.")
    cluster_url: str = text(
        "",
        "host:port",
        "Where the other instances reach this one; nothing: where it listens for them.",
        _PLACE,
    )
    may_lead: bool = switch(True, "Whether this instance may become the leader of its cluster.")
    lease_s: float = duration(
        2.5, 0.5, 60.0, "How long the leader of a cluster leads without an answer of the database."
    )
    cluster_missing_s: float = duration(
        DAY_S,
        0.0,
        30 * DAY_S,
        "How long no node is buried because an instance is missing that may have heard it.",
    )
    near: str = text(
        "", "1 to 64 of a-z 0-9 _ . -", "Region whose nodes come first where a discovery names none.", _NAME
    )
    flush_interval_s: float = duration(
        1.0, 0.01, 3_600.0, "How often signs of life are stored; a crash loses those that came since."
    )
    snapshot_interval_s: float = duration(
        3_600.0, 0.0, 365 * DAY_S, "How often the server takes a snapshot; 0: never."
    )
    snapshots_kept: int = whole(24, 1, 100_000, "Number of snapshots kept; older ones are removed.")
    snapshot_folder: str = path("", "Folder of snapshots; nothing: `snapshots` beside the database.")
    restore: str = choice(
        "auto",
        ("auto", "never"),
        "Damaged database at start: auto uses its newest good snapshot instead; never refuses to start.",
    )
    max_nodes: int = whole(100_000, 1, 50_000_000, "Number of nodes; further registrations are refused.")
    nodes_bytes_max: int = whole(
        0,
        0,
        1 << 50,
        "Memory for the records of all nodes, about, in bytes; "
        "0: 2048 for each of OPENRED_MAX_NODES, at least 1 MiB.",
    )
    shards: int = whole(64, 1, 4_096, "Shards of the registry; more shards make shorter pauses.")

    heartbeat_tolerance_s: float = _dwell(180 * DAY_S, "Silence until an active node becomes pending_1st.")
    grace_s: float = _dwell(2 * DAY_S, "Grace once the tolerance is over (pending_1st).")
    second_look_s: float = _dwell(
        3_600.0, "Wait once the grace is over (failed_1st); 0 skips it.", minimum_s=0.0
    )
    retry_48h_s: float = _dwell(2 * DAY_S, "The first of three further waits (retry_48h).")
    retry_2w_s: float = _dwell(14 * DAY_S, "The second of three further waits (retry_2w).")
    retry_2m_s: float = _dwell(60 * DAY_S, "The third of three further waits (retry_2m).")
    coma_s: float = _dwell(730 * DAY_S, "How long a node stays in coma before it is dead.")
    tombstone_s: float = _dwell(365 * DAY_S, "How long the name of a dead node stays reserved.")
    patience_factor_max: float = number(
        2.0,
        1.0,
        FACTOR_MAX,
        "How much longer a node may be silent that came back from a long absence, at most; 1: no longer.",
    )
    heartbeat_advice_s: float = duration(
        DAY_S, 1.0, DWELL_S_MAX, "Longest interval between heartbeats that nodes are advised to keep."
    )
    heartbeat_advice_min_s: float = duration(
        3_600.0,
        1.0,
        DWELL_S_MAX,
        "Shortest interval that is advised: to nodes that are not known yet, or are often away.",
    )
    heartbeats_advised_per_s: float = number(
        100.0,
        0.001,
        1e6,
        "Heartbeats a second that all nodes together are advised to send; then intervals grow.",
    )
    forecast: bool = switch(True, "Remember when nodes are there, and rank and advise them by it.")
    forecast_public: str = choice(
        "summary",
        ("summary", "all"),
        "What others are told of a node: grades alone, or also its hours and absences.",
    )
    analytics_days: int = whole(
        3_650, 1, 36_500, "Days of which `GET /analytics` keeps a row; older ones are removed."
    )
    tick_s: float = duration(1.0, 0.01, 60.0, "The scheduler handles deadlines at least this often.")

    mass_silence_share: float = number(
        0.05,
        0.001,
        1.0,
        "Share of all nodes that may fall silent within an hour before transitions are held; 1: never held.",
    )
    mass_silence_nodes_min: int = whole(
        100, 1, 50_000_000, "Fewer silent nodes than this never cause a hold."
    )
    mass_silence_hold_max_s: float = duration(
        DAY_S, 0.001, DWELL_S_MAX, "Longest time for which transitions are held."
    )
    all_silent_s: float = duration(
        3_600.0,
        0.0,
        DWELL_S_MAX,
        "Silence of all nodes after which attended time stands still until one is heard, at least; 0: never.",
    )

    probe: str = choice(
        "none", ("none", "tcp"), "How a silent node is probed: not at all, or by connecting to it."
    )
    probe_allow_private: bool = switch(
        False, "Probe private addresses, too; loopback and link-local ones are never probed."
    )
    probe_concurrency: int = whole(32, 1, 1_024, "Nodes probed at the same time.")

    body_bytes_max: int = whole(_ENGINE.body_bytes_max, 1_024, 1 << 30, "Longest request body, in bytes.")
    head_timeout_s: float = duration(
        _ENGINE.head_timeout_s, 0.1, 3_600.0, "Time for the head of a request to arrive."
    )
    body_timeout_s: float = duration(
        _ENGINE.body_timeout_s, 0.1, 3_600.0, "Time for the body of a request to arrive."
    )
    idle_timeout_s: float = duration(
        _ENGINE.idle_timeout_s, 0.1, DAY_S, "Time for which a connection may be idle."
    )
    write_timeout_s: float = duration(
        _ENGINE.write_timeout_s,
        0.1,
        3_600.0,
        "Time for which a client may leave a response unread; then it is disconnected.",
    )
    drain_timeout_s: float = duration(
        _ENGINE.drain_timeout_s, 0.1, 3_600.0, "Time for requests in flight to finish when the server stops."
    )
    connections_max: int = whole(_ENGINE.connections_max, 1, 1_000_000, "Connections at the same time.")
    connections_per_address_max: int = whole(
        _ENGINE.connections_per_address_max,
        1,
        1_000_000,
        "Connections of one address at a time (IPv6: one /64; a /56 may have 4, a /48 8 times as many).",
    )
    events_subscribers_max: int = whole(1_000, 0, 1_000_000, "Subscribers of GET /events at the same time.")
    waits_max: int = whole(
        5_000, 0, 1_000_000, "Requests for a node that wait until it changes; more are answered at once."
    )

    auth: str = choice(
        "open",
        ("open", "strict"),
        "Identity of nodes: open accepts nodes without a key; strict requires a signature for every change.",
    )
    authority: tuple[str, ...] = texts(
        "Names by which clients call this directory; requests signed for another name are refused.",
        "hosts, each with :port where it is not 80 or 443",
        lambda written: Authorities((written,)),
    )
    min_rsa_bits: int = whole(
        RSA_BITS_MIN, RSA_BITS_MIN, RSA_BITS_MAX, "Smallest RSA key that a node may have."
    )

    key_folder: str = path(
        "",
        "Folder of the directory's own keys; nothing: `keys` beside the database.",
    )
    key_secret_file: str = path(
        "",
        "File with the secret that encrypts these keys; nothing: they are not encrypted.",
    )
    token_suite: str = choice(
        "r",
        ("r", "R", "e", "hybrid"),
        "How tokens are signed: RSA-2048, RSA-3072, Ed25519, or RSA-3072 with ML-DSA-65 (quantum-safe).",
    )
    pq: str = choice(
        "auto",
        tuple(QuantumPolicy),
        "Quantum-safe root key: auto uses one if possible; require refuses to start without; off uses none.",
    )
    offline_root: bool = switch(
        False, "The root key is on another machine, where `openred-central keys sign-keyset` uses it."
    )
    classical_root: bool = switch(
        False,
        "A second root key, which is not quantum-safe, also signs the key set, for peers without ML-DSA-65.",
    )

    limit_register: Rate | None = rate(10, 60, "Registrations from one address (IPv6: one /64).")
    limit_discover: Rate | None = rate(60, 60, "Discoveries and look-ups from one address.")
    limit_proof_fail: Rate | None = rate(30, 60, "Failed proofs from one address.")
    limit_heartbeat: Rate | None = rate(1, 60, "Heartbeats of one node; two may come in a burst.")
    limit_token: Rate | None = rate(5, 60, "Tokens, or pairs of them, for one node.")
    limit_new_nodes: Rate | None = rate(200, 1, "New nodes in all.")
    nodes_per_network_max: int = whole(
        NODES_MAX, 1, 50_000_000, "New nodes from one /24 or IPv6 /56, since the start."
    )
    rate_limit_exempt: tuple[str, ...] = networks(
        "Networks without these limits, and without the limit of connections for one address."
    )
    trusted_proxies: tuple[str, ...] = networks(
        "Proxies trusted to report the client address; unix: those at the Unix socket.", words=(UNIX,)
    )
    forwarded_header: str = choice(
        X_FORWARDED_FOR,
        (X_FORWARDED_FOR, FORWARDED),
        "Header by which trusted proxies report the client address.",
    )

    def __post_init__(self) -> None:
        """Check what `Configuration` knows of the relations between settings."""
