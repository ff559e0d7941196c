"""File names: apart, together, and against pybids' own reading of them."""

import pytest
from bids.layout import parse_file_entities
from hypothesis import given
from hypothesis import strategies as st

from specs.entities import ENTITY_ORDER, LONG_NAMES, build_path, parse_path
from tests.conftest import SHARED_DATA

LABEL = st.text("abcXYZ019", min_size=1, max_size=5)


@given(
    st.dictionaries(st.sampled_from(ENTITY_ORDER), LABEL),
    st.sampled_from(["T1w", "mask", "bold"]),
    st.sampled_from([".nii.gz", ".json", ".tsv"]),
)
def test_names_survive_the_way_there_and_back(entities, suffix, extension):
    parts = {**entities, "suffix": suffix, "extension": extension, "datatype": "anat"}
    assert parse_path(build_path(parts)) == parts


@pytest.mark.parametrize(
    "path",
    ["sub-01/anat/sub-01_my scan.nii.gz", "a/b_c.txt", "sub-01/anat/_"],
)
def test_other_names_are_not_bids(path):
    assert parse_path(path) is None


@pytest.mark.parametrize("label", ["../../etc", "a/b", "", "a_b", "a-b", "a b"])
def test_a_label_cannot_leave_the_dataset(label):
    with pytest.raises(ValueError, match="expected letters and digits only"):
        build_path({"sub": label, "suffix": "T1w", "extension": ".nii.gz"})


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"no data in {SHARED_DATA}")
def test_real_names_are_read_as_pybids_reads_them():
    paths = sorted(SHARED_DATA.glob("bids_examples_subset/*/sub-*/**/*.nii.gz"))
    assert len(paths) > 100
    short = LONG_NAMES | {"direction": "dir", "ceagent": "ce"}
    for path in paths:
        expected = {short.get(k, k): str(v) for k, v in parse_file_entities(str(path)).items()}
        found = parse_path(f"{path.parent.name}/{path.name}")
        assert found is not None
        common = expected.keys() & found.keys()
        assert {"sub", "suffix", "extension", "datatype"} <= common
        # pybids reads run-01 as the number 1
        assert {k: found[k].lstrip("0") for k in common} == {
            k: expected[k].lstrip("0") for k in common
        }
