"""`python -m openred_central` is `openred-central`."""

import sys

from .collector import paused
from .early import begin

begin(sys.argv[1:])

with paused():
    from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
