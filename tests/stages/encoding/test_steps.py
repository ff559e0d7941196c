"""The steps on tiny movies and BOLD: what is planted is found, what is wrong is refused."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from stages.encoding.feature_file import load_features
from stages.encoding.tables import read_rows
from tests.stages.encoding import media
from tests.stages.encoding.steps import call

QUICK = {
    "conditions": ["luminance@4", "motion@4", "luminance@2,4"],
    "penalties": [1.0, 100.0, 10000.0],
    "folds": 2,
    "lags": [2.0, 4.0, 6.0],
    "permutations": 49,
    "block": 4,
    "banded_iterations": 2,
    "high_pass_hz": 0.0,
}

BASE = {"protocol": "both", "confounds": ["trans_x"]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Raw movies and preprocessed BOLD of one participant, and luminance and motion features."""
    root = tmp_path_factory.mktemp("encoding")
    media.write_raw(root / "raw")
    media.write_preprocessed(root / "fmriprep")
    for model in ("luminance", "motion"):
        made = call("features", root / "made", stimuli=stimuli(root), model=model)
        (root / "stimuli").mkdir(exist_ok=True)
        shutil.copy(made["features"], root / "stimuli")
    return root


@pytest.fixture
def copy(dataset, tmp_path):
    """A copy of the dataset to spoil."""
    shutil.copytree(dataset, tmp_path / "copy")
    return tmp_path / "copy"


def stimuli(root):
    return sorted((root / "raw" / "stimuli").iterdir())


def files(root, **options):
    """All inputs of step fit."""
    func, derived = root / "raw/sub-01/func", root / "fmriprep/sub-01/func"
    return {
        "bold": sorted(derived.glob("*_bold.nii.gz")),
        "masks": sorted(derived.glob("*_mask.nii.gz")),
        "confound_tables": sorted(derived.glob("*_timeseries.tsv")),
        "events": sorted(func.glob("*_events.tsv")),
        "features": sorted((root / "stimuli").iterdir()),
        **QUICK,
        **options,
    }


@pytest.fixture(scope="module")
def fitted(dataset, tmp_path_factory):
    return call("fit", tmp_path_factory.mktemp("fit"), **files(dataset, **BASE))


def rows_of(path, **wanted):
    rows = read_rows(path)
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]


def test_driven_voxels_are_predicted_and_others_not(fitted):
    sidecar = json.loads(
        fitted["volume_maps"].with_name("sub-01_desc-encoding_boldmap.json").read_text()
    )
    image = nib.load(fitted["volume_maps"])
    assert image.get_data_dtype() == np.float32
    maps = dict(zip(sidecar["Maps"], np.moveaxis(image.get_fdata(), 3, 0), strict=True))
    assert maps["r luminance@4"][2:].mean() > 0.7
    assert abs(maps["r luminance@4"][:2].mean()) < 0.2
    assert (maps["lag"][2:] == 4.0).all()
    assert maps["constant"][0, 0, 0] == 1
    assert maps["constant"].sum() == 1
    assert sidecar["Provenance"] == "synthetic"


def test_tables_hold_every_condition_by_both_protocols(fitted):
    table = fitted["conditions_table"]
    assert len(rows_of(table, protocol="published")) == 3 * 3
    (row,) = rows_of(table, protocol="selected", condition="luminance@4")
    assert row["n_constant"] == "1"
    assert row["n_repeats"] == "2"
    assert float(row["ci_low"]) < float(row["mean_voxel_r"]) < float(row["ci_high"])
    assert {row["condition"] for row in rows_of(table, protocol="unique")} == {
        "luminance",
        "motion",
        "shared",
    }
    assert rows_of(table, protocol="banded", condition="all bands")
    assert all(np.isfinite(float(r["mean_voxel_r"])) for r in rows_of(table, protocol="published"))


def test_figures_are_small(fitted):
    for name in ("penalties_figure", "lags_figure", "map_figure"):
        assert 0 < fitted[name].stat().st_size < 400_000


def test_same_seed_same_bytes(dataset, fitted, tmp_path):
    again = call("fit", tmp_path, **files(dataset, **BASE))
    for name in ("conditions_table", "regions_table"):
        assert again[name].read_bytes() == fitted[name].read_bytes()


def test_regions_from_a_label_image(dataset, tmp_path):
    labels = np.ones(media.SHAPE, np.int16)
    labels[2:] = 2
    nib.save(nib.Nifti1Image(labels, np.diag([3.0, 3, 3, 1])), tmp_path / "rois.nii.gz")
    (tmp_path / "rois.tsv").write_text("index\tname\n1\tquiet\n2\tdriven\n")
    made = call("fit", tmp_path, **files(dataset, regions=tmp_path / "rois.nii.gz"))
    driven, quiet = (
        rows_of(made["regions_table"], region=name, condition="luminance@4")[0]
        for name in ("driven", "quiet")
    )
    assert float(driven["mean_r"]) > 0.7 > 0.3 > float(quiet["mean_r"])
    assert driven["median_lag"] == "4"
    assert quiet["n_constant"] == "1"


@pytest.mark.parametrize(
    "option",
    [
        {"combine": "mean"},
        {"frame": "mean"},
        {"confounds": ["none"]},
        {"high_pass_hz": 0.02},
        {"drop_initial": 12},
        {"drop_initial_test": 12},
        {"folds": 4},
        {"test": ["train1*"]},
        {"penalties": [1.0, 10.0]},
        {"lags": [2.0, 4.0]},
        {"partition": False},
        {"banded_iterations": 0},
        {"permutations": 19},
        {"block": 5},
        {"least_ceiling": 0.9},
    ],
    ids=str,
)
def test_every_option_has_an_effect(dataset, fitted, tmp_path, option):
    made = call("fit", tmp_path, **files(dataset, **{**BASE, **option}))
    assert made["conditions_table"].read_text() != fitted["conditions_table"].read_text()


def test_published_protocol_alone_writes_no_maps(dataset, tmp_path):
    made = call("fit", tmp_path, **files(dataset, protocol="published"))
    assert {row["protocol"] for row in read_rows(made["conditions_table"])} == {"published"}
    assert not made["volume_maps"].exists()


def test_tables_of_regions_are_responses_too(dataset, tmp_path):
    runs = []
    for path in files(dataset)["bold"]:
        data = nib.load(path).get_fdata()
        table = np.column_stack([data[:2].mean((0, 1, 2)), data[3, 1].mean(0)])
        stem = path.name.split("_space")[0]
        runs.append(tmp_path / f"{stem}_seg-toy_timeseries.tsv")
        np.savetxt(runs[-1], table, delimiter="\t", header="quiet\tdriven", comments="")
        runs[-1].with_suffix(".json").write_text(json.dumps({"SamplingFrequency": 1.0}))
    made = call("fit", tmp_path, **files(dataset, bold=runs, masks=[]))
    (row,) = rows_of(made["regions_table"], region="driven", condition="luminance@4")
    assert float(row["mean_r"]) > 0.7
    assert made["region_maps"].exists()


def test_recorded_series_need_no_movies(dataset, tmp_path):
    """A _stim.tsv.gz per run does what features of stimuli do."""
    import gzip

    given = files(dataset, conditions=["stim@4"], features=[], test=["*task-test*"])
    stims = []
    features, _ = load_features(dataset / "stimuli" / "desc-luminance_features.safetensors")
    for events in given["events"]:
        movie = events.read_text().split("\t")[-1].strip()
        stim = tmp_path / events.name.replace("_events.tsv", "_stim.tsv.gz")
        with gzip.open(stim, "wt") as stream:
            np.savetxt(stream, features[movie].features, delimiter="\t")
        about = {"SamplingFrequency": features[movie].rate_hz, "StartTime": 0, "Columns": []}
        stim.with_name(stim.name.replace(".tsv.gz", ".json")).write_text(json.dumps(about))
        stims.append(stim)
    made = call("fit", tmp_path, **{**given, "stims": stims, "events": [], "regions": None})
    (row,) = rows_of(made["conditions_table"], protocol="selected", condition="stim@4")
    assert float(row["mean_voxel_r"]) > 0.3
    assert row["provenance"] == "synthetic"


def test_ready_features_of_a_stimulus_are_a_space_too(dataset, tmp_path):
    """A .npy beside the movies, named by stim_file, does what features of the movie do."""
    given = files(dataset, conditions=["series@4"])
    features, _ = load_features(dataset / "stimuli" / "desc-luminance_features.safetensors")
    folder = tmp_path / "stimuli"
    folder.mkdir()
    for movie, series in features.items():
        np.save(folder / movie.replace(".mp4", ".npy"), series.features)
        about = json.dumps({"SamplingFrequency": series.rate_hz})
        (folder / movie.replace(".mp4", ".json")).write_text(about)
    made = call("features", tmp_path, stimuli=sorted(folder.glob("*.npy")), model="series")
    events = []
    for path in given["events"]:
        events.append(tmp_path / path.name)
        events[-1].write_text(path.read_text().replace(".mp4", ".npy"))
    made = call("fit", tmp_path, **{**given, "events": events, "features": [made["features"]]})
    (row,) = rows_of(made["conditions_table"], protocol="selected", condition="series@4")
    assert float(row["mean_voxel_r"]) > 0.3


def test_grayordinates_are_responses_too(dataset, tmp_path):
    axis = nib.cifti2.BrainModelAxis.from_mask(np.ones(media.SHAPE), name="thalamus_left")
    runs = []
    for path in files(dataset)["bold"]:
        data = nib.load(path).get_fdata().reshape(-1, media.MOVIE_S).T.astype(np.float32)
        axes = (nib.cifti2.SeriesAxis(0, 1, len(data)), axis)
        runs.append(tmp_path / f"{path.name.split('_space')[0]}_bold.dtseries.nii")
        nib.save(nib.Cifti2Image(data, header=axes), runs[-1])
        about = json.dumps({"RepetitionTime": 1.0})
        runs[-1].with_name(runs[-1].name.replace(".dtseries.nii", ".json")).write_text(about)
    made = call("fit", tmp_path, **files(dataset, bold=runs, masks=[]))
    image = nib.load(made["grayordinate_maps"])
    where = image.header.get_axis(0).name.tolist().index("r luminance@4")
    assert image.get_fdata()[where].reshape(media.SHAPE)[2:].mean() > 0.7


def test_a_convolved_condition_and_the_choice_among_all_are_reported(dataset, tmp_path):
    spaces = ["luminance@4", "motion@4", "luminance@hrf"]
    made = call("fit", tmp_path, **files(dataset, conditions=spaces))
    (convolved,) = rows_of(made["conditions_table"], condition="luminance@hrf")
    assert (convolved["lags"], convolved["n_features"]) == ("hrf", "170")
    (chosen,) = rows_of(made["conditions_table"], protocol="chosen")
    promised = [
        float(r["mean_cv_r"]) for r in rows_of(made["conditions_table"], protocol="selected")
    ]
    assert float(chosen["mean_cv_r"]) >= max(promised)
    (driven,) = rows_of(made["regions_table"], condition="chosen", region="all")
    assert driven["mean_r"] == chosen["mean_voxel_r"]
    assert chosen["provenance"] == "synthetic"


def test_maps_in_mni_space_are_drawn_on_the_surface_too(dataset, fitted, tmp_path):
    assert not fitted["surface_figure"].exists(), "the first dataset is in T1w space"
    runs = []
    for path in files(dataset)["bold"]:
        runs.append(tmp_path / path.name.replace("space-T1w", "space-MNI152NLin2009cAsym"))
        shutil.copy(path, runs[-1])
        sidecar = path.name.replace(".nii.gz", ".json")
        shutil.copy(path.with_name(sidecar), runs[-1].with_name(runs[-1].name[:-7] + ".json"))
    made = call("fit", tmp_path, **files(dataset, bold=runs))
    assert 20_000 < made["surface_figure"].stat().st_size < 500_000


def test_surfaces_are_responses_too(dataset, tmp_path):
    runs = []
    for path in files(dataset)["bold"]:
        data = nib.load(path).get_fdata().reshape(-1, media.MOVIE_S).astype(np.float32)
        arrays = [
            nib.gifti.GiftiDataArray(volume, datatype="NIFTI_TYPE_FLOAT32") for volume in data.T
        ]
        stem = path.name.split("_space")[0]
        runs.append(tmp_path / f"{stem}_hemi-L_space-toy_bold.func.gii")
        nib.save(nib.gifti.GiftiImage(darrays=arrays), runs[-1])
        about = json.dumps({"RepetitionTime": 1.0})
        (tmp_path / f"{stem}_hemi-L_space-toy_bold.json").write_text(about)
    made = call("fit", tmp_path, **files(dataset, bold=runs, masks=[]))
    image = nib.load(made["surface_maps"])
    values = {array.meta["Name"]: array.data for array in image.darrays}
    assert values["r luminance@4"].reshape(media.SHAPE)[2:].mean() > 0.7


def spoil_json(folder, pattern, **change):
    for path in sorted(folder.rglob(pattern))[:1]:
        about = {**json.loads(path.read_text()), **change}
        path.write_text(json.dumps({k: v for k, v in about.items() if v is not None}))


def spoil_events(root, text, task="train"):
    path = root / f"raw/sub-01/func/sub-01_task-{task}_run-1_events.tsv"
    path.write_text(f"onset\tduration\tstim_file\n{text}\n")


def spoil_mask(root):
    path = sorted((root / "fmriprep").rglob("*_mask.nii.gz"))[0]
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), np.eye(4)), path)


def spoil_place(root):
    path = sorted((root / "fmriprep").rglob("*_mask.nii.gz"))[0]
    nib.save(nib.Nifti1Image(np.ones(media.SHAPE, np.uint8), np.diag([3.0, 3, 3.5, 1])), path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: spoil_json(r, "*_bold.json", RepetitionTime=None), "RepetitionTime is None"),
        (
            lambda r: spoil_json(r / "fmriprep", "*_bold.json", RepetitionTime=1.5),
            "differs between runs",
        ),
        (lambda r: spoil_events(r, "0\t10\ttrain1.mp4"), "stimuli end at 10 s, but volumes go on"),
        (lambda r: spoil_events(r, "0\t90\ttrain1.mp4"), "lasts only 40 s"),
        (
            lambda r: spoil_events(r, "0\t40\ttrain1.mp4", "test"),
            "shown in training and in test runs",
        ),
        (lambda r: spoil_events(r, "0\t40\tlost.mp4"), "lost.mp4 was shown, but"),
        (spoil_mask, "grid of .* voxels, but BOLD has"),
        (spoil_place, "voxels lie up to 0.5 mm off"),
    ],
)
def test_bad_data_are_refused(copy, tmp_path, spoil, message):
    spoil(copy)
    with pytest.raises(ValueError, match=message):
        call("fit", tmp_path, **files(copy))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"conditions": ["luminance"]}, "expected MODEL@LAG,LAG"),
        ({"conditions": ["luminance@-1"]}, "expected MODEL@LAG,LAG"),
        ({"conditions": ["vgg16@4"]}, "no features of vgg16; there are luminance, motion"),
        ({"test": ["nothing"]}, "of which 0 are for testing"),
        ({"confounds": ["csf*"]}, "no confound matches 'csf\\*'; columns: trans_x, rot_x"),
        ({"block": 10}, "make 3 blocks of 10, too few"),
    ],
)
def test_bad_options_are_refused(dataset, tmp_path, option, message):
    with pytest.raises(ValueError, match=message):
        call("fit", tmp_path, **files(dataset, **option))


def test_frames_of_training_movies_hidden_in_the_test_movie_are_refused(copy, tmp_path):
    """The test movie is another file under another name, but its second half was seen."""
    levels = np.vstack([media.shots(2, 400), media.shots(0, 400)])
    media.write_movie(copy / "raw/stimuli/test.mp4", levels)
    made = call("features", tmp_path, stimuli=stimuli(copy), model="luminance")
    with pytest.raises(ValueError, match=r"test.mp4: \d+% of its frames are also in training"):
        call(
            "fit", tmp_path, **files(copy, conditions=["luminance@4"], features=[made["features"]])
        )
