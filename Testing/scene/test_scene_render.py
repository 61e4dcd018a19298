"""The pictures, where this machine can draw."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hand_built import build, head
from LRPExplainLib.scene import missing_renderer, present, render
from LRPExplainLib.scene.colors import relevance_colors
from LRPExplainLib.scene.overlay import OPACITY
from LRPExplainLib.scene.rendering import caption_of
from LRPExplainLib.scene.views import SIZE


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The four pictures of one explanation by name, RGB in 0..255."""
    missing = missing_renderer()
    if missing:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("pictures")
    told: list[tuple[str, float]] = []
    paths = render(present(build(folder)), folder / "views", lambda *step: told.append(step))
    assert told == [("Axial", 0.0), ("Sagittal", 0.25), ("Coronal", 0.5), ("3D", 0.75)]
    return {path.stem: sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int) for path in paths}


def near(picture: np.ndarray, rgb: np.ndarray, tolerance: int = 12) -> np.ndarray:
    return np.abs(picture - rgb).max(axis=2) <= tolerance


def middle(mask: np.ndarray) -> np.ndarray:
    return np.mean(np.nonzero(mask), axis=1)


def test_there_are_three_slices_and_one_3d_view_of_the_stated_size(pictures: dict[str, np.ndarray]) -> None:
    assert list(pictures) == ["axial", "sagittal", "coronal", "3d"]
    assert {picture.shape for picture in pictures.values()} == {(SIZE, SIZE, 3)}


def test_positive_relevance_is_right_anterior_and_the_outline_is_around_it(pictures: dict[str, np.ndarray]) -> None:
    """The lesion (value 200, shown white) lies in the patient's right front: the picture's upper left in axial view."""
    axial = pictures["axial"].copy()
    axial[:, int(0.8 * SIZE) :] = 0  # without the legend, which has the same colours
    strongest = OPACITY * relevance_colors()[255, :3] * 255 + (1 - OPACITY) * 255
    shown = near(axial, strongest)
    assert shown.sum() > 500
    row, column = middle(shown)
    assert row < SIZE / 2
    assert column < SIZE / 2
    outline = near(axial, np.array([0, 255, 0]))
    assert outline.sum() > 100
    assert np.linalg.norm(middle(outline) - (row, column)) < 8


def test_every_view_has_the_legend_with_both_ends_of_the_colour_table(pictures: dict[str, np.ndarray]) -> None:
    for name, picture in pictures.items():
        corner = picture[: SIZE // 2, int(0.8 * SIZE) :]
        top, bottom = (near(corner, relevance_colors()[entry, :3] * 255, 20) for entry in (254, 1))
        assert top.sum() > 5, name
        assert bottom.sum() > 5, name
        assert middle(top)[0] < middle(bottom)[0], name


def test_captions_and_directions_are_written_at_the_edges(pictures: dict[str, np.ndarray]) -> None:
    edges = {"caption": np.s_[:80, :300], "place": np.s_[-30:, :200], "right": np.s_[400:500, :50]}
    for name in ("axial", "sagittal", "coronal"):
        for what, where in edges.items():
            assert (pictures[name][where] > 200).all(axis=2).sum() > 20, (name, what)


def test_of_several_volumes_the_caption_says_whose_map_is_shown(tmp_path: Path) -> None:
    images = [head(), head()]
    model = {"name": "test model", "path": "", "sha256": "1" * 64, "card": {"inputs": [{"name": "T1"}, {"name": "T2"}]}}
    assert caption_of(present(build(tmp_path, images, model=model)))[-1] == "Volume 1 of 2 (T1)"
    assert caption_of(present(build(tmp_path, images)))[-1] == "Volume 1 of 2"
    alone = present(build(tmp_path))
    assert caption_of(alone) == alone.caption


def test_the_3d_view_shows_relevance_within_a_shell(pictures: dict[str, np.ndarray]) -> None:
    view = pictures["3d"][:, : int(0.8 * SIZE)]
    grey = (np.ptp(view, axis=2) < 12) & (view.max(axis=2) > 20) & (view.max(axis=2) < 200)
    coloured = np.ptp(view, axis=2) > 60
    assert grey.sum() > 0.1 * grey.size
    assert coloured.sum() > 500


def test_drawing_twice_gives_the_same_slices_and_adds_no_node(tmp_path: Path, pictures: dict[str, np.ndarray]) -> None:
    shown = present(build(tmp_path))
    first = render(shown, tmp_path / "first")
    count = shown.scene.GetNumberOfNodes()
    second = render(shown, tmp_path / "second")
    assert shown.scene.GetNumberOfNodes() == count
    for a, b in zip(first[:3], second[:3], strict=True):
        assert a.read_bytes() == b.read_bytes()


def _slice_of_head(kind: str) -> sitk.Image:
    """Through the ball, of the head that is stored left to right, back to front; or as a file without any geometry."""
    whole = head()
    i, j, k = whole.TransformPhysicalPointToIndex((-24.0, -30.0, 20.0))
    cuts = {"axial": whole[:, :, k : k + 1], "coronal": whole[:, j : j + 1, :], "sagittal": whole[i : i + 1, :, :]}
    if kind in cuts:
        return cuts[kind]
    values = sitk.GetArrayFromImage(cuts["axial"])[:, ::-1, ::-1]  # a picture's rows go from front to back
    return sitk.GetImageFromArray(np.ascontiguousarray(values))


@pytest.mark.parametrize("kind", ["axial", "coronal", "sagittal", "picture"])
def test_of_a_single_slice_there_is_the_picture_along_it(tmp_path: Path, kind: str) -> None:
    """Letters of directions where the file says which they are: at the middle of the right edge."""
    missing = missing_renderer()
    if missing:
        pytest.skip(missing)
    presented = present(build(tmp_path, [_slice_of_head(kind)]))
    (path,) = render(presented, tmp_path / "views")
    assert path.stem == ("axial" if kind == "picture" else kind)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int)
    shown = picture[:, int(0.1 * SIZE) : int(0.8 * SIZE)].max(axis=2) > 60
    assert min(shown.any(axis=1).sum(), shown.any(axis=0).sum()) > SIZE / 4  # no line
    letter = near(picture[int(0.47 * SIZE) : int(0.53 * SIZE), int(0.97 * SIZE) :], np.array([255, 255, 255])).any()
    assert letter == (kind != "picture")
