"""Versions of what instances share while a cluster is upgraded, one instance after another. Pure.

Each thing that instances share has a number of its own, and this program works with two of them in a row.

- **The link** (`cluster/link.py`). An instance speaks its own version and the one before. Both ends offer
  what they speak by ALPN, and the highest that both speak counts: a leader writes to each follower what that
  one can read. Another form of anything on it is the next version, and `Link.version` says which of both
  forms to write. New fields of JSON need none: a reader passes over what it does not know.
- **Requests that are handed on** (`cluster/asking.py`). Another form of them gets another name in ALPN,
  which a leader offers beside the former one for as long.
- **The schema** (`postgres/schema.sql`). Each version only adds to the former one: the first instance of the
  next version that starts brings it up to date, and those of the former version go on with it, as leaders,
  too. A function that changes has the next number, and stays under its former one for them.
- **Settings that only a leader uses** (`settings/config.py`). Those of the present leader count. An instance
  that has others follows, says so, and takes the lead only if no instance does that has the former ones.

So instances may be replaced one after another, and each may go back. Two versions apart are too many: an
instance that is so far from the others, or from the schema, takes no part, and says what to do.
"""

from __future__ import annotations

from typing import Final

LINK_VERSION: Final = 1
LINK_VERSIONS: Final = range(max(1, LINK_VERSION - 1), LINK_VERSION + 1)

SCHEMA_VERSION: Final = 1
# Instances of the next version keep all that this one uses.
SCHEMA_VERSION_MAX: Final = SCHEMA_VERSION + 1
