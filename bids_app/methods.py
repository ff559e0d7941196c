"""The paragraph for a paper: what was run, with which parameters, and what to cite."""

from collections.abc import Sequence

from bids_app import __version__
from bids_app.config import Config
from specs import Spec

REFERENCES = (
    "Gorgolewski KJ et al. (2011). Nipype: a flexible, lightweight and extensible neuroimaging data"
    " processing framework in Python. Front Neuroinform 5:13.",
    "Gorgolewski KJ et al. (2016). The brain imaging data structure. Sci Data 3:160044.",
    "Gorgolewski KJ et al. (2017). BIDS Apps. PLoS Comput Biol 13:e1005209.",
)


def write_methods(stages: Sequence[Spec], config: Config) -> str:
    """Write the methods text of a run in Markdown."""
    lines = [
        "# Methods",
        "",
        f"Results in this folder were made with brainstages {__version__}, which runs its stages as"
        f" Nipype workflows (Gorgolewski et al., 2011) on data in BIDS (Gorgolewski et al., 2016,"
        f" 2017); random seed {config.random_seed}.",
        "",
    ]
    references = list(REFERENCES)
    for spec in stages:
        params = config.stage_params(spec)
        told = "; ".join(f"{name} {_words(params[name])}{_unit(spec, name)}" for name in params)
        lines += [f"## {spec.name}", "", " ".join((spec.methods or spec.summary).split()), ""]
        lines += [f"Parameters: {told}.", ""] if told else []
        references += [r for r in spec.references if r not in references]
    lines += ["## References", "", *(f"- {reference}" for reference in references)]
    return "\n".join(lines) + "\n"


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _unit(spec: Spec, name: str) -> str:
    return f" {spec.params[name].unit}" if spec.params[name].unit else ""
