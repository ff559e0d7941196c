"""Step export: write one synthetic slice, and its volume, as a synthetic participant."""

import json
from pathlib import Path

from stages.generation.slices import load_stack, write_slice
from stages.generation.tables import read_rows, write_rows
from stages.generation.volumes import load_brains, write_volume


def run(
    *,
    samples: str,
    table: str,
    volumes: str | None,
    slice: str,
    volume: str,
    person: str,
    condition: str,
    group: str,
    image: str,
    seed: int,
) -> None:
    """Write images, sidecars and the participant's row.

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
    place = int(row["place"])
    write_slice(slice, load_stack(samples)[place])
    written = [Path(slice)]
    if volumes is not None and "voxel_mm" in row:  # else they are of a model made before
        whole = load_brains(volumes)
        write_volume(volume, whole.voxels[place], whole.voxel_mm)
        written.append(Path(volume))
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
    for path in written:
        text = json.dumps(sidecar, indent=2)
        path.with_name(path.name.partition(".")[0] + ".json").write_text(text)
    told = ("condition", "group", "prompt", "seed", "guidance", "sampling_steps", "model_sha256")
    name = Path(slice).name.partition("_")[0]
    own = {"participant_id": name, "synthetic": "true"} | {key: row[key] for key in told}
    write_rows(person, [own])
