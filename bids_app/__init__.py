"""The orchestrator: from a BIDS dataset and a command line to derivatives and a report.

It never imports a stage's science; it starts it (``bids_app.runners``) with files.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("brainstages")
except PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "0+unknown"
