"""Around relevance in 3D a faint surface of the anatomy shows where in it that is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from hand_built import build, head, ras_positions
from LRPExplainLib.scene import display, load, present, presented_in, save
from LRPExplainLib.scene.overlay import hide, show
from LRPExplainLib.scene.record import linked_one

IN_3D, FLAT = display.Display(volume_rendering=True), display.Display()


def shell_of(shown: Any) -> Any:
    return linked_one(shown.relevance[0], "shell")


def bounds(model: Any) -> np.ndarray:
    found = [0.0] * 6
    model.GetRASBounds(found)
    return np.array(found).reshape(3, 2)


def inside(image: sitk.Image, level: float) -> np.ndarray:
    """The box, in RAS, around the voxels above a level."""
    places = ras_positions(image)[sitk.GetArrayViewFromImage(image) > level]
    return np.stack([places.min(axis=0), places.max(axis=0)], axis=1)


def test_it_lies_around_the_anatomy_and_is_seen_with_the_volume_rendering_alone(tmp_path: Path) -> None:
    image = head()
    shown = present(build(tmp_path, [image]))
    assert shell_of(shown) is None
    display.apply(shown, IN_3D)
    model = shell_of(shown)
    assert model.GetDisplayNode().GetVisibility()
    assert not model.GetDisplayNode().GetVisibility2D()
    np.testing.assert_allclose(bounds(model), inside(image, 30), atol=6)
    display.apply(shown, FLAT)
    assert not model.GetDisplayNode().GetVisibility()
    display.apply(shown, IN_3D)
    assert shell_of(shown) is model
    hide(shown)
    assert not model.GetDisplayNode().GetVisibility()
    show(shown)
    assert model.GetDisplayNode().GetVisibility()


def test_who_hides_or_deletes_it_is_left_in_peace(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    display.apply(shown, IN_3D)
    model = shell_of(shown)
    model.GetDisplayNode().SetVisibility(False)
    display.apply(shown, replace(IN_3D, threshold=50))
    assert not model.GetDisplayNode().GetVisibility()
    shown.scene.RemoveNode(model)
    display.apply(shown, replace(IN_3D, threshold=60))
    assert shell_of(shown) is None
    for settings in (FLAT, IN_3D):
        display.apply(shown, settings)
    assert shell_of(shown).GetDisplayNode().GetVisibility()


def test_it_follows_its_volume_also_when_a_transform_is_hardened(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    display.apply(shown, IN_3D)
    model, (volume,) = shell_of(shown), shown.volumes
    before = bounds(model)
    transform = shown.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = transform.GetMatrixTransformToParent()
    matrix.SetElement(0, 3, 25.0)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    moved = before + np.array([[25.0], [0.0], [0.0]])
    np.testing.assert_allclose(bounds(model), moved, atol=1e-3)
    volume.HardenTransform()
    assert model.GetParentTransformNode() is None
    np.testing.assert_allclose(bounds(model), moved, atol=1e-3)


def test_of_another_volume_in_the_same_place_it_is_made_anew(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    display.apply(shown, IN_3D)
    model, before = shell_of(shown), bounds(shell_of(shown))
    (tmp_path / "next").mkdir()
    elsewhere = head()
    elsewhere.SetOrigin([place - 30 for place in elsewhere.GetOrigin()])
    again = present(build(tmp_path / "next", [elsewhere]), scene=shown.scene, update=shown)
    assert shell_of(again) is model
    np.testing.assert_allclose(bounds(model), before + np.array([[30.0], [30.0], [-30.0]]), atol=1e-3)


def test_a_single_slice_has_none(tmp_path: Path) -> None:
    shown = present(build(tmp_path, [head()[:, :, 10:11]]))
    display.apply(shown, IN_3D)
    assert shell_of(shown) is None


def test_it_is_saved_with_the_scene(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    display.apply(shown, IN_3D)
    before = bounds(shell_of(shown))
    (loaded,) = presented_in(load(save(shown, tmp_path / "scene.mrb")).scene)
    np.testing.assert_allclose(bounds(shell_of(loaded)), before, atol=1e-3)
    assert shell_of(loaded).GetDisplayNode().GetVisibility()
