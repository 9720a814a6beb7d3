"""`python -m openred_central` is `openred-central`."""

import gc
import sys

# While modules are imported there is nothing to collect: 1 ms. `cli` turns the collector on again.
gc.disable()

from .cli import main  # noqa: E402

sys.exit(main())
