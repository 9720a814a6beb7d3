"""What the commands for nodes take."""

from __future__ import annotations

import argparse
import shlex

import pytest

from openred_central.cli import main as cli
from openred_central.cli.arguments import (
    ASKING,
    EXAMPLES,
    MEANINGS,
    add_arguments,
    add_keys_arguments,
    guard_key_ids,
)


def parser(name: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(made, name, "http://here:1")
    return made


def words_of(example: str) -> list[str]:
    """The arguments of an example, without what a shell takes for itself."""
    line = example.removeprefix('eval "$(').split("|")[0].split(" >")[0].split(')"')[0]
    words = shlex.split(line)
    assert words[0] == "openred-central"
    return words[1:]


@pytest.mark.parametrize("name", MEANINGS)
def test_the_examples_of_a_command_are_good_command_lines(name: str) -> None:
    lines = EXAMPLES[name].splitlines()
    assert lines
    for line in lines:
        command, *words = words_of(line.strip())
        assert command == name
        parser(name).parse_args(words)


# As SHA-256 and base64url may have it.
KEY_ID = "-h" + "Z_-9" * 10 + "A"


@pytest.mark.parametrize("key_id", [KEY_ID, f"-{KEY_ID[:-1]}"])
@pytest.mark.parametrize("settings", [[], ["--port", "9000"]])
def test_a_key_id_may_begin_as_a_flag_does(key_id: str, settings: list[str]) -> None:
    parser = cli._parser()
    for words in (["keys", "revoke", key_id, *settings], ["keys", "revoke", *settings, key_id]):
        options, unknown = parser.parse_known_args(guard_key_ids(words))
        assert (options.action, options.request, unknown) == ("revoke", key_id, [])
        assert vars(options).get("port") == (settings[1] if settings else None)
    words = ["register", "192.0.2.1", "7000", "--next-key", key_id, "--key", "node.pem"]
    options, unknown = parser.parse_known_args(guard_key_ids(words))
    assert (options.next_key, options.key, unknown) == (key_id, "node.pem", [])


def test_what_is_no_key_id_is_left_as_it_is() -> None:
    words = ["serve", "--port", "9000", "-x", "--max-node", KEY_ID[:-1], f"{KEY_ID}A", f"--key={KEY_ID}"]
    assert guard_key_ids([*words, KEY_ID]) == [*words, KEY_ID]
    assert guard_key_ids(words) == words


@pytest.mark.parametrize("name", MEANINGS)
def test_the_help_of_a_command_has_examples_and_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main([name, "--help"])
    assert exited.value.code == 0
    shown = capsys.readouterr().out
    assert EXAMPLES[name] in shown
    assert ("exit codes: 0 done" in shown) == (name in ASKING)


@pytest.mark.parametrize("name", ASKING)
def test_where_to_ask_has_a_default_and_can_be_said(name: str) -> None:
    needed = {"register": ["a", "1", "--key", "f"], "leave": ["--key", "f"]}.get(name, [])
    assert parser(name).parse_args(needed).url == "http://here:1"
    assert parser(name).parse_args([*needed, "--url", "http://there", "--json"]).url == "http://there"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("register", ["a", "1"]),
        ("register", ["a", "x", "--key", "f"]),
        ("keygen", []),
        ("keygen", ["f", "--kind", "dsa"]),
        ("example", ["verify"]),
        ("completion", ["tcsh"]),
    ],
)
def test_what_is_missing_or_wrong_is_told(
    name: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        parser(name).parse_args(words)
    assert exited.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_keys_shows_or_signs() -> None:
    made = argparse.ArgumentParser()
    add_keys_arguments(made)
    assert made.parse_args(["show"]).action == "show"
    assert made.parse_args(["sign-keyset", "file"]).request == "file"
