"""Write ``constraints.lock``: the SHA-256 of the file that pip takes for each pinned package.

``python -m tests.reliability.lock`` asks pip, which downloads no package that its index describes.
The hashes are those of this platform's files; ``pip install --require-hashes --no-deps -r
constraints.lock`` then installs those files and no others.
"""

import json
import re
import subprocess
import sys
import sysconfig
from typing import Any

from tests.conftest import REPOSITORY

CONSTRAINTS = REPOSITORY / "constraints.txt"
LOCK = CONSTRAINTS.with_suffix(".lock")
HEAD = """\
# What constraints.txt pins, with the SHA-256 of the files for {platform}, Python {python}.
# Made by python -m tests.reliability.lock; to install exactly these files:
# pip install --require-hashes --no-deps -r constraints.lock
"""


def main() -> int:
    """Ask pip and write."""
    version = sys.version_info
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    options = ["--no-deps", "--quiet", "--report", "-", "-r", str(CONSTRAINTS)]
    done = subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return done.returncode
    head = HEAD.format(platform=sysconfig.get_platform(), python=f"{version.major}.{version.minor}")
    LOCK.write_text(head + lines_of(json.loads(done.stdout)), encoding="utf-8")
    print(LOCK)
    return 0


def lines_of(report: dict[str, Any]) -> str:
    """Turn pip's report of an installation into requirements with hashes, by name."""
    lines = []
    for item in report["install"]:
        about, hashes = item["metadata"], item["download_info"]["archive_info"]["hashes"]
        name = re.sub(r"[-_.]+", "-", about["name"]).lower()
        lines.append(f"{name}=={about['version']} --hash=sha256:{hashes['sha256']}\n")
    return "".join(sorted(lines))


if __name__ == "__main__":
    sys.exit(main())
