"""`python -m tidemill` is `tidemill`."""

import sys

from tidemill.cli.main import main

sys.exit(main())
