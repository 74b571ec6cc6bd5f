"""torchvision's detectors behind the page: opened by name, their boxes, targets and pictures against torch itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from units import answer_of, unit_of

from hookscope.dashboard.asking.targets import Target
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import LoadedModel, Prepared, load
from hookscope.dashboard.sources.steps import MAXIMUM_DETECTED_PIXELS
from hookscope.dashboard.worker.handlers import handler_of
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.errors import HooksError
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.looks import GradCam, Gradients, InputAttribution, Prediction
from hookscope.hooks.results.summaries import Survey
from hookscope.hooks.results.targets import OWN, Box

SPEC = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn@random"
SAMPLES = Path(__file__).parent.parent / "assets/samples"
LAYER = "backbone.body.16.0"
CAT = 17  # in COCO


@pytest.fixture(scope="module")
def detector() -> LoadedModel:
    return load(ModelOptions(SPEC, arguments='{"box_score_thresh": 0.005}'), "cpu")


@pytest.fixture(scope="module")
def prepared(detector: LoadedModel) -> Prepared:
    return detector.prepare(Image.open(SAMPLES / "chelsea.png").convert("RGB"))


def answer(
    model: LoadedModel, prepared: Prepared, question: str, layer: str = "", target: Target | int | None = OWN
) -> Any:
    """What the worker sends; a refusal is raised."""
    sent: list[protocol.FromWorker] = []
    unit = unit_of(SPEC, "0", question, layer, 0, target)
    task = Task(protocol.Run(1, (unit,)), sent.append, frozenset)
    handler_of(unit)(model, task, prepared)
    task.finish()
    assert not live_hooks()
    for message in sent:
        if isinstance(message, protocol.Failed):
            raise HooksError(message.sentence)
    (found,) = [answer_of(message.data) for message in sent if isinstance(message, protocol.Answered)]
    return found


def directly(model: LoadedModel, prepared: Prepared, layer: str = LAYER) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """torch's own answer to the same picture, what went into it, and the layer's value, in one graph."""
    given = prepared.tensor.clone().requires_grad_()
    kept = []
    handle = model.module.get_submodule(layer).register_forward_hook(lambda _, __, value: kept.append(value))
    try:
        (found,) = model.module([given[0]])
    finally:
        handle.remove()
    return found, given, kept[0]


def test_a_detector_opens_with_its_own_classes(detector: LoadedModel) -> None:
    info = detector.info
    assert info.form() == "boxes" and info.random and len(info.classes) == 91
    assert info.classes[CAT] == f"class {CAT}" and info.preprocessing.resize == 0


def test_the_numbers_of_classes_are_the_models_and_not_its_weights(detector: LoadedModel) -> None:
    few = load(ModelOptions(SPEC, arguments='{"num_classes": 3}'), "cpu")
    assert few.info.classes == ("class 0", "class 1", "class 2")


def test_the_picture_is_given_as_it_is(prepared: Prepared) -> None:
    picture = np.asarray(Image.open(SAMPLES / "chelsea.png").convert("RGB"))
    expected = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
    assert torch.equal(prepared.tensor, expected) and np.array_equal(prepared.pixels, picture)


def test_a_huge_picture_is_made_smaller_and_keeps_its_place(detector: LoadedModel) -> None:
    found = detector.prepare(Image.new("RGB", (4000, 3000)))
    height, width = found.tensor.shape[2:]
    assert width * height <= MAXIMUM_DETECTED_PIXELS < (width + 2) * (height + 2)
    assert found.crop == pytest.approx((0, 0, 4000, 3000))


def test_the_boxes_are_torchs_own(detector: LoadedModel, prepared: Prepared) -> None:
    found = answer(detector, prepared, "prediction")
    with torch.no_grad():
        expected, _, _ = directly(detector, prepared)
    assert isinstance(found, Prediction) and found.detections is not None and len(expected["scores"]) > 5
    assert np.allclose(found.detections.boxes, expected["boxes"], atol=1e-4)
    assert np.array_equal(found.detections.labels, expected["labels"])
    assert np.array_equal(found.detections.scores, expected["scores"])
    assert found.scores is None


def test_the_first_answer_takes_one_pass(detector: LoadedModel, prepared: Prepared) -> None:
    passes: list[None] = []
    handle = detector.module.backbone.register_forward_hook(lambda *each: passes.append(None))
    answer(detector, prepared, "prediction")
    handle.remove()
    assert len(passes) == 1


def test_boxes_lie_on_the_original_where_the_picture_was_made_smaller(detector: LoadedModel) -> None:
    picture = Image.open(SAMPLES / "chelsea.png").convert("RGB").resize((2400, 1600))
    small = detector.prepare(picture)
    found = answer(detector, small, "prediction")
    with torch.no_grad():
        expected, _, _ = directly(detector, small)
    scale = 2400 / small.tensor.shape[3], 1600 / small.tensor.shape[2]
    assert min(scale) > 1 and isinstance(found, Prediction) and found.detections is not None
    assert np.allclose(found.detections.boxes, expected["boxes"].numpy() * (scale * 2), atol=1e-2)


def test_the_networks_view_is_what_the_backbone_gets(detector: LoadedModel, prepared: Prepared) -> None:
    """Resized, and padded to multiples of 32: the maps lie on this, so the overlay needs exactly these pixels."""
    found = answer(detector, prepared, "prediction")
    transform = detector.module.transform
    images, _ = transform([prepared.tensor[0]])
    padded, (height, width) = images.tensors[0], images.image_sizes[0]
    mean, std = (torch.tensor(each)[:, None, None] for each in (transform.image_mean, transform.image_std))
    expected = ((padded * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    assert isinstance(found, Prediction) and np.array_equal(found.pixels, expected)
    assert padded.shape[2] > width  # else this picture would prove nothing of the border
    assert found.crop == pytest.approx((0, 0, 451 * padded.shape[2] / width, 300 * padded.shape[1] / height))


@pytest.mark.parametrize("target", [OWN, Box(3), "label"])
def test_a_map_of_a_boxs_score_is_torchs_own(detector: LoadedModel, prepared: Prepared, target: Target | str) -> None:
    expected, _, value = directly(detector, prepared)
    place = 3 if target == Box(3) else 0
    label = int(expected["labels"][place])
    found = answer(detector, prepared, "gradcam", LAYER, label if isinstance(target, str) else target)
    (slope,) = torch.autograd.grad(expected["scores"][place], value)
    cam = (slope.mean((2, 3), keepdim=True) * value)[0].sum(0).detach().numpy()
    assert isinstance(found, GradCam) and (found.target, found.logit) == (label, expected["scores"][place].item())
    assert np.abs(cam).max() > 0 and np.allclose(found.values, cam, atol=1e-5 * np.abs(cam).max())


def test_the_gradients_of_a_box_are_torchs_own(detector: LoadedModel, prepared: Prepared) -> None:
    expected, _, value = directly(detector, prepared)
    (slope,) = torch.autograd.grad(expected["scores"][2], value)
    found = answer(detector, prepared, "gradients", target=Box(2))
    assert isinstance(found, Gradients)
    (layer,) = [layer for layer in found.layers if layer.layer == LAYER]
    assert layer.norm == pytest.approx(float(slope.norm()), rel=1e-4) and layer.norm > 0
    seen = answer(detector, prepared, "survey", target=Box(2))
    assert isinstance(seen, Survey) and seen.target == int(expected["labels"][2])
    (call,) = [call for call in seen.calls if call.layer == LAYER]
    assert call["gradient"] == pytest.approx(layer.norm, rel=1e-4)


def test_the_saliency_of_a_box_is_torchs_own(detector: LoadedModel, prepared: Prepared) -> None:
    expected, given, _ = directly(detector, prepared)
    (slope,) = torch.autograd.grad(expected["scores"][1], given)
    found = answer(detector, prepared, "saliency", target=Box(1))
    assert isinstance(found, InputAttribution) and found.values.shape == (300, 451)
    assert np.allclose(found.values, slope[0].abs().amax(0), atol=1e-5 * float(slope.abs().max()))


@pytest.mark.parametrize(
    ("question", "layer", "target", "sentence"),
    [
        ("occlusion", "", OWN, "a detector's box or a callable belongs to one output"),
        ("scorecam", LAYER, OWN, "a detector's box or a callable belongs to one output"),
        ("gradcam", LAYER, Box(5000), "There is no box 5000: the model found"),
        ("gradcam", LAYER, 0, "The model detects nothing of class 0 in this image"),
        ("gradcam", "roi_heads.box_head.fc6", OWN, "has no map"),
        ("gradcam", "rpn.head.cls_logits", OWN, "No path leads from the layer to the score"),
    ],
)
def test_what_a_detector_cannot_answer_is_a_sentence(
    detector: LoadedModel, prepared: Prepared, question: str, layer: str, target: Target | int, sentence: str
) -> None:
    with pytest.raises(HooksError, match=sentence):
        answer(detector, prepared, question, layer, target)


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
def test_the_classes_of_other_heads_are_counted(name: str) -> None:
    info = load(ModelOptions(f"torchvision:{name}@random", arguments='{"num_classes": 7}'), "cpu").info
    assert info.form() == "boxes" and len(info.classes) == 7


def test_a_segmenter_is_no_detector() -> None:
    info = load(ModelOptions("torchvision:lraspp_mobilenet_v3_large@random"), "cpu").info
    assert info.form() == "pixels" and len(info.classes) == 21
