"""Every command of maintenance says what it does, with examples that are good command lines."""

from __future__ import annotations

import argparse
import shlex

import pytest

from openred_central.maintenance.arguments import EXAMPLES, MEANINGS, add_arguments


def parser_of(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name)
    add_arguments(parser, name)
    return parser


@pytest.mark.parametrize("name", MEANINGS)
def test_the_help_shows_examples(name: str) -> None:
    shown = parser_of(name).format_help()
    assert f"examples:\n{EXAMPLES[name]}" in shown


@pytest.mark.parametrize("name", MEANINGS)
def test_the_examples_are_good_command_lines(name: str) -> None:
    parser = parser_of(name)
    for setting in ("--database", "--snapshot-folder"):
        parser.add_argument(setting)
    examples = [line for line in EXAMPLES[name].splitlines() if "openred-central" in line]
    assert examples
    for example in examples:
        words = shlex.split(example, comments=False)
        begin = words.index("openred-central")
        assert words[begin + 1] == name
        given = words[begin + 2 :]
        parser.parse_args(given[: given.index("|")] if "|" in given else given)


def test_the_exit_codes_of_verify_are_told() -> None:
    assert "0 all agree, 1 a difference or damage, 2 wrong usage" in parser_of("verify").format_help()
