"""What was planted in angiograms, movies, BOLD and landmarks is there."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bids_app.demo import make_phantom, movies
from bids_app.demo.landmarks import TEMPLATE_MM, find_landmarks
from bids_app.demo.vessels import make_angiogram


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_aneurysm_is_as_bright_as_the_vessel_it_sits_on(seed):
    found = make_angiogram(np.random.default_rng(seed), has_aneurysm=True)
    smooth = ndimage.gaussian_filter(found.image.astype(float), 0.7)
    sac = found.aneurysm > 0
    rim = ndimage.binary_dilation(sac, iterations=2) & ~sac
    assert 20 < sac.sum() < 400
    assert ndimage.label(sac)[1] == 1
    assert smooth[rim].max() > 250, "no vessel beside it"
    assert 200 < np.median(found.image[sac]) < 360


def test_no_aneurysm_no_mask_and_nothing_else_differs():
    with_one, without = (
        make_angiogram(np.random.default_rng(3), has_aneurysm=has) for has in (True, False)
    )
    assert with_one.aneurysm.any() and not without.aneurysm.any()
    assert with_one.image.shape == without.image.shape
    assert 0.005 < (without.image > 250).mean() < 0.1  # the tree


def test_bold_of_the_back_follows_brightness_and_of_the_left_side_motion():
    brain = movies.load_brain()
    frames = movies.make_frames(np.random.default_rng(1), 90)
    one, two = (
        movies.make_bold(np.random.default_rng(s), frames, brain).astype(float) for s in (2, 3)
    )
    level = frames.mean((1, 2))
    change = np.abs(np.diff(frames.astype(float), axis=0, prepend=frames[:1])).mean((1, 2))
    # The volume at t shows what was on the screen about 4 s before.
    at = np.arange(one.shape[-1]) * movies.TR_S - 4
    late = [np.interp(at, np.arange(len(c)) / movies.FRAMES_PER_S, c) for c in (level, change)]

    def r(course, where):
        return np.corrcoef(course, one[where].mean(0))[0, 1]

    silent = brain.mask & ~brain.brightness & ~brain.motion
    assert r(late[0], brain.brightness) > 0.7 and r(late[1], brain.motion) > 0.5
    assert abs(r(late[0], silent)) < 0.4
    # What repeats is the signal; noise is drawn anew.
    again = [np.corrcoef(one[w].mean(0), two[w].mean(0))[0, 1] for w in (brain.brightness, silent)]
    assert again[0] > 0.9 and abs(again[1]) < 0.4
    assert not one[~brain.mask].any()


def test_a_movie_is_stored_as_it_was_made():
    frames = movies.make_frames(np.random.default_rng(0), 4)
    with Image.open(io.BytesIO(movies.to_gif(frames))) as gif:
        assert gif.n_frames == len(frames) and gif.info["duration"] == 200
        gif.seek(7)
        assert np.abs(np.asarray(gif.convert("L"), float) - frames[7]).max() <= 2


def test_landmarks_are_where_the_template_has_them():
    phantom = make_phantom(4, age_y=60, sex="M", resolution_mm=5.0)
    places = find_landmarks(phantom)
    back = phantom.to_template(np.array(list(places.values())).T).T
    np.testing.assert_allclose(back, np.array(list(TEMPLATE_MM.values())), atol=0.1)
    assert len(places) == 32
    # Sides are the world's: the warp moves none across the middle.
    turn = phantom.world_to_template
    for name, place in places.items():
        template_x = float((turn[:3, :3] @ place + turn[:3, 3])[0])
        if name.startswith("right"):
            assert template_x > 0, name
        if name.startswith("left"):
            assert template_x < 0, name
