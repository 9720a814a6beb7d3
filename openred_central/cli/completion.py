"""`completion`: print a script by which a shell completes the words of the program."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from ..exit_codes import ExitCode
from .command import Argument, Command, argument
from .console import PROGRAM, Console
from .main import commands

SHELLS = ("bash", "zsh", "fish")


class Flag(NamedTuple):
    """A flag: whether a value follows it, the allowed values (empty: any), and its meaning."""

    name: str
    takes_value: bool
    choices: tuple[str, ...]
    meaning: str


class Completed(NamedTuple):
    """A command as a shell completes it: the words that may follow it, and its flags."""

    name: str
    meaning: str
    words: tuple[str, ...]
    flags: tuple[Flag, ...]


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the script for one shell."""
    console.say(script(options.shell, PROGRAM, completed(commands().values())).rstrip("\n"))
    return ExitCode.DONE


def completed(known: Iterable[Command]) -> list[Completed]:
    """Return the parts of the commands in `known` that a shell completes."""
    return [
        Completed(
            command.name,
            command.help,
            tuple(
                word
                for each in command.arguments
                if not each.flag
                for word in each.options.get("choices", ())
            ),
            (Flag("--help", False, (), "show this help message and exit"), *map(_flag, command.flags)),
        )
        for command in known
    ]


def _flag(flag: Argument) -> Flag:
    options = flag.options
    meaning = _first_sentence(options.get("help", ""))
    return Flag(flag.names[0], "action" not in options, tuple(options.get("choices", ())), meaning)


def script(shell: str, program: str, commands: list[Completed]) -> str:
    """Return the script for one of `SHELLS`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](program, commands)


def _first_sentence(text: str) -> str:
    """Return the first sentence of a help text, without default and allowed values."""
    return text.replace("%%", "%").split(". ")[0].split("; ")[0].rstrip(".")


def _function(program: str) -> str:
    return f"_{program.replace('-', '_')}"


def _bash(program: str, commands: list[Completed]) -> str:
    function = _function(program)
    names = shlex.quote(" ".join(command.name for command in commands))
    cases = []
    for command in commands:
        words = " ".join([*command.words, *(flag.name for flag in command.flags)])
        cases.append(f"    {command.name}) words={shlex.quote(words)} ;;")
    values = [
        f"    {command.name}:{flag.name}) COMPREPLY=($(compgen -W {shlex.quote(' '.join(flag.choices))}"
        ' -- "$current")); return ;;'
        for command in commands
        for flag in command.flags
        if flag.choices
    ]
    taking = "|".join(
        sorted({flag.name for command in commands for flag in command.flags if flag.takes_value})
    )
    return "\n".join(
        [
            f"{function}() {{",
            '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
            '    local command="${COMP_WORDS[1]}" words=',
            "    COMPREPLY=()",
            '    if [ "$COMP_CWORD" -eq 1 ]; then',
            f'        COMPREPLY=($(compgen -W {names} -- "$current")); return',
            "    fi",
            '    case "$command:$previous" in',
            *values,
            "    esac",
            '    case "$previous" in',
            f'    {taking}) COMPREPLY=($(compgen -f -- "$current")); return ;;',
            "    esac",
            '    case "$command" in',
            *cases,
            "    esac",
            '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "}",
            f"complete -o bashdefault -o default -F {function} {program}",
            "",
        ]
    )


def _zsh(program: str, commands: list[Completed]) -> str:
    function = _function(program)
    lines = [f"#compdef {program}", f"{function}() {{", "    local -a words_of=()"]
    lines += ["    if (( CURRENT == 2 )); then", "        words_of=("]
    lines += [f"            {shlex.quote(f'{each.name}:{_escaped(each.meaning)}')}" for each in commands]
    lines += ["        )", "        _describe command words_of", "        return", "    fi"]
    lines.append('    case "$words[2]" in')
    for command in commands:
        lines += [f"    {command.name})", "        _arguments -S \\"]
        for flag in command.flags:
            value = f":value:({' '.join(flag.choices)})" if flag.choices else ":value:_files"
            described = f"{flag.name}[{_escaped(flag.meaning)}]{value if flag.takes_value else ''}"
            lines.append(f"            {shlex.quote(described)} \\")
        rest = f"*: :({' '.join(command.words)})" if command.words else "*: :_files"
        lines += [f"            {shlex.quote(rest)}", "        ;;"]
    lines += ["    esac", "}"]
    # zsh either loads the script as a function or evaluates it.
    lines.append(f'if [ "${{funcstack[1]}}" = {shlex.quote(f"_{program}")} ]; then')
    lines += [f'    {function} "$@"', "else", f"    compdef {function} {program}", "fi", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Escape the characters that would end a description in zsh."""
    return re.sub(r"([\\\[\]:])", r"\\\1", text)


def _fish(program: str, commands: list[Completed]) -> str:
    lines = [
        f"complete -c {program} -f -n __fish_use_subcommand -a {command.name} "
        f"-d {_fish_quoted(command.meaning)}"
        for command in commands
    ]
    for command in commands:
        start = f"complete -c {program} -n '__fish_seen_subcommand_from {command.name}'"
        if command.words:
            lines.append(f"{start} -f -a {_fish_quoted(' '.join(command.words))}")
        for flag in command.flags:
            line = f"{start} -l {flag.name.removeprefix('--')} -d {_fish_quoted(flag.meaning)}"
            if flag.choices:
                line += f" -x -a {_fish_quoted(' '.join(flag.choices))}"
            elif flag.takes_value:
                line += " -r"
            lines.append(line)
    return "\n".join([*lines, ""])


def _fish_quoted(text: str) -> str:
    """Return `text` in single quotes, within which the quote and the backslash are escaped."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


COMMAND = Command(
    "completion",
    "print a script that lets a shell complete the words of this program",
    run,
    (argument("shell", choices=SHELLS),),
    """\
  eval "$(openred-central completion bash)"      # in ~/.bashrc
  eval "$(openred-central completion zsh)"       # in ~/.zshrc, after compinit
  openred-central completion fish > ~/.config/fish/completions/openred-central.fish
""",
    settings=False,
)
