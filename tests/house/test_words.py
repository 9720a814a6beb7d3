"""Words that must not stand anywhere in the project."""

from __future__ import annotations

import re

from tests.support.project import expect_none, text_files

# Written in two pieces, so that this file keeps its own rule. The second column says what to do instead.
BANNED = (
    ("TO" + "DO", "do it, or leave it out"),
    ("FIX" + "ME", "fix it"),
    ("XX" + "X", "describe the problem, and fix it"),
    ("pragma: no" + " cover", "test it, or take it away"),
    ("../" + "shared", "the project stands by itself: say it here"),
    ("/wor" + "k/", "the project stands by itself: no path outside of it exists"),
    ("mark." + "skip", "let the test run everywhere, or name the part it needs by tests/support/parts.py"),
    ("pytest." + "skip", "let the test run everywhere, or name the part it needs by tests/support/parts.py"),
    ("import" + "orskip", "let the test run everywhere"),
    ("mark.x" + "fail", "fix what the test has found"),
    ("pytest.x" + "fail", "fix what the test has found"),
)


def banned_words(path: str, text: str) -> list[str]:
    """Return the banned words in a file, with their lines. A word inside a longer one does not count."""
    return [
        f"{path}:{number} says {word!r}; instead: {instead}"
        for word, instead in BANNED
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(rf"(?<!\w){re.escape(word)}(?![A-Z])", line)
    ]


def test_no_banned_word_stands_anywhere_in_the_project() -> None:
    expect_none(breach for path, text in text_files().items() for breach in banned_words(path, text))


def test_the_search_for_banned_words_sees_code_tests_and_documents() -> None:
    seen = text_files()
    assert {
        "openred_central/errors.py",
        "tests/conftest.py",
        "Makefile",
        ".ci/run",
        "pyproject.toml",
    } <= seen.keys()
    assert not any(path.startswith((".git/", ".venv/", ".mypy_cache/")) for path in seen)


def test_banned_words_are_named_with_their_place() -> None:
    word, instead = BANNED[0]
    assert banned_words("a.md", f"first line\n# {word} second line, MASTO" + "DON, TO" + "DOS") == [
        f"a.md:2 says {word!r}; instead: {instead}"
    ]
