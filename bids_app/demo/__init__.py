"""Make a small BIDS dataset of heads whose truth is known exactly.

For newcomers who have no data at hand, for demonstrations and for tests: T1w phantoms, made by
warping the ICBM152 2009a brain (which nilearn ships) and drawing a head around it.

    python -m bids_app.demo DIR [--participants 6] [--resolution-mm 2] [--seed 0]

or, without files,

    phantom = make_phantom(0, age_y=70, sex="M")      # drawn person, drawn scan
    young, old = make_twins(0, "age")                 # same person and scan; only age differs

Planted effects
---------------
sex
    M: every axis of the head is 3 % longer than that of the same person as F, and grey matter
    gm becomes gm + k gm (1 - gm) in a temporal mask, with k such that its sum gains 8 %.
age
    With a = (age - 20 years) / 60 years: grey matter is multiplied by 1 - 0.35 a in a
    fronto-parietal mask, CSF takes its place, and the surface of the lateral ventricles moves
    outward by 3 a mm. The whole brain does not shrink.

Neither depends on pose, field of view, bias field or noise, which are drawn for each scan. In the
dataset, sexes alternate within pairs of similar age; numbers of slices and storage orders go
around in turn, so that with a multiple of six persons no number of slices tells the sex.

Where the truth is
------------------
`Phantom` holds masks, tissue fractions, bias field and the map to the template. The dataset has
them under derivatives/truth, on the grid of each image; its README lists them.
"""

from bids_app.demo.dataset import write_dataset
from bids_app.demo.person import Anatomy, draw_anatomy
from bids_app.demo.phantom import Phantom, make_phantom, make_twins
from bids_app.demo.scan import Acquisition, draw_acquisition
from bids_app.demo.template import HeadTemplate, load_template

__all__ = [
    "Acquisition",
    "Anatomy",
    "HeadTemplate",
    "Phantom",
    "draw_acquisition",
    "draw_anatomy",
    "load_template",
    "make_phantom",
    "make_twins",
    "write_dataset",
]
