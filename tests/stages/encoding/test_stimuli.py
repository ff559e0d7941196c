"""Movies, images and ready series are read at their times; broken ones are named."""

import gzip
import json

import av
import numpy as np
import pytest

from stages.encoding.feature_file import load_features
from stages.encoding.stimuli import kind_of, read_frames, read_series, stimulus_name
from tests.stages.encoding.media import shots, write_movie
from tests.stages.encoding.steps import call


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """Three seconds, the level of all stripes rises by 10 every quarter of a second."""
    levels = np.repeat(np.arange(12) * 10 + 60, 5)[:, None] * np.ones(4)
    return write_movie(tmp_path_factory.mktemp("m") / "stimuli" / "ramp_1.mp4", levels)


def frames_of(path, **options):
    settings = {"frame_rate": 20.0, "frame_step": 1, "fit": "stretch", **options}
    return list(read_frames(path, **settings))


def test_stills_are_cut_at_the_rate(movie):
    assert len(frames_of(movie)) == 60
    twice_a_second = frames_of(movie, frame_step=10)
    np.testing.assert_allclose(
        [frame.mean() for frame in twice_a_second], [60, 80, 100, 120, 140, 160], atol=4
    )
    np.testing.assert_allclose(
        [f.mean() for f in frames_of(movie, frame_rate=4.0)], np.arange(12) * 10 + 60, atol=4
    )


def test_a_movie_of_another_rate_shows_the_same(tmp_path):
    """25 frames/s: a still is the frame on the screen at its time."""
    levels = np.repeat(np.arange(4) * 30 + 60, 25)[:, None] * np.ones(4)
    path = write_movie(tmp_path / "m.mp4", levels, fps=25)
    means = [frame.mean() for frame in frames_of(path, frame_step=10)]
    np.testing.assert_allclose(means, [60, 60, 90, 90, 120, 120, 150, 150], atol=4)


def test_images_are_one_frame(tmp_path):
    path = tmp_path / "a.png"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        pixels = np.full((32, 32, 3), 77, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    (frame,) = frames_of(path)
    assert (frame == 77).all()


def test_broken_movies_are_named(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken.mp4: cannot be decoded"):
        frames_of(path)


def test_names_and_kinds():
    from pathlib import Path

    assert stimulus_name(Path("/d/stimuli/set/a b.PNG")) == "set/a b.PNG"
    assert [kind_of(Path(n)) for n in ("a.MP4", "b.jpeg", "c.tsv.gz", "d.txt")] == [
        "movie",
        "image",
        "series",
        "",
    ]


@pytest.mark.parametrize("ending", [".npy", ".tsv", ".tsv.gz"])
def test_ready_series(tmp_path, ending):
    values = np.random.default_rng(0).random((6, 2)).round(3)
    path = tmp_path / f"clip{ending}"
    if ending == ".npy":
        np.save(path, values)
    elif ending == ".tsv":
        np.savetxt(path, values, delimiter="\t", header="a\tb", comments="")
    else:
        with gzip.open(path, "wt") as stream:
            np.savetxt(stream, values, delimiter="\t")
    with pytest.raises(FileNotFoundError, match="must give the SamplingFrequency"):
        read_series(path)
    sidecar = path.with_name("clip.json")
    sidecar.write_text("{}")
    with pytest.raises(ValueError, match="no SamplingFrequency"):
        read_series(path)
    sidecar.write_text(json.dumps({"SamplingFrequency": 2, "StartTime": -1}))
    found, rate_hz, start_s = read_series(path)
    np.testing.assert_allclose(found, values, rtol=1e-6)
    assert (rate_hz, start_s) == (2.0, -1.0)


def test_series_with_holes_are_refused(tmp_path):
    (tmp_path / "clip.tsv").write_text("a\tb\n1\t2\n3\tn/a\n")
    (tmp_path / "clip.json").write_text(json.dumps({"SamplingFrequency": 1}))
    with pytest.raises(ValueError, match="1 cells without a finite number"):
        read_series(tmp_path / "clip.tsv")


def test_a_random_network_is_flagged_and_follows_the_seed(movie, tmp_path):
    series = []
    for seed in (0, 0, 1):
        made = call("features", tmp_path, stimuli=[movie], model="resnet50", seed=seed)
        found, about = load_features(made["features"])
        assert about["provenance"] == about["weights"] == "random-weights"
        series.append(found["ramp_1.mp4"])
    assert series[0].features.shape == (6, 2048)
    assert series[0].rate_hz == 2.0
    np.testing.assert_array_equal(series[0].features, series[1].features)
    assert not np.allclose(series[0].features, series[2].features)


def test_an_interrupted_extraction_goes_on_where_it_was(movie, tmp_path, monkeypatch):
    """One of two stimuli is known: it is not decoded again, and the result is the same."""
    from stages.encoding import features

    other = write_movie(tmp_path / "stimuli" / "other.mp4", shots(3, 40))
    cache = str(tmp_path / "cache")
    decoded = []
    plain = features.read_frames

    def count(path, **options):
        decoded.append(path.name)
        return plain(path, **options)

    monkeypatch.setattr(features, "read_frames", count)
    call("features", tmp_path / "a", stimuli=[movie], model="luminance", cache=cache)
    made = call("features", tmp_path / "b", stimuli=[movie, other], model="luminance", cache=cache)
    assert decoded == ["ramp_1.mp4", "other.mp4"]
    without = call("features", tmp_path / "c", stimuli=[movie, other], model="luminance")
    assert made["features"].read_bytes() == without["features"].read_bytes()
    decoded.clear()
    options = {"stimuli": [movie], "model": "luminance", "cache": cache}
    call("features", tmp_path / "d", **options, frame_step=5)
    assert decoded == ["ramp_1.mp4"], "another rate is another series"
    for stored in (tmp_path / "cache").iterdir():
        stored.write_bytes(b"PK damaged")
    again = call("features", tmp_path / "e", **options)
    found = load_features(again["features"])[0]["ramp_1.mp4"]
    first = load_features(without["features"])[0]["ramp_1.mp4"]
    np.testing.assert_array_equal(found.features, first.features)


@pytest.mark.parametrize("option", [{"fit_frame": "crop"}, {"frame_step": 5}, {"frame_rate": 10.0}])
def test_options_of_features_have_an_effect(tmp_path, option):
    path = tmp_path / "stimuli" / "stripes.mp4"
    levels = shots(0, 60)
    write_movie(path, levels, size=64)
    made = [
        load_features(
            call("features", tmp_path, stimuli=[path], model="luminance", **o)["features"]
        )[0]
        for o in ({}, option)
    ]
    first, second = (item["stripes.mp4"] for item in made)
    same = first.features.shape == second.features.shape
    assert (
        not same
        or not np.allclose(first.features, second.features, atol=1e-3)
        or (first.rate_hz != second.rate_hz)
    )


def test_the_autoencoder_trains_on_training_stimuli_alone(movie, tmp_path):
    test = write_movie(tmp_path / "stimuli" / "test.mp4", shots(1, 40))
    options = {"model": "autoencoder", "epochs": 1, "batch_size": 2, "learning_rate": 1e-3}
    made = call("features", tmp_path, stimuli=[movie, test], **options)
    found, about = load_features(made["features"])
    assert about["trained_on"] == ["ramp_1.mp4"]
    assert found["test.mp4"].features.shape == (4, 2048)
    assert made["network"].exists()
    assert made["reconstructions"].stat().st_size < 400_000
    with pytest.raises(ValueError, match="every stimulus matches"):
        call("features", tmp_path, stimuli=[movie, test], **{**options, "test": ["*"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "alexnet"}, "no such feature space; there are vgg16, resnet50"),
        ({"model": "resnet50+conv9"}, "no layer 'conv9'"),
        ({"model": "series"}, "needs feature series"),
    ],
)
def test_bad_models_are_refused(movie, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        call("features", tmp_path, stimuli=[movie], **options)
