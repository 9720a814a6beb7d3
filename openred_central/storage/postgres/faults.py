"""Errors below the store: one line for the operator with what to do, and which of them pass by themselves."""

from __future__ import annotations

import ssl
from typing import Final

import asyncpg

from ..store import PassingError, StoreError
from .leasing import Conflict

# Advice by SQLSTATE, or by the two characters of its class.
ADVICE: Final = {
    "28": "check the user in the URL and the password in OPENRED_DATABASE_PASSWORD_FILE",
    "3D000": "create the database, or correct its name in the URL",
    "42501": "grant the user of the URL what the documentation lists, or take the owner of the schema",
    "3F": "its schema is damaged or of another version: start the server once as the owner of the schema",
    "42": "its schema is damaged or of another version: start the server once as the owner of the schema",
    "23": "another program has written to it, or this is a bug: nothing of the commit was stored",
    "OR": "another program has written to it, or this is a bug: nothing of the commit was stored",
    "25006": "it is read-only: make the primary writable, or name it in the URL",
    "53100": "make room on the disk of the database",
    "53300": "raise max_connections of the database, or end other clients",
    "53": "the database lacks memory or another resource: see its log",
    "55P03": "another client holds a lock: let it finish, or end it",
    "57014": "another client holds it up, or it is too slow: see its log",
    "57": "the database stops or starts: wait for it",
    "40": "another client was in the way: it is tried again",
    "08": "the connection broke: it is made anew",
    "XX": "the database is damaged: see its log, and restore a backup",
}
SEE_LOG: Final = "see the log of the database"
# Classes of errors, and single ones, that may be gone at the next attempt.
_PASSING: Final = ("08", "25006", "40", "53", "55", "57")
# Another client was in the way for a moment.
_HINDERED: Final = ("40001", "40P01", "55P03")
# The rows that are stored contradict those that were to be written.
_CONFLICTS: Final = ("23", "OR")
# After one of these nobody knows what became of the statement: the connection ended with it.
_ENDING: Final = ("08", "57P")


class Interrupted(PassingError):
    """A statement was sent, and nobody knows whether it was carried out for good."""


class Hindered(PassingError):
    """Another client was in the way of a statement, nothing of which was carried out."""


def advice(sqlstate: str) -> str:
    """Return what to do about an error of the database."""
    return ADVICE.get(sqlstate) or ADVICE.get(sqlstate[:2], SEE_LOG)


def is_settled(error: BaseException) -> bool:
    """Return whether `error` of a statement tells that nothing of it was carried out."""
    if isinstance(error, asyncpg.PostgresError):
        return not (error.sqlstate or "08").startswith(_ENDING)
    return isinstance(error, asyncpg.DataError | asyncpg.UnsupportedClientFeatureError)


def _kind(sqlstate: str) -> type[StoreError]:
    if sqlstate.startswith(_CONFLICTS):
        return Conflict
    if sqlstate.startswith(_HINDERED):
        return Hindered
    return PassingError if sqlstate.startswith(_PASSING) else StoreError


def fault(doing: str, error: BaseException) -> StoreError:
    """Return the error of the store for one of PostgreSQL, its client or the system.

    `doing` is a verb with its object. A `StoreError` stays as it is.
    """
    if isinstance(error, StoreError):
        return error
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, asyncpg.PostgresError):
        sqlstate = error.sqlstate or "08000"
        return _kind(sqlstate)(f"cannot {doing}: {text} (SQLSTATE {sqlstate}); {advice(sqlstate)}")
    if isinstance(error, ssl.SSLError):
        return StoreError(f"cannot {doing}: {text}; check sslmode and sslrootcert in the URL")
    if isinstance(error, TimeoutError):
        return PassingError(f"cannot {doing}: no answer in time; see the network and the log of the database")
    if isinstance(error, OSError):
        return PassingError(f"cannot {doing}: {text}; start the database, or correct the host in the URL")
    if isinstance(error, asyncpg.ClientConfigurationError):
        return StoreError(f"cannot {doing}: {text}; correct the URL of the database")
    return PassingError(f"cannot {doing}: {text}; {ADVICE['08']}")
