"""The directory's keys as they are kept: a root key, signing keys, and the key set by which it vouches.

``root-h.key`` or ``root-R.key`` is the root key of that suite, ``signing-<id>.key`` are the signing keys, all
in PEM; ``keyring.json`` is their schedule. ``classical-root.key`` also signs key sets, if the operator wants
that. Where the root key lies elsewhere, ``keyset-request.json`` waits to be carried there, and
``keyset-signed.json`` is the answer.

These calls take long and are for a thread, one at a time. Other threads read `signing` and `served`, which
are exchanged whole, and which do not depend on a disk that can be written. Until it can, no private half is
erased and no new key is used.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import orjson

from ...security.directory_keys import composite, keyset
from ...security.directory_keys.keyring import Keyring
from ...security.directory_keys.keyset import KeySet
from ...security.directory_keys.root import (
    CLASSICAL,
    COMPOSITE,
    KeyOptions,
    QuantumPolicy,
    RootRefused,
    choose_root,
)
from ...security.directory_keys.suites import (
    DirectoryKey,
    SuiteUnsupported,
    generate_key,
    load_private_pem,
    private_pem,
)
from ...security.refusals import CLOCK_SKEW_S, VerificationError
from .key_files import (
    CLASSICAL_ROOT,
    KEY,
    KEYRING,
    SIGNING,
    KeyFileError,
    KeyPlace,
    damaged,
    expect_root,
    keyring_damaged,
    root_file,
)

REQUEST = "keyset-request.json"
SIGNED = "keyset-signed.json"
# How often the time is saved for which a next key was published: a crash takes back at most so much of it.
SAVE_S = 300.0


class Served(NamedTuple):
    """A key set, the document by which peers know it, and id and suite of the root key that signed it."""

    keyset: KeySet
    document: bytes
    root_key_id: str
    root_suite: str


class DirectoryKeys:
    """The keys in `files`. Call `open` once, then `advance` every few seconds and after changes of `ring`."""

    def __init__(self, files: KeyPlace, options: KeyOptions) -> None:
        self._files = files
        self._options = options
        self.ring = Keyring(options.schedule)
        self._private: dict[str, DirectoryKey] = {}
        self._root: DirectoryKey | None = None
        self._classical: DirectoryKey | None = None
        self._signed: bytes | None = None
        self._requested: KeySet | None = None
        self._saved_at = 0.0
        self.signing: DirectoryKey | None = None
        self.served: Served | None = None
        self.notices: list[str] = []

    def open(self, now_s: float) -> None:
        """Read the files. Raises `KeyFileError` or `RootRefused` where the server must not start."""
        self._files.open()
        if self._options.token_suite == COMPOSITE and not composite.is_supported():
            raise RootRefused(
                "hybrid tokens are configured, but this installation has no ML-DSA-65, which comes with "
                "cryptography 48 or newer"
            )
        if self._options.offline_root:
            requested = self._files.read(REQUEST)
            with suppress(ValueError, KeyError, TypeError):
                self._requested = None if requested is None else keyset.decode_keyset(requested)
        else:
            self._root, warning = open_root(self._files, self._options.quantum)
            self.notices += [warning] if warning else []
            if self._options.classical_root:
                self._classical, warning = open_classical_root(self._files)
                self.notices += [warning] if warning else []
        content = self._files.read(KEYRING)
        if content is not None:
            self.ring = self._decode(content)
        for key in self.ring.private_keys:
            pem = self._files.read(_file_of(key.short_id))
            if pem is None:
                self.notices.append(f"the private half of signing key {key.short_id} is missing")
                self.ring.lost(key.key_id, now_s)
            else:
                self._private[key.key_id] = _load(key.suite.letter, pem, _file_of(key.short_id))
        self.ring.resume(now_s)
        active = self.ring.active
        if active is not None and active.suite.letter != self._options.token_suite:
            self.ring.rotate(now_s)

    def advance(self, now_s: float) -> None:
        """Do the steps that are due at wall time `now_s`. Lines for the operator are added to `notices`.

        Raises `KeyFileError`; the next call tries again.
        """
        failed: KeyFileError | None = None
        try:
            if self.ring.unsaved:
                # No key may advance from a state that a crash would take back.
                self._save(now_s)
            self.ring.advance(now_s)
            if self.ring.needs_key(now_s):
                key = generate_key(self._options.token_suite)
                self._files.write(_file_of(key.public.short_id), private_pem(key))
                self._private[key.public.key_id] = key
                self.ring.add(key.public)
        except KeyFileError as error:
            failed = error
        publish = self._exchange if self._options.offline_root else self._sign
        for step in (publish, self._save):
            try:
                step(now_s)
            except KeyFileError as error:
                failed = failed or error
        active = self.ring.active
        self.signing = None if active is None else self._private[active.key_id]
        if failed is not None:
            raise failed

    def _decode(self, content: bytes) -> Keyring:
        try:
            return Keyring.decode(self._options.schedule, content)
        except SuiteUnsupported as error:
            raise RootRefused(f"there are signing keys that this installation cannot use: {error}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise keyring_damaged(self._files, error) from None

    def _sign(self, now_s: float) -> None:
        """Sign the key set until it is current: the very first key becomes active at once."""
        assert self._root is not None
        while self.ring.stale(now_s):
            made = self.ring.issue(now_s)
            root = self._root.public
            document = _signed(made.encode(), self._root, self._classical)
            self._serve(Served(made, document, root.key_id, root.suite.letter), now_s)

    def _serve(self, served: Served, now_s: float) -> None:
        self.served = served
        self.ring.published(served.keyset, now_s)
        if self.ring.active is None:
            self.ring.advance(now_s)

    def _exchange(self, now_s: float) -> None:
        """Take in the key set that came back from the root key, and write a request for the next one."""
        signed = self._files.read(SIGNED)
        if signed is not None and signed != self._signed:
            self._take(signed, now_s)
            self._signed = signed
        ring, served = self.ring, None if self.served is None else self.served.keyset
        current = served is not None and not ring.unpublished and served.revoked_key_ids == ring.revoked_ids
        if current and served is not None and now_s < (served.issued_at + served.expires_at) / 2:
            return
        requested = self._requested
        if requested is not None and now_s - requested.issued_at < self._options.schedule.lead_s:
            listed = {published.key.key_id for published in requested.keys}
            if set(ring.ids) <= listed and requested.revoked_key_ids == ring.revoked_ids:
                return
        self._requested = ring.issue(now_s)
        self._files.write(REQUEST, self._requested.encode())
        self.notices.append(
            f"a key set waits for the root key: sign {self._files.where(REQUEST)} where that lies, with "
            f"`openred-central keys sign-keyset`, and put the result here as {SIGNED}"
        )

    def _take(self, signed: bytes, now_s: float) -> None:
        """Serve a key set that was signed elsewhere, where it lists our keys and is newer than the last."""
        before = self.served
        try:
            # The folder is private: its user decides with the first key set who the root is.
            root = orjson.loads(signed)["root"]
            root_id = str(root["kid"]) if before is None else before.root_key_id
            taken = keyset.read_document(signed, root_id, now_s)
            if (classical := orjson.loads(signed).get("classical")) is not None:
                keyset.read_document(signed, str(classical["root"]["kid"]), now_s, classical=True)
            # Peers have refused a key set that was served while the clock was ahead.
            known = before is not None and before.keyset.issued_at <= now_s + CLOCK_SKEW_S
            if before is not None and known and taken.version <= before.keyset.version:
                raise VerificationError("rollback", f"version {before.keyset.version} is served already")
            listed = {published.key.key_id for published in taken.keys}
            if not set(self.ring.private_ids) & listed:
                raise VerificationError("unknown_key", "it lists none of the keys that sign here")
        except (ValueError, KeyError, TypeError, VerificationError) as error:
            self.notices.append(f"{self._files.where(SIGNED)} is not served: {error}")
            return
        self._serve(Served(taken, signed, root_id, root["suite"]), now_s)

    def _save(self, now_s: float) -> None:
        """Save the schedule; then erase the private halves that are needed no more."""
        if self.ring.unsaved or (self.ring.waiting and now_s - self._saved_at >= SAVE_S):
            self._files.write(KEYRING, self.ring.encode())
            self.ring.unsaved, self._saved_at = False, now_s
        needed = self.ring.private_ids
        self._private = {key_id: key for key_id, key in self._private.items() if key_id in needed}
        kept = {_file_of(key.public.short_id) for key in self._private.values()}
        for name in self._files.names():
            if name.startswith(SIGNING) and name not in kept:
                self._files.erase(name)


def open_root(files: KeyPlace, quantum: QuantumPolicy) -> tuple[DirectoryKey, str]:
    """Return the root key in `files`, made where there never was one, and a warning for the operator or "".

    Raises `KeyFileError`, also where there was one and it is gone, or `RootRefused`.
    """
    on_disk = {suite for suite in (COMPOSITE, CLASSICAL) if root_file(suite) in files.names()}
    expect_root(files, on_disk)
    suite, warning = choose_root(quantum, on_disk, supported=composite.is_supported())
    name = root_file(suite)
    pem = files.read(name)
    if pem is not None:
        return _load(suite, pem, name), warning
    key = generate_key(suite)
    files.write(name, private_pem(key))
    made = f"a root key was made, {key.public.key_id}, which peers pin: {files.advice}"
    return key, f"{warning}; {made}" if warning else made


def open_classical_root(files: KeyPlace) -> tuple[DirectoryKey, str]:
    """Return the classical root key in `files`, made if there is none, and a line for the operator or "".

    Raises `KeyFileError`.
    """
    pem = files.read(CLASSICAL_ROOT)
    if pem is not None:
        return _load(CLASSICAL, pem, CLASSICAL_ROOT), ""
    key = generate_key(CLASSICAL)
    files.write(CLASSICAL_ROOT, private_pem(key))
    return key, (
        f"a classical root key was made, {key.public.key_id}, which is not quantum-safe, and which peers "
        f"without ML-DSA-65 may pin: {files.advice}"
    )


def sign_request(root: DirectoryKey, request: bytes, classical: DirectoryKey | None = None) -> bytes:
    """Return the signed document of a key set that a server without root key has requested.

    The root key `classical` signs it, too, where there is one. Raises `ValueError` for a request that no
    server makes.
    """
    try:
        beyond = keyset.excess(keyset.decode_keyset(request))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"this is no request for a key set: {error}") from None
    if beyond is not None:
        raise ValueError(f"no server requests such a key set: {beyond}")
    return _signed(request, root, classical)


def _signed(encoded: bytes, root: DirectoryKey, classical: DirectoryKey | None) -> bytes:
    """Return the document of an encoded key set, signed by the root key and, if there is one, `classical`."""
    second = None
    if classical is not None:
        second = classical.sign(keyset.message(encoded, classical=True)), classical.public
    return keyset.document(encoded, root.sign(keyset.message(encoded)), root.public, second)


def _load(suite: str, pem: bytes, name: str) -> DirectoryKey:
    try:
        return load_private_pem(suite, pem)
    except ValueError as error:
        raise damaged(name, error) from None


def _file_of(short_id: str) -> str:
    return f"{SIGNING}{short_id}{KEY}"
