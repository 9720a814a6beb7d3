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
from openred_central.encoding import base64url, decode_base64url
from openred_central.security.directory_keys.keyset import document as document_of
from openred_central.security.directory_keys.keyset import message, read_document
from openred_central.security.refusals import VerificationError
from openred_central.security.signing import known_answers
from openred_central.security.tokens.link import Side, new_pair
from openred_central.security.tokens.tokens import PeerToken, unsigned
from tests.support.javascript import JavaScript, Thrown
from tests.support.keys import NOW, directory_key, keyset
from tests.support.running import Server, servers_in

VECTORS: dict[str, Any] = json.loads(known_answers())
PAIR, KEYSET = VECTORS["pair"], VECTORS["keyset"]
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
CHANGES = 40
SEED_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
BYTES = "const bytes = (digits) => new Uint8Array(digits.match(/../g).map((two) => parseInt(two, 16)));"
TAKE_KEYS = "state.keys = await openred.verifyKeySet(new TextEncoder().encode(document), options);"
VERIFY_PAIR = "state.pair = await openred.verifyPair(a, b, state.keys, { nowS }); return state.pair.a;"


@pytest.fixture(scope="module", params=["javascript", "browser"])
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JavaScript]:
    """Yield Node.js with the node for it, and with the one for browsers, whose WebCrypto it has, too."""
    with JavaScript(tmp_path_factory.mktemp("script"), request.param) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers_in(tmp_path_factory.mktemp("server")) as start:
        yield start("--database", "memory:", OPENRED_CLASSICAL_ROOT="true")


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


def test_key_set_tokens_and_proofs_are_the_known_answers(script: JavaScript) -> None:
    options = {"classicalRootKeyId": KEYSET["classical_root_kid"], "nowS": KEYSET["now"]}
    script.run(TAKE_KEYS, document=json.dumps(KEYSET["document"]), options=options)
    source = "return state.keys.keys.map((entry) => entry.key.id)"
    assert script.run(source) == [key["kid"] for key in KEYSET["content"]["keys"]]
    pair = {"a": PAIR["token_a"], "b": PAIR["token_b"]}
    assert script.run(VERIFY_PAIR, **pair, nowS=PAIR["now"]) == PAIR["claims_a"]
    for proof in VECTORS["proof_of_possession"]:
        signature = base64url(base64.b64decode(proof["signature"]))
        script.run(
            BYTES + "await openred.checkAnswer(state.pair, prover, bytes(challenge), answer);",
            prover=proof["prover"],
            challenge=proof["challenge_hex"],
            answer={"public_key": proof["public_key"], "signature": signature},
        )
    source = "return openred.verifyToken(token, state.keys, { nowS })"
    hybrid = VECTORS["hybrid_token"]
    if script.run("return openred.hasMlDsa"):
        assert script.run(source, token=hybrid["token"], nowS=hybrid["now"]) == hybrid["claims"]
    else:
        with pytest.raises(Thrown) as caught:
            script.run(source, token=hybrid["token"], nowS=hybrid["now"])
        assert caught.value.reason == "unsupported"


class Met:
    """A node in JavaScript and one in Python that found each other: their pair of tokens, and the key set."""

    def __init__(self, script: JavaScript, server: Server) -> None:
        self.script = script
        self.key = PrivateKey.generate_ed25519()
        self.document = b""
        self.tokens: dict[str, str] = {}
        asyncio.run(self._meet(url_of(server)))
        fields = orjson.loads(self.document)
        self.root_key_id = fields["root"]["kid"]
        self.classical_root_key_id = fields["classical"]["root"]["kid"]

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
            pin = {"classicalRootKeyId": orjson.loads(self.document)["classical"]["root"]["kid"]}
            source = """
            const node = new openred.Node(url, state.key, pin);
            return [(await node.keySet()).version, (await node.keySet()).version];
            """
            versions = self.script.run(source, url=url, pin=pin)
            assert versions == [(await python.key_set()).version] * 2

    @property
    def keys(self) -> KeySet:
        return read_document(self.document, self.root_key_id, time.time())

    def take_keys(self, document: bytes, **pin: str) -> None:
        """Let the node in JavaScript take a key set, by default by the classical root key."""
        pin = pin or {"classicalRootKeyId": self.classical_root_key_id}
        self.script.run(TAKE_KEYS, document=document.decode(), options={**pin, "nowS": time.time()})

    def refused(self, document: bytes, **pin: str) -> str:
        """Return why the node in JavaScript does not trust a key set."""
        with pytest.raises(Thrown) as caught:
            self.take_keys(document, **pin)
        assert caught.value.name == "Untrusted", document
        return caught.value.reason

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
    thief = answer_in_python(pair, met.peer_id, sent, PrivateKey.generate_ed25519())
    for changed in (
        {"sent": random.randbytes(32).hex()},
        {"nodeId": met.node_id},
        {"answer": thief},
        {"answer": None},
    ):
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
    classical = document["classical"]
    for number in range(CHANGES):
        if number % 2:
            altered = orjson.dumps({**document, "keyset": one_character_changed(document["keyset"], chance)})
        else:
            signature = one_character_changed(classical["signature"], chance)
            altered = orjson.dumps({**document, "classical": {**classical, "signature": signature}})
        met.refused(altered)
        with pytest.raises(VerificationError):
            read_document(altered, met.classical_root_key_id, time.time(), classical=True)


def test_half_a_composite_signature_is_none(met: Met) -> None:
    """Without the choice of its owner, a node without ML-DSA trusts no key set of a composite root key."""
    has_ml_dsa = met.script.run("return openred.hasMlDsa")
    document = orjson.loads(met.document)
    if has_ml_dsa:
        met.take_keys(met.document, rootKeyId=met.root_key_id)
    else:
        assert met.refused(met.document, rootKeyId=met.root_key_id) == "unsupported"
    signature = decode_base64url(document["signature"])
    for altered in (bytes(3_309) + signature[3_309:], signature[:3_309] + bytes(384)):
        halved = orjson.dumps({**document, "signature": base64url(altered)})
        expected = "signature" if has_ml_dsa else "unsupported"
        assert met.refused(halved, rootKeyId=met.root_key_id) == expected
        with pytest.raises(VerificationError):
            read_document(halved, met.root_key_id, time.time())
        # The owner of this one chose to look at the classical signature alone.
        met.take_keys(halved)
        assert read_document(halved, met.classical_root_key_id, time.time(), classical=True)


def test_a_classical_root_key_is_a_choice_of_its_own(script: JavaScript) -> None:
    source = """
    const said = [];
    const { warn } = console;
    console.warn = (text) => said.push(text);
    try {
      const key = await openred.NodeKey.generate();
      new openred.Node("http://directory.example", key, { rootKeyId: "a" });
      new openred.Node("http://directory.example", key, { classicalRootKeyId: "b" });
      new openred.Node("http://directory.example", key, { rootKeyId: "a", classicalRootKeyId: "b" });
    } catch (error) {
      said.push(error.message);
    } finally {
      console.warn = warn;
    }
    return said;
    """
    warned, refused = script.run(source)
    assert "which is not quantum-safe" in warned
    assert "pin one of them" in refused


def test_the_classical_signature_passes_for_no_other(met: Met) -> None:
    document = orjson.loads(met.document)
    disguised = orjson.dumps({"keyset": document["keyset"], **document["classical"]})
    assert met.refused(disguised, rootKeyId=met.classical_root_key_id) == "signature"
    assert met.refused(disguised) == "no_classical"
    assert met.refused(disguised, rootKeyId=met.root_key_id) == "root"
    assert met.refused(met.document, classicalRootKeyId=met.root_key_id) == "root"


def test_a_key_set_that_no_directory_issues_is_refused(script: JavaScript) -> None:
    root = directory_key("R", 1)

    def take(keys: KeySet, now_s: float = NOW, **further: Any) -> str:
        encoded = keys.encode()
        signed = document_of(encoded, root.sign(message(encoded)), root.public).decode()
        options = {"rootKeyId": root.public.key_id, "nowS": now_s, **further}
        try:
            script.run(TAKE_KEYS, document=signed, options=options)
        except Thrown as thrown:
            return thrown.reason
        return "taken"

    keys = keyset(directory_key(), directory_key("e"), version=NOW)
    assert take(keys) == "taken"
    assert take(keys, versionMin=NOW + 1) == "rollback"
    assert take(keys._replace(version=NOW + 3_601)) == "excess"
    assert take(keys._replace(expires_at=NOW + 5_184_001)) == "excess"
    assert take(keys, NOW - 31) == "not_yet"
    assert take(keys, NOW + 172_800) == "keyset_expired"
    assert take(keyset(directory_key(), directory_key())) == "malformed"


def test_a_link_of_other_tokens_is_refused_by_both_languages(script: JavaScript) -> None:
    """Both tokens are signed by the directory; only the link shows that they do not belong together."""
    root, signer = directory_key("R", 1), directory_key("e")
    keys = keyset(signer, version=NOW)
    encoded = keys.encode()
    signed = document_of(encoded, root.sign(message(encoded)), root.public)
    options = {"rootKeyId": root.public.key_id, "nowS": NOW}
    script.run(TAKE_KEYS, document=signed.decode(), options=options)
    sides = Side("alice", "A" * 43, 0), Side("bob", "B" * 43, 0)
    tokens = new_pair(*sides, "peer", NOW, 300, random.Random(1).randbytes)

    def text(token: PeerToken) -> str:
        body = unsigned(token, signer.public)
        return body.assemble(signer.sign(body.message))

    a, b = map(text, tokens)
    assert script.run(VERIFY_PAIR, a=a, b=b, nowS=NOW)["sub"] == "alice"
    others = (
        tokens[1]._replace(token_id="x" * 22),
        tokens[1]._replace(link="0" * 64),
        tokens[1]._replace(peer_key_id=None),
    )
    for other in others:
        with pytest.raises(Thrown) as caught:
            script.run(VERIFY_PAIR, a=a, b=text(other), nowS=NOW)
        assert caught.value.reason == "unlinked"
        with pytest.raises(Untrusted):
            verify_pair(a, text(other), keys, NOW)
    for now_s, reason in ((NOW - 31, "key_time"), (NOW + 300, "expired")):
        with pytest.raises(Thrown) as caught:
            script.run(VERIFY_PAIR, a=a, b=b, nowS=now_s)
        assert caught.value.reason == reason
