"""Shells complete the words of the program; the scripts run in real shells if the machine has them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from openred_central.cli.completion import SHELLS, completed, script
from openred_central.cli.main import commands

COMMANDS = completed(commands().values())


def offered(*words: str) -> list[str]:
    """Return the completions that bash offers for the last of `words`."""
    program = script("bash", "openred-central", COMMANDS)
    quoted = " ".join(f"'{word}'" for word in words)
    asked = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _openred_central"
    done = subprocess.run(
        ["bash", "--norc", "-c", f'{program}\n{asked}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_knows_all_commands_and_flags() -> None:
    (serve,) = [command for command in COMMANDS if command.name == "serve"]
    assert "--heartbeat-tolerance-s" in [flag.name for flag in serve.flags]
    (register,) = [command for command in COMMANDS if command.name == "register"]
    taking = {flag.name: flag.takes_value for flag in register.flags}
    assert (taking["--key"], taking["--hidden"], taking["--json"]) == (True, False, False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["reg"], ["register"]),
        (["sn"], ["snapshot"]),
        (["register", "--ne"], ["--next-key"]),
        (["keygen", "--kind", ""], ["ed25519", "rsa"]),
        (["completion", "z"], ["zsh"]),
        (["serve", "--heartbeat-t"], ["--heartbeat-tolerance-s"]),
        (["nonsense", "--"], []),
    ],
)
def test_bash_completes(words: list[str], expected: list[str]) -> None:
    assert offered("openred-central", *words) == expected


def test_bash_completes_files_as_values_of_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "node.pem").touch()
    assert offered("openred-central", "register", "--key", "no") == ["node.pem"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_complete_and_valid_for_its_shell(shell: str, tmp_path: Path) -> None:
    text = script(shell, "openred-central", COMMANDS)
    for command in COMMANDS:
        assert command.name in text
        for flag in command.flags:
            assert (f"-l {flag.name[2:]} " if shell == "fish" else flag.name) in text
    if program := shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(text)
        subprocess.run([program, "-n", str(path)], check=True)
