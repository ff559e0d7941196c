"""Step export: write one synthetic slice as a synthetic participant."""

import json
from pathlib import Path

from stages.generation.slices import load_stack, write_slice
from stages.generation.tables import read_rows, write_rows


def run(
    *,
    samples: str,
    table: str,
    slice: str,
    person: str,
    condition: str,
    group: str,
    image: str,
    seed: int,
) -> None:
    """Write image, sidecar and the participant's row.

    Raises
    ------
    ValueError
        No such slice was drawn.
    """
    rows = [r for r in read_rows(table) if r["group"] == group and r["image"] == image]
    if len(rows) != 1:
        raise ValueError(
            f"{table}: {len(rows)} slices of group {group}, image {image}; run prepare and sample"
            " again with these groups and images"
        )
    (row,) = rows
    write_slice(slice, load_stack(samples)[int(row["place"])])
    sidecar = {
        "Synthetic": True,
        "Group": group,
        "Condition": condition,
        "Prompt": row["prompt"],
        "NoiseSeed": int(row["seed"]),
        "Guidance": float(row["guidance"]),
        "SamplingSteps": int(row["sampling_steps"]),
        "Sampler": row["sampler"],
        "ModelSHA256": row["model_sha256"],
        "Provenance": row["provenance"],
    }
    path = Path(slice)
    path.with_name(path.name.partition(".")[0] + ".json").write_text(json.dumps(sidecar, indent=2))
    told = ("condition", "group", "prompt", "seed", "guidance", "sampling_steps", "model_sha256")
    name = path.name.partition("_")[0]
    own = {"participant_id": name, "synthetic": "true"} | {key: row[key] for key in told}
    write_rows(person, [own])
