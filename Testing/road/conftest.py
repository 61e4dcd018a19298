"""The model that the tests of the question ask."""

import pytest
from helpers.networks import classes, save_model, segmenter
from helpers.questions import NAMES, WISHES
from LRPExplainLib.models import ExplainableModel, load_model


@pytest.fixture
def model(tmp_path) -> ExplainableModel:
    return load_model(save_model(tmp_path, segmenter(), preprocessing=WISHES, output=classes(*NAMES)))
