"""A mint that signs in place, with keys that are made once."""

from __future__ import annotations

import base64
from functools import cache

from openred_central.security.directory_keys import keyset
from openred_central.security.directory_keys.keyset import KeySet, KeyStatus, PublishedKey
from openred_central.security.directory_keys.suites import DirectoryKey, generate_key
from openred_central.security.tokens.tokens import Busy, PeerToken, Publication, unsigned
from tests.support.world import World


@cache
def signing_key() -> DirectoryKey:
    return generate_key("r")


@cache
def root_key() -> DirectoryKey:
    return generate_key("R")


class Here:
    """Signs in place. While `busy`, it does not."""

    def __init__(self) -> None:
        self.busy = False
        now_s = int(World().clock.wall_s())
        key = signing_key().public
        published = PublishedKey(key, now_s - 3_600, now_s + 86_400, KeyStatus.ACTIVE)
        made = KeySet(1, now_s, now_s + 86_400, (published,))
        encoded = made.encode()
        document = keyset.document(encoded, root_key().sign(keyset.message(encoded)), root_key().public)
        self.publication: Publication | None = Publication(made, document, '"tag"')
        self.root_suite: str | None = "R"
        self.public_key: str | None = base64.b64encode(key.pem().encode()).decode()

    async def ready(self) -> None:
        pass

    async def mint(self, *tokens: PeerToken) -> tuple[str, ...]:
        if self.busy:
            raise Busy("enough")
        key = signing_key()
        return tuple(
            body.assemble(key.sign(body.message))
            for body in (unsigned(token, key.public) for token in tokens)
        )
