"""`python -m openred_central` is `openred-central`."""

import gc
import sys

# While modules are imported there is nothing to collect: 1 ms. Commands turn the collector on again in `cli`,
# the server once its store is loaded.
gc.disable()

from .cli import main  # noqa: E402

sys.exit(main())
