"""Note that there was something."""

from pathlib import Path


def run(*, chosen, note, tag, seed):
    """Write the name of what was found."""
    Path(note).write_text(Path(chosen).name)
