"""`keys`: the directory's own keys, on disk and in a running server."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from ..exit_codes import ExitCode
from ..security.directory_keys.keyring import Keyring
from ..security.directory_keys.keyset import KeySet, decode_keyset, excess
from ..security.directory_keys.root import CLASSICAL, COMPOSITE, RootRefused
from ..security.directory_keys.suites import SuiteUnsupported, load_private_pem
from ..security.refusals import CLOCK_SKEW_S
from ..server.vault import keys_folder
from ..settings.config import ConfigError, Configuration
from ..storage.keys.directory_keys import open_classical_root, open_root, sign_request
from ..storage.keys.key_files import CLASSICAL_ROOT, KEYRING, KeyFileError, KeyFiles, read_secret, root_file
from ..wording import rfc3339
from .command import Command, CommandFailed, UsageError, argument, configuration_of
from .console import Console
from .operating import operate


def run(options: argparse.Namespace, console: Console) -> int:
    """List the keys, let a running server change them, or sign a key set."""
    configuration = configuration_of(options, console)
    now_s = console.clock.wall_s()
    try:
        if options.action == "show":
            for line in show(configuration, console.entropy, now_s):
                console.say(line)
        elif options.action == "rotate":
            console.say(operate(configuration, "/admin/keys/rotate"))
        elif options.request is None:
            needed = "the id of a key" if options.action == "revoke" else "the file keyset-request.json"
            raise UsageError(f"keys {options.action} needs {needed}")
        elif options.action == "revoke":
            console.say(operate(configuration, f"/admin/keys/{quote(options.request, safe='')}/revoke"))
        else:
            console.say(
                sign_keyset(
                    configuration,
                    console.entropy,
                    Path(options.request),
                    console.complain,
                    now_s,
                    any_time=options.accept_time,
                )
            )
    except (KeyFileError, RootRefused) as error:
        raise CommandFailed(str(error)) from error
    return ExitCode.DONE


def show(configuration: Configuration, entropy: Callable[[int], bytes], now_s: float) -> Iterator[str]:
    """Yield a line for each key in the folder of the settings. Change no file.

    Raises `ConfigError`, or `KeyFileError` if a file cannot be read.
    """
    files = _files(configuration, entropy)
    # A server may be writing to the folder: do not `open` it, since that removes unfinished files.
    if not files.folder.is_dir():
        raise KeyFileError(f"there are no keys in {files.folder}; a server makes them when they are needed")
    roots = {root_file(suite): (suite, "root") for suite in (COMPOSITE, CLASSICAL)}
    for name, (suite, role) in {**roots, CLASSICAL_ROOT: (CLASSICAL, "classical root")}.items():
        if (pem := files.read(name)) is not None:
            try:
                root = load_private_pem(suite, pem).public
            except SuiteUnsupported as error:
                raise KeyFileError(f"{files.folder / name} cannot be used here: {error}") from None
            except ValueError as error:
                raise KeyFileError(f"{files.folder / name} is damaged: {error}") from None
            yield f"{root.key_id} {root.suite.name} {role}"
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
    report: Callable[[str], None],
    now_s: float,
    *,
    any_time: bool = False,
) -> str:
    """Sign the key set in a server's `request` with the root key of this machine; return the document.

    `report` gets a line for each thing that is signed. The function refuses a key set that no server would
    request, and, unless `any_time`, one that is not valid at wall time `now_s`. It makes a missing root key.
    Raises `ConfigError`, `KeyFileError` or `RootRefused`.
    """
    try:
        content = request.read_bytes()
        keyset = decode_keyset(content)
    except OSError as error:
        raise KeyFileError(f"{request} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise KeyFileError(f"{request} is no request for a key set: {error}") from None
    files = _files(configuration, entropy)
    since, until = _time(keyset.issued_at), _time(keyset.expires_at)
    report(f"version {keyset.version}, issued at {since}, valid until {until}")
    for line in _listed(keyset):
        report(line)
    if (beyond := excess(keyset)) is not None:
        raise KeyFileError(f"{request} is not signed: {beyond}; no server requests that")
    timely = keyset.issued_at <= now_s + CLOCK_SKEW_S and now_s < keyset.expires_at
    if not timely and not any_time:
        raise KeyFileError(
            f"{request} is not signed: it is valid from {since} to {until}, and here it is "
            f"{_time(int(now_s))}; set the clock that is wrong, or sign it anyway with --accept-time"
        )
    files.open()
    options, classical = configuration.keys(), None
    root, warning = open_root(files, options.quantum)
    if warning:
        report(f"warning: {warning}")
    if options.classical_root:
        classical, warning = open_classical_root(files)
        if warning:
            report(f"warning: {warning}")
        report(f"signed by the classical root key {classical.public.key_id}, which is not quantum-safe")
    elif CLASSICAL_ROOT in files.names():
        report(
            f"warning: not signed by the classical root key in {files.where(CLASSICAL_ROOT)}; peers that "
            "pinned that refuse the key set. Sign it again with --classical-root true"
        )
    report(f"signed by the root key {root.public.key_id}")
    return sign_request(root, content, classical).decode()


def _files(configuration: Configuration, entropy: Callable[[int], bytes]) -> KeyFiles:
    """Return the folder of keys that the settings name."""
    written = configuration.key_folder
    folder = Path(written) if written else keys_folder(configuration.database)
    if folder is None and configuration.is_shared:
        raise ConfigError(
            "instances keep their keys in the database they share; GET /security/keys of any of them lists "
            "the keys. For keys in a folder, name it with --key-folder"
        )
    if folder is None:
        raise ConfigError("a directory in memory keeps no keys; name their folder with --key-folder")
    secret_file = configuration.key_secret_file
    return KeyFiles(folder, entropy, secret=read_secret(Path(secret_file)) if secret_file else None)


def _listed(keyset: KeySet) -> Iterator[str]:
    """Yield a line for each key of a key set, with the times between which its tokens are valid."""
    for published in keyset.keys:
        key = published.key
        since, until = _time(published.not_before), _time(published.not_after)
        yield f"{key.key_id} {key.suite.name} {published.status.value} from {since} to {until}"
    for revoked in keyset.revoked_key_ids:
        yield f"{revoked} revoked"


def _time(time_s: int) -> str:
    """Return a time in whole seconds since the Unix epoch as RFC 3339."""
    return rfc3339(time_s).replace(".000Z", "Z")


COMMAND = Command(
    "keys",
    "list the directory's own keys, rotate or revoke them, or sign a key set with the root key",
    run,
    (
        argument(
            "action",
            metavar="show|rotate|revoke|sign-keyset",
            choices=("show", "rotate", "revoke", "sign-keyset"),
        ),
        argument(
            "request",
            metavar="KEY|REQUEST",
            nargs="?",
            # Without it, the value of the flag below must stay.
            default=argparse.SUPPRESS,
            help="id of the key to revoke, or the file keyset-request.json to sign",
        ),
        # See `main.guard_values`.
        argument("--key-id", dest="request", default=None, help=argparse.SUPPRESS),
        argument(
            "--accept-time",
            action="store_true",
            help="sign a key set although it is not valid by the clock of this machine",
        ),
    ),
    """\
  openred-central keys show
  openred-central keys rotate
  openred-central keys revoke Y2dc87BCHSk3OaSQFKgaHOgiT_-nQvK2bH8sduWLR0c
  openred-central keys sign-keyset keyset-request.json --key-folder root > keyset-signed.json
""",
    """\
A running server rotates its keys every day; `rotate` begins a rotation now, `revoke` invalidates a stolen
key. Both reach the server by the operators' listener of its settings.

With OPENRED_OFFLINE_ROOT a server writes keyset-request.json to its folder of keys. Carry the file to the
machine with the root key, check the keys that `sign-keyset` lists, and put keyset-signed.json beside the
request. The first call makes the root key. With `--classical-root true` a classical root key signs, too.
""",
)
