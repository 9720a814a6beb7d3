"""A refusal has a name for programs and words for people."""

from __future__ import annotations

import ast
import re

from tests.support.project import PACKAGE, sources


def test_every_reason_is_documented() -> None:
    """Callers go by the reasons, so each stands in the docstring of a function of its module."""
    for path, source in sources(PACKAGE / "security").items():
        tree = ast.parse(source)
        raised = [
            node.args[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "VerificationError"
            and isinstance(node.args[0], ast.Constant)
        ]
        told = re.findall(r"``(\w+)``", source)
        assert set(raised) <= set(told), path
