"""The node in JavaScript gives all known answers, lives in a directory, and trusts what Python trusts."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from openred_central.client import Client, KeySet, PrivateKey, Untrusted, check_answer, verify_pair
from openred_central.client import answer_challenge as answer_in_python
from openred_central.security.directory_keys.keyset import read_document
from openred_central.security.refusals import VerificationError
from openred_central.security.signing import known_answers
from tests.support.javascript import JavaScript, Thrown
from tests.support.running import Server, servers_in

VECTORS: dict[str, Any] = json.loads(known_answers())
PAIR, KEYSET = VECTORS["pair"], VECTORS["keyset"]
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
CHANGES = 40
SEED_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
BYTES = "const bytes = (digits) => new Uint8Array(digits.match(/../g).map((two) => parseInt(two, 16)));"
TAKE_KEYS = """
state.keys = await openred.verifyKeySet(new TextEncoder().encode(document), options);
return state.keys.keys.map((entry) => entry.key.id);
"""
VERIFY_PAIR = "state.pair = await openred.verifyPair(a, b, state.keys, { nowS }); return state.pair.a;"


@pytest.fixture(scope="module", params=["javascript", "browser"])
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JavaScript]:
    """Yield Node.js with the node for it, and with the one for browsers, whose WebCrypto it has, too."""
    with JavaScript(tmp_path_factory.mktemp("script"), request.param) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers_in(tmp_path_factory.mktemp("server")) as start:
        yield start("--database", "memory:", OPENRED_PQ="off")


def url_of(server: Server) -> str:
    return "http://{}:{}".format(*server.address)


def pem_of(seed_hex: str) -> str:
    content = base64.b64encode(SEED_PREFIX + bytes.fromhex(seed_hex)).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{content}\n-----END PRIVATE KEY-----\n"


def one_character_changed(text: str, chance: random.Random) -> str:
    place = chance.randrange(len(text))
    other = chance.choice([one for one in BASE64URL if one != text[place]])
    return text[:place] + other + text[place + 1 :]


def test_encodings_and_signatures_are_the_known_answers(script: JavaScript) -> None:
    vector = VECTORS["pre_authentication_encoding"]
    found = script.run("return Array.from(openred.pae(...pieces))", pieces=vector["pieces"])
    assert bytes(found).hex() == vector["encoding_hex"]
    for hashed in VECTORS["triple_hash"]:
        source = "return openred.tripleHash(data, salt)"
        assert script.run(source, data=hashed["data"], salt=hashed["salt"]) == hashed["digest"]
    for node in VECTORS["nodes"]:
        source = "state.key = await openred.NodeKey.fromPem(pem); return [state.key.publicText, state.key.id]"
        found = script.run(source, pem=pem_of(node["private_key_seed_hex"]))
        assert found == [node["public_key"], node["kid"]]
    vector = VECTORS["signed_register"]
    signed = script.run(
        """
        const key = await openred.NodeKey.fromPem(pem);
        const body = new TextEncoder().encode(v.body);
        return openred.signedHeaders(key, v.method, v.authority, v.path, body, v.created, v.nonce);
        """,
        pem=pem_of(VECTORS["nodes"][0]["private_key_seed_hex"]),
        v=vector,
    )
    names = ("Content-Digest", "Signature-Input", "Signature")
    assert signed == {name: vector[name.lower().replace("-", "_")] for name in names}


class Met:
    """A node in JavaScript and one in Python that found each other: their pair of tokens, and the key set."""

    def __init__(self, script: JavaScript, server: Server) -> None:
        self.script = script
        self.key = PrivateKey.generate_ed25519()
        self.document = b""
        self.tokens: dict[str, str] = {}
        asyncio.run(self._meet(url_of(server)))
        self.root_key_id = orjson.loads(self.document)["root"]["kid"]

    async def _meet(self, url: str) -> None:
        async with Client(url, self.key) as python:
            await python.register("192.0.2.1", 7000, services=["relay"])
            self.script.run(
                """
                state.key = await openred.NodeKey.generate();
                state.node = new openred.Node(url, state.key);
                await state.node.register("192.0.2.2", 7001, { services: ["storage"] });
                """,
                url=url,
            )
            found = self.script.run("return state.node.discover(['relay'], { max_results: 100 })")
            assert python.node_id in [node["node_id"] for node in found["nodes"]]
            names = [node["node_id"] for node in (await python.discover(["storage"]))["nodes"]]
            self.node_id = self.script.run("return state.node.nodeId")
            assert self.node_id in names
            self.peer_id = python.node_id
            self.tokens = self.script.run("return state.node.tokens(peerId)", peerId=self.peer_id)
            await python.key_set()
            self.document = python.trusted.document

    @property
    def keys(self) -> KeySet:
        return read_document(self.document, self.root_key_id, time.time())

    def take_keys(self, document: bytes) -> list[str]:
        options = {"rootKeyId": self.root_key_id, "nowS": time.time()}
        taken: list[str] = self.script.run(TAKE_KEYS, document=document.decode(), options=options)
        return taken

    def refusal(self, a: str, b: str) -> str:
        """Return the name of the error by which the node in JavaScript refuses two tokens."""
        with pytest.raises(Thrown) as caught:
            self.script.run(VERIFY_PAIR, a=a, b=b, nowS=time.time())
        return caught.value.name


@pytest.fixture(scope="module")
def met(script: JavaScript, server: Server) -> Met:
    return Met(script, server)


def test_a_node_in_javascript_lives_its_life(script: JavaScript, server: Server) -> None:
    source = """
    const proofs = [];
    const sent = globalThis.fetch;
    globalThis.fetch = (url, options) => {
      const { Signature, Authorization } = options.headers;
      proofs.push(Signature ? "signature" : Authorization?.startsWith("OpenRed ") ? "session" : "nothing");
      return sent(url, options);
    };
    try {
      const node = new openred.Node(url, await openred.NodeKey.generate());
      const states = [(await node.register("192.0.2.9", 7)).identity];
      proofs.length = 0;
      for (let i = 0; i < 3; i += 1) states.push((await node.heartbeat()).current_state);
      await node.heartbeat({ metadata: { load: 1 } });
      states.push((await node.leave()).status);
      const stop = new AbortController();
      const report = (answer) => { states.push(answer.previous_state); stop.abort(); };
      await node.keepAlive({ signal: stop.signal, report });
      states.push((await node.leave("forget")).status);
      try { await node.heartbeat(); } catch (error) { states.push(error.error); }
      return [states, proofs];
    } finally {
      globalThis.fetch = sent;
    }
    """
    states, proofs = script.run(source, url=url_of(server))
    assert states == ["proven", "active", "active", "active", "left", "coma", "forgotten", "node_dead"]
    assert proofs[:5] == ["session"] * 3 + ["signature"] * 2


def test_nodes_of_two_languages_know_each_other_offline(met: Met) -> None:
    met.take_keys(met.document)
    ours, theirs = met.tokens["token"], met.tokens["peer_token"]
    assert met.script.run(VERIFY_PAIR, a=ours, b=theirs, nowS=time.time())["sub"] == met.node_id
    pair = verify_pair(ours, theirs, met.keys, time.time())
    sent = random.randbytes(32)
    source = BYTES + "return openred.answerChallenge(state.pair, state.node.nodeId, bytes(sent), state.key);"
    answer = met.script.run(source, sent=sent.hex())
    check_answer(pair, met.node_id, sent, answer)
    with pytest.raises(Untrusted):
        check_answer(pair, met.node_id, random.randbytes(32), answer)
    source = BYTES + "await openred.checkAnswer(state.pair, nodeId, bytes(sent), answer);"
    answer = answer_in_python(pair, met.peer_id, sent, met.key)
    met.script.run(source, nodeId=met.peer_id, sent=sent.hex(), answer=answer)
    for changed in ({"sent": random.randbytes(32).hex()}, {"nodeId": met.node_id}):
        with pytest.raises(Thrown) as caught:
            met.script.run(source, **{"nodeId": met.peer_id, "sent": sent.hex(), "answer": answer, **changed})
        assert caught.value.name == "Untrusted"


def test_altered_tokens_and_links_are_refused_by_both_languages(met: Met, seed: int) -> None:
    chance = random.Random(seed)
    met.take_keys(met.document)
    texts = met.tokens["token"], met.tokens["peer_token"]
    for number in range(CHANGES):
        altered = list(texts)
        altered[number % 2] = one_character_changed(texts[number % 2], chance)
        assert met.refusal(*altered) == "Untrusted", altered
        with pytest.raises(Untrusted):
            verify_pair(*altered, met.keys, time.time())
    others = met.script.run("return state.node.tokens(peerId)", peerId=met.peer_id)
    for a, b in ((texts[0], others["peer_token"]), (others["token"], texts[1]), (texts[0], texts[0])):
        assert met.refusal(a, b) == "Untrusted"
        with pytest.raises(Untrusted):
            verify_pair(a, b, met.keys, time.time())


def test_altered_key_sets_are_refused_by_both_languages(met: Met, seed: int) -> None:
    chance = random.Random(seed)
    document = orjson.loads(met.document)
    for name in ("keyset", "signature"):
        for _ in range(CHANGES // 2):
            altered = orjson.dumps({**document, name: one_character_changed(document[name], chance)})
            with pytest.raises(Thrown) as caught:
                met.take_keys(altered)
            assert caught.value.name == "Untrusted", altered
            with pytest.raises(VerificationError):
                read_document(altered, met.root_key_id, time.time())
