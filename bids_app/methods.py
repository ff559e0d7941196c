"""The paragraph for a paper: what was run, with which parameters, and what to cite.

Written twice: at the start of a run from its settings, and with the reports from what finished
jobs recorded of themselves, which is what really ran.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bids_app import __version__
from bids_app.config import Config
from specs import Spec

REFERENCES = (
    "Gorgolewski KJ et al. (2011). Nipype: a flexible, lightweight and extensible neuroimaging data"
    " processing framework in Python. Front Neuroinform 5:13.",
    "Gorgolewski KJ et al. (2016). The brain imaging data structure. Sci Data 3:160044.",
    "Gorgolewski KJ et al. (2017). BIDS Apps. PLoS Comput Biol 13:e1005209.",
)
SHOWN_VALUES = 12
#: "Authors (2011). Title. Journal 5:13." and "Authors (2011), Title, Journal 5:13."
REFERENCE = re.compile(r"^(?P<authors>.+?) \((?P<year>\d{4})\)(?P<mark>[.,]) (?P<rest>.+?)\.?$")


def write_methods(stages: Sequence[Spec], config: Config) -> str:
    """Write the methods text of a run in Markdown."""
    told = {}
    for spec in stages:
        params = config.stage_params(spec)
        told[spec.name] = [f"{name} {_words(params[name])}{_unit(spec, name)}" for name in params]
    return _text(stages, told, f"random seed {config.random_seed}", {})


def write_methods_of_results(
    stages: Sequence[Spec], records: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """Write the methods text of what is there, in Markdown.

    Parameters
    ----------
    records
        Stage → what its finished jobs recorded: Parameters, Seed, LibraryVersions, step.
    """
    ran = [spec for spec in stages if records.get(spec.name)]
    told, software = {}, {}
    for spec in ran:
        found = records[spec.name]
        values: dict[str, dict[str, None]] = {}
        for record in found:
            for name, value in record["Parameters"].items():
                values.setdefault(name, {})[_recorded(value)] = None
        told[spec.name] = [f"{name} {_few(list(v))}" for name, v in values.items()]
        versions = {
            f"{library} {version}"
            for record in found
            for library, version in record.get("LibraryVersions", {}).items()
            if not library.startswith("brainstages ")
        }
        steps = dict.fromkeys(str(record["step"]) for record in found)
        software[spec.name] = (
            f"Version {spec.version}; {len(found)} jobs ({', '.join(steps)})."
            f" Software: {', '.join(sorted(versions))}."
        )
    seeds = sorted({int(r["Seed"]) for found in records.values() for r in found if "Seed" in r})
    word = "random seed" if len(seeds) == 1 else "random seeds"
    return _text(ran, told, f"{word} {', '.join(map(str, seeds))}" if seeds else "", software)


def all_references(stages: Sequence[Spec]) -> list[str]:
    """List what to cite, each once."""
    return list(dict.fromkeys([*REFERENCES, *(r for spec in stages for r in spec.references)]))


def write_bibliography(references: Iterable[str]) -> str:
    """Write references as BibTeX; what cannot be told apart is kept whole in ``note``."""
    entries: dict[str, str] = {}
    for reference in references:
        fields = {"note": reference}
        key = re.sub(r"\W", "", reference.split()[0]) or "reference"
        match = REFERENCE.match(reference)
        if match:
            cut = ". " if match["mark"] == "." else ", "
            title, _, journal = match["rest"].rpartition(cut)
            if match["mark"] == ".":
                title, _, journal = match["rest"].partition(cut)
            key += match["year"]
            fields = {
                "author": _authors(match["authors"]),
                "title": "{" + (title or journal) + "}",
                "journal": journal if title else "",
                "year": match["year"],
                "note": reference,
            }
        # An author's second work of a year gets a letter, as in a paper.
        unique = next(k for k in (key, *(f"{key}{c}" for c in "bcdefghij")) if k not in entries)
        lines = [f"  {name} = {{{_tex(value)}}}" for name, value in fields.items() if value]
        entries[unique] = f"@article{{{unique},\n" + ",\n".join(lines) + "\n}\n"
    return "\n".join(entries.values())


def _text(
    stages: Sequence[Spec],
    told: Mapping[str, Sequence[str]],
    seed: str,
    software: Mapping[str, str],
) -> str:
    ending = f"; {seed}." if seed else "."
    lines = [
        "# Methods",
        "",
        f"Results in this folder were made with brainstages {__version__}, which runs its stages as"
        f" Nipype workflows (Gorgolewski et al., 2011) on data in BIDS (Gorgolewski et al., 2016,"
        f" 2017){ending}",
        "",
    ]
    for spec in stages:
        lines += [f"## {spec.name}", "", " ".join((spec.methods or spec.summary).split()), ""]
        lines += [f"Parameters: {'; '.join(told[spec.name])}.", ""] if told[spec.name] else []
        lines += [software[spec.name], ""] if spec.name in software else []
    lines += ["## References", "", *(f"- {reference}" for reference in all_references(stages))]
    return "\n".join(lines) + "\n"


def _authors(text: str) -> str:
    """Set "Smith AB, Jones C et al." as BibTeX wants it: "Smith, AB and Jones, C and others"."""
    text = re.sub(r",? et al\.?$", ", others", text.strip())
    people = [person.strip() for person in re.split(r", | & ", text) if person.strip()]
    return " and ".join(re.sub(r" ([A-Z]{1,4})$", r", \1", person) for person in people)


def _tex(text: str) -> str:
    return re.sub(r"(?<!\\)([&%#_])", r"\\\1", text)


def _recorded(value: object) -> str:
    """Put a parameter into words as a job recorded it, with its unit if it has one."""
    if isinstance(value, dict) and "Value" in value:
        return f"{_words(value['Value'])} {value.get('Units', '')}".strip()
    return _words(value)


def _few(values: Sequence[str]) -> str:
    more = len(values) - SHOWN_VALUES
    return ", ".join(values[:SHOWN_VALUES]) + (f" and {more} more" if more > 0 else "")


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _unit(spec: Spec, name: str) -> str:
    return f" {spec.params[name].unit}" if spec.params[name].unit else ""
