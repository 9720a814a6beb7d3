"""Transcripts of a document run, and differences in their output are reported."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.running import until

from .transcripts import Step, matches, mismatches, run, transcripts

DOCUMENT = """\
# A directory

```sh
$ not run
```

```console
$ echo one; echo two >&2
one
two
$ printf %s \\
> three
three

$ true
```

Text in between.

```console
$ cd /
$ pwd
/
```
"""


def test_commands_and_outputs_are_found() -> None:
    first, second = transcripts(DOCUMENT)
    assert first == [
        Step("echo one; echo two >&2", ["one", "two"], 8),
        Step("printf %s \\\nthree", ["three", ""], 11),
        Step("true", [], 15),
    ]
    assert [step.command for step in second] == ["cd /", "pwd"]


def test_commands_of_a_block_share_a_shell(tmp_path: Path) -> None:
    first, second = transcripts(DOCUMENT)
    assert run(first, tmp_path, os.environ) == [["one", "two"], ["three"], []]
    assert run(second, tmp_path, os.environ) == [[], ["/"]]
    assert mismatches("README.md", second, [[], ["/"]]) == []


def test_another_output_is_reported_with_both(tmp_path: Path) -> None:
    ((*steps,),) = transcripts("```console\n$ echo one\ntwo\n```")
    assert mismatches("README.md", steps, run(steps, tmp_path, os.environ)) == [
        "README.md:2 says that `echo one` prints\ntwo\nbut it prints\none"
    ]


def test_a_shell_that_ends_early_is_reported(tmp_path: Path) -> None:
    (steps,) = transcripts("```console\n$ exit 3\n$ echo two\ntwo\n```")
    (mismatch,) = mismatches("README.md", steps, run(steps, tmp_path, os.environ))
    assert "`echo two`" in mismatch


def test_processes_left_running_are_terminated(tmp_path: Path) -> None:
    server = "(trap 'echo > ended; exit' TERM; echo > begun; while :; do sleep 0.05; done) &"
    wait = "until [ -e begun ]; do sleep 0.01; done"
    run([Step(server, [], 1), Step(wait, [], 2)], tmp_path, os.environ)
    until((tmp_path / "ended").exists, "the process to end")


def test_a_command_that_hangs_times_out(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run([Step("sleep 300", [], 1)], tmp_path, os.environ, timeout_s=0.2)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        (["a ... z"], ["a b c z"]),
        (["a", "...", "z"], ["a", "b", "c", "z"]),
        (["a", "...", "z"], ["a", "z"]),
        (["..."], []),
        (["a", ""], ["a"]),
        (["a.b"], ["a.b"]),
        (["at 2027-01-15T08:00:00Z"], ["at 2031-12-24T18:30:05.125Z"]),
        (["Date: Fri, 15 Jan 2027 08:00:00 GMT"], ["Date: Wed, 24 Dec 2031 18:30:05 GMT"]),
        (['{"id":"0123456789abcdef"}'], ['{"id":"fedcba9876543210"}']),
        (["1b4e28ba-2fa1-11d2-883f-0016d3cca427"], ["6fa459ea-ee8a-3ca4-894e-db77e160355e"]),
        (["v1_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6MTIz"], ["v1_YmFyZm9vYmF6cXV4Zm9vYmFyYmF6NDU2X"]),
    ],
)
def test_wildcards_times_and_ids_match(expected: list[str], printed: list[str]) -> None:
    assert matches(expected, printed)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        (["a"], ["b"]),
        (["a"], ["a", "b"]),
        (["a", "b"], ["a"]),
        (["a"], []),
        ([], ["a"]),
        (["a.b"], ["acb"]),
        (["a ... z"], ["a b", "c z"]),
        (["at 2027-01-15T08:00:00Z"], ["at noon"]),
        (["heartbeat_tolerance_seconds_is_long"], ["heartbeat_tolerance_seconds_is_wide"]),
    ],
)
def test_other_outputs_do_not_match(expected: list[str], printed: list[str]) -> None:
    assert not matches(expected, printed)
