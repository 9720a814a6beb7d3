"""`cluster`: the instances of a cluster, and who of them leads."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson

from ..directory.losing import Loss
from ..exit_codes import ExitCode
from ..http_requests import NoReply, request
from ..settings.config import Configuration
from ..storage.loading import Kind, kind_of
from ..storage.store import StoreError
from ..wording import rfc3339
from .command import Command, CommandFailed, UsageError, argument, configuration_of
from .console import Console
from .health import own_url
from .operating import ask, operate
from .showing import safe

TIMEOUT_S: Final = 10.0
STATS: Final = "/stats"
LOSSES: Final = {
    Loss.GONE: "is not registered any more",
    Loss.OLDER: "is as it was before its last change",
    Loss.BACK: "is there, although it had left or died",
}


def run(options: argparse.Namespace, console: Console) -> int:
    """Do what the action says."""
    configuration = configuration_of(options, console)
    if options.action == "forget":
        if options.name is None:
            raise UsageError("cluster forget needs the name of an instance that is missing")
        console.say(operate(configuration, f"/admin/instances/{quote(options.name, safe='')}/forget"))
        return ExitCode.DONE
    if options.action == "accept-database":
        console.say(operate(configuration, "/admin/cluster/accept-database"))
        return ExitCode.DONE
    if options.action == "lost":
        for line in lost(ask(configuration, "GET", "/admin/cluster/lost")):
            console.say(line)
        return ExitCode.DONE
    return status(options, configuration, console)


def status(options: argparse.Namespace, configuration: Configuration, console: Console) -> int:
    """Print the instances, or only who leads if no instance answers."""
    try:
        found = asked(options.url or own_url(configuration), verified=bool(options.url))
    except ValueError as error:
        raise UsageError(f"--url: {error}") from error
    lines = in_database(configuration, found) if isinstance(found, str) else instances(found)
    for line in lines:
        console.say(line)
    return ExitCode.DONE


def asked(url: str, *, verified: bool) -> dict[str, Any] | str:
    """Return what the instance at `url` tells of its cluster, or why it does not.

    Over TLS, the certificate is verified if `verified`. Raises `ValueError` if `url` is no URL of a server,
    and `CommandFailed` for a server that is in no cluster.
    """
    try:
        reply = request("GET", url, STATS, timeout_s=TIMEOUT_S, verified=verified)
    except NoReply as error:
        return str(error)
    if reply.status != 200:
        return f"{url} answers {STATS} with {reply.status} {reply.reason}"
    try:
        cluster = orjson.loads(reply.body)["cluster"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        raise CommandFailed(f"the answer of {url} tells of no cluster: is it a directory?") from None
    if not isinstance(cluster, dict):
        raise CommandFailed(f"the server at {url} is in no cluster: its OPENRED_DATABASE is no PostgreSQL")
    return cluster


def instances(cluster: dict[str, Any]) -> Iterator[str]:
    """Yield a line for the cluster, and one for each instance."""
    leader = cluster.get("leader")
    yield (
        f"term {safe(cluster.get('term'))}, commit {safe(cluster.get('seq'))}, "
        f"led by {safe(leader) if leader else 'nobody'}"
    )
    for each in cluster.get("instances", ()):
        heard = "" if each.get("name") == leader else f", heard {safe(each.get('heard_s'))} s ago"
        version = f", version {safe(each['version'])}" if each.get("version") else ""
        yield f"{safe(each.get('name'))}: {safe(each.get('role'))}{version}{heard}"


def lost(answer: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each lost change that an instance named, and one for all."""
    for each in answer.get("changes", ()):
        meaning = LOSSES.get(each.get("loss"), "has lost a change")
        yield f"{safe(each.get('node_id'))} {meaning}"
    yield f"{safe(answer.get('total'))} acknowledged changes are lost, as far as this instance knows"


def in_database(configuration: Configuration, why: str) -> list[str]:
    """Return the lines for what the database tells of the cluster. `why` no instance does, is said as well.

    Raises `CommandFailed` where there is none, or where it cannot be read.
    """
    if kind_of(configuration.database) is not Kind.SERVER:
        raise CommandFailed(f"no instance tells ({why}): name one by --url, or its PostgreSQL by --database")
    try:
        # The client of PostgreSQL is an extra.
        from ..storage.postgres.looking import read_row  # noqa: PLC0415

        file = configuration.database_password_file
        row = read_row(
            configuration.database, Path(file) if file else None, is_pooled=configuration.database_pooled
        )
    except (StoreError, ImportError) as error:
        raise CommandFailed(f"no instance tells ({why}), and no database: {error}") from error
    name = row.leader.get("name")
    lead = f"led by {safe(name)}, which renewed its lease at {rfc3339(row.at)}" if name else "led by nobody"
    return [f"term {row.term}, commit {row.seq}, {lead}", f"no instance tells more ({why})"]


COMMAND = Command(
    "cluster",
    "print the instances of a cluster and which of them leads, or decide what they cannot decide",
    run,
    (
        argument(
            "action",
            metavar="status|forget|accept-database|lost",
            choices=("status", "forget", "accept-database", "lost"),
        ),
        argument("name", metavar="NAME", nargs="?", help="name of the instance to forget"),
        argument("--url", metavar="URL", help="address of an instance; default: that of the settings"),
    ),
    """\
  openred-central cluster status
  openred-central cluster status --url https://directory.example
  openred-central cluster forget two
  openred-central cluster accept-database
  openred-central cluster lost
""",
    """\
The leader tells of all instances; any instance asks it. If none answers, the database of the settings tells
who led last, and since which commit.

While an instance is missing that may have heard nodes, no node is buried, for a day at most. If it will not
come back, let the leader `forget` it.

If the database is at a state of long ago, such as a restored backup, instances that know better do not lead
there, until `accept-database` tells one of them that it is the right one. `lost` lists the nodes of which an
instance knew acknowledged changes that a database has lost which went back.

These three reach the instance by the operators' listener of the settings.
""",
)
