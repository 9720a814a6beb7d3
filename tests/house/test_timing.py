"""Secrets are compared in constant time: the duration of a refusal must not depend on the guess."""

from __future__ import annotations

import ast

import pytest

from tests.support.project import expect_none, sources

# Last words of names of values that a caller must not be able to guess piece by piece.
SECRETS = {"mac", "secret", "claim", "signature", "digest", "link", "password", "session", "hmac"}
INSTEAD = "compare it with hmac.compare_digest"
# Comparisons that no caller from outside can time.
ARGUED = {
    "openred_central/maintenance/verifying.py": "operators compare their own memory with their own file",
}


def called(node: ast.expr) -> str:
    """Return the last word of the name of an expression such as ``self._mac(x)[:16]``, or nothing.

    Constants, in capitals, are no secrets.
    """
    if isinstance(node, ast.Call | ast.Await):
        return called(node.func if isinstance(node, ast.Call) else node.value)
    if isinstance(node, ast.Subscript):
        return called(node.value)
    name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    return str(name).rpartition("_")[2]


def plain_comparisons(path: str, source: str) -> list[str]:
    """Return where a file compares a secret with ``==`` or ``!=``, or looks for it with ``in``."""
    breaches = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            if not isinstance(operator, ast.Eq | ast.NotEq | ast.In):
                continue
            # The existence of a secret is no secret.
            if isinstance(left, ast.Constant) or isinstance(right, ast.Constant):
                continue
            looked_at = [left] if isinstance(operator, ast.In) else [left, right]
            if SECRETS & {called(side) for side in looked_at}:
                breaches.append(f"{path}:{node.lineno} has {ast.unparse(node)}; {INSTEAD}")
    return breaches


def test_secrets_are_compared_in_constant_time() -> None:
    found = sources()
    expect_none(
        breach
        for path, source in found.items()
        if path not in ARGUED
        for breach in plain_comparisons(path, source)
    )
    assert all(plain_comparisons(path, found[path]) for path in ARGUED), "an exception is not needed any more"


@pytest.mark.parametrize(
    ("comparison", "is_breach"),
    [
        ("presented == self.claim(node_id)", True),
        ("self._mac(a)[:16] != match[4]", True),
        ("given_digest == computed", True),
        ("record.link == token.link", True),
        ("secret in known", True),
        ("digest is None", False),
        ("signature == ''", False),
        ("len(signature) == 64", False),
        ("claims == 3", False),
        ("name == other", False),
        ("1 in link", False),
        ("purpose == SESSION", False),
    ],
)
def test_plain_comparisons_of_secrets_are_found(comparison: str, is_breach: bool) -> None:
    assert bool(plain_comparisons("a.py", comparison)) == is_breach
