"""Files found on disk: the same as pybids finds, only the selected ones, odd ones survived."""

import json

import pytest
from bids import BIDSLayout, BIDSLayoutIndexer

from bids_app import layout
from bids_app.errors import AppError, Exit
from tests.conftest import SHARED_DATA, write_dataset, write_image

EXAMPLES = SHARED_DATA / "bids_examples_subset"


def index(root, labels, **options):
    """List the raw files of a dataset relative to it."""
    records = layout.index({"raw": root}, labels, **options)
    return {record.path[len(str(root)) + 1 :] for record in records}


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason=f"no data in {EXAMPLES}")
@pytest.mark.parametrize(
    "name", ["ds001", "ds003", "ds005", "ds114", "7t_trt", "synthetic", "asl001"]
)
def test_the_walk_finds_what_pybids_finds(name):
    root = EXAMPLES / name
    labels = layout.list_participants(root)
    pybids = BIDSLayout(root, indexer=BIDSLayoutIndexer(validate=False, index_metadata=False))
    assert set(labels) == set(pybids.get_subjects())
    for extension in (".nii.gz", ".tsv"):
        expected = {f.relpath for f in pybids.get(extension=extension)}
        found = {path for path in index(root, labels) if path.endswith(extension)}
        assert {p for p in found if p.startswith("sub-")} == {
            p for p in expected if p.startswith("sub-")
        }


def test_an_index_kept_by_pybids_gives_the_same_and_is_reused(raw, tmp_path):
    database = tmp_path / "index"
    walked = index(raw, ["01"])
    assert {p for p in index(raw, ["01"], database_dir=database) if "sub-" in p} == {
        p for p in walked if "sub-" in p
    }
    assert any(database.iterdir())
    write_image(raw / "sub-01" / "anat" / "sub-01_run-9_T1w.nii.gz")
    assert not any("run-9" in p for p in index(raw, ["01"], database_dir=database))


def test_only_selected_participants_and_sessions_are_visited(raw):
    for session in ("pre", "post"):
        write_image(raw / f"sub-01/ses-{session}/anat/sub-01_ses-{session}_T1w.nii.gz")
    assert not any(path.startswith("sub-02") for path in index(raw, ["01"]))
    assert {p for p in index(raw, ["01"], sessions=["pre"]) if p.startswith("sub-")} == {
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/ses-pre/anat/sub-01_ses-pre_T1w.nii.gz",
    }


def test_circular_links_and_odd_names_do_no_harm(raw):
    (raw / "sub-01" / "anat" / "loop").symlink_to(raw / "sub-01")
    (raw / "sub-01" / "anat" / ".hidden_T1w.nii.gz").touch()
    (raw / "sub-01" / "anat" / "notes on scan 3.txt").touch()
    (raw / "sub-01" / "anat" / "übung_x-ä_T1w.nii.gz").touch()
    assert "sub-01/anat/sub-01_T1w.nii.gz" in index(raw, ["01"])


def test_missing_or_damaged_descriptions_are_named_with_the_remedy(tmp_path):
    cases = {
        "none": (None, "is missing, so this is not the root of a BIDS dataset"),
        "json": ("{", "not valid JSON"),
        "kind": ("null", "found nothing, expected names and values, such as"),
        "name": (json.dumps({"BIDSVersion": "1.0"}), 'Name missing; write it like {"Name"'),
    }
    for name, (text, message) in cases.items():
        root = write_dataset(tmp_path / name)
        path = root / "dataset_description.json"
        path.unlink()
        if text is not None:
            path.write_text(text)
        with pytest.raises(AppError, match=message) as caught:
            layout.check_dataset(root)
        assert caught.value.code is Exit.INVALID_INPUT
    with pytest.raises(AppError, match="no such folder") as caught:
        layout.check_dataset(tmp_path / "gone")
    assert caught.value.code is Exit.MISSING_FILE


def test_made_up_data_are_told_from_converted_ones(raw):
    path = raw / "dataset_description.json"
    for maker, answer in (("bids_app.demo", True), ("HeuDiConv", False), ("BrainPhantom", True)):
        path.write_text(
            json.dumps({"Name": "x", "BIDSVersion": "1.10.0", "GeneratedBy": [{"Name": maker}]})
        )
        assert layout.is_synthetic(raw) is answer


def test_unknown_participants_are_named(raw):
    assert layout.select_participants(raw, []) == ["01", "02"]
    assert layout.select_participants(raw, ["02"]) == ["02"]
    with pytest.raises(AppError, match=r"no participant 7, 9; participants: 01, 02 \(2 in all\)"):
        layout.select_participants(raw, ["7", "01", "9"])


def test_a_container_is_hinted_at_when_data_may_not_be_mounted(raw, monkeypatch):
    monkeypatch.setattr(layout, "in_container", lambda: True)
    with pytest.raises(AppError, match="is the whole dataset mounted"):
        layout.select_participants(raw, ["7"])


def test_filter_files_are_read_as_fmriprep_reads_them(tmp_path):
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"t1w": {"acquisition": None, "session": "*", "extension": "nii"}}))
    assert layout.read_filter_file(path) == {"t1w": {"acq": None, "ses": "*", "extension": ".nii"}}
    for text, message in [
        ("[]", "top level: found .*, expected entities by name, such as"),
        ("{", "not valid JSON"),
        (json.dumps({"t1w": {"colour": "red"}}), "t1w.colour: no such BIDS entity; give"),
        (json.dumps({"t1w": {"sesion": "1"}}), "did you mean 'session'"),
    ]:
        path.write_text(text)
        with pytest.raises(AppError, match=message):
            layout.read_filter_file(path)
