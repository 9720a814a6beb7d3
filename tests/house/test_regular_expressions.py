"""No regular expression of the package takes longer than in proportion to what it is matched with."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

import pytest

from tests.support.project import expect_none, module_name, sources

from .ambiguity import is_slow

METHODS = ("fullmatch", "match", "search", "sub", "findall")
MAKERS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
# Where a pattern is put together of what is known only while the program runs.
PUT_TOGETHER = {
    "openred_central/security/signing.py": "a few fixed words, in a fixed text",
    "openred_central/storage/copies/snapshots.py": "the name of a file as it is, between digits",
}
Found = tuple[str, str | bytes, int, set[str]]


def methods_of(name: str, source: str) -> set[str]:
    """Return the methods that `source` calls of the pattern `name`; if none, a full match is assumed."""
    called = {found[1] for found in re.finditer(rf"\b{name}\.([a-z]+)\(", source)}
    return called & {*METHODS} or {"fullmatch"}


def named_patterns(path: str, source: str) -> Iterator[Found]:
    """Yield each named pattern of the module at `path`: place, pattern, flags, methods."""
    for name, value in vars(importlib.import_module(module_name(path))).items():
        if isinstance(getattr(value, "pattern", None), str | bytes):
            yield f"{path}: {name}", value.pattern, value.flags & ~re.DEBUG, methods_of(name, source)


def written_patterns(path: str, source: str) -> Iterator[Found | str]:
    """Yield each unnamed pattern of a file, or the file itself if a pattern is not a constant."""
    module = vars(importlib.import_module(module_name(path)))
    tree = ast.parse(source)
    named = {node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and makes_pattern(node.func)) or node in named:
            continue
        try:
            pattern = eval(compile(ast.Expression(node.args[0]), path, "eval"), dict(module))
        except (NameError, TypeError):
            yield path
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else "fullmatch"
        methods = {"search"} if method in ("split", "finditer") else {method} & {*METHODS} or {"fullmatch"}
        yield f"{path}:{node.lineno}", pattern, 0, methods


def makes_pattern(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return ast.unparse(function.value) == "re" and function.attr in MAKERS
    return isinstance(function, ast.Name) and function.id == "late"


def all_patterns() -> list[Found | str]:
    return [
        found
        for path, source in sources().items()
        if not path.endswith("__main__.py")
        for found in [*named_patterns(path, source), *written_patterns(path, source)]
    ]


def test_no_pattern_of_the_package_is_slow() -> None:
    found = all_patterns()
    patterns = [each for each in found if not isinstance(each, str)]
    assert len(patterns) > 50
    expect_none(
        f"{where}: {sorted(methods)} of {pattern!r} can take longer than in proportion to the input"
        for where, pattern, flags, methods in patterns
        if is_slow(pattern, flags, methods)
    )
    assert {each for each in found if isinstance(each, str)} == PUT_TOGETHER.keys()


@pytest.mark.parametrize(
    "pattern",
    [
        "a*a*b",
        "(a+)+b",
        "(?:ab|c|ab)+d",
        "(a*)*b",
        "(?:a+b?)+c",
        "(?:a{1,3})+b",
        "(?:ab|a|b)*c",
        ".*x.*y",
        "a{2000}a*b|a*a*?b",
        "(?i)a*A*b",
        r"[ \t]*(?:x=y)?[ \t]*(?:[,;]|$)",
        r"[^0-9]*\D*b",
        r"(?:[ab]++|a)*+(?:[ab]*[ab]*)c",
    ],
)
def test_ambiguous_patterns_are_found(pattern: str) -> None:
    assert is_slow(pattern)
    assert is_slow(pattern.encode(), methods=["match"])


@pytest.mark.parametrize(
    "pattern",
    [
        "a*b*",
        "a*+a*+b",
        "(?:a+b)+c",
        "a{0,9}a{0,9}b",
        "(?:a{3}|b)*c",
        "(?:[a-z]++|%[0-9]{2})++(?::[0-9]*+)?",
        r"[ \t]*+(?:x=y[ \t]*+)?(?:[,;]|$)",
        r'"(?:[^"\\]|\\.)*"',
        r"(a*)b\1(?!c*)(?<=d)(?>x|y)",
    ],
)
def test_unambiguous_patterns_pass(pattern: str) -> None:
    assert not is_slow(pattern)


def test_a_search_begins_anew_at_each_character() -> None:
    assert is_slow(r"[ \t]+,", methods=["search"])
    assert not is_slow(r"[ \t]+,", methods=["match"])
    assert not is_slow(r"[ \t]+", methods=["sub"])
    assert is_slow("a*a*$", methods=["match"])
    assert not is_slow("a*a*", methods=["match"])


def test_unnamed_patterns_are_found_with_their_methods() -> None:
    source = 'import re\n_A = re.compile("a")\ndef f(x):\n    re.split("b", x)\n    return re.sub(x, "", x)\n'
    path = "openred_central/wording.py"
    assert list(written_patterns(path, source)) == [(f"{path}:4", "b", 0, {"search"}), path]
    assert methods_of("_A", "_A.search(x) or _A.match(y)") == {"search", "match"}
