"""The command line's help: a first screen that suffices, and the rest on demand.

``--help`` has the options that all stages share, a line each, under one spelling; ``--help STAGE``
those of one stage; ``--help all`` everything in every accepted spelling.
"""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, NoReturn

from bids_app.errors import AppError, Exit
from specs import suggest

ALL = "all"
FIRST_SCREEN = """\
usage: brainstages BIDS_DIR OUT_DIR {{participant,group}} [OPTION ...]

{description}

  brainstages /data/study /data/study/derivatives participant --dry-run
  brainstages /data/study /data/study/derivatives participant group

  BIDS_DIR                        root of a BIDS dataset
  OUT_DIR                         where derivatives go, one folder per stage
  participant, group              analysis level, or both, in order

  --help STAGE                    options of one stage:
{stages}
  --help all                      every option in every accepted spelling
  demo DIR                        all stages over made-up people, in minutes
  describe [STAGE ...]            what a stage reads, writes and can be told
  export, hpc slurm               files for other launchers, for sbatch
"""
INDENT = 34  # where the words about an option begin


class Parser(argparse.ArgumentParser):
    """argparse that raises instead of leaving with exit code 2, and has its help in portions."""

    def __init__(self, **options: Any) -> None:
        super().__init__(add_help=False, **options)
        self.stage_groups: dict[str, argparse._ArgumentGroup] = {}
        self.add_argument(
            *("-h", "--help"),
            action=_Help,
            nargs="?",
            const="",
            metavar="STAGE",
            help="print this; with a stage's name its options, with 'all' everything",
        )

    def add_stage_group(self, name: str, summary: str) -> argparse._ArgumentGroup:
        """Add a group of options that belongs to one stage."""
        group = self.add_argument_group(f"{name} options", summary)
        self.stage_groups[name] = group
        return group

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, which option was probably meant, and where help is."""
        words = message.split()
        flags = [word.partition("=")[0].rstrip(":,") for word in words if word.startswith("--")]
        near, topic = "", ""
        if flags and message.startswith("unrecognized"):
            near = suggest(flags[0], self._option_string_actions)
        for name in self.stage_groups:
            if any(flag.startswith((f"--{name}-", f"--no-{name}-")) for flag in flags):
                topic = f" {name}"
        raise AppError(Exit.USAGE, f"{message}{near}; see brainstages --help{topic}")

    def first_screen(self) -> str:
        """Tell what is needed to start, and the options that all stages share, a line each."""
        stages = _fill(self.stage_groups)
        text = FIRST_SCREEN.format(description=self.description, stages=stages)
        for group in self._action_groups:
            actions = [a for a in group._group_actions if a.option_strings and a.dest != "help"]
            if actions and group not in self.stage_groups.values():
                text += f"\n{group.title}\n{_compact(actions)}"
        return text

    def stage_screen(self, name: str) -> str:
        """Tell the options of one stage."""
        group = self.stage_groups[name]
        return (
            f"usage: brainstages BIDS_DIR OUT_DIR {{participant,group}} [--{name}-… VALUE]\n\n"
            f"{group.description}\n\n{group.title}\n{_compact(group._group_actions)}\n"
            f"`brainstages describe {name}` tells what it reads and writes.\n"
        )


class _Help(argparse.Action):
    """Print a portion of the help, and stop."""

    def __call__(
        self,
        parser: Any,  # ours; argparse's own type knows nothing of stages
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        topic = str(values)
        if topic in parser.stage_groups:
            text = parser.stage_screen(topic)
        elif topic == ALL:
            text = parser.format_help()
        elif not topic:
            text = parser.first_screen()
        else:
            topics = [*parser.stage_groups, ALL]
            parser.error(f"no help on {topic!r}{suggest(topic, topics)}: {', '.join(topics)}")
        sys.stdout.write(text)
        parser.exit()


def _left(action: argparse.Action) -> str:
    """Show the first short and the first long spelling of an option, and ``X ...`` for many."""
    if isinstance(action, argparse.BooleanOptionalAction):
        return f"--[no-]{action.option_strings[0].removeprefix('--')}"
    short = [flag for flag in action.option_strings if not flag.startswith("--")][:1]
    long = [flag for flag in action.option_strings if flag.startswith("--")][:1]
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return f"{', '.join([*short, *long])}{value}{' ...' if action.nargs == '+' else ''}"


def _compact(actions: Iterable[argparse.Action]) -> str:
    """Set options in two columns; what does not fit into the first stands above."""
    lines = []
    for action in actions:
        left = f"  {_left(action)}"
        words = textwrap.wrap((action.help or "").replace("%%", "%"), _width() - INDENT)
        if len(left) > INDENT - 2:
            lines.append(left)
            left = ""
        lines += [
            f"{begin:{INDENT}}{word}" for begin, word in zip_longest([left], words, fillvalue="")
        ]
    return "\n".join(lines) + "\n"


def _fill(words: Iterable[str]) -> str:
    """Break a list of words into lines of the second column."""
    blank = " " * INDENT
    return textwrap.fill(", ".join(words), 80, initial_indent=blank, subsequent_indent=blank)


def _width() -> int:
    return min(max(shutil.get_terminal_size().columns, 80), 100)
