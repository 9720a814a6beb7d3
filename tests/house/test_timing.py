"""Secrets are compared in constant time: how long a refusal takes must not tell how good a guess was."""

from __future__ import annotations

import ast

import pytest

from tests.support.project import expect_none, sources

# What ends the name of something that a caller must not be able to guess piece by piece.
SECRETS = {"mac", "secret", "claim", "signature", "digest", "link", "password", "session", "hmac"}
INSTEAD = "compare it with hmac.compare_digest"
# Comparisons that no caller from outside ever times.
ARGUED = {
    "openred_central/maintenance/verifying.py": "an operator compares his own memory with his own file",
}


def called(node: ast.expr) -> str:
    """The last word of the name of an expression such as ``self._mac(x)[:16]``; nothing if it has none.

    Constants, in capitals, are no secrets.
    """
    if isinstance(node, ast.Call | ast.Await):
        return called(node.func if isinstance(node, ast.Call) else node.value)
    if isinstance(node, ast.Subscript):
        return called(node.value)
    name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    return str(name).rpartition("_")[2]


def plain_comparisons(path: str, source: str) -> list[str]:
    """Where a file compares a secret with ``==`` or ``!=``, or looks for it with ``in``."""
    breaches = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            if not isinstance(operator, ast.Eq | ast.NotEq | ast.In):
                continue
            # Whether there is one at all is no secret.
            if isinstance(left, ast.Constant) or isinstance(right, ast.Constant):
                continue
            looked_at = [left] if isinstance(operator, ast.In) else [left, right]
            if SECRETS & {called(side) for side in looked_at}:
                breaches.append(f"{path}:{node.lineno} has {ast.unparse(node)}; {INSTEAD}")
    return breaches


def test_no_secret_in_the_package_is_compared_in_a_time_that_tells_of_it() -> None:
    found = sources()
    expect_none(
        breach
        for path, source in found.items()
        if path not in ARGUED
        for breach in plain_comparisons(path, source)
    )
    assert all(plain_comparisons(path, found[path]) for path in ARGUED), "no excuse is needed any more"


@pytest.mark.parametrize(
    "comparison",
    [
        "presented == self.claim(node_id)",
        "self._mac(a)[:16] != match[4]",
        "given_digest == computed",
        "record.link == token.link",
        "secret in known",
    ],
)
def test_a_plain_comparison_of_a_secret_is_found(comparison: str) -> None:
    (breach,) = plain_comparisons("a.py", f"x = 1\ny = {comparison}")
    assert breach.startswith("a.py:2 has ")


@pytest.mark.parametrize(
    "comparison",
    [
        "digest is None",
        "signature == ''",
        "len(signature) == 64",
        "claims == 3",
        "name == other",
        "1 in link",
        "purpose == SESSION",
    ],
)
def test_other_comparisons_are_let_pass(comparison: str) -> None:
    assert plain_comparisons("a.py", comparison) == []
