"""Claim: translation to old takes grey matter from the edge of real ventricles, to young adds it.

The edge is where on average a third to two thirds are CSF, after everybody's segmentation, in a box
around the lateral ventricles: there ventricles are wider in some. Changes of those trained on and
those held out, in shares of the range, beside the real groups' difference there and elsewhere in
tissue. Takes a folder in which the app ran preprocessing (profile mni-gm) and translation (content
gm, slices through the ventricles; the preset demo has two).

    python -m tests.benchmarks.translation_ventricles OUT [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from stages.translation import checkpoint, evaluation, maps, volumes
from stages.translation.dataset import Source, read_samples
from stages.translation.grids import axes_of, gather, to_samples
from stages.translation.tables import participant_of, read_rows
from tests.benchmarks import record

PATTERN = "brainstages-preprocessing/sub-*/**/anat/*space-MNI152NLin2009aSym_res-1_{}.nii.gz"
BOX_MM = ((0, 35), (-55, 40), (-5, 30))  # |x|, y, z
EDGE = (1 / 3, 2 / 3)  # of CSF


def main() -> None:
    """Translate, measure, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    translated = arguments.folder / "brainstages-translation"
    model = translated / "models" / "classes"
    card = checkpoint.read_card(model / "model.json")
    networks = checkpoint.load_generators(model / "generators.safetensors", card)
    grid = checkpoint.grid_of(card)
    source = Source(tuple(card["Source"]["Shape"]), np.array(card["Source"]["Affine"]))
    people = {r["participant_id"]: r for r in read_rows(translated / "plans" / "cohort.tsv")}

    def find(kind: str) -> list[str]:
        found = sorted(map(str, arguments.folder.glob(PATTERN.format(kind))))
        return [path for path in found if participant_of(path) in people]

    paths = find("desc-GM_T1w")
    images = read_samples(paths, source, grid)
    domain = np.array([people[participant_of(path)]["classes"] for path in paths])
    split = np.array([people[participant_of(path)]["split"] for path in paths])
    edge = find_edge(find("label-CSF_probseg"), source, grid)
    elsewhere = evaluation.tissue_mask(images) & ~edge
    first, second = card["Domains"]
    real = (images[domain == second].mean(0) - images[domain == first].mean(0)) / 2
    rows = []
    for origin, target, network, sign in (
        (first, second, networks["G"], 1),
        (second, first, networks["F"], -1),
    ):
        for part in ("train", "test"):
            own = images[(domain == origin) & (split == part)]
            made = evaluation.apply(network, own.reshape(-1, *own.shape[2:])).reshape(own.shape)
            for place, mask in (("edge of ventricles", edge), ("other tissue", elsewhere)):
                value, low, high, n = maps.mean_interval((made - own)[:, mask].mean(1) / 2)
                rows.append(
                    {
                        "direction": f"{origin}To{target}",
                        "split": part,
                        "place": place,
                        "change": round(value, 4),
                        "ci_low": round(low, 4),
                        "ci_high": round(high, 4),
                        "n": n,
                        "real_difference": round(sign * float(real[mask].mean()), 4),
                        "pixels": int(mask.sum()),
                    }
                )
    record.save("translation_ventricles", rows, ["torch", "numpy"], arguments.out)


def find_edge(fractions: list[str], source: Source, grid) -> np.ndarray:
    """Mark the edge of the lateral ventricles on the networks' grid, (slices, 1, a, b)."""
    axes = axes_of(source.shape, source.affine)
    csf = np.zeros(())
    for path in fractions:
        csf = csf + gather(volumes.load(path).data, axes, grid) / len(fractions)
    x, y, z = np.meshgrid(*(axis.centres for axis in grid.axes), indexing="ij")
    box = np.ones(x.shape, dtype=bool)
    for values, (low, high) in zip((np.abs(x), y, z), BOX_MM, strict=True):
        box &= (values >= low) & (values <= high)
    inside = to_samples(box.astype(np.float32), grid) > 0
    return inside & (csf > EDGE[0]) & (csf < EDGE[1])


if __name__ == "__main__":
    main()
