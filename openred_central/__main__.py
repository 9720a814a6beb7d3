"""`python -m openred_central` is `openred-central`."""

import gc
import sys

from .early import begin

# While modules are imported there is nothing to collect: 1 ms. Commands turn the collector on again in `cli`,
# the server once its store is loaded.
gc.disable()
begin(sys.argv[1:])

from .cli.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
