"""An embedding is explained by how alike the model finds two pictures: against the cosine and its gradient by hand."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from brought_models import Net
from own_page import Page, array, opened, operators_folder, texts
from PIL import Image
from torch.nn import functional

from hookscope.hooks.errors import TargetNotFound
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.looks.inputs import Sampling, attribute_input
from hookscope.hooks.looks.score_cam import score_cam
from hookscope.hooks.looks.targets import Likeness, score_of
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.looks import GradCam
from hookscope.hooks.results.outputs import Reading

ONE, OTHER = (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
EMBEDDING = Reading(reads="embedding")


def test_every_method_explains_the_cosine() -> None:
    net = Net(8).eval()
    with torch.no_grad():
        vector, own = net(OTHER)[0], net(ONE)
    target, right = Likeness(vector), float(functional.cosine_similarity(own, vector[None]))
    with looking(reading=EMBEDDING):
        assert score_of(own, target, differentiable=False).value == pytest.approx(right, abs=1e-6)
        found = layer_map(net, ONE, "act", target)
        features = net.features(ONE).detach().requires_grad_()
        score = functional.cosine_similarity(net.fc(features.mean((2, 3))), vector[None])
        (slope,) = torch.autograd.grad(score, features)
        cam = (slope.mean((2, 3), keepdim=True) * features)[0].sum(0).detach()
        np.testing.assert_allclose(found.values, cam, atol=1e-7)
        assert found.logit == pytest.approx(right, abs=1e-6)
        hidden = attribute_input(net, ONE, "occlusion", target, sampling=Sampling(window=32, stride=32))
        masked = ONE.clone()
        masked[..., :32, :32] = 0
        with torch.no_grad():
            drop = right - float(functional.cosine_similarity(net(masked), vector[None]))
        assert float(hidden.values[8, 8]) == pytest.approx(drop, abs=1e-6)
        ((*_, by_scores),) = score_cam(net, ONE, [("act", 0)], target, describe(net, ONE))
        assert isinstance(by_scores, GradCam) and np.isfinite(by_scores.values).all()
        with pytest.raises(TargetNotFound, match="is to an embedding of 5 numbers, and this model's answer is of 8"):
            layer_map(net, ONE, "act", Likeness(torch.zeros(5)))


NET = """
    import torch
    from brought_models import Net

    def make():
        return Net(8).eval(), {"input_size": 64, "resize": 64, "mean": 0.0, "std": 1.0, "reads": "embedding"}
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("likeness")
    with operators_folder(folder, likeness_net=NET), opened(folder, "likeness_net:make") as made:
        yield made


def test_on_the_page_each_picture_is_explained_by_its_likeness_to_the_other(page: Page) -> None:
    generator, keys, tensors = np.random.default_rng(0), [], []
    for _ in range(2):
        pixels = generator.integers(0, 256, (64, 64, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        keys.append(page.inputs.receive(io.BytesIO(file.getvalue()), None, "a.png").key)
        tensors.append(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    alone = page.shows(a=keys[0], layers=["act"])
    assert "choose a second picture" in texts(alone["card-cam-text 0"])
    shown = page.shows(a=keys[0], b=keys[1], layers=["act"])
    said = texts(shown["card-cam-text 0"])
    assert "likeness to B" in said and "likeness to A" in said
    net = page.net("likeness_net:make")
    maps = [trace for trace in shown["card-cam 0"]["figure"]["data"] if trace["type"] == "heatmap"]
    assert len(maps) == 2
    for index, trace in enumerate(maps):
        with torch.no_grad():
            vector = net(tensors[1 - index])[0]
        with looking(reading=EMBEDDING):
            right = layer_map(net, tensors[index], "act", Likeness(vector)).values
        np.testing.assert_allclose(array(trace["z"]), right, atol=1e-6)
    assert [each["label"] for each in shown["target"]["data"]] == ["likeness to the other"]
