"""The module's logic as scripts use it: one call, nodes back, and no process left behind."""

import unittest

import slicer
from LRPExplainLib.errors import UserError

from LRPExplain import RESOURCES, SAMPLE, LRPExplainLogic


class LRPExplainLogicTest(unittest.TestCase):
    """Runs in Slicer without a main window as well."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        self.logic = LRPExplainLogic()
        if self.logic.missingPackages():
            self.skipTest("The packages of Resources/requirements.txt are not installed here.")
        self.volume = slicer.util.loadVolume(str(RESOURCES / "SampleData" / f"{SAMPLE}.nrrd"))

    def tearDown(self) -> None:
        self.logic.close()

    def test_a_volume_is_explained_in_one_call(self) -> None:
        nodes = self.logic.explain(self.volume, self.logic.bundledModel, target="lesion", composite="gamma")
        self.assertEqual(nodes.volumes, (self.volume,))
        self.assertGreater(slicer.util.arrayFromVolume(nodes.relevance[0]).max(), 0)
        self.assertEqual(nodes.segmentation.GetSegmentation().GetNumberOfSegments(), 1)

    def test_a_class_that_the_model_does_not_know_is_refused_in_one_sentence(self) -> None:
        with self.assertRaisesRegex(UserError, "kidney"):
            self.logic.explain(self.volume, self.logic.bundledModel, target="kidney")


if __name__ == "__main__":
    unittest.main()
