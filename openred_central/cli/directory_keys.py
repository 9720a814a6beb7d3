"""``keys``: the directory's own keys, on the disk of the server or of the machine where the root key lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ..security.directory_keys.keyring import Keyring
from ..security.directory_keys.keyset import KeySet, decode_keyset, excess
from ..security.directory_keys.root import CLASSICAL, COMPOSITE
from ..security.directory_keys.suites import SuiteUnsupported, load_private_pem
from ..security.refusals import CLOCK_SKEW_S
from ..server.vault import keys_folder
from ..settings.config import ConfigError, Configuration
from ..storage.keys.directory_keys import open_root, sign_request
from ..storage.keys.key_files import KEYRING, KeyFileError, KeyFiles, read_secret, root_file


def show(configuration: Configuration, entropy: Callable[[int], bytes], now_s: float) -> Iterator[str]:
    """The keys in the folder of the settings, a line for each; nothing is changed, made or swept.

    Raises `ConfigError`, and `KeyFileError` where a file cannot be read.
    """
    files = _files(configuration, entropy)
    # `open` is for whoever owns the folder: a server may be writing to it.
    if not files.folder.is_dir():
        raise KeyFileError(f"there are no keys in {files.folder}; a server makes them when they are needed")
    for suite in (COMPOSITE, CLASSICAL):
        name = root_file(suite)
        if (pem := files.read(name)) is not None:
            try:
                root = load_private_pem(suite, pem).public
            except SuiteUnsupported as error:
                raise KeyFileError(f"{files.folder / name} cannot be used here: {error}") from None
            except ValueError as error:
                raise KeyFileError(f"{files.folder / name} is damaged: {error}") from None
            yield f"{root.key_id} {root.suite.name} root"
    if (content := files.read(KEYRING)) is not None:
        try:
            ring = Keyring.decode(configuration.keys().schedule, content)
        except SuiteUnsupported as error:
            raise KeyFileError(f"{files.folder / KEYRING} cannot be used here: {error}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise KeyFileError(f"{files.folder / KEYRING} is damaged: {error}") from None
        yield from _listed(ring.issue(now_s))


def sign_keyset(
    configuration: Configuration,
    entropy: Callable[[int], bytes],
    request: Path,
    tell: Callable[[str], None],
    now_s: float,
    *,
    any_time: bool = False,
) -> str:
    """The document of the key set that a server asks for in the file `request`, signed by the root key here.

    `tell` is given all that is vouched for, in lines. Nothing is signed that no server asks for, nor, unless
    `any_time`, what is not valid at wall time `now_s`. The root key is made where there is none. Raises
    `ConfigError`, `KeyFileError` and `RootRefused`.
    """
    try:
        content = request.read_bytes()
        asked = decode_keyset(content)
    except OSError as error:
        raise KeyFileError(f"{request} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise KeyFileError(f"{request} is no request for a key set: {error}") from None
    files = _files(configuration, entropy)
    tell(
        f"version {asked.version}, issued at {_time(asked.issued_at)}, valid until {_time(asked.expires_at)}"
    )
    for line in _listed(asked):
        tell(line)
    if (beyond := excess(asked)) is not None:
        raise KeyFileError(f"{request} is not signed: {beyond}; no server of ours asks for that")
    timely = asked.issued_at <= now_s + CLOCK_SKEW_S and now_s < asked.expires_at
    if not timely and not any_time:
        raise KeyFileError(
            f"{request} is not signed: it is valid from {_time(asked.issued_at)} to "
            f"{_time(asked.expires_at)}, and here it is {_time(int(now_s))}; set the clock that is wrong, or "
            "sign it all the same with --accept-time"
        )
    files.open()
    root, warning = open_root(files, configuration.keys().quantum)
    if warning:
        tell(f"warning: {warning}")
    tell(f"signed by the root key {root.public.key_id}")
    return sign_request(root, content).decode()


def _files(configuration: Configuration, entropy: Callable[[int], bytes]) -> KeyFiles:
    """The folder of keys that the settings name."""
    written = configuration.key_folder
    folder = Path(written) if written else keys_folder(configuration.database)
    if folder is None:
        raise ConfigError("a directory in memory keeps no keys; name their folder with --key-folder")
    secret_file = configuration.key_secret_file
    return KeyFiles(folder, entropy, secret=read_secret(Path(secret_file)) if secret_file else None)


def _listed(keyset: KeySet) -> Iterator[str]:
    """A line for each key of a key set, with the times from and to which tokens by it are valid."""
    for published in keyset.keys:
        key = published.key
        since, until = _time(published.not_before), _time(published.not_after)
        yield f"{key.key_id} {key.suite.name} {published.status.value} from {since} to {until}"
    for revoked in keyset.revoked_key_ids:
        yield f"{revoked} revoked"


def _time(time_s: int) -> str:
    """A time, in whole seconds since the Unix epoch, as people read it."""
    return datetime.fromtimestamp(time_s, UTC).isoformat().replace("+00:00", "Z")
