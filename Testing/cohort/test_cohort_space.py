"""Maps of volumes of any geometry in one space: nothing is lost, and the same place is the same block."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.volumes import rotation
from LRPExplainLib.cohort.space import ALIGNMENTS, Space, lie_apart, together
from LRPExplainLib.errors import UserError
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging.grid import same_grid
from planted import CLASSES, ball, frame, ras_of, save

OBLIQUE = rotation((0.3, -0.2, 0.4)).ravel().tolist()
SAGITTAL = (0, 0, 1, 1, 0, 0, 0, -1, 0)  # i, j, k run to posterior, inferior and left
GEOMETRIES = {
    "fine": {},
    "thick slices": {"size": (40, 48, 11), "spacing": (2, 2, 6.5)},
    "sagittal": {"size": (24, 18, 20), "spacing": (4, 4, 4), "direction": SAGITTAL},
    "oblique": {"size": (50, 60, 30), "spacing": (1.6, 1.6, 3.2), "direction": OBLIQUE},
}
PLACE = (12.0, -10.0, 6.0)


def explained(tmp_path, image, values, **more) -> Explanation:
    return Explanation.load(save(tmp_path / "x", image, values, **more))


def on_lattice(space: Space, *explanations: Explanation) -> np.ndarray:
    return together([space.blocks(one)[0] for one in explanations])[0]


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_no_relevance_is_lost_on_the_way_to_the_blocks(tmp_path, geometry, align):
    image = frame(**GEOMETRIES[geometry])
    values = np.random.default_rng(0).standard_normal(image.GetSize()[::-1]).astype(np.float32) + 0.2
    one = explained(tmp_path, image, values, segmentation=np.ones(values.shape))
    first = explained(tmp_path, frame(), np.ones((36, 48, 40)), segmentation=np.ones((36, 48, 40)))
    (blocks,) = Space(first, align, None).blocks(one)
    assert blocks.values.sum() == pytest.approx(values.sum(), abs=float(1e-5 * np.abs(values).sum()))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_relevance_of_one_place_is_in_the_same_blocks_whatever_the_voxels(tmp_path, geometry):
    base, image = frame(), frame(**GEOMETRIES[geometry])
    first = explained(tmp_path, base, ball(base, PLACE, 6) / ball(base, PLACE, 6).sum())
    other = explained(tmp_path, image, ball(image, PLACE, 6) / ball(image, PLACE, 6).sum())
    a, b = on_lattice(Space(first, "space", 8.0), first, other)
    assert np.minimum(a, b).sum() > 0.93


def test_a_voxel_in_the_middle_of_a_block_is_in_that_block_alone(tmp_path):
    image = frame(size=(9, 9, 9), spacing=(3, 3, 3))
    values = np.zeros((9, 9, 9), np.float32)
    values[7, 4, 1] = 5.0  # each the middle of three voxels along i, j and k
    one = explained(tmp_path, image, values)
    space = Space(one, "space", 9.0)
    blocks = space.blocks(one)[0]
    k, j, i = np.argwhere(blocks.values)[0]
    assert blocks.values[k, j, i] == pytest.approx(5.0)
    assert np.count_nonzero(blocks.values) == 1
    x, y, z = space.grid(blocks.start, blocks.stop).point((int(i), int(j), int(k)))
    assert (-x, -y, z) == pytest.approx(tuple(ras_of(image)[7, 4, 1]), abs=1e-4)


def test_by_centre_a_volume_that_was_moved_is_the_same(tmp_path):
    here, there = frame(), frame(centre=(100, -30, 500))
    first = explained(tmp_path, here, ball(here, PLACE))
    moved = explained(tmp_path, there, ball(there, np.add(PLACE, (100, -30, 500))))
    a, b = on_lattice(Space(first, "centre", None), first, moved)
    assert b == pytest.approx(a, abs=1e-3)
    space = Space(first, "space", None)
    assert lie_apart([space.blocks(one)[0] for one in (first, moved)])


def test_by_frame_a_corner_is_a_corner_whatever_the_size_and_orientation(tmp_path):
    small, large = frame(), frame(size=(60, 40, 54), spacing=(3, 2.4, 4), direction=SAGITTAL, centre=(9, 9, 9))
    ends = [np.abs(ras_of(image) - ras_of(image).reshape(-1, 3).mean(axis=0)).reshape(-1, 3).max(axis=0)
            for image in (small, large)]  # fmt: skip
    maps = [
        np.all((ras_of(image) - ras_of(image).reshape(-1, 3).mean(axis=0)) > 0.7 * end, axis=-1)
        for image, end in zip((small, large), ends, strict=True)
    ]
    first, other = (
        explained(tmp_path, image, one / one.sum()) for image, one in zip((small, large), maps, strict=True)
    )
    a, b = on_lattice(Space(first, "frame", None), first, other)
    assert np.minimum(a, b).sum() > 0.75


def test_by_target_lesions_lie_on_each_other(tmp_path):
    image = frame()
    places = [(-20, 16, 8), (16, -20, -10)]
    maps = [ball(image, place, 4) for place in places]
    first, other = (explained(tmp_path, image, one, segmentation=one > 0.5) for one in maps)
    a, b = on_lattice(Space(first, "target", None), first, other)
    assert np.minimum(a, b).sum() > 0.95 * a.sum()
    with pytest.raises(UserError, match="has no place"):
        Space(explained(tmp_path, image, maps[0]), "target", None)
    empty = explained(tmp_path, image, maps[1], segmentation=np.zeros(maps[0].shape))
    with pytest.raises(UserError, match="Nothing is predicted as 'lesion'"):
        Space(first, "target", None).blocks(empty)
    told = [CLASSES[0], CLASSES[1] | {"voxels": 9, "centre_ras": list(places[1])}]
    hidden = replace(empty, prediction=replace(empty.prediction, classes=told))  # by classes that overlap it
    a, b = on_lattice(Space(first, "target", None), first, hidden)
    assert np.minimum(a, b).sum() > 0.95 * a.sum()


def test_a_single_slice_is_a_single_layer_of_blocks(tmp_path):
    image = frame(size=(100, 120, 1), spacing=(3, 3, 1))
    one = explained(tmp_path, image, np.ones((1, 120, 100)))
    (blocks,) = Space(one, "space", None).blocks(one)
    assert blocks.values.shape == (1, 24, 20)
    assert blocks.values == pytest.approx(np.full(blocks.values.shape, 25), rel=0.35)


def test_another_image_is_averaged_in_the_blocks(tmp_path):
    image = frame()
    one = explained(tmp_path, image, np.ones((36, 48, 40)))
    blocks = Space(one, "space", 8.0).averages(image + 7, one)
    assert blocks.values == pytest.approx(np.full(blocks.values.shape, 7), rel=1e-4)


def test_too_many_blocks_are_refused_in_a_sentence(tmp_path):
    one = explained(tmp_path, frame(), np.ones((36, 48, 40)))
    with pytest.raises(UserError, match="choose larger"):
        Space(one, "space", 0.1).blocks(one)
    far = [replace(block, start=(0, 0, 500_000)) for block in Space(one, "space", None).blocks(one)]
    with pytest.raises(UserError, match="another alignment"):
        together([*Space(one, "space", None).blocks(one), *far])


def test_nifti_like_and_nrrd_like_axes_meet(tmp_path):
    """The same head stored with its axes turned is the same to a voxel."""
    image = frame()
    turned = sitk.DICOMOrient(image, "PIR")
    first = explained(tmp_path, image, ball(image, PLACE))
    other = explained(tmp_path, turned, ball(turned, PLACE))
    for align in ("space", "centre", "frame"):
        a, b = on_lattice(Space(first, align, None), first, other)
        assert b == pytest.approx(a, abs=1e-4)


def test_where_all_volumes_have_one_geometry_every_way_but_by_target_is_patient_space(tmp_path):
    image = frame(centre=(5, -7, 40))
    one = explained(tmp_path, image, ball(image, (10, -20, 45)))
    spaces = {align: Space(one, align, None) for align in ("space", "frame", "centre")}
    blocks = {align: space.blocks(one)[0] for align, space in spaces.items()}
    grids = {align: space.grid(blocks[align].start, blocks[align].stop) for align, space in spaces.items()}
    for align in ("frame", "centre"):
        assert same_grid(grids[align], grids["space"])
        assert blocks[align].values == pytest.approx(blocks["space"].values, abs=1e-4)
