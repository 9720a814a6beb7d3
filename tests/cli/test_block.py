"""Blocks are named by one flag, reach the operators' listener, and are listed in full."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from openred_central.cli import block, blocks, unblock
from openred_central.cli.command import UsageError
from openred_central.cli.main import commands, guard_values, make_parser
from tests.support.console import Recorded

NAMES = ("block", "unblock", "blocks")
KEY = "-" + "A" * 42
ANSWER = {"kind": "id", "subject": "a", "nodes": 1, "ends_at": None}


def run(monkeypatch: pytest.MonkeyPatch, *words: str, answer: Any = ANSWER) -> tuple[list[str], list[str]]:
    """Run a command. Return what it asked for, and what it printed."""
    asked = list[str]()

    def ask(_: object, method: str, path: str) -> Any:
        asked.append(f"{method} {path}")
        return answer.pop(0) if isinstance(answer, list) else answer

    for module in (block, unblock, blocks):
        monkeypatch.setattr(module, "ask", ask)
    recorded, known = Recorded(), commands(NAMES)
    options = make_parser(known.values()).parse_args(guard_values(words))
    assert known[words[0]].run(options, recorded.console) == 0
    return asked, recorded.said


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("block", "--id", "a"), "POST /admin/blocks/id/a?reason="),
        (("block", "--key", KEY, "--for", "90m"), f"POST /admin/blocks/key/{KEY}?reason=&lifetime_s=5400"),
        (
            ("block", "--network", "192.0.2.0/24", "--reason", "a b&c"),
            "POST /admin/blocks/network/192.0.2.0%2F24?reason=a+b%26c",
        ),
        (("unblock", "--network", "2001:db8::/32"), "DELETE /admin/blocks/network/2001%3Adb8%3A%3A%2F32"),
    ],
)
def test_a_subject_is_named_by_its_flag(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], path: str
) -> None:
    assert run(monkeypatch, *words)[0] == [path]


def test_the_outcome_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "block", "--id", "a")[1] == ["id a (1 nodes) is blocked for ever"]
    timed = {**ANSWER, "ends_at": "2027-01-15T08:00:00.000Z"}
    said = run(monkeypatch, "block", "--id", "a", answer=timed)[1]
    assert said == ["id a (1 nodes) is blocked until 2027-01-15T08:00:00.000Z"]
    assert run(monkeypatch, "unblock", "--id", "a")[1] == ["id a (1 nodes) is not blocked any more"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("block",), "name one of --id, --key and --network; 0 were given"),
        (("unblock", "--id", "a", "--network", "192.0.2.1"), "2 were given"),
        (("block", "--id", "a", "--for", "soon"), "--for is 'soon', allowed is a duration"),
    ],
)
def test_wrong_words_are_refused(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        run(monkeypatch, *words)


def test_all_pages_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"kind": "id", "subject": "a", "reason": "x\x1b", "made_at": "then", "ends_at": None}
    pages = [{"blocks": [row], "next": "1000"}, {"blocks": [{**row, "subject": "b"}], "next": None}]
    asked, said = run(monkeypatch, "blocks", answer=list(pages))
    assert asked == [f"GET /admin/blocks?limit=1000&cursor={cursor}" for cursor in (0, 1_000)]
    assert said == ["kind\tsubject\tmade_at\tends_at\treason\nid\ta\tthen\t-\tx\\x1b\nid\tb\tthen\t-\tx\\x1b"]
    printed = run(monkeypatch, "blocks", "--json", answer=list(pages))[1]
    assert [each["subject"] for each in orjson.loads(printed[0])] == ["a", "b"]
