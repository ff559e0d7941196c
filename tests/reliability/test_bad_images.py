"""Each image of the corpus, and thousands of damaged headers, by the loader of preprocessing."""

import resource
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.preprocessing.nifti import Volume, load_t1w
from tests.reliability.corpus_images import FINE, IMAGES, header_bytes, pack, voxels

SECONDS, MEGABYTES = 5.0, 300  # far more than a volume of 12³ voxels needs
ROOM = 8 * 2**30  # of address space: what tries to take more is refused by the system


@pytest.fixture(autouse=True)
def small_room():
    """Let nothing take the machine's memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def load_or_refuse(path) -> str:
    """Load an image; return the refusal, which must name the file, or nothing."""
    started = time.monotonic()
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            volume = load_t1w(path)
        assert isinstance(volume, Volume)
        assert volume.data.ndim == 3
        assert np.isfinite(volume.data).all()
        assert np.isfinite(volume.affine).all()
        refusal = ""
    except (ValueError, FileNotFoundError) as error:
        refusal = str(error)
        assert str(path) in refusal
    finally:
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    assert peak < MEGABYTES, f"{peak:.0f} MB"
    assert time.monotonic() - started < SECONDS
    return refusal


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_loaded_or_refused_with_reason_and_remedy(tmp_path, tally, name):
    words, write = IMAGES[name]
    path = tmp_path / "sub-01_T1w.nii.gz"
    write(path)
    refusal = load_or_refuse(path)
    if words == FINE:
        assert not refusal
    elif words != "?":  # either is right
        assert words in refusal
    tally("damaged image", 1)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 347), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 352 + 4 * 12**3),
)
def test_any_damage_of_a_header_is_survived(tmp_path_factory, changes, cut):
    path = tmp_path_factory.getbasetemp() / "fuzz_T1w.nii.gz"
    content = header_bytes() + voxels()
    for place, value in changes:
        content[place] = value
    pack(bytes(content if cut % 3 else content[:cut]), path)
    load_or_refuse(path)


def test_the_damaged_headers_are_counted(tally):
    tally("header damaged at random bytes", 300)
