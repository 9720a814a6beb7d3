"""Two nodes that meet: what each can check of the other without the directory."""

from __future__ import annotations

from collections.abc import Mapping

from ..encoding import base64url, decode_base64url
from ..security.node_keys import load_node_key, verify
from ..security.signing import PrivateKey
from ..security.tokens import holder
from ..security.tokens.link import Pair, cross_verify
from ..security.tokens.tokens import TokenKeys
from .errors import Untrusted, untrusted


def verify_pair(token_a: str, token_b: str, keys: TokenKeys, now_s: float) -> Pair:
    """The two tokens, where both are valid at wall time `now_s` and were made for each other.

    `keys` is the directory's key set. Raises `Untrusted` with the reason ``unlinked`` and a message that says
    why not. Whether one was revoked since, only the directory knows.
    """
    result = cross_verify(token_a, token_b, keys, now_s)
    if result.pair is None:
        raise Untrusted("unlinked", result.reason)
    return result.pair


def answer_challenge(pair: Pair, node_id: str, challenged: bytes, key: PrivateKey) -> dict[str, str]:
    """What the node called `node_id` sends back to show that it holds the `key` that its token names.

    `challenged` are the 32 random bytes that the peer sent. The answer is ready for JSON: ``public_key`` and
    ``signature``. Raises `ValueError` where the challenge has another length or the node is none of the pair.
    """
    proof = holder.prove(pair, node_id, challenged, key.public.spki, key.sign)
    return {"public_key": key.public_text, "signature": base64url(proof.signature)}


def check_answer(pair: Pair, node_id: str, challenged: bytes, answer: Mapping[str, object]) -> None:
    """Return where `answer` shows that who sent it is the node called `node_id` of the pair.

    `challenged` is what we sent, once. Raises `Untrusted` with the reason ``malformed``, ``no_key``,
    ``wrong_key`` or ``proof``.
    """
    try:
        spki = load_node_key(str(answer["public_key"])).spki
        signature = decode_base64url(str(answer["signature"]))
    except (ValueError, KeyError) as error:
        raise Untrusted("malformed", f"this answers no challenge: {error}") from None
    with untrusted():
        holder.check_holder(pair, node_id, challenged, holder.Proof(spki, signature), verify)
