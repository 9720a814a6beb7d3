"""The node in JavaScript, as `openred-central example node` prints it, in a process of Node.js."""

from __future__ import annotations

import json
import select
import subprocess
import unittest
from pathlib import Path
from typing import Any

from openred_central.cli.example import node_example
from tests.support.parts import needs_program

NODE_VERSION_MIN = 20
ANSWER_S_MAX = 60.0
# It runs each line that it receives, as the body of a function, and answers in a line.
DRIVER = """
import { createInterface } from "node:readline";
const openred = await import(process.argv[1]);
const AsyncFunction = (async () => {}).constructor;
const state = {};
for await (const line of createInterface({ input: process.stdin })) {
  const { source, given } = JSON.parse(line);
  let answer;
  try {
    const run = new AsyncFunction("openred", "state", ...Object.keys(given), source);
    answer = { value: (await run(openred, state, ...Object.values(given))) ?? null };
  } catch (error) {
    answer = { error: error.name, reason: error.reason || error.error || "", message: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\\n");
}
"""


class Thrown(Exception):
    """An error of the class `name` that JavaScript threw."""

    def __init__(self, name: str, reason: str, message: str) -> None:
        super().__init__(f"{name} {reason}: {message}")
        self.name = name
        self.reason = reason


class JavaScript:
    """A process of Node.js with the node of a `language`, saved in `folder`."""

    def __init__(self, folder: Path, language: str) -> None:
        program = needs_program("node")
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.lstrip("v").split(".")[0]) < NODE_VERSION_MIN:
            raise unittest.SkipTest(f"Node.js {version.strip()} is older than {NODE_VERSION_MIN}")
        module = folder / f"{language}.mjs"
        module.write_text(node_example(language), encoding="utf-8")
        self._process = subprocess.Popen(
            [program, "--no-warnings", "--input-type=module", "-e", DRIVER, module.as_uri()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> JavaScript:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.kill()

    def run(self, source: str, **given: Any) -> Any:
        """Return what the body of an asynchronous function returns, in which `given` are known.

        So are the exports of the node, as ``openred``, and ``state``, which all bodies share. Raises
        `Thrown`.
        """
        receiver, sender = self._process.stdout, self._process.stdin
        assert receiver is not None
        assert sender is not None
        sender.write(json.dumps({"source": source, "given": given}).encode() + b"\n")
        sender.flush()
        assert select.select([receiver], [], [], ANSWER_S_MAX)[0], f"Node.js has not answered: {source}"
        answer = json.loads(receiver.readline())
        if "error" in answer:
            raise Thrown(answer["error"], answer["reason"], answer["message"])
        return answer["value"]
