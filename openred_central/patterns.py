"""Regular expressions that are compiled when they are first used.

`re.compile` takes 0.1 to 0.8 ms. Most of what can be matched is not met by the first request, much of it by
none. What every request is matched with is compiled at once.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast

# The methods of `re.Pattern` that anything here makes use of.
METHODS = ("fullmatch", "match", "search", "sub", "findall")


class _Late:
    """Stands in for `re.Pattern`: from the first use on, its methods are those of the compiled one."""

    def __init__(self, pattern: Any, flags: int) -> None:
        self.pattern = pattern
        self.flags = flags

    def __getattr__(self, name: str) -> Any:
        # Called for what is not there yet.
        compiled = re.compile(self.pattern, self.flags)
        for method in METHODS:
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def late(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What `re.compile` returns, and raises, as far as its methods go; but that is done at the first use."""
    return cast(re.Pattern[AnyStr], _Late(pattern, flags))
