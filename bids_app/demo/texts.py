"""The words of the demo dataset: descriptions, sidecars and READMEs."""

from __future__ import annotations

from typing import Any

from bids_app.demo.person import AGE_RANGE_Y, AGEING_GM_LOSS, AGEING_VENTRICLE_MM, SEX_SCALE
from bids_app.demo.template import SEX_GM_GAIN, TEMPLATE

BIDS_VERSION = "1.10.0"
LICENSE = "ICBM152 2009a templates, (C) 1993-2009 Louis Collins, McGill University; see README.md"

RAW_DESCRIPTION: dict[str, Any] = {
    "Name": "brainstages demo: phantoms with planted effects",
    "BIDSVersion": BIDS_VERSION,
    "DatasetType": "raw",
    "License": LICENSE,
    "Authors": ["brainstages developers"],
    "ReferencesAndLinks": [
        "https://doi.org/10.1016/j.neuroimage.2010.07.033",
        "https://doi.org/10.1016/S1053-8119(09)70884-5",
    ],
    "GeneratedBy": [{"Name": "bids_app.demo", "Description": "Phantom generator of brainstages."}],
}

TRUTH_DESCRIPTION: dict[str, Any] = {
    "Name": "Truth of the brainstages demo phantoms",
    "BIDSVersion": BIDS_VERSION,
    "DatasetType": "derivative",
    "License": LICENSE,
    "Authors": ["brainstages developers"],
    "GeneratedBy": [{"Name": "truth", "Description": "bids_app.demo of brainstages."}],
    "DatasetLinks": {"raw": "../.."},
    "SourceDatasets": [{"URL": "../.."}],
}

PREPROCESSED_DESCRIPTION: dict[str, Any] = {
    "Name": "BOLD of the brainstages demo, as if preprocessed",
    "BIDSVersion": BIDS_VERSION,
    "DatasetType": "derivative",
    "License": LICENSE,
    "Authors": ["brainstages developers"],
    "GeneratedBy": [{"Name": "bids_app.demo", "Description": "Phantom generator of brainstages."}],
    "DatasetLinks": {"raw": "../.."},
    "SourceDatasets": [{"URL": "../.."}],
}

PREPROCESSED_README = """# BOLD of the demo, as if preprocessed

The same simulated volumes as in the raw dataset, already on a grid in template space (10 mm), with
a brain mask, under the names that fMRIPrep gives. Give this folder with `-d fmriprep=FOLDER`.
"""

PARTICIPANTS: dict[str, Any] = {
    "age": {"Description": "Age of the phantom; sets the planted effects of age.", "Units": "year"},
    "sex": {
        "Description": "Sex of the phantom; sets the planted effects of sex.",
        "Levels": {"F": "female-like", "M": "male-like"},
    },
}

PLANTED: dict[str, Any] = {
    "Description": "What was planted in each phantom.",
    "ageing": {
        "Description": "Share of the ageing effects: 0 at {:g} years, 1 at {:g}.".format(
            *AGE_RANGE_Y
        )
    },
    "head_scale": {"Description": "Linear size of the head relative to the template."},
    "sex_scale": {"Description": "Factor in head_scale that is due to sex."},
    "sex_gm_gain": {"Description": "Relative gain of grey matter within the sex mask."},
    "ageing_gm_loss": {"Description": "Relative loss of grey matter within the ageing mask."},
    "ventricle_mm": {
        "Description": "Outward shift of the surface of the lateral ventricles in the template.",
        "Units": "mm",
    },
    "rim_mm": {"Description": "Mean thickness of the CSF rim.", "Units": "mm"},
    "skull_mm": {"Description": "Mean thickness of the skull.", "Units": "mm"},
    "scalp_mm": {"Description": "Mean thickness of the scalp.", "Units": "mm"},
}

_LICENSE_NOTE = """## Licence of the template

The phantoms are warped from the ICBM 152 nonlinear symmetric 2009a templates.
Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological
Institute, McGill University. Permission to use, copy, modify, and distribute this software and
its documentation for any purpose and without fee is hereby granted, provided that the above
copyright notice appear in all copies. The authors and McGill University make no representations
about the suitability of this software for any purpose. It is provided "as is" without express or
implied warranty. The authors are not responsible for any data loss, equipment damage, property
loss, or injury to subjects or patients resulting from the use or misuse of this software package.

References: Fonov et al. (2011), NeuroImage 54(1), 313-327, doi:10.1016/j.neuroimage.2010.07.033;
Fonov et al. (2009), NeuroImage 47, S102, doi:10.1016/S1053-8119(09)70884-5.
"""

RAW_README = f"""# Phantoms with planted effects

No human was scanned for these images: each is a warped average brain in a drawn head. They serve
to try software and to check it against a truth that is known exactly. Nothing learnt from them
says anything about people.

Made with `python -m bids_app.demo DIR {{command}}`; the same command gives the same bytes.

Each person has a smooth random warp (3 mm rms), a size drawn from N(1, 0.02), and a skull, scalp,
face and neck of varying thickness. Each scan has a pose (turned by up to 12 degrees, shifted by
up to 8 mm), a bias field (within 30 %), Rician noise, a number of sagittal slices and a storage
order of its own. sub-01 was scanned in two sessions. A bright capsule marks the RIGHT side of the
forehead.

Planted effects:

- sex: heads of M are {(SEX_SCALE - 1) * 100:.0f} % larger along each axis, and have
  {SEX_GM_GAIN * 100:.0f} % more grey matter in a fixed temporal mask;
- age: from {AGE_RANGE_Y[0]:g} to {AGE_RANGE_Y[1]:g} years, grey matter in a fixed
  fronto-parietal mask falls by {AGEING_GM_LOSS * 100:.0f} %, and the surface of the lateral
  ventricles moves outward by {AGEING_VENTRICLE_MM:g} mm; linear in age.

Besides the heads there are:

- angiograms (`angio`), a tree of bright tubes; sub-01, sub-03, ... have an aneurysm;
- movies in `stimuli/`, and BOLD of sub-02 and sub-03 while they are shown: of the voxels, those of
  the back follow the brightness of the picture and those of the left side its motion.

What is known of each image lies in `derivatives/truth`, a dataset of its own.

{_LICENSE_NOTE}"""

TRUTH_README = f"""# Truth of the T1w phantoms

All images lie on the grid of their T1w image, stored in the same order.

- `desc-brain_mask`: the brain mask of the template, carried to the phantom.
- `label-{{GM,WM,CSF}}_probseg`: tissue fractions; they sum to 1 inside the skull.
- `desc-bias_T1wmap`: the field that multiplied the image before noise was added.
- `from-T1w_to-{TEMPLATE}_mode-points_xfm.txt`: 4 x 4 matrix from world coordinates
  (RAS+, mm) of the T1w image to those of the template: pose and size, without the smooth warp.
  To resample the image on the template's grid, use the inverse, which is beside it.
- `points.tsv`: where landmarks of the template lie in the T1w image (RAS, mm).
- `label-aneurysm_mask`: the aneurysm of the angiogram, on its grid; empty where there is none.
- `participants.tsv`: what was planted in each person.
- `scans.tsv`: pose, field of view, storage order, noise and true volumes of each image.
- `effects/`: where grey matter depends on age and on sex, in the space of the template.

{_LICENSE_NOTE}"""


def describe_t1w(voxel_mm: float) -> dict[str, Any]:
    """Return the sidecar of a T1w image; the sequence is what the contrast imitates."""
    return {
        "Modality": "MR",
        "Manufacturer": "brainstages phantom",
        "ManufacturersModelName": "bids_app.demo",
        "MagneticFieldStrength": 3,
        "MRAcquisitionType": "3D",
        "ScanningSequence": "GR",
        "SequenceVariant": "MP",
        "PulseSequenceType": "simulated MPRAGE",
        "RepetitionTime": 2.3,
        "EchoTime": 0.003,
        "InversionTime": 0.9,
        "FlipAngle": 9,
        "SliceThickness": voxel_mm,
        "BodyPart": "HEAD",
        "Synthetic": True,
    }


def describe_angio(voxel_mm: float) -> dict[str, Any]:
    """Return the sidecar of an angiogram."""
    return {
        "Modality": "MR",
        "Manufacturer": "brainstages phantom",
        "ManufacturersModelName": "bids_app.demo",
        "MagneticFieldStrength": 3,
        "PulseSequenceType": "simulated time of flight",
        "SliceThickness": voxel_mm,
        "BodyPart": "HEAD",
        "Synthetic": True,
    }
