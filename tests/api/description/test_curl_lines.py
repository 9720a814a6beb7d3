"""Lines of curl in the reference: a shell reads each, and the directory takes it."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from openred_central.api.description.curl_lines import curl_line
from openred_central.api.endpoint import Endpoint
from openred_central.api.routes import ENDPOINTS
from openred_central.errors import CallerError
from tests.support.world import World, run

URL = "http://127.0.0.1:8000"


def words_of(line: str, claim: str) -> list[str]:
    """Return the words that a shell gives to curl."""
    shell = f'curl() {{ printf "%s\\0" "$@"; }}; {line}'
    done = subprocess.run(
        ["sh", "-c", shell],
        env={"OPENRED_URL": URL, "CLAIM": claim},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.removesuffix("\0").split("\0")


def request_of(words: list[str]) -> dict[str, Any]:
    """Return what curl would ask with these words."""
    asked: dict[str, Any] = {"method": None, "headers": {}, "body": b""}
    rest = iter(words)
    for word in rest:
        if word == "-X":
            asked["method"] = next(rest)
        elif word == "-d":
            asked["body"] = next(rest).encode()
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            asked["headers"][name] = value
        elif word.startswith(URL):
            asked["target"] = word.removeprefix(URL)
        else:
            assert word in ("-s", "-sN"), word
    asked["method"] = asked["method"] or ("POST" if asked["body"] else "GET")
    return asked


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.label)
def test_each_line_is_taken_as_it_stands(endpoint: Endpoint) -> None:
    world = World()
    registered = world.register(node_id="alice", port=7000, public_key="alices-key", services=["storage"])
    world.register(node_id="bob")
    asked = request_of(words_of(curl_line(endpoint), registered.document["claim"]))
    path = endpoint.path.replace("{node_id}", "alice")
    assert (asked["method"], asked["target"].partition("?")[0]) == (endpoint.method, path)
    if endpoint.body and asked["body"]:
        # The world sends it with every request.
        assert asked["headers"].pop("Content-Type") == "application/json"
    request = world.request(
        asked["method"], asked["target"], asked["body"] or None, **lowered(asked["headers"])
    )
    try:
        status = run(world.start(request)).status
    except CallerError as error:
        status = error.status
    if endpoint.name == "changeKey":
        # The new key has to sign as well, which no line of curl does.
        assert status == 401
    else:
        # This world has neither a key for tokens nor a cluster in which anybody leads.
        assert status < 400 or status == 503, (curl_line(endpoint), status)


def lowered(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def test_a_value_that_means_something_to_a_shell_stays_one_word() -> None:
    (endpoint,) = [one for one in ENDPOINTS if one.name == "register"]
    body = words_of(curl_line(endpoint), "")[-1]
    assert body.startswith('{"node_id":"alice"')
