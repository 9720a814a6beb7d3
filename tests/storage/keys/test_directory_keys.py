"""The directory's keys survive restarts and full disks, and its anchor never changes by itself."""

from __future__ import annotations

import gc
import json
import random
import sys
from pathlib import Path

import orjson
import pytest

from openred_central import crypto
from openred_central.security.directory_keys import composite
from openred_central.security.directory_keys.keyset import KeySet, read_document
from openred_central.security.directory_keys.root import KeyOptions, QuantumPolicy, RootRefused
from openred_central.security.directory_keys.suites import DirectoryKey
from openred_central.security.tokens.tokens import PeerToken, unsigned, verify_token
from openred_central.storage.keys.directory_keys import DirectoryKeys, open_root, sign_request
from openred_central.storage.keys.key_files import KeyFileError, KeyFiles, check_keys
from tests.support.keys import NOW, directory_key, keyset
from tests.support.options import key_options

DAY_S = 86_400.0
OFFLINE = key_options(token_suite="R", offline_root=True)


def files(folder: Path, name: str = "keys", secret: bytes | None = None) -> KeyFiles:
    opened = KeyFiles(folder / name, random.Random(1).randbytes, secret=secret)
    opened.open()
    return opened


def started(folder: Path, options: KeyOptions = key_options(), now_s: float = NOW) -> DirectoryKeys:  # noqa: B008
    keys = DirectoryKeys(files(folder), options)
    keys.open(now_s)
    keys.advance(now_s)
    return keys


def peer_reads(keys: DirectoryKeys, now_s: float = NOW, root_id: str = "") -> KeySet:
    """Read the served document as a peer that knows the root."""
    assert keys.served is not None
    return read_document(keys.served.document, root_id or keys.served.root_key_id, now_s)


def mint(keys: DirectoryKeys, now_s: float) -> str:
    assert keys.signing is not None
    token = PeerToken("j" * 22, "a", None, "b", None, int(now_s), int(now_s) + 3_600, 0, "peer")
    body = unsigned(token, keys.signing.public)
    return body.assemble(keys.signing.sign(body.message))


def key_names(folder: Path, name: str = "keys") -> list[str]:
    return [path.name for path in sorted((folder / name).iterdir()) if path.name.endswith(".key")]


def test_a_first_start_makes_all_that_is_needed(tmp_path: Path) -> None:
    keys = started(tmp_path)
    assert keys.served is not None
    (notice,) = keys.notices
    assert notice.startswith(
        f"a root key was made, {keys.served.root_key_id}, which peers pin: keep a copy of"
    )
    assert started(tmp_path).notices == []
    assert keys.signing is not None
    assert keys.served is not None
    assert keys.served.root_suite == "h"
    assert key_names(tmp_path) == ["root-h.key", f"signing-{keys.signing.public.short_id}.key"]
    assert verify_token(mint(keys, NOW), peer_reads(keys), NOW).node_id == "a"


def test_a_restart_goes_on_with_the_same_keys(tmp_path: Path) -> None:
    first = started(tmp_path)
    token = mint(first, NOW)
    again = started(tmp_path, now_s=NOW + 600)
    assert first.signing is not None
    assert again.signing is not None
    assert again.signing.public.key_id == first.signing.public.key_id
    assert first.served is not None
    keys = peer_reads(again, NOW + 600, first.served.root_key_id)
    assert keys.version > first.served.keyset.version
    assert verify_token(token, keys, NOW + 600)


def test_a_week_of_rotations_leaves_no_private_key_behind(tmp_path: Path) -> None:
    keys = started(tmp_path)
    signers: list[str] = []
    for hour in range(7 * 24):
        now_s = NOW + hour * 3_600.0
        keys.advance(now_s)
        assert keys.signing is not None
        assert len(key_names(tmp_path)) <= 3
        assert f"signing-{keys.signing.public.short_id}.key" in key_names(tmp_path)
        assert verify_token(mint(keys, now_s), peer_reads(keys, now_s), now_s)
        signers.append(keys.signing.public.key_id)
    assert len(set(signers)) == 7
    keys.advance(NOW + 7 * DAY_S + 7_200)
    assert len(key_names(tmp_path)) == 2


def test_a_retired_private_key_is_erased_everywhere(tmp_path: Path) -> None:
    keys = started(tmp_path)
    assert keys.signing is not None
    first = keys.signing.public
    keys.advance(NOW + 82_800)
    keys.advance(NOW + 86_400)
    gc.collect()
    held = [each for each in gc.get_objects() if isinstance(each, DirectoryKey)]
    assert keys.signing in held
    assert first.key_id not in {key.public.key_id for key in held}
    assert f"signing-{first.short_id}.key" not in key_names(tmp_path)


def test_a_crash_between_key_and_schedule_leaves_no_orphan(tmp_path: Path) -> None:
    started(tmp_path)
    files(tmp_path).write("signing-AAAAAAAAAAAAAAAA.key", b"orphan")
    keys = started(tmp_path)
    assert keys.signing is not None
    assert key_names(tmp_path) == ["root-h.key", f"signing-{keys.signing.public.short_id}.key"]


class WithoutSchedule(KeyFiles):
    """A disk with room for anything but the schedule."""

    def write(self, name: str, content: bytes) -> None:
        if name == "keyring.json":
            raise KeyFileError("no room")
        super().write(name, content)


def test_no_key_signs_that_a_crash_would_take_back(tmp_path: Path) -> None:
    first = started(tmp_path)
    assert first.served is not None
    keys = DirectoryKeys(WithoutSchedule(tmp_path / "keys", random.Random(1).randbytes), key_options())
    keys.open(NOW)
    for now_s in range(int(NOW), int(NOW + 2 * DAY_S), 600):
        with pytest.raises(KeyFileError, match="no room"):
            keys.advance(now_s)
        # Peers are served all the while.
        peer_reads(keys, now_s)
    token = mint(keys, now_s)
    assert keys.served is not None
    again = started(tmp_path, now_s=now_s + 10.0)
    assert verify_token(token, peer_reads(again, now_s + 10, first.served.root_key_id), now_s + 10)


def test_a_missing_private_half_is_reported_and_replaced(tmp_path: Path) -> None:
    first = started(tmp_path)
    assert first.signing is not None
    token = mint(first, NOW)
    lost = first.signing.public
    (tmp_path / "keys" / f"signing-{lost.short_id}.key").unlink()
    keys = started(tmp_path)
    assert keys.notices == [f"the private half of signing key {lost.short_id} is missing"]
    assert keys.signing is not None
    assert keys.signing.public.key_id != lost.key_id
    # Its signatures can still be checked.
    assert verify_token(token, peer_reads(keys), NOW)


def test_a_missing_root_key_stops_the_start(tmp_path: Path) -> None:
    first = started(tmp_path)
    assert first.served is not None
    root = tmp_path / "keys" / "root-h.key"
    content = root.read_bytes()
    root.unlink()
    with pytest.raises(KeyFileError, match=r"the root key is missing in .*: bring it back from a backup"):
        started(tmp_path)
    assert not root.exists()
    root.touch(mode=0o600)
    root.write_bytes(content)
    assert peer_reads(started(tmp_path), root_id=first.served.root_key_id)


@pytest.mark.parametrize(
    ("field", "value"), [("revoked", [1]), ("version", 10**20), ("version", -1), ("revoked", 5)]
)
def test_an_impossible_schedule_is_reported(tmp_path: Path, field: str, value: object) -> None:
    started(tmp_path)
    path = tmp_path / "keys" / "keyring.json"
    # orjson writes no number beyond 64 bits.
    path.write_text(json.dumps(orjson.loads(path.read_bytes()) | {field: value}))
    with pytest.raises(KeyFileError, match=r"keyring\.json is damaged"):
        started(tmp_path)


def test_a_key_file_open_to_others_stops_the_start(tmp_path: Path) -> None:
    started(tmp_path)
    (tmp_path / "keys" / "root-h.key").chmod(0o644)
    with pytest.raises(KeyFileError, match=r"root-h\.key is open to others \(mode 0644\)"):
        started(tmp_path)


@pytest.mark.parametrize("name", ["root-h.key", "signing", "keyring.json"])
def test_a_damaged_file_stops_the_start(tmp_path: Path, name: str) -> None:
    keys = started(tmp_path)
    assert keys.signing is not None
    file = f"signing-{keys.signing.public.short_id}.key" if name == "signing" else name
    path = tmp_path / "keys" / file
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(KeyFileError, match="damaged"):
        started(tmp_path)


def test_a_lost_schedule_begins_anew_and_peers_follow(tmp_path: Path) -> None:
    first = started(tmp_path)
    (tmp_path / "keys" / "keyring.json").unlink()
    again = started(tmp_path, now_s=NOW + 60)
    assert first.served is not None
    seen = first.served.keyset.version
    assert again.served is not None
    document = again.served.document
    assert read_document(document, first.served.root_key_id, NOW + 60, version_min=seen).version > seen


def test_a_composite_root_without_ml_dsa_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no silent downgrade. If the operator downgrades, peers that pinned the root key refuse it."""
    first = started(tmp_path)
    assert first.served is not None
    monkeypatch.setattr(composite, "is_supported", lambda: False)
    for policy in (QuantumPolicy.AUTO, QuantumPolicy.REQUIRE):
        with pytest.raises(
            RootRefused, match="the root key is composite, but this installation has no ML-DSA"
        ):
            started(tmp_path, key_options(quantum=policy))
    given_up = started(tmp_path, key_options(quantum=QuantumPolicy.OFF))
    assert given_up.served is not None
    assert given_up.served.root_suite == "R"
    assert "peers that pinned it will refuse this server's keys" in given_up.notices[0]
    with pytest.raises(Exception, match="the one known is"):
        peer_reads(given_up, root_id=first.served.root_key_id)
    # The composite root is still there for a better day.
    monkeypatch.undo()
    better = started(tmp_path)
    assert better.served is not None
    assert better.served.root_key_id == first.served.root_key_id


def test_hybrid_tokens_without_ml_dsa_stop_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(tmp_path, key_options(token_suite="h"))
    monkeypatch.setattr(composite, "is_supported", lambda: False)
    with pytest.raises(RootRefused, match="hybrid tokens are configured"):
        started(tmp_path, key_options(token_suite="h", quantum=QuantumPolicy.OFF))


@pytest.mark.parametrize("suite", ["R", "e", "h"])
def test_another_suite_of_tokens_is_reached_within_an_hour(tmp_path: Path, suite: str) -> None:
    started(tmp_path)
    keys = started(tmp_path, key_options(token_suite=suite), NOW + 60)
    assert keys.signing is not None
    assert keys.signing.public.suite.letter == "r"
    former = mint(keys, NOW + 60)
    known = peer_reads(keys, NOW + 60)
    keys.advance(NOW + 3_660)
    assert keys.signing.public.suite.letter == suite
    # Peers that know the key set from before the change check tokens of both keys.
    for token in (former, mint(keys, NOW + 3_600)):
        assert verify_token(token, known, NOW + 3_659).node_id == "a"


@pytest.mark.parametrize("suite", ["r", "e"])
def test_keys_rotate_every_day(tmp_path: Path, suite: str) -> None:
    options = key_options(token_suite=suite)
    keys = started(tmp_path, options)
    former, token = keys.signing, mint(keys, NOW + DAY_S - 10)
    assert former is not None
    for hour in range(26):
        keys.advance(NOW + hour * 3_600.0)
    now_s = NOW + 25 * 3_600.0
    assert keys.signing is not None
    assert keys.signing.public.key_id != former.public.key_id
    assert keys.signing.public.suite.letter == suite
    # The former key only checks, and the new one comes back from the disk.
    assert verify_token(token, peer_reads(keys, now_s), NOW + DAY_S).node_id == "a"
    again = started(tmp_path, options, now_s)
    assert verify_token(mint(again, now_s), peer_reads(keys, now_s), now_s).node_id == "a"


def test_a_full_disk_does_not_end_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = started(tmp_path)
    token_signer = keys.signing

    def fail(self: KeyFiles, name: str, content: bytes) -> None:
        raise KeyFileError("No space left on device")

    monkeypatch.setattr(KeyFiles, "write", fail)
    for minute in range(24 * 60 - 120, 24 * 60 + 240):
        now_s = NOW + minute * 60.0
        try:
            keys.advance(now_s)
        except KeyFileError:
            assert minute >= 23 * 60
        assert keys.signing is token_signer
        token = mint(keys, now_s)
        assert verify_token(token, peer_reads(keys, now_s), now_s + 3_599)
    monkeypatch.undo()
    keys.advance(NOW + 2 * DAY_S)
    keys.advance(NOW + 2 * DAY_S + 3_600)
    assert keys.signing is not token_signer


@pytest.mark.parametrize("suite", ["r", "e"])
def test_a_revoked_key_is_refused_by_peers_and_replaced(tmp_path: Path, suite: str) -> None:
    keys = started(tmp_path, key_options(token_suite=suite))
    assert keys.signing is not None
    token, revoked = mint(keys, NOW), keys.signing.public
    keys.ring.revoke(revoked.key_id, NOW)
    keys.advance(NOW)
    assert keys.signing is not None
    assert keys.signing.public.key_id != revoked.key_id
    with pytest.raises(Exception, match="the directory has revoked its key"):
        verify_token(token, peer_reads(keys), NOW)
    assert f"signing-{revoked.short_id}.key" not in key_names(tmp_path)
    # A restart does not bring it back.
    with pytest.raises(Exception, match="the directory has revoked its key"):
        verify_token(token, peer_reads(started(tmp_path)), NOW)


def test_encrypted_keys_are_used_like_others(tmp_path: Path) -> None:
    for _ in range(2):
        keys = DirectoryKeys(files(tmp_path, secret=b"correct horse battery"), key_options())
        keys.open(NOW)
        keys.advance(NOW)
    assert all(b"PRIVATE" not in (tmp_path / "keys" / name).read_bytes() for name in key_names(tmp_path))


def carry(folder: Path, now_s: float) -> None:
    """Have the request signed on the machine where the root key lies, and bring the answer back."""
    root, _ = open_root(files(folder, "elsewhere"), QuantumPolicy.AUTO)
    request = (folder / "keys" / "keyset-request.json").read_bytes()
    path = folder / "keys" / "keyset-signed.json"
    path.unlink(missing_ok=True)
    path.write_bytes(sign_request(root, request))
    path.chmod(0o600)


def test_a_root_key_elsewhere_signs_the_request(tmp_path: Path) -> None:
    keys = started(tmp_path, OFFLINE)
    assert keys.signing is None
    assert keys.served is None
    assert "sign" in keys.notices[0]
    assert "keyset-request.json" in keys.notices[0]
    carry(tmp_path, NOW + 60)
    keys.advance(NOW + 60)
    assert keys.signing is not None
    assert key_names(tmp_path) == [f"signing-{keys.signing.public.short_id}.key"]
    assert verify_token(mint(keys, NOW + 60), peer_reads(keys, NOW + 60), NOW + 60)
    # It is asked for nothing more until the next key is made, weeks later, and a restart changes nothing.
    keys.notices.clear()
    for day in range(22):
        keys.advance(NOW + 120 + day * DAY_S)
    assert keys.notices == []
    again = started(tmp_path, OFFLINE, NOW + 22 * DAY_S)
    assert again.notices == []
    assert again.signing is not None
    assert again.signing.public.key_id == keys.signing.public.key_id
    again.advance(NOW + 24 * DAY_S)
    assert len(again.notices) == 1
    carry(tmp_path, NOW + 25 * DAY_S)
    again.advance(NOW + 25 * DAY_S)
    again.advance(NOW + 31 * DAY_S)
    assert again.signing.public.key_id != keys.signing.public.key_id
    assert verify_token(mint(again, NOW + 31 * DAY_S), peer_reads(again, NOW + 31 * DAY_S), NOW + 31 * DAY_S)


def test_a_key_set_of_another_root_is_not_served(tmp_path: Path) -> None:
    keys = started(tmp_path, OFFLINE)
    carry(tmp_path, NOW)
    keys.advance(NOW)
    before = keys.served
    keys.ring.revoke(keys.signing.public.key_id if keys.signing else "", NOW)
    keys.notices.clear()
    keys.advance(NOW + 1)
    for path in (tmp_path / "elsewhere").iterdir():
        path.unlink()
    carry(tmp_path, NOW + 2)
    keys.advance(NOW + 2)
    assert keys.served is before
    assert "keyset-signed.json is not served: the key set is signed by root key" in keys.notices[-1]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"root":{"kid":"x"},"keyset":""}'])
def test_a_bad_key_set_is_reported_once(tmp_path: Path, content: bytes) -> None:
    keys = started(tmp_path, OFFLINE)
    keys.notices.clear()
    files(tmp_path).write("keyset-signed.json", content)
    for _ in range(3):
        keys.advance(NOW)
    assert len(keys.notices) == 1
    assert "is not served" in keys.notices[0]
    assert keys.signing is None


def test_a_key_set_without_our_keys_is_not_served(tmp_path: Path) -> None:
    keys = started(tmp_path, OFFLINE)
    carry(tmp_path, NOW)
    signed = (tmp_path / "keys" / "keyset-signed.json").read_bytes()
    (tmp_path / "keys" / "keyset-signed.json").unlink()
    (tmp_path / "keys" / "keyring.json").unlink()
    keys = started(tmp_path, OFFLINE)
    files(tmp_path).write("keyset-signed.json", signed)
    keys.advance(NOW)
    assert "it lists none of the keys that sign here" in keys.notices[-1]


def test_only_a_request_is_signed(tmp_path: Path) -> None:
    root, _ = open_root(files(tmp_path), QuantumPolicy.AUTO)
    for content in (b"", b"{}", b"[]"):
        with pytest.raises(ValueError, match="this is no request for a key set"):
            sign_request(root, content)


def test_a_request_that_no_server_makes_is_not_signed(tmp_path: Path) -> None:
    root, _ = open_root(files(tmp_path), QuantumPolicy.AUTO)
    asked = keyset(directory_key("R"))
    assert sign_request(root, asked.encode())
    with pytest.raises(ValueError, match="its version is 3601 ahead"):
        sign_request(root, asked._replace(version=NOW + 3_601).encode())


def test_a_composite_key_set_without_ml_dsa_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = started(tmp_path, OFFLINE)
    carry(tmp_path, NOW)
    keys.notices.clear()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    monkeypatch.delattr(crypto, "mldsa", raising=False)
    keys.advance(NOW)
    assert keys.served is None
    assert "is not served: the key set cannot be checked here: it needs ML-DSA-65" in keys.notices[0]


def test_a_key_set_from_the_future_gives_way(tmp_path: Path) -> None:
    ahead = NOW + 10 * DAY_S
    keys = started(tmp_path, OFFLINE, ahead)
    carry(tmp_path, ahead)
    keys.advance(ahead)
    assert keys.served is not None
    keys.ring.shift(-10 * DAY_S)
    keys.ring.revoke(keys.served.keyset.keys[0].key.key_id, NOW)
    keys.advance(NOW)
    carry(tmp_path, NOW)
    keys.notices.clear()
    keys.advance(NOW)
    assert keys.notices == []
    assert keys.served.keyset.issued_at == NOW


def classical_id(keys: DirectoryKeys) -> str:
    assert keys.served is not None
    return str(orjson.loads(keys.served.document)["classical"]["root"]["kid"])


def test_a_classical_root_key_signs_too_if_the_operator_wants_that(tmp_path: Path) -> None:
    plain = started(tmp_path)
    assert plain.served is not None
    assert "classical" not in orjson.loads(plain.served.document)
    both = started(tmp_path, key_options(classical_root=True))
    assert both.served is not None
    (notice,) = both.notices
    assert notice.startswith(
        f"a classical root key was made, {classical_id(both)}, which is not quantum-safe"
    )
    # Peers that pinned the root key notice nothing.
    assert both.served.root_key_id == plain.served.root_key_id
    assert peer_reads(both).keys
    assert read_document(both.served.document, classical_id(both), NOW, classical=True).keys
    # Each key set of each run has the signature.
    again = started(tmp_path, key_options(classical_root=True), NOW + 600)
    again.advance(NOW + 2 * DAY_S)
    assert again.served is not None
    assert (again.notices, classical_id(again)) == ([], classical_id(both))
    document = again.served.document
    assert read_document(document, classical_id(both), NOW + 2 * DAY_S, classical=True).version > NOW + 600


def test_a_classical_root_key_does_not_stand_in_for_a_lost_root_key(tmp_path: Path) -> None:
    options = key_options(classical_root=True)
    started(tmp_path, options)
    (tmp_path / "keys" / "root-h.key").unlink()
    with pytest.raises(KeyFileError, match="the root key is missing"):
        started(tmp_path, options)


@pytest.mark.parametrize("fault", ["open", "damaged"])
def test_a_classical_root_key_is_checked_at_the_start(tmp_path: Path, fault: str) -> None:
    options = key_options(classical_root=True)
    started(tmp_path, options)
    path = tmp_path / "keys" / "classical-root.key"
    if fault == "open":
        path.chmod(0o644)
    else:
        path.write_bytes(path.read_bytes()[:-40])
    for start in (lambda: check_keys(files(tmp_path), options), lambda: started(tmp_path, options)):
        with pytest.raises(KeyFileError, match=r"classical-root\.key is"):
            start()
    assert check_keys(files(tmp_path), key_options()) == "h"


def test_a_classical_signature_that_does_not_hold_is_not_served(tmp_path: Path) -> None:
    keys = started(tmp_path, OFFLINE)
    root, _ = open_root(files(tmp_path, "elsewhere"), QuantumPolicy.AUTO)
    classical = directory_key("R", 7)
    request = (tmp_path / "keys" / "keyset-request.json").read_bytes()
    signed = sign_request(root, request, classical)
    fields = orjson.loads(signed)
    other = {**fields["classical"], "signature": fields["signature"][:512]}
    files(tmp_path).write("keyset-signed.json", orjson.dumps({**fields, "classical": other}))
    keys.advance(NOW)
    assert keys.served is None
    assert "is not served: the key set was not signed by the root key" in keys.notices[-1]
    files(tmp_path).write("keyset-signed.json", signed)
    keys.advance(NOW)
    assert keys.served is not None
    assert classical_id(keys) == classical.public.key_id


def test_short_keys_do_not_live_a_month() -> None:
    with pytest.raises(ValueError, match="RSA-2048 is too short"):
        key_options(token_suite="r", offline_root=True)
    assert key_options(token_suite="e", offline_root=True).token_suite == "e"
    with pytest.raises(ValueError, match="no suite is called"):
        key_options(token_suite="x")


def test_the_document_is_that_of_the_key_set(tmp_path: Path) -> None:
    keys = started(tmp_path)
    assert keys.served is not None
    assert orjson.loads(keys.served.document)["root"]["kid"] == keys.served.root_key_id
    assert peer_reads(keys).encode() == keys.served.keyset.encode()
