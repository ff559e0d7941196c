"""Command line → Config; parses and does nothing else.

The options of the stages are drawn from their specs. Spellings that people's launch scripts for
fMRIPrep, MRIQC and other BIDS Apps use are accepted.
"""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import specs
from bids_app import __version__, hpc, machine
from bids_app.config import (
    OPTIONS,
    Config,
    Layer,
    merge,
    read_config_file,
    read_preset,
    read_recipe,
)
from bids_app.errors import AppError, Exit
from bids_app.terminal_help import Parser
from specs import Spec, read_yaml
from specs.schema import LEVELS, Param

RUNNERS = ("inprocess", "subprocess", "docker", "apptainer")


def parse(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Config:
    """Read a command line into settings.

    Raises
    ------
    AppError
        64 for wrong usage, 17 for an unknown analysis level, 66 for a file that is not there.
    """
    for word in argv:
        if not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise AppError(
                Exit.USAGE, f"{word!a}: bytes that are no text in UTF-8; rename the file or folder"
            )
    given = vars(build_parser().parse_args(argv))
    for level in given["levels"]:
        if level not in LEVELS:
            near = specs.suggest(level, LEVELS)
            raise AppError(
                Exit.UNKNOWN_LEVEL,
                f"analysis level {level!r} is unknown{near}; levels: {', '.join(LEVELS)}",
            )
    layer = merge(_layers(given))
    options = layer.options
    _read_plugin_file(options)
    options.setdefault("nprocs", machine.available_cpus(environ))
    options.setdefault("memory_gb", round(machine.available_memory_gb(environ), 2))
    if hpc.is_cluster(options.get("plugin", "")) and "work_dir" not in options:
        raise AppError(
            Exit.USAGE,
            f"plugin {options['plugin']}: give a work folder that all nodes see, with -w",
        )
    options.setdefault("work_dir", Path(environ.get("TMPDIR", ".")).resolve() / "work")
    options["participant_label"] = _labels(options.get("participant_label", ()), "sub")
    options["session_label"] = _labels(options.get("session_label", ()), "ses")
    config = Config(**options, params=layer.params)
    _refuse_impossible(config)
    return config


def build_parser() -> Parser:
    """Build the parser; each option is left out of the result unless it was given."""
    parser = Parser(
        prog="brainstages",
        description="From a BIDS dataset of brain scans to derivatives, models and reports.",
        epilog="`brainstages describe STAGE` tells what a stage reads, writes and can be told.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("bids_dir", type=_path, help="root of a BIDS dataset")
    add("out_dir", type=_path, help="where derivatives go, one folder per stage")
    add("levels", nargs="+", metavar="{participant,group}", help="analysis level(s), in order")

    add = parser.add_argument_group("what to run").add_argument
    add("--stages", nargs="+", metavar="NAME", help="default: all whose inputs exist")
    add(
        *_spell("participant-label", "participant-labels"),
        nargs="+",
        action="extend",
        dest="participant_label",
        metavar="LABEL",
        help="with or without sub-",
    )
    add(
        *_spell("session-label", "session-id"),
        nargs="+",
        action="extend",
        dest="session_label",
        metavar="LABEL",
        help="with or without ses-",
    )
    add(
        "--bids-filter-file",
        type=_path,
        metavar="FILE",
        help="JSON with queries, as in fMRIPrep",
    )
    add(
        "-d",
        "--derivatives",
        nargs="+",
        action="extend",
        metavar="NAME=PATH",
        help="other datasets: fmriprep=/data/fmriprep, say",
    )
    add(
        "--weights",
        nargs="+",
        action="extend",
        metavar="NAME=PATH",
        help="files that steps take from you",
    )
    add("--recipe", metavar="NAME", help="settings that repeat a published study")
    add("--preset", metavar="NAME", help="settings by size: tiny, demo, paper")
    add("--config-file", type=_path, metavar="FILE", help="TOML or YAML; the command line wins")
    add("--random-seed", type=int, metavar="INT", help="pins everything random (default: 0)")

    add = parser.add_argument_group("how to run").add_argument
    add(
        *_spell("nprocs", "nthreads", "n-cpus", "n-procs"),
        type=_count,
        dest="nprocs",
        metavar="N",
        help="cores in all (default: what we are given)",
    )
    add(
        *_spell("omp-nthreads"),
        type=_count,
        dest="omp_nthreads",
        metavar="N",
        help="threads per job (default: cores by jobs)",
    )
    add(
        *_spell("mem", "mem-mb"),
        type=_memory,
        dest="memory_gb",
        metavar="AMOUNT",
        help="memory in all, in MB or as 8G (default: all)",
    )
    add(*_spell("mem-gb"), type=float, dest="memory_gb", metavar="GB", help="the same in GB")
    add(
        "--runner",
        choices=RUNNERS,
        metavar="NAME",
        help="how stages start: inprocess, subprocess (default), docker, apptainer",
    )
    add(
        "--images",
        metavar="WHERE",
        help="docker: a registry's prefix; apptainer: folder with .sif files (default: here)",
    )
    add(
        *_spell("n-gpus"),
        type=_count_or_none,
        dest="n_gpus",
        metavar="N",
        help="GPUs a job may use, at most; 0: none",
    )
    add("--plugin", metavar="NAME", help="Nipype plugin (default: MultiProc)")
    add(
        "--use-plugin",
        "--nipype-plugin-file",
        type=_path,
        dest="plugin_file",
        metavar="FILE",
        help="YAML with plugin and plugin_args",
    )
    add(
        "-w",
        "--work-dir",
        type=_path,
        metavar="DIR",
        help="scratch (default: $TMPDIR/work or ./work)",
    )
    add("--clean-workdir", action="store_true", help="empty the scratch folder first")
    add(
        "--rm-workdir-on-success",
        action="store_true",
        help="remove the scratch folder if all went well",
    )
    add("--stop-on-first-crash", action="store_true", help="do not go on after a failed job")
    add(*_spell("skip-bids-validation"), action="store_true", help="trust the input")
    add(
        "--validate-outputs",
        action=argparse.BooleanOptionalAction,
        help="check what was written as BIDS (default: yes)",
    )
    add("--bids-database-dir", type=_path, metavar="DIR", help="reuse a pybids index kept there")

    add = parser.add_argument_group("what to say").add_argument
    add("--dry-run", action="store_true", help="print the plan with its cost and stop")
    add("--write-graph", action="store_true", help="write the plan as a graph (.dot)")
    add("--reports-only", action="store_true", help="rebuild reports from derivatives and stop")
    add("--boilerplate-only", action="store_true", help="write the methods text and stop")
    add("--resource-monitor", action="store_true", help="write each job's time and memory")
    add("-v", "--verbose", action="count", help="-v: more, -vv: everything")
    add("--debug", action="store_true", help="everything, with tracebacks")
    add("--notrack", action="store_true", help="accepted and ignored: nothing is ever sent")
    add("--bids-exec-spec", action="store_true", help="print the Boutiques descriptor and stop")
    add(
        "--version",
        action="version",
        version=f"brainstages {__version__}",
        help="print it and stop",
    )

    for stage in specs.names():
        _add_stage(parser, specs.load(stage))
    return parser


def _add_stage(parser: Parser, spec: Spec) -> None:
    """Add one option per parameter of a stage."""
    group = parser.add_stage_group(spec.name, spec.summary)
    for name, param in spec.params.items():
        flag, dest = f"--{spec.name}-{name.replace('_', '-')}", f"{spec.name}.{name}"
        unit = f"{param.unit}; " if param.unit else ""
        default = " ".join(map(str, param.default)) if param.many else param.default
        text = f"{param.help.removesuffix('.')} ({unit}default: {default})".replace("%", "%%")
        if param.type == "bool":
            group.add_argument(flag, dest=dest, action=argparse.BooleanOptionalAction, help=text)
            continue
        group.add_argument(
            flag,
            dest=dest,
            type=_converter(param),
            nargs="+" if param.many else None,
            metavar="{" + ",".join(map(str, param.choices)) + "}" if param.choices else "VALUE",
            help=text,
        )


def _layers(given: dict[str, Any]) -> list[Layer]:
    """Sort what was given into layers, strongest first."""
    line = Layer()
    for name, value in given.items():
        stage, dot, param = name.partition(".")
        if dot:
            line.params.setdefault(stage, {})[param] = value
        elif name in OPTIONS or name == "plugin_file":
            line.options[name] = value
    for name in ("derivatives", "weights"):
        if name in line.options:
            line.options[name] = _named_paths(line.options[name], f"--{name}")
    for name in ("levels", "stages"):
        if name in line.options:
            line.options[name] = tuple(line.options[name])
    layers = [line]
    if "config_file" in given:
        layers.append(read_config_file(given["config_file"]))
    chosen = merge(layers).options
    if chosen.get("recipe"):
        layers.append(read_recipe(chosen["recipe"]))
    chosen = merge(layers).options
    if chosen.get("preset"):
        layers.append(read_preset(chosen["preset"]))
    return layers


def _read_plugin_file(options: dict[str, Any]) -> None:
    """Replace ``plugin_file`` by the plugin and plugin_args it names."""
    path = options.pop("plugin_file", None)
    if path is None:
        return
    if not path.is_file():
        raise AppError(Exit.MISSING_FILE, f"{path}: no such plugin file")
    try:
        data = read_yaml(path)
    except ValueError as error:
        raise AppError(Exit.USAGE, str(error)) from error
    named = data if isinstance(data, dict) else {}
    arguments = named.get("plugin_args") or {}
    if not isinstance(named.get("plugin"), str) or not isinstance(arguments, dict):
        raise AppError(Exit.USAGE, f"{path}: expected 'plugin: NAME' and maybe 'plugin_args: …'")
    options.setdefault("plugin", named["plugin"])
    options["plugin_args"] = arguments


def _refuse_impossible(config: Config) -> None:
    """Refuse combinations that can be known to be wrong without looking at the data."""
    bids_dir, out_dir, work_dir = config.bids_dir, config.out_dir, config.work_dir
    if out_dir == bids_dir:
        raise AppError(
            Exit.USAGE,
            f"{out_dir}: the output folder is the input dataset; try {bids_dir / 'derivatives'}",
        )
    if work_dir == bids_dir or bids_dir in work_dir.parents:
        raise AppError(
            Exit.USAGE,
            f"{work_dir}: the work folder is inside the input dataset; give another with -w",
        )
    if hpc.is_cluster(config.plugin) and not hpc.is_speakable(work_dir):
        raise AppError(
            Exit.USAGE,
            f"{work_dir}: Nipype's {config.plugin} plugin cannot pass on a path with spaces or"
            " such characters; give another work folder with -w",
        )
    _refuse_out_of_range(config)
    known = specs.names()
    for flag, paths in (("--derivatives", config.derivatives), ("--weights", config.weights)):
        for name, path in paths.items():
            if name in known:
                text = f"{flag}: {name!r} is a stage's name; choose another"
                raise AppError(Exit.USAGE, text)
            if not path.exists():
                raise AppError(Exit.MISSING_FILE, f"{flag}: {path}: no such file or folder")
    for stage in config.stages:
        if stage not in known:
            near = specs.suggest(stage, known)
            raise AppError(Exit.USAGE, f"no stage {stage!r}{near}; stages: {', '.join(known)}")


def _refuse_out_of_range(config: Config) -> None:
    """Refuse numbers and words that mean nothing, wherever they were given."""
    for name, value, is_fine, expected in (
        ("nprocs", config.nprocs, config.nprocs >= 1, "at least 1"),
        ("omp_nthreads", config.omp_nthreads, config.omp_nthreads >= 0, "0 or more"),
        ("n_gpus", config.n_gpus, config.n_gpus >= 0, "0 or more"),
        ("mem_gb", config.memory_gb, 0 < config.memory_gb < math.inf, "a positive number"),
        ("random_seed", config.random_seed, 0 <= config.random_seed < 2**32, "0 … 4294967295"),
        ("runner", config.runner, config.runner in RUNNERS, f"one of {', '.join(RUNNERS)}"),
        ("plugin", config.plugin, config.plugin.isalnum(), "the name of a plugin of Nipype"),
    ):
        if not is_fine:
            flag = name.replace("_", "-")
            raise AppError(Exit.USAGE, f"{flag}: found {value!r}, expected {expected}")


def _labels(values: Sequence[str], prefix: str) -> tuple[str, ...]:
    """Strip prefixes and repetitions; refuse what is no label (a path, say)."""
    labels = []
    for value in values:
        label = value.removeprefix(f"{prefix}-")
        if not label.replace("+", "").isalnum():
            raise AppError(
                Exit.USAGE, f"{value!r} is no {prefix}- label: letters and digits only, no paths"
            )
        if label not in labels:
            labels.append(label)
    return tuple(labels)


def _named_paths(values: Sequence[str], flag: str) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not name or not path:
            raise AppError(Exit.USAGE, f"{flag}: found {value!r}, expected NAME=PATH")
        if name in paths:
            raise AppError(Exit.USAGE, f"{flag}: {name!r} was given twice")
        paths[name] = _path(path)
    return paths


def _spell(*names: str) -> list[str]:
    """Accept each option with dashes and with underscores."""
    return list(dict.fromkeys(f"--{s}" for n in names for s in (n, n.replace("-", "_"))))


def _converter(param: Param) -> Any:
    """Make argparse report a wrong value in the spec's own words."""

    def convert(text: str) -> Any:
        kind = {"float": float, "int": int, "str": str}[param.type]
        try:
            value = kind(text)
        except ValueError:
            value = text
        try:
            checked = param.check(value, where=param.name)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return checked[0] if param.many else checked

    return convert


def _path(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number, at least 1")
    return int(text)


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _memory(text: str) -> float:
    try:
        return machine.parse_memory_gb(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
