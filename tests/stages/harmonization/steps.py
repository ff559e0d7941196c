"""Call the steps as the orchestrator does: paths in, paths out, parameters from the spec."""

from pathlib import Path

import specs
from stages.harmonization import apply, audit, combat, fingerprint
from stages.harmonization.tables import read_table

SPEC = specs.load("harmonization")


def defaults(step, **given):
    """Give a step's parameters as its spec has them, but for those that are given."""
    names = SPEC.steps[step].params
    assert set(given) <= set(names), set(given) - set(names)
    return {name: given.get(name, param.default) for name, param in names.items()}


def run_fingerprint(cohort, out, seed=0, given_plan=None, **params):
    """Run fingerprint; return the paths of its outputs."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    outputs = {
        "table": out / "fingerprint.tsv",
        "plan": out / "plan.json",
        "counts": out / "counts.tsv",
        "balance": out / "balance.tsv",
        "figure": out / "desc-cohort_T1w.png",
    }
    fingerprint.run(
        images=cohort.images,
        masks=cohort.masks,
        scans=cohort.scans,
        raw_images=cohort.raw_images,
        sidecars=cohort.sidecars,
        participants=cohort.participants,
        given_plan=given_plan,
        **{name: str(path) for name, path in outputs.items()},
        **defaults("fingerprint", **params),
        seed=seed,
    )
    return outputs


def people_of(drawn):
    """Read the fingerprint by participant: the first image that is not excluded, if any."""
    people = {}
    for row in read_table(drawn["table"]):
        if row["participant_id"] not in people or row["excluded"] == "n/a":
            people[row["participant_id"]] = row
    return people


def run_apply(image, mask, drawn, out, arm, registered=None, grey=None):
    """Run apply on one image; return the paths of its outputs, which may not exist."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    stem = Path(image).name.split("_desc-")[0]
    outputs = {
        "harmonized": out / f"{stem}_desc-{arm}_T1w.nii.gz",
        "scans": out / f"{stem}_scans.tsv",
        "person": out / "participants.tsv",
        "figure": out / f"{stem}_desc-{arm}_T1w.png",
    }
    apply.run(
        image=image,
        mask=mask,
        grey=grey,
        registered=registered,
        table=str(drawn["table"]),
        plan=str(drawn["plan"]),
        **{name: str(path) for name, path in outputs.items()},
        arm=arm,
        seed=0,
    )
    return outputs


def run_combat(cohort, drawn, out, features=None, **params):
    """Run combat; return the paths of its outputs."""
    out = Path(out)
    outputs = {
        "model": out / "combat.json",
        "harmonized": out / "features.tsv",
        "metrics": out / "desc-combat_metrics.tsv",
    }
    combat.run(
        table=str(drawn["table"]),
        participants=cohort.participants,
        scans=cohort.scans,
        features=features,
        **{name: str(path) for name, path in outputs.items()},
        **defaults("combat", **params),
        seed=0,
    )
    return outputs


def run_audit(cohort, drawn, out, seed=0, registered=(), **params):
    """Run audit; return the paths of its outputs."""
    out = Path(out)
    outputs = {
        "verdict": out / "audit.json",
        "metrics": out / "desc-audit_metrics.tsv",
        "equivalence": out / "desc-equivalence_metrics.tsv",
        "figure": out / "desc-audit_T1w.png",
    }
    audit.run(
        images=cohort.images,
        masks=cohort.masks,
        greys=[],
        registered=list(registered),
        table=str(drawn["table"]),
        plan=str(drawn["plan"]),
        **{name: str(path) for name, path in outputs.items()},
        **defaults("audit", **params),
        seed=seed,
    )
    return outputs
