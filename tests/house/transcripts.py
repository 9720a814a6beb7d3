"""Run the transcripts of a document, its ```console blocks, and compare the output.

Lines that begin with ``$ `` are commands; the commands of a block run one after the other in one shell. A
command that ends with a backslash continues in the next line, which begins with ``> ``. The other lines are
the output of the command, standard error included. ``...`` stands for anything within a line, and alone for
any number of lines. Times and random ids match any others.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

# Separates the outputs of two commands.
MARK = "=-=-= end of output =-=-="

# Each pattern and its replacement in both texts before they are compared.
NORMALISED = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), "<time>"),
    (re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"), "<time>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{16,}\b"), "<id>"),
    (re.compile(r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{32,}={0,2}"), "<id>"),
)


class Step(NamedTuple):
    """One command, its expected output, and its line in the document."""

    command: str
    expected: list[str]
    line: int


def transcripts(document: str) -> list[list[Step]]:
    """Return the steps of each transcript in a Markdown document."""
    found: list[list[Step]] = []
    inside = False
    for number, line in enumerate(document.splitlines(), 1):
        if line.strip() == "```console":
            inside = True
            found.append([])
        elif line.startswith("```"):
            inside = False
        elif inside and line.startswith("$ "):
            found[-1].append(Step(line[2:], [], number))
        elif inside and found[-1]:
            step = found[-1][-1]
            if step.command.endswith("\\") and line.startswith("> ") and not step.expected:
                found[-1][-1] = step._replace(command=f"{step.command}\n{line[2:]}")
            else:
                step.expected.append(line)
    return found


def run(
    steps: list[Step], folder: Path, environment: Mapping[str, str], *, timeout_s: float = 60.0
) -> list[list[str]]:
    """Run the commands in `folder` and return the lines that each printed.

    Processes that they leave running are terminated. Raises `subprocess.TimeoutExpired` after `timeout_s`.
    """
    script = "".join(f"{{ {step.command}\n}} </dev/null\nprintf '\\n%s\\n' '{MARK}'\n" for step in steps)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            shell.wait(timeout_s)
        finally:
            # The shell leads a process group, which holds everything that it left running.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(timeout_s)
        printed.seek(0)
        outputs = printed.read().split(f"\n{MARK}\n")
    outputs += [""] * (len(steps) - len(outputs))
    return [output.rstrip("\n").split("\n") if output.strip("\n") else [] for output in outputs[: len(steps)]]


def normalise(line: str) -> str:
    """Return a line with times and random ids replaced."""
    for pattern, stand_in in NORMALISED:
        line = pattern.sub(stand_in, line)
    return line.rstrip()


def matches(expected: list[str], printed: list[str]) -> bool:
    """Return whether the output of a command is the expected one."""
    while expected and not expected[-1].strip():
        expected = expected[:-1]
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, normalise(line).split("..."))) + r"\n"
    return re.fullmatch(pattern, "".join(f"{normalise(line)}\n" for line in printed)) is not None


def mismatches(name: str, steps: list[Step], outputs: list[list[str]]) -> list[str]:
    """Return a complaint with both outputs for each step of file `name` that printed something else."""
    return [
        "\n".join(
            [
                f"{name}:{step.line} says that `{step.command}` prints",
                *step.expected,
                "but it prints",
                *printed,
            ]
        )
        for step, printed in zip(steps, outputs, strict=True)
        if not matches(step.expected, printed)
    ]
