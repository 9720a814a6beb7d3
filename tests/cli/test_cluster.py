"""`cluster` tells who leads: by an instance, or by the database alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from openred_central.cli import cluster
from openred_central.cli.command import CommandFailed, UsageError
from openred_central.cli.main import commands, make_parser
from tests.support.cluster_figures import LEADER
from tests.support.console import Recorded
from tests.support.postgres_store import leading
from tests.support.serving import closed_port

from .test_health import answering, response

PARSER = make_parser(commands(("cluster",)).values())


def said(*words: str) -> list[str]:
    recorded = Recorded()
    assert cluster.run(PARSER.parse_args(["cluster", "status", *words]), recorded.console) == 0
    assert recorded.complaints == []
    return recorded.said


def stats(told: Any) -> bytes:
    return response("200 OK", orjson.dumps({"cluster": told}))


def test_an_instance_tells_of_all() -> None:
    with answering(stats(LEADER.document())) as (url, asked):
        assert said("--url", url) == [
            "term 3, commit 17, led by one",
            "one: leader, version 3.0.0",
            "two: follower, heard 0.5 s ago",
        ]
    assert asked[0].startswith(b"GET /stats HTTP/1.1\r\n")


def test_names_of_instances_are_shown_without_control_characters() -> None:
    told = LEADER._replace(leader="o\x1b[2Jne").document()
    with answering(stats(told)) as (url, _):
        assert not [line for line in said("--url", url) if "\x1b" in line]


def test_a_server_in_no_cluster_says_so() -> None:
    with answering(stats(None)) as (url, _), pytest.raises(CommandFailed, match="is in no cluster"):
        said("--url", url)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no JSON", b'"text"'])
def test_an_answer_of_another_server_is_refused(body: bytes) -> None:
    with answering(response("200 OK", body)) as (url, _), pytest.raises(CommandFailed, match="a directory"):
        said("--url", url)


def test_without_an_answer_and_a_database_it_fails() -> None:
    with pytest.raises(CommandFailed, match=r"connection refused.*--database"):
        said("--url", f"http://127.0.0.1:{closed_port()}")
    with (
        answering(response("503 Service Unavailable")) as (url, _),
        pytest.raises(CommandFailed, match="503"),
    ):
        said("--url", url)


def test_the_database_tells_who_leads_if_no_instance_answers(database_url: str, tmp_path: Path) -> None:
    words = ("--url", f"http://127.0.0.1:{closed_port()}", "--database", database_url)
    words += ("--key-secret-file", str(tmp_path / "secret"))
    with pytest.raises(CommandFailed, match="start the server once as the owner"):
        said(*words)
    with leading(database_url) as store:
        first, second = said(*words)
        assert first.startswith("term 1, commit 0, led by run-1, which renewed its lease at 20")
        assert second.startswith("no instance tells more (connection refused")
        store.goodbye()
    assert said(*words)[0] == "term 1, commit 0, led by nobody"


def test_a_missing_instance_is_forgotten_by_the_leader(tmp_path: Path) -> None:
    database = str(tmp_path / "openred.db")
    (tmp_path / "openred.db.admin-secret").write_text("s" * 43)
    body = orjson.dumps({"status": "forgotten", "message": "Nobody waits for two any more."})
    with answering(response("200 OK", body)) as (url, asked):
        words = ["cluster", "forget", "two", "--database", database, "--admin-port", url.rpartition(":")[2]]
        recorded = Recorded()
        assert cluster.run(PARSER.parse_args(words), recorded.console) == 0
    assert recorded.said == ["Nobody waits for two any more."]
    assert asked[0].startswith(b"POST /admin/instances/two/forget HTTP/1.1\r\n")


def test_forgetting_needs_a_name() -> None:
    with pytest.raises(UsageError, match="needs the name"):
        cluster.run(PARSER.parse_args(["cluster", "forget"]), Recorded().console)
