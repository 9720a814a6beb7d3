"""The settings of one run: `Configuration`. It makes the options of each part of the server.

The settings themselves are in `table`. Options with a field of the name of a setting get it by `_named`; to
pass on any other, add it to the method that makes the options of its part. `_misfits` checks the relations
between settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..api.admin.admission import OperatorsOptions
from ..api.caller.limiting import LimitOptions
from ..directory.directory import DirectoryOptions
from ..directory.life.mass_silence import MassSilenceOptions
from ..directory.lifecycle import LifecycleOptions
from ..limits.gcra import Policy
from ..limits.origins import UNIX
from ..micro_engine.limits import EngineLimits
from ..security.directory_keys.root import KeyOptions, QuantumPolicy
from ..tasks.prober import ProberOptions
from ..tasks.saver import SaverOptions
from ..tasks.snapshotter import SnapshotOptions
from .kinds import Kind, Rate, show_duration
from .table import Settings

PREFIX = "OPENRED_"


# Settings that a leader uses for the whole cluster; all instances should agree on them.
LEADER_SETTINGS: Final = (
    *("max_nodes", "nodes_bytes_max"),
    *(
        "heartbeat_tolerance_s",
        "grace_s",
        "second_look_s",
        "retry_48h_s",
        "retry_2w_s",
        "retry_2m_s",
        "coma_s",
    ),
    *("tombstone_s", "patience_factor_max", "forecast", "analytics_days"),
    *("heartbeat_advice_s", "heartbeat_advice_min_s", "heartbeats_advised_per_s"),
    *("mass_silence_share", "mass_silence_nodes_min", "mass_silence_hold_max_s", "all_silent_s"),
    *("probe", "probe_allow_private", "cluster_missing_s"),
    *("auth", "authority", "min_rsa_bits", "token_suite", "pq", "offline_root", "classical_root"),
    *("limit_register", "limit_proof_fail", "limit_token", "limit_new_nodes", "nodes_per_network_max"),
)


class ConfigError(Exception):
    """Settings cannot be used. The message has a line for each: name, given value, and what is allowed."""


class Setting(NamedTuple):
    """One row of the table."""

    name: str
    default: Any
    kind: Kind
    meaning: str

    @property
    def variable(self) -> str:
        """Return the environment variable of the setting, such as ``OPENRED_MAX_NODES``."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """Return the command-line flag of the setting, such as ``--max-nodes``."""
        return "--" + self.name.replace("_", "-")


def _policy(name: str, rate: Rate | None, *, spare: int = 0) -> Policy | None:
    """Return the policy for `rate`, None if it is off; `spare` more requests may come at once."""
    return rate and Policy(name, rate.limit, rate.window_s, rate.limit + spare)


class Configuration(Settings):
    """One value for each setting. Raises `ConfigError` if they do not fit together."""

    def __post_init__(self) -> None:
        if wrong := list(self._misfits()):
            # Call each setting by its flag or variable if it was given.
            named = (re.sub(r"\w+", lambda word: self.given_as.get(word[0], word[0]), line) for line in wrong)
            raise ConfigError("\n".join(named))

    def _misfits(self) -> Iterator[str]:
        """Yield a line for each setting that does not fit the others."""
        if bool(self.tls_certificate) != bool(self.tls_key):
            given, missing = "tls_certificate", "tls_key"
            if self.tls_key:
                given, missing = missing, given
            yield f"{given} is set but {missing} is not, allowed is both or neither"
        if self.flush_interval_s > self.heartbeat_tolerance_s:
            yield (
                f"flush_interval_s is {show_duration(self.flush_interval_s)}, allowed is at most "
                f"heartbeat_tolerance_s, which is {show_duration(self.heartbeat_tolerance_s)}: a crash must "
                "not forget more than is forgiven"
            )
        if self.is_shared and self.workers > 1:
            yield (
                f"workers is {self.workers}, allowed is 1 with a database that instances share: start more "
                "instances on this machine, each with its own ports"
            )
        if self.is_shared and not self.key_secret_file:
            yield (
                "database is shared by instances but key_secret_file is not set, allowed is only a file with "
                "the secret that all instances of a cluster have in common"
            )
        if self.is_shared and self.offline_root and not self.key_folder:
            yield (
                "offline_root is set but key_folder is not, allowed with a database that instances share is "
                "only a folder that they share, too: key sets go to the root key and come back there"
            )
        if self.auth == "strict" and not self.authority:
            yield (
                "auth is strict but authority is not set: requests signed for another directory could be "
                "sent on to this one"
            )
        parts: tuple[Callable[[], object], ...] = (
            *(self.lifecycle, self.engine, self.limits, self.keys, self.directory),
            *(self.mass_silence, self.saver, self.prober, self.snapshotter),
        )
        for options in parts:
            try:
                options()
            except ValueError as error:
                yield str(error)

    def _named(self, options: type[Any]) -> dict[str, Any]:
        """Return the settings that are fields of the class `options`, as arguments for it."""
        return {row.name: getattr(self, row.name) for row in fields(options) if row.name in SETTINGS}

    @property
    def is_shared(self) -> bool:
        """Return whether several instances share the database."""
        return self.database.startswith("postgresql://")

    def of_leader(self) -> dict[str, str]:
        """Return `LEADER_SETTINGS` by their variables, as they are written."""
        rows = (SETTINGS[name] for name in LEADER_SETTINGS)
        return {row.variable: row.kind.show(getattr(self, row.name)) for row in rows}

    def keys(self) -> KeyOptions:
        """Return the kind of the directory's own keys."""
        suite = "h" if self.token_suite == "hybrid" else self.token_suite
        return KeyOptions(suite, QuantumPolicy(self.pq), self.offline_root, self.classical_root)

    def lifecycle(self) -> LifecycleOptions:
        """Return how long each state of a node lasts."""
        return LifecycleOptions(**self._named(LifecycleOptions))

    def engine(self) -> EngineLimits:
        """Return the limits of the HTTP engine; trusted proxies are exempt: they serve many clients."""
        proxies = tuple(proxy for proxy in self.trusted_proxies if proxy != UNIX)
        return EngineLimits(exempt_networks=self.rate_limit_exempt + proxies, **self._named(EngineLimits))

    def limits(self) -> LimitOptions:
        """Return the rate limits."""
        return LimitOptions(
            register=_policy("register", self.limit_register),
            discover=_policy("discover", self.limit_discover),
            proof_fail=_policy("proof-fail", self.limit_proof_fail),
            heartbeat=_policy("heartbeat", self.limit_heartbeat, spare=1),
            token=_policy("token", self.limit_token),
            new_nodes=_policy("new-nodes", self.limit_new_nodes),
            exempt_networks=self.rate_limit_exempt,
            **self._named(LimitOptions),
        )

    def directory(self) -> DirectoryOptions:
        """Return the limits of the directory, and what it does by itself."""
        return DirectoryOptions(
            nodes_max=self.max_nodes,
            nodes_bytes_max=self.nodes_bytes_max,
            shards=self.shards,
            patience_factor_max=self.patience_factor_max,
            heartbeat_advice_s=self.heartbeat_advice_s,
            probing=self.probe != "none",
            forecast=self.forecast,
            heartbeat_advice_min_s=self.heartbeat_advice_min_s,
            heartbeats_advised_per_s=self.heartbeats_advised_per_s,
            analytics_days=self.analytics_days,
        )

    def mass_silence(self) -> MassSilenceOptions:
        """Return when silence counts as mass silence, and how long it holds transitions."""
        return MassSilenceOptions(
            share=self.mass_silence_share,
            nodes_min=self.mass_silence_nodes_min,
            hold_s_max=self.mass_silence_hold_max_s,
            all_silent_s=self.all_silent_s,
        )

    def saver(self) -> SaverOptions:
        """Return how often changes are saved."""
        return SaverOptions(**self._named(SaverOptions))

    def snapshotter(self) -> SnapshotOptions:
        """Return how often snapshots are taken, and how many are kept."""
        return SnapshotOptions(**self._named(SnapshotOptions))

    def operators(self) -> OperatorsOptions:
        """Return where to listen for operators."""
        return OperatorsOptions(
            host=self.admin_host,
            port=self.admin_port,
            socket=Path(self.admin_socket) if self.admin_socket else None,
            secret_file=Path(self.admin_secret_file) if self.admin_secret_file else None,
            names=self.admin_names,
        )

    @property
    def probes_max(self) -> int:
        """Return how many nodes are probed at once; 0 if probes are off."""
        return self.probe_concurrency if self.probe != "none" else 0

    def prober(self) -> ProberOptions:
        """Return how many nodes are probed at once, as the options of the prober."""
        return ProberOptions(concurrency=self.probe_concurrency)


SETTINGS = {
    row.name: Setting(row.name, row.default, row.metadata["kind"], row.metadata["meaning"])
    for row in fields(Configuration)
    if row.metadata
}


def is_service_link(variable: str, environment: Mapping[str, str]) -> bool:
    """Return whether Kubernetes made `variable` for a service, such as ``OPENRED_PORT=tcp://10.0.0.1:8000``.

    Every container gets such variables if its namespace has a service named ``openred`` or ``openred-admin``.
    """
    return variable.endswith("_PORT") and environment[variable].startswith(("tcp://", "udp://", "sctp://"))


def load(flags: Mapping[str, str], environment: Mapping[str, str]) -> Configuration:
    """Return the configuration from `flags`, setting name → text, and the variables of `environment`.

    Raises `ConfigError`, with a line for every setting that cannot be used.
    """
    values: dict[str, Any] = {}
    given_as: dict[str, str] = {}
    wrong: list[str] = []
    for setting in SETTINGS.values():
        if setting.name in flags:
            written, given_as[setting.name] = flags[setting.name], setting.flag
        elif setting.variable in environment and not is_service_link(setting.variable, environment):
            written, given_as[setting.name] = environment[setting.variable], setting.variable
        else:
            continue
        kind = setting.kind
        try:
            # Check this before any kind parses it: a line break would split the line that shows the value.
            if not written.isprintable():
                raise ValueError(written)
            values[setting.name] = kind.parse(written)
        except ValueError:
            allowed = f"{kind.allowed} ({kind.form})" if kind.form else kind.allowed
            wrong.append(f"{given_as[setting.name]} is {written[:80]!r}, allowed is {allowed}")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return Configuration(**values, given_as=given_as)
