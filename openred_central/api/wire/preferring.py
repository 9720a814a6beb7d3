"""Preferences of callers: ``Prefer`` and ``Preference-Applied`` (RFC 7240)."""

from __future__ import annotations

import re
from typing import Final

from ...micro_engine.limits import LIST_MEMBERS_MAX
from ...micro_engine.wire.messages import Request

PREFER: Final = "prefer"
APPLIED: Final = "Preference-Applied"
# A caller that prefers to wait longer waits so long; many proxies give up soon after.
WAIT_S_MAX: Final = 60
# A name, a value that may be quoted, and parameters, which none of these preferences has (§2).
_WAIT: Final = re.compile(
    r'[ \t]*wait[ \t]*=[ \t]*(?:([0-9]{1,9})|"([0-9]{1,9})")[ \t]*(?:;.*)?', re.ASCII | re.IGNORECASE
)


def wait_preferred_s(request: Request) -> int:
    """Return for how many seconds the caller would wait for a better answer, at most `WAIT_S_MAX`.

    It is 0 without such a preference; one that cannot be read counts as none. The first one counts (§2).
    """
    preferred = request.headers.get(PREFER)
    for preference in preferred.split(",", LIST_MEMBERS_MAX)[:LIST_MEMBERS_MAX] if preferred else ():
        read = _WAIT.fullmatch(preference)
        if read is not None:
            return min(int(read[1] or read[2]), WAIT_S_MAX)
    return 0
