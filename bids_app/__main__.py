"""``python -m bids_app``, the same as the command ``brainstages``."""

import sys

from bids_app.app import main

sys.exit(main())
