"""Templates → one self-contained page: style and script inside, nothing else may run or be loaded.

A content security policy names the hashes of our own style and script. Should any text of a dataset
ever slip through the escaping, the browser would still not run it, nor fetch anything.
"""

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from bids_app import __version__

TEMPLATES = Path(__file__).parent / "templates"
STYLE = ("page.css",)
SCRIPTS = ("page.js", "tables.js", "figures.js", "ratings.js")


@functools.cache
def environment() -> Environment:
    """Make the environment that all pages are written with."""
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _joined(STYLE), _joined(SCRIPTS)
    pages.globals |= {
        "version": __version__,
        # Both are ours, not a dataset's: they go in as they are.
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "policy": "; ".join(
            [
                "default-src 'none'",
                "img-src 'self' file: data:",
                f"style-src '{_digest(style)}'",
                f"script-src '{_digest(script)}'",
                "base-uri 'none'",
                "form-action 'none'",
            ]
        ),
    }
    return pages


def render(template: str, **content: Any) -> str:
    """Write a page."""
    return environment().get_template(template).render(**content)


def _joined(names: tuple[str, ...]) -> str:
    return "\n" + "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
