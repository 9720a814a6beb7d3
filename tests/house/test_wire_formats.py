"""Every example in ``wire-formats.md`` is a known answer, byte for byte.

A block of code there names what it shows: a path into ``vectors.json``, or a value of `COMPUTED`. ``...``
stands for a part that is left out. Line breaks and spaces do not matter where the value has none.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from openred_central.encoding import decode_base64url, spki_of
from openred_central.security.directory_keys import keyset
from openred_central.security.directory_keys.composite import CONTEXT, message_representative
from openred_central.security.signing import known_answers
from openred_central.security.tokens.tokens import Unsigned
from tests.support.project import documents

VECTORS: dict[str, Any] = json.loads(known_answers())
TEXT = documents()["openred_central/docs/wire-formats.md"]
BLOCKS = re.findall(r"^ *```(.*?)\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)

_PIECES = VECTORS["pair"]["token_a"].split(".")
_UNSIGNED = Unsigned(".".join(_PIECES[:3]) + ".", decode_base64url(_PIECES[3]))
_KEY_SET = decode_base64url(VECTORS["keyset"]["document"]["keyset"])
COMPUTED = {
    "alice_spki_hex": spki_of(VECTORS["nodes"][0]["public_key"]).hex(),
    "token_a_header": _UNSIGNED.header,
    "token_a_message_hex": _UNSIGNED.message.hex(),
    "keyset_representative_hex": message_representative(keyset.message(_KEY_SET), CONTEXT).hex(),
}


def value_at(path: str) -> Any:
    found: Any = {**VECTORS, "computed": COMPUTED}
    for name in path.split("."):
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def shows(example: Any, value: Any) -> bool:
    """Return whether `example` is `value`, some texts of it shortened by ``...``."""
    if isinstance(example, dict):
        return list(example) == list(value) and all(shows(example[name], value[name]) for name in value)
    if isinstance(example, list):
        return len(example) == len(value) and all(map(shows, example, value))
    if isinstance(example, str):
        return re.fullmatch(".+".join(map(re.escape, example.split("..."))), value, re.DOTALL) is not None
    return type(example) is type(value) and example == value


@pytest.mark.parametrize(("info", "content"), BLOCKS, ids=[info for info, _ in BLOCKS])
def test_examples_are_known_answers(info: str, content: str) -> None:
    kind, path = info.split(" ")
    value = value_at(path)
    if kind == "json":
        assert shows(json.loads(content), value)
    elif re.search(r"\s", value):
        lines = [line.strip() for line in content.splitlines()]
        assert shows("\n".join(lines), value)
    else:
        assert shows("".join(content.split()), value)


def test_every_kind_of_signed_thing_has_an_example() -> None:
    shown = {info.split(" ")[1].split(".")[0] for info, _ in BLOCKS}
    assert shown == {*VECTORS, "computed"} - {"about", "hybrid_token"}


@pytest.mark.parametrize(
    ("example", "value"),
    [("ab", "abc"), ("a...c", "ac"), ("a...d", "abc"), ({"a": 1}, {"a": 1, "b": 2}), ([1], [2]), (1, True)],
)
def test_examples_that_differ_are_no_known_answers(example: object, value: object) -> None:
    assert not shows(example, value)
