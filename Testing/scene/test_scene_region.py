"""Where was asked is outlined in the scene: the same voxels, in the patient's own place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hand_built import LANDMARK, build, head, like, ras_positions
from LRPExplainLib import scene
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Box, Points, Region, read_segment
from LRPExplainLib.scene.host import slicer


def asked(folder: Path, where: Region | None, **changes: object) -> Explanation:
    explanation = build(folder)
    facts = {} if where is None else {"where": where.kind, "region": where.as_dict()}
    return replace(explanation, target=explanation.target | facts | changes)


def outlined(presented: scene.PresentedNodes) -> np.ndarray:
    """RAS in mm of the voxels of the region's segment, [n, 3]."""
    (segment,) = presented.region.GetSegmentation().GetSegmentIDs()
    return _places(slicer.util.arrayFromSegmentInternalBinaryLabelmap(presented.region, segment))


def _places(voxels: np.ndarray) -> np.ndarray:
    return ras_positions(head())[voxels > 0]


def test_a_box_is_outlined_where_it_is(tmp_path):
    presented = scene.present(asked(tmp_path, Box(LANDMARK, (10, 12, 14))))
    places = outlined(presented)
    np.testing.assert_allclose(places.mean(axis=0), LANDMARK, atol=2)
    assert (np.abs(places - LANDMARK) <= (5.001, 6.001, 7.001)).all()
    assert len(places) > 50
    assert presented.region.GetDisplayNode().GetVisibility2DOutline()
    assert not presented.region.GetDisplayNode().GetVisibility2DFill()


def test_a_point_is_outlined_as_its_voxel(tmp_path):
    places = outlined(scene.present(asked(tmp_path, Points((LANDMARK,)))))
    assert len(places) == 1
    assert np.abs(places[0] - LANDMARK).max() <= 1.001  # half a voxel


def test_a_segment_is_outlined_while_its_file_is_the_same(tmp_path):
    image = head()
    ball = np.linalg.norm(ras_positions(image) - LANDMARK, axis=-1) < 7
    path = tmp_path / "ball.nrrd"
    sitk.WriteImage(like(image, ball.astype(np.uint8)), str(path))
    explanation = asked(tmp_path, read_segment(path))
    assert len(outlined(scene.present(explanation))) == ball.sum()
    sitk.WriteImage(like(image, (~ball).astype(np.uint8)), str(path))
    assert scene.present(explanation).region is None
    path.unlink()
    assert scene.present(explanation).region is None


@pytest.mark.parametrize("where", ["prediction", "output", "everywhere"])
def test_a_question_without_a_place_has_no_outline(tmp_path, where):
    explanation = build(tmp_path)
    presented = scene.present(replace(explanation, target=explanation.target | {"where": where}))
    assert presented.region is None


def test_the_caption_says_the_question_in_two_lines(tmp_path):
    text = "lesion rather than background over 12 voxels of the segment 'x'"
    lines = scene.present(asked(tmp_path, None, text=text)).caption
    assert "Relevance for: lesion rather than background" in lines
    assert "over 12 voxels of the segment 'x'" in lines
