"""Sentences of docstrings, comments and documents begin with their subject, and quote no measured times."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from tests.support.project import ROOT, documents, expect_none, sources

OPENING = re.compile(r"(?:^|(?<=[.!?:] ))(?:Who|Whoever|That|Of|What|Whatever|Whether|The same)\b")
FIGURE = re.compile(r"\d[\d.,]*\s?(?:µs|us|ns|ms|microseconds?|milliseconds?)\b")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each paragraph of a docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            for paragraph in re.split(r"\n\n|\n(?=-)", text):
                yield node.body[0].lineno, paragraph.lstrip("- ").replace("\n", " ")


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each comment; lines of comments in a row are one."""
    found: list[tuple[int, int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            number, text = token.start[0], token.string.lstrip("# ")
            if found and found[-1][1] == number - 1:
                first, _, before = found.pop()
                found.append((first, number, f"{before} {text}"))
            else:
                found.append((number, number, text))
    return ((first, text) for first, _, text in found)


def prose(document: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a document; those of headings and of blocks of code are empty."""
    is_code = False
    for number, line in enumerate(document.splitlines(), 1):
        is_code ^= line.lstrip().startswith("```")
        yield number, "" if is_code or line.startswith("#") else line.lstrip("-*|> 0123456789.")


def bad_openings(path: str, pieces: Iterator[tuple[int, str]]) -> Iterator[str]:
    for line, text in pieces:
        for found in OPENING.finditer(text):
            sentence = text[found.start() :][:60]
            yield f"{path}:{line} begins a sentence with {found[0]!r}; name the actor: {sentence}"


def code() -> Iterator[tuple[str, str]]:
    for folder in ("openred_central", "tests", "benchmarks"):
        yield from sources(ROOT / folder).items()


def test_sentences_in_code_begin_with_their_subject() -> None:
    for part in (docstrings, comments):
        expect_none(breach for path, source in code() for breach in bad_openings(path, part(source)))


def test_sentences_in_documents_begin_with_their_subject() -> None:
    texts = {
        **documents(),
        "benchmarks/README.md": (ROOT / "benchmarks/README.md").read_text(encoding="utf-8"),
    }
    expect_none(breach for path, text in texts.items() for breach in bad_openings(path, prose(text)))


def test_measured_times_stand_in_the_benchmarks_alone() -> None:
    expect_none(
        f"{path}:{line} quotes {found[0]!r}; say why, and leave the figure to the benchmarks"
        for path, source in code()
        for part in (docstrings, comments)
        for line, text in part(source)
        if (found := FIGURE.search(text))
    )


def test_breaches_of_the_language_are_found() -> None:
    source = '"""Return it. That\nis all."""\n# It costs\n# 12 µs.\n\nx = 1  # Who knows\n'
    assert next(bad_openings("a.py", docstrings(source))).startswith("a.py:1 begins a sentence with 'That'")
    assert list(comments(source)) == [(3, "It costs 12 µs."), (6, "Who knows")]
    assert list(prose("- Of it\n```\nWho\n```\n")) == [(1, "Of it"), (2, ""), (3, ""), (4, "```")]
