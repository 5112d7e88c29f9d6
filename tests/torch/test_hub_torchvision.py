"""Named models and class names held against torchvision's own lists."""

from __future__ import annotations

import pytest

from sepcore import hub
from sepcore.labels import read_labels

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", [name for name, model in hub.MODELS.items() if not model.embedded])
def test_named_weights_are_torchvisions(name: str) -> None:
    from torchvision.models import get_model_weights

    model = hub.MODELS[name]
    weights = get_model_weights(model.arch)
    entry = weights["IMAGENET1K_V1"] if name.endswith("@v1") else weights.DEFAULT
    assert entry.url == f"{hub.PUBLISHED_AT}/{model.file}"
    assert read_labels(model.labels) == entry.meta["categories"]
    transform, preprocess = entry.transforms(), model.preprocess
    assert (transform.crop_size, transform.resize_size) == ([preprocess.input_size[0]], [preprocess.resize])
    assert preprocess.input_size[0] == preprocess.input_size[1]
    assert transform.interpolation.value == preprocess.interpolation
    assert (tuple(transform.mean), tuple(transform.std)) == (preprocess.mean, preprocess.std)
