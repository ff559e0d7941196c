"""The contract: what each stage is, in YAML, and how one execution of it is written down.

Everything else is derived from these descriptions: command-line options, the plan, the folders'
names, the documentation. This package imports the standard library, PyYAML and nothing of ours.
"""

from functools import cache
from pathlib import Path

from specs.reading import read_yaml, suggest
from specs.schema import Spec, parse_spec

SPECS_DIR = Path(__file__).parent


def names() -> tuple[str, ...]:
    """List the stages in the order in which data passes through them.

    A stage follows those its inputs come from; stages that do not depend on one another are
    sorted by name.
    """
    specs = {path.stem: load(path.stem) for path in SPECS_DIR.glob("*.yaml")}
    ordered: list[str] = []
    while len(ordered) < len(specs):
        ready = sorted(
            name
            for name, spec in specs.items()
            if name not in ordered and (spec.sources & specs.keys()) <= {name, *ordered}
        )
        if not ready:
            raise ValueError(f"{SPECS_DIR}: stages need one another in a circle: {sorted(specs)}")
        ordered.append(ready[0])
    return tuple(ordered)


@cache
def load(name: str) -> Spec:
    """Read and check the description of one stage.

    Raises
    ------
    ValueError
        No such stage (the nearest name is suggested), or its YAML is wrong (file, key, what was
        found, what was expected).
    """
    path = SPECS_DIR / f"{name}.yaml"
    known = sorted(p.stem for p in SPECS_DIR.glob("*.yaml"))
    if name not in known:
        raise ValueError(
            f"no stage named {name!r}{suggest(name, known)}; stages: {', '.join(known)}"
        )
    spec = parse_spec(read_yaml(path), file=path)
    if spec.name != name:
        raise ValueError(f"{path}: name: found {spec.name!r}, expected the file's name {name!r}")
    return spec
