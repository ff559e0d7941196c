"""Every kind of grid reads series and writes maps where they belong."""

import nibabel as nib
import numpy as np
import pytest

from stages.encoding.design import refuse_too_large
from stages.encoding.figures import draw_map
from stages.encoding.grids import CiftiGrid, SurfaceGrid, VolumeGrid, open_grid, read_regions
from stages.encoding.surfaces import project


def write_volume(path, data):
    affine = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -5], [0, 0, 3, 1], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def write_cifti(path, data):
    """Twelve vertices and a few voxels."""
    vertices = nib.cifti2.BrainModelAxis.from_surface(np.arange(12), 20, "CortexLeft")
    voxels = nib.cifti2.BrainModelAxis.from_mask(np.ones((2, 2, 1)), name="thalamus_left")
    axes = (nib.cifti2.SeriesAxis(0, 2, len(data)), vertices + voxels)
    nib.save(nib.Cifti2Image(data, header=axes), path)
    return path


def read_all(grid, path):
    return np.hstack(list(grid.read(path)))


def test_volumes(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.standard_normal((3, 4, 5, 70)).astype(np.float32)
    mask = rng.random((3, 4, 5)) > 0.5
    bold = write_volume(tmp_path / "bold.nii.gz", data)
    grid = open_grid(bold, [write_volume(tmp_path / "mask.nii.gz", mask.astype(np.uint8))])
    np.testing.assert_array_equal(read_all(grid, bold), data[mask])
    grid.write(tmp_path / "maps.nii.gz", {"a": data[mask][:, 0], "b": np.ones(grid.size)})
    image = nib.load(tmp_path / "maps.nii.gz")
    np.testing.assert_array_equal(image.affine, nib.load(bold).affine)
    np.testing.assert_array_equal(image.get_fdata()[..., 0][mask], data[mask][:, 0])
    assert (image.get_fdata()[~mask] == 0).all()


def test_scaled_integers_are_read_as_their_values(tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 2, 2, 3), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, tmp_path / "bold.nii")
    grid = open_grid(tmp_path / "bold.nii", [])
    np.testing.assert_allclose(
        read_all(grid, tmp_path / "bold.nii"),
        nib.load(tmp_path / "bold.nii").get_fdata().reshape(8, 3),
    )


def test_without_a_mask_voxels_that_are_always_zero_are_left_out(tmp_path):
    data = np.ones((2, 2, 2, 5), np.float32)
    data[0] = 0
    assert open_grid(write_volume(tmp_path / "b.nii", data), []).size == 4


def test_grayordinates(tmp_path):
    data = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    bold = write_cifti(tmp_path / "a_bold.dtseries.nii", data)
    grid = open_grid(bold, [])
    np.testing.assert_array_equal(read_all(grid, bold), data.T)
    grid.write(tmp_path / "m.dscalar.nii", {"first": data[0]})
    image = nib.load(tmp_path / "m.dscalar.nii")
    np.testing.assert_array_equal(image.get_fdata()[0], data[0])
    assert image.header.get_axis(0).name.tolist() == ["first"]
    assert image.header.get_axis(1) == grid.axis


def test_surface_labels_are_regions(tmp_path):
    labels = nib.gifti.GiftiDataArray(np.array([0, 1, 1, 2], np.int32), intent="NIFTI_INTENT_LABEL")
    image = nib.gifti.GiftiImage(darrays=[labels])
    for key, name in ((1, "V1"), (2, "V2")):
        label = nib.gifti.GiftiLabel(key)
        label.label = name
        image.labeltable.labels.append(label)
    nib.save(image, tmp_path / "l.label.gii")
    regions = read_regions(tmp_path / "l.label.gii", SurfaceGrid(4))
    assert {name: int(inside.sum()) for name, inside in regions.items()} == {"V1": 2, "V2": 1}
    with pytest.raises(ValueError, match="4 vertices, but responses have 5"):
        read_regions(tmp_path / "l.label.gii", SurfaceGrid(5))


def test_grayordinate_labels_are_regions(tmp_path):
    data = np.zeros((3, 16), np.float32)
    grid = open_grid(write_cifti(tmp_path / "a_bold.dtseries.nii", data), [])
    labels = np.repeat([0, 1, 2], [4, 8, 4])[None]
    table = {0: ("???", (0, 0, 0, 0)), 1: ("cortex", (1, 0, 0, 1)), 2: ("thalamus", (0, 1, 0, 1))}
    axes = (nib.cifti2.LabelAxis(["parts"], [table]), grid.axis)
    nib.save(nib.Cifti2Image(labels.astype(np.float32), header=axes), tmp_path / "l.dlabel.nii")
    regions = read_regions(tmp_path / "l.dlabel.nii", grid)
    assert {n: int(inside.sum()) for n, inside in regions.items()} == {"cortex": 8, "thalamus": 4}
    other = CiftiGrid(nib.cifti2.BrainModelAxis.from_mask(np.ones((4, 2, 2)), name="brain_stem"))
    with pytest.raises(ValueError, match="other grayordinates"):
        read_regions(tmp_path / "l.dlabel.nii", other)


def test_a_volume_is_projected_where_it_lies(tmp_path):
    """A value that is the world coordinate x comes back at each vertex as about its own x."""
    from nilearn import datasets, surface

    shape, affine = (47, 57, 47), np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = [-94, -130, -76]
    mask = np.ones(shape, dtype=bool)
    x = (affine[0, 0] * np.indices(shape)[0] + affine[0, 3])[mask]
    for side, values in project(VolumeGrid(mask, affine), x).items():
        meshes = datasets.fetch_surf_fsaverage("fsaverage5")
        inner, outer = (
            surface.load_surf_mesh(meshes[f"{kind}_{side}"]).coordinates[:, 0]
            for kind in ("white", "pial")
        )
        np.testing.assert_allclose(values, (inner + outer) / 2, atol=0.1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 2, 2), "expected a series"), (None, "not an image that can be read")],
)
def test_what_is_no_series_is_refused(tmp_path, shape, message):
    path = tmp_path / "b.nii"
    path.write_bytes(b"no") if shape is None else write_volume(path, np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=message):
        open_grid(path, [])


def test_fsaverage5_is_drawn_on_the_surface(tmp_path):
    path = tmp_path / "sub-01_hemi-L_desc-map_encoding.png"
    values = np.linspace(-0.5, 0.5, 10242)
    draw_map(path, SurfaceGrid(10242), values, "r", "synthetic")
    assert 20_000 < path.stat().st_size < 400_000


def test_designs_that_do_not_fit_are_refused_with_the_amount():
    refuse_too_large(4497, 16384, available_bytes=4e9, what="vgg16@4,5,6,7")
    with pytest.raises(
        MemoryError, match=r"vgg16@4,5,6,7: 4497 samples of 16384 features need 1.9 GB"
    ):
        refuse_too_large(4497, 16384, available_bytes=1e9, what="vgg16@4,5,6,7")
