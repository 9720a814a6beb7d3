"""The two families of errors.

`CallerError`: the caller sent a request that cannot be served. It carries all that the caller needs to fix
it. The engine turns it into a problem document (RFC 9457) in one place. `InternalBug`: our own fault. It
becomes a 500 with an id; the log says what happened, the response does not.
"""

from __future__ import annotations

from collections.abc import Mapping


class CallerError(Exception):
    """A request that cannot be served, explained to people.

    Arguments: `status`, an HTTP status code (RFC 9110 §15); `code`, the stable machine-readable name of the
    error such as ``node_not_found``; `message`, the fault and its place; `suggestion`, how to fix it;
    `fields`, field name → fault, for bodies and queries that fail validation; `headers`, further headers of
    the response such as ``("Retry-After", "60")``; `close`, whether the connection cannot be used any more;
    `problem_type`, a registered type (RFC 9457 §4.2) instead of our own, with its `members`.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        suggestion: str | None = None,
        fields: Mapping[str, str] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        close: bool = False,
        problem_type: str | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.suggestion = suggestion
        self.fields = fields
        self.headers = headers
        self.close = close
        self.problem_type = problem_type
        self.members = members

    def problem(self) -> dict[str, object]:
        """Return the error as a problem document (RFC 9457 §3), ready for JSON."""
        document: dict[str, object] = {
            "type": self.problem_type or f"urn:openred:problem:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.message,
            "error": self.code,
            "message": self.message,
        }
        if self.suggestion is not None:
            document["suggestion"] = self.suggestion
        if self.fields:
            document["fields"] = dict(self.fields)
        if self.members:
            document.update(self.members)
        return document


class InternalBug(Exception):
    """A state that our own code excludes. Never the caller's fault."""
