"""The directory's keys in a store that seals secrets, for a directory whose store several instances share.

All files are one secret, so that none can be missing without the others. Only the leader reads and writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

import orjson

from ..store import NotLeading, PassingError, Store, StoreError
from .key_files import KeyFileError, KeysAway, check_content

# The name under which the store keeps all files.
KEYS: Final = "keys"
# A store may take as long as its server is away; then a later attempt is made.
CALL_TIMEOUT_S: Final = 10.0

T = TypeVar("T")


class StoredKeys:
    """The files that `store` keeps; see `KeyPlace`. They are text.

    `writer` has the one thread that uses the store.
    """

    def __init__(self, store: Store, writer: Executor) -> None:
        self._store = store
        self._writer = writer
        self._files: dict[str, str] = {}

    @property
    def advice(self) -> str:
        return "keep a copy of the key secret, without which no backup of the database opens"

    def where(self, name: str = "") -> str:
        return f"{name} in {self._store.location}" if name else self._store.location

    def may_write(self) -> bool:
        return True

    def open(self) -> None:
        content = self._call(lambda: self._store.load_secret(KEYS))
        try:
            files = {} if content is None else orjson.loads(content)
            self._files = {str(name): str(text) for name, text in files.items()}
        except (ValueError, AttributeError) as error:
            raise KeyFileError(
                f"the keys in {self.where()} are damaged: {error}; bring the database back from a backup"
            ) from None

    def names(self) -> list[str]:
        return sorted(self._files)

    def read(self, name: str) -> bytes | None:
        text = self._files.get(name)
        return None if text is None else text.encode()

    def check(self, name: str) -> None:
        if (content := self.read(name)) is not None:
            check_content(name, content)

    def write(self, name: str, content: bytes) -> None:
        self._save({**self._files, name: content.decode()})

    def erase(self, name: str) -> None:
        if name in self._files:
            self._save({each: text for each, text in self._files.items() if each != name})

    def _save(self, files: dict[str, str]) -> None:
        content = orjson.dumps(files)
        self._call(lambda: self._store.save_secret(KEYS, content))
        self._files = files

    def _call(self, call: Callable[[], T]) -> T:
        future = self._writer.submit(call)
        try:
            return future.result(CALL_TIMEOUT_S)
        except (StoreError, TimeoutError) as error:
            future.cancel()
            why = str(error) or f"it took no call for {CALL_TIMEOUT_S:g} s"
            passes = isinstance(error, PassingError | NotLeading | TimeoutError)
            kind = KeysAway if passes else KeyFileError
            raise kind(f"cannot use the keys in {self.where()}: {why}") from error
