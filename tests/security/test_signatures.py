"""A signed request is accepted exactly as it was sent, and in no other form."""

from __future__ import annotations

import base64
import itertools
import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.encoding import pre_authentication_encoding
from openred_central.security import signatures
from openred_central.security.node_keys import load_node_key, verify
from openred_central.security.refusals import ProofError
from openred_central.security.signatures import (
    AGE_S_MAX,
    EARLY_S_MAX,
    WITH_BODY,
    WITHOUT_BODY,
    Message,
    Proof,
    accept_signature,
    check_digest,
    check_proof,
    check_time,
    content_digest,
    read_rotation,
    read_signature,
    read_usual,
    request_base,
)
from openred_central.security.signing import PrivateKey, rotation_headers, signed_headers
from tests.support.signed_requests import (
    BODY,
    NONCE,
    NOW,
    RFC_9421_RSA_PSS,
    STARTED,
    ed25519_key,
    field,
    message,
    other_key,
    refusal,
    rsa_key,
    signature_base,
    signed,
    with_field,
)

REQUEST = signed(ed25519_key())
WITHOUT = signed(ed25519_key(), path="/heartbeat/node-1", body=b"")
DIGEST_512 = (
    "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
)


def prove(request: Message, key: PrivateKey | None = None, wall_s: float = NOW) -> Proof:
    """Run all steps in their order."""
    signature = read_signature(request)
    check_time(signature, wall_s, STARTED)
    return check_proof(signature, request, (key or ed25519_key()).public.spki)


def resigned(change: Callable[[str], str], request: Message = REQUEST) -> Message:
    """Return `request` with changed parameters and a new signature: only the syntax can be wrong."""
    label, _, parameters = field(request, "signature-input").partition("=")
    parameters = change(parameters)
    digest = dict(request.fields).get("content-digest", "")
    base = request_base(request.method, request.authority, request.path, digest, parameters)
    signature = base64.b64encode(ed25519_key().sign(base)).decode()
    changed = with_field(request, "signature-input", f"{label}={parameters}")
    return with_field(changed, "signature", f"{label}=:{signature}:")


# Published examples.


def test_rfc_9421_b_2_2_verifies_by_our_base() -> None:
    parameters = (
        '("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;'
        'keyid="test-key-rsa-pss";tag="header-example"'
    )
    base = signature_base(
        [
            ('"@authority"', "example.com"),
            ('"content-digest"', DIGEST_512),
            ('"@query-param";name="Pet"', "dog"),
        ],
        parameters,
    )
    signature = base64.b64decode(
        "LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkS"
        "owOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkj"
        "qpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAox"
        "k//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw=="
    )
    spki = load_node_key(RFC_9421_RSA_PSS).spki
    assert verify(spki, signature, base)
    assert not verify(spki, signature, base.replace(b"dog", b"cat"))


def test_rfc_9421_b_2_6_is_what_we_sign() -> None:
    parameters = (
        '("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;'
        'keyid="test-key-ed25519"'
    )
    base = signature_base(
        [
            ('"date"', "Tue, 20 Apr 2021 02:07:55 GMT"),
            ('"@method"', "POST"),
            ('"@path"', "/foo"),
            ('"@authority"', "example.com"),
            ('"content-type"', "application/json"),
            ('"content-length"', "18"),
        ],
        parameters,
    )
    expected = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    assert base64.b64encode(ed25519_key().sign(base)).decode() == expected


def test_the_digest_of_rfc_9530_is_ours() -> None:
    expected = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    assert content_digest(b'{"hello": "world"}') == expected
    check_digest(expected, b'{"hello": "world"}')


@pytest.mark.parametrize("digest", ["", content_digest(BODY)])
def test_the_base_of_a_request_is_that_of_rfc_9421(digest: str) -> None:
    covered = [('"@method"', "POST"), ('"@authority"', "directory.example"), ('"@path"', "/register")]
    if digest:
        covered.append(('"content-digest"', digest))
    base = request_base("POST", "directory.example", "/register", digest, "(...);created=1")
    assert base == signature_base(covered, "(...);created=1")


# Accepted requests.


@pytest.mark.parametrize("request_", [REQUEST, WITHOUT], ids=["with body", "without body"])
def test_a_signed_request_is_proven(request_: Message) -> None:
    assert prove(request_) == Proof(ed25519_key().key_id, NOW, NONCE)


def test_rsa_keys_sign_as_well() -> None:
    assert prove(signed(rsa_key()), rsa_key()) == Proof(rsa_key().key_id, NOW, NONCE)


def test_the_parameters_may_stand_in_any_order(seed: int) -> None:
    def shuffled(parameters: str) -> str:
        components, *pieces = parameters.split(";")
        random.Random(seed).shuffle(pieces)
        return ";".join([components, *pieces])

    assert prove(resigned(shuffled))


@pytest.mark.parametrize(
    "more", [f";expires={NOW + 1}", ';alg="ed25519"', f';alg="ed25519";expires={NOW + 9}']
)
def test_expires_and_alg_may_be_added(more: str) -> None:
    assert prove(resigned(lambda parameters: parameters + more))


@pytest.mark.parametrize("label", ["sig1", "pyhms", "*a", "a-b_c.d*"])
def test_one_signature_may_have_any_label(label: str) -> None:
    request = REQUEST
    for name in ("signature-input", "signature"):
        request = with_field(request, name, field(request, name).replace("sig1", label, 1))
    assert prove(request)


def test_signed_authority_has_no_default_port() -> None:
    assert prove(REQUEST._replace(authority="Directory.Example:443"))
    assert refusal(prove, REQUEST._replace(authority="directory.example:8080")) == "bad_signature"


@pytest.mark.parametrize("nonce", ["a" * 16, "a" * 64, "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"])
def test_a_nonce_has_16_to_64_characters_of_any_kind(nonce: str) -> None:
    assert prove(signed(ed25519_key(), nonce=nonce)).nonce == nonce


# Refused: a request other than the signed one.


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"method": "DELETE"}, "bad_signature"),
        ({"authority": "other.example"}, "bad_signature"),
        ({"path": "/registers"}, "bad_signature"),
        ({"path": "/Register"}, "bad_signature"),
        ({"body": BODY + b" "}, "digest_mismatch"),
        ({"query": "mode=forget"}, "signature_syntax"),
        ({"body": b""}, "signature_syntax"),
        ({"authority": ""}, "signature_syntax"),
        ({"path": "/régister"}, "signature_syntax"),
        ({"path": '/register\n"@path": /x'}, "signature_syntax"),
    ],
)
def test_no_part_of_the_request_may_change(change: dict[str, str | bytes], code: str) -> None:
    assert refusal(prove, REQUEST._replace(**change)) == code


def test_a_body_cannot_be_added() -> None:
    assert refusal(prove, WITHOUT._replace(body=BODY)) == "signature_syntax"
    with_digest = with_field(WITHOUT._replace(body=BODY), "content-digest", content_digest(BODY))
    assert refusal(prove, with_digest) == "signature_syntax"


def test_another_body_does_not_fit_with_its_own_digest_either() -> None:
    changed = with_field(REQUEST._replace(body=b"{}"), "content-digest", content_digest(b"{}"))
    assert refusal(prove, changed) == "bad_signature"


def test_the_key_decides() -> None:
    assert refusal(prove, REQUEST, other_key()) == "wrong_key"
    assert refusal(prove, REQUEST, rsa_key()) == "wrong_key"
    renamed = resigned(lambda parameters: parameters.replace(ed25519_key().key_id, other_key().key_id))
    assert refusal(prove, renamed, other_key()) == "bad_signature"


@pytest.mark.parametrize(
    "algorithm", ["rsa-pss-sha512", "rsa-v1_5-sha256", "hmac-sha256", "ecdsa-p256-sha256", "none", ""]
)
def test_the_message_does_not_decide_the_algorithm(algorithm: str) -> None:
    changed = resigned(lambda parameters: f'{parameters};alg="{algorithm}"')
    assert refusal(prove, changed) == "wrong_algorithm"


# Refused: another time.


@pytest.mark.parametrize(
    ("wall_s", "code"),
    [
        (NOW + AGE_S_MAX, None),
        (NOW + AGE_S_MAX + 0.001, "signature_expired"),
        (NOW - EARLY_S_MAX, None),
        (NOW - EARLY_S_MAX - 0.001, "signature_early"),
    ],
)
def test_a_signature_is_valid_for_a_minute(wall_s: float, code: str | None) -> None:
    signature = read_signature(REQUEST)
    if code is None:
        check_time(signature, wall_s, STARTED)
    else:
        assert refusal(check_time, signature, wall_s, STARTED) == code


def test_what_was_signed_before_the_start_is_refused() -> None:
    check_time(read_signature(REQUEST), NOW, NOW)
    assert refusal(check_time, read_signature(REQUEST), NOW + 1, NOW + 0.001) == "signature_expired"


def test_a_signature_ends_by_its_own_expires() -> None:
    expiring = resigned(lambda parameters: f"{parameters};expires={NOW + 5}")
    prove(expiring, wall_s=NOW + 4.9)
    assert refusal(prove, expiring, None, NOW + 5) == "signature_expired"


# Refused: another syntax.


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(parameters: str) -> str:
        assert old in parameters
        return parameters.replace(old, new)

    return change


@pytest.mark.parametrize(
    "change",
    [
        replaced(WITH_BODY, WITHOUT_BODY),
        replaced(WITH_BODY, '("@authority" "@method" "@path" "content-digest")'),
        replaced(WITH_BODY, '("@method" "@authority" "@path" "content-digest" "date")'),
        replaced(WITH_BODY, '("@method" "@authority" "@path" "content-digest" "@path")'),
        replaced(WITH_BODY, '("@method" "@authority" "@path" "content-digest";req)'),
        replaced(WITH_BODY, '("@method"  "@authority" "@path" "content-digest")'),
        replaced(WITH_BODY, '( "@method" "@authority" "@path" "content-digest")'),
        replaced(WITH_BODY, '("@Method" "@authority" "@path" "content-digest")'),
        replaced(WITH_BODY, "()"),
        replaced(WITH_BODY, ""),
        replaced(";created=1800000000", ""),
        replaced(f';nonce="{NONCE}"', ""),
        replaced(';tag="openred-3"', ""),
        replaced('tag="openred-3"', 'tag="openred-2"'),
        replaced('tag="openred-3"', "tag=3"),
        replaced("created=1800000000", 'created="1800000000"'),
        replaced("created=1800000000", "created=01800000000"),
        replaced("created=1800000000", "created=-1"),
        replaced("created=1800000000", "created=1800000000.0"),
        replaced("created=1800000000", "created=99999999999999999999"),
        replaced("created=1800000000", "created=4294967296"),
        replaced("created=1800000000", "created=?1"),
        replaced("created=", "Created="),
        replaced(NONCE, NONCE[:15]),
        replaced(NONCE, "n" * 65),
        replaced(NONCE, NONCE + "\\\\"),
        replaced(NONCE, NONCE + " "),
        replaced(f'"{NONCE}"', NONCE),
        replaced("keyid=", "key="),
        replaced('keyid="', 'keyid="A'),
        replaced(";tag", "; tag"),
        replaced(";tag", ";;tag"),
        replaced(";tag", ";x;tag"),
        replaced(";tag", ';x="y";tag'),
        replaced(";tag", ";Tag"),
        replaced(";tag", f';nonce="{NONCE}";tag'),
        replaced(";tag", ';tag="openred-3";tag'),
        replaced(";tag", f";created={NOW};tag"),
        replaced(";tag", ";alg=1;tag"),
        replaced(";tag", ';expires="1";tag'),
        lambda parameters: parameters + ";",
        lambda parameters: parameters + ",",
        lambda parameters: parameters + " ",
        lambda parameters: " " + parameters,
        lambda parameters: parameters + ";" * 3_000,
    ],
)
def test_another_syntax_is_refused_even_if_it_was_signed(change: Callable[[str], str]) -> None:
    assert refusal(prove, resigned(change)) == "signature_syntax"


@pytest.mark.parametrize("name", ["host", "signature", "signature-input", "content-digest", "content-length"])
def test_a_field_that_matters_must_not_come_twice(name: str) -> None:
    twice = REQUEST._replace(fields=(*REQUEST.fields, (name, field(REQUEST, name))))
    assert refusal(prove, twice) == "signature_syntax"


@pytest.mark.parametrize("name", ["host", "signature", "signature-input", "content-digest"])
def test_a_field_that_matters_is_ascii(name: str) -> None:
    assert refusal(prove, with_field(REQUEST, name, field(REQUEST, name) + "ÿ")) == "signature_syntax"


@pytest.mark.parametrize("name", ["signature", "signature-input", "content-digest"])
def test_none_of_the_three_fields_may_be_missing(name: str) -> None:
    assert refusal(prove, with_field(REQUEST, name, None)) == "signature_syntax"
    assert refusal(prove, with_field(REQUEST, name, "")) == "signature_syntax"


def test_a_request_that_is_not_signed_needs_a_proof() -> None:
    assert refusal(prove, message()) == "proof_required"
    assert refusal(read_rotation, message()) == "proof_required"


@pytest.mark.parametrize(
    "digest",
    [
        DIGEST_512,
        "sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=",
        "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE:",
        "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPF=:",
        ", ".join(["sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"] * 2),
        "SHA-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
        "",
    ],
)
def test_a_digest_has_one_form(digest: str) -> None:
    assert refusal(check_digest, digest, BODY) == "signature_syntax"


@pytest.mark.parametrize("form", ["{0}, {1}", "{1},{0}", "{1} ,\t{0}"])
def test_digests_by_others_may_stand_beside_ours(form: str) -> None:
    digests = form.format(content_digest(BODY), DIGEST_512)
    check_digest(digests, BODY)
    assert refusal(check_digest, digests, BODY + b"\n") == "digest_mismatch"


@pytest.mark.parametrize("port", [80, 443])
def test_the_port_may_be_signed_as_it_was_sent(port: int) -> None:
    """The default port depends on the scheme (RFC 9421 §2.2.3), which a proxy may hide."""
    request = REQUEST._replace(authority=f"Directory.Example:{port}")
    signature = read_signature(request)
    for authority in (f"directory.example:{port}", "directory.example"):
        base = signature_base(
            [
                ('"@method"', request.method),
                ('"@authority"', authority),
                ('"@path"', request.path),
                ('"content-digest"', signature.digest),
            ],
            signature.parameters,
        )
        signed = signature._replace(signature=ed25519_key().sign(base))
        assert check_proof(signed, request, ed25519_key().public.spki).nonce == NONCE
    other = request._replace(authority=f"other.example:{port}")
    assert refusal(check_proof, signed, other, ed25519_key().public.spki) == "bad_signature"


PROXYS = 'proxy=("@method" "@authority" "via";sf);created=1;keyid="k";alg="rsa-v1_5-sha256";tag="proxy"'


@pytest.mark.parametrize("form", ["{0}, {1}", "{1}, {0}"])
@pytest.mark.parametrize("tag", [';tag="proxy"', ""])
def test_a_proxy_may_sign_for_itself_beside_us(form: str, tag: str) -> None:
    theirs = PROXYS.partition(";tag=")[0] + tag
    request = with_field(REQUEST, "signature-input", form.format(field(REQUEST, "signature-input"), theirs))
    both = form.format(field(REQUEST, "signature"), "proxy=:AAAA:")
    assert prove(with_field(request, "signature", both)).nonce == NONCE


def test_five_signatures_are_too_many() -> None:
    request = REQUEST
    for name, theirs in (("signature-input", PROXYS), ("signature", "proxy=:AAAA:")):
        more = ", ".join(theirs.replace("proxy=", f"proxy{number}=", 1) for number in range(4))
        request = with_field(request, name, f"{field(request, name)}, {more}")
    assert refusal(prove, request) == "signature_syntax"


def test_a_digest_is_of_one_body() -> None:
    assert refusal(check_digest, content_digest(BODY), BODY + b"\n") == "digest_mismatch"
    assert refusal(check_digest, content_digest(b""), b"\n") == "digest_mismatch"
    check_digest("", b"")


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.replace("=:", "="),
        lambda value: value.replace("==:", "=:"),
        lambda value: value.replace("==:", ":"),
        lambda value: value[:-4] + chr(ord(value[-4]) + 1) + value[-3:],
        lambda value: value.replace("sig1", "sig2"),
        lambda value: f"{value}, {value.replace('sig1', 'sig2')}",
        lambda value: f"{value}, {value}",
        lambda value: f"{value},",
        lambda value: "sig1=::",
        lambda value: f"sig1=:{'A' * 688}:",
    ],
)
def test_a_signature_has_one_form(change: Callable[[str], str]) -> None:
    changed = with_field(REQUEST, "signature", change(field(REQUEST, "signature")))
    assert refusal(prove, changed) == "signature_syntax"


def test_a_request_has_one_signature() -> None:
    double = REQUEST
    for name in ("signature", "signature-input"):
        value = field(double, name)
        double = with_field(double, name, f"{value}, {value.replace('sig1', 'sig2')}")
    assert refusal(prove, double) == "signature_syntax"


def test_key_change_has_two_signatures_of_one_request() -> None:
    headers = rotation_headers(
        "directory.example", "/nodes/n/key", BODY, ed25519_key(), other_key(), NOW, NONCE
    )
    request = message(path="/nodes/n/key", headers=headers)
    by_old, by_new = read_rotation(request)
    assert by_old is not None
    assert check_proof(by_old, request, ed25519_key().public.spki).key_id == ed25519_key().key_id
    assert check_proof(by_new, request, other_key().public.spki).key_id == other_key().key_id
    assert refusal(check_proof, by_old, request, other_key().public.spki) == "wrong_key"
    assert refusal(read_signature, request) == "signature_syntax"


@pytest.mark.parametrize(
    "labels", [["sig1"], ["old"], ["newer"], ["sig1", "new"], ["old", "new", "sig1"]], ids=" ".join
)
def test_key_change_has_the_labels_old_and_new(labels: list[str]) -> None:
    request = REQUEST
    for name in ("signature-input", "signature"):
        value = field(request, name)
        values = [value.replace("sig1", label, 1) for label in labels]
        request = with_field(request, name, ", ".join(values))
    assert refusal(read_rotation, request) == "signature_syntax"


def test_a_signature_of_another_purpose_is_refused() -> None:
    """A key signs for peers, too: those messages begin with another label and are no signature base."""
    for purpose in (b"openred/3 pop", b"openred/3 token", b"openred/3 keyset"):
        digest, parameters = field(REQUEST, "content-digest"), field(REQUEST, "signature-input")[5:]
        base = request_base("POST", "directory.example", "/register", digest, parameters)
        signature = ed25519_key().sign(pre_authentication_encoding(purpose, base))
        changed = with_field(REQUEST, "signature", f"sig1=:{base64.b64encode(signature).decode()}:")
        assert refusal(prove, changed) == "bad_signature"


# The usual form, which one regular expression reads.


USUAL = {
    "method": "POST",
    "authority": "directory.example",
    "path": "/heartbeat/node-1",
    "query": "",
    "body": "",
    "label": "sig1",
    "components": WITHOUT_BODY,
    "created": f";created={NOW}",
    "nonce": f';nonce="{NONCE}"',
    "keyid": f';keyid="{"k" * 43}"',
    "tag": ';tag="openred-3"',
    "more": "",
    "signed label": "sig1",
    "signature": "AAAA",
    "signed more": "",
    "header": "",
}
CHANGES = {
    "method": ["P\xf6ST"],
    "authority": ["", "d\xefrectory", "DIRECTORY.example:80"],
    "path": ["/\xe9", "/\x7f", "/a b"],
    "query": ["a=1"],
    "body": ["{}"],
    "label": ["old", "Sig", "a" * 33, ""],
    "components": [WITH_BODY, '("@method")', "()"],
    "created": [f";created={text}" for text in ("4294967296", "4294967295", "01800000000", "9", "1" * 16)]
    + [""],
    "nonce": [f';nonce="{text}"' for text in ("x" * 64, "x" * 65, "x" * 15, 'x\\"' * 9)] + [""],
    "keyid": [f';keyid="{text}"' for text in ("k" * 42, "k" * 44, "+" * 43)] + [""],
    "tag": [';tag="openred-2"', ';tag="openred-3";expires=1800000009', ';tag="openred-3";alg="x"', ""],
    "more": [', proxy=();tag="proxy"', " ", "\xe9", "\n", "\nsig1=:AAAA:"],
    "signed label": ["old", ""],
    "signature": ["AA==", "AB==", "AAA", "A" * 684, "A" * 688, "A-_A", ""],
    "signed more": [", proxy=:AAAA:", " ", "\n"],
    "header": [
        *("x=\xe4", "x=1", "host=a", "host=\xe4", "content-digest=\xe4", "content-digest=1"),
        *("content-length=\xb2", "signature=sig1=:AAAA:", "signature-input="),
    ],
}


def request_with(changes: dict[str, str]) -> Message:
    """Return a request in the usual form but for `changes`."""
    part = USUAL | changes
    stated = "".join(part[name] for name in ("components", "created", "nonce", "keyid", "tag", "more"))
    fields = [
        ("signature-input", f"{part['label']}={stated}"),
        ("signature", f"{part['signed label']}=:{part['signature']}:{part['signed more']}"),
    ]
    if part["header"]:
        name, _, value = part["header"].partition("=")
        fields.append((name, value))
    where = (part["method"], part["authority"], part["path"], part["query"], part["body"].encode())
    return Message(*where, tuple(fields))


def outcome(request: Message) -> object:
    """Return the signature, or code and text of the refusal."""
    try:
        return read_signature(request)
    except ProofError as error:
        return error.code, error.message


def test_usual_form_is_read_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    single = [{name: value} for name, values in CHANGES.items() for value in values]
    requests = [request_with({**one, **other}) for one, other in itertools.product([{}, *single], repeat=2)]
    outcomes = [outcome(request) for request in requests]
    monkeypatch.setattr(signatures, "read_usual", lambda message: None)
    assert [outcome(request) for request in requests] == outcomes


@pytest.mark.parametrize("key", [ed25519_key(), rsa_key()], ids=["Ed25519", "RSA"])
def test_our_clients_sign_heartbeats_in_the_usual_form(key: PrivateKey) -> None:
    request = signed(key, path="/heartbeat/node-1", body=b"")
    assert read_usual(request) == read_signature(request)
    assert read_usual(REQUEST) is None


# Any input.


def test_no_request_with_one_character_changed_is_proven(seed: int) -> None:
    source = random.Random(seed)
    names = ("signature", "signature-input", "content-digest")
    accepted = []
    for request, key in ((REQUEST, ed25519_key()), (signed(rsa_key()), rsa_key())):
        for _ in range(1_500):
            name = source.choice(names)
            value = field(request, name)
            place = source.randrange(len(value))
            character = source.choice([chr(ord(value[place]) ^ 1 << source.randrange(7)), "A", "=", '"', ";"])
            changed = value[:place] + character + value[place + 1 :]
            if changed == value:
                continue
            try:
                prove(with_field(request, name, changed), key)
            except ProofError:
                continue
            accepted.append((name, changed))
    # The label is not signed: changed in both headers alike it would be accepted.
    assert accepted == []


INPUT = field(REQUEST, "signature-input")
PIECES = [
    *re.split(r'([();=", ]+)', INPUT),
    *("sig1", "=", ",", ", ", ";", "(", ")", '"', ":", "\\", "\0", "ÿ", "\ud800", "9" * 20, "a" * 70),
]


@given(
    st.text() | st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    st.text() | st.sampled_from([field(REQUEST, "signature"), "sig1=:AA==:", "old=:AA==:, new=:AA==:"]),
    st.text() | st.just(content_digest(BODY)),
)
def test_any_fields_are_refused_and_nothing_else_happens(inputs: str, signatures: str, digest: str) -> None:
    headers = [("signature-input", inputs), ("signature", signatures), ("content-digest", digest)]
    for read in (read_signature, read_rotation):
        try:
            read(message(headers=headers))
        except ProofError as error:
            assert error.code in ("signature_syntax", "proof_required")  # noqa: PT017


@given(
    st.sampled_from(["GET", "POST", "DELETE"]),
    st.from_regex(r"[a-z]{1,20}(:[1-9][0-9]{3})?", fullmatch=True),
    st.from_regex(r"/[A-Za-z0-9_.:%-]{0,40}", fullmatch=True),
    st.binary(max_size=200),
    st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True),
)
def test_what_is_signed_is_proven(method: str, authority: str, path: str, body: bytes, nonce: str) -> None:
    headers = signed_headers(method, authority, path, body, ed25519_key(), NOW, nonce)
    request = message(method, authority, path, "", body, headers)
    assert prove(request) == Proof(ed25519_key().key_id, NOW, nonce)


def test_accept_signature_names_the_profile() -> None:
    assert accept_signature(with_body=True) == (
        'sig1=("@method" "@authority" "@path" "content-digest");created;nonce;keyid;tag="openred-3"'
    )
    assert accept_signature(with_body=False) == (
        'sig1=("@method" "@authority" "@path");created;nonce;keyid;tag="openred-3"'
    )
