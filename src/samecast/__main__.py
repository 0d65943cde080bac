"""`python -m samecast` is `samecast`."""

import sys

from samecast.cli import main

sys.exit(main())
