"""`python -m openred_central` is `openred-central`."""

import sys

from .cli import main

sys.exit(main())
