"""Raw boxes as YOLO's inner modules answer them: recognised by their count alone, listed and explained as by hand."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from raw_nets import Cut, Raw, Ultralytics
from test_detecting import answer
from torch import Tensor, nn

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import LoadedModel, OutputError, Prepared, load
from hookscope.dashboard.web.ask import readable
from hookscope.dashboard.worker.wrapping import how_to_wrap
from hookscope.hooks.errors import TargetNotFound
from hookscope.hooks.layers.describe import recorded
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.detections import detections
from hookscope.hooks.looks.targets import score_of
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.raw_rows import best
from hookscope.hooks.results.looks import GradCam, Prediction
from hookscope.hooks.results.outputs import Found, Output, Reading, find_reading
from hookscope.hooks.results.targets import Box, Class

SIZE = (64, 96)


def test_rows_that_fit_the_class_names_come_before_a_map_that_does() -> None:
    rows = Output("0", (1, 7, 1029), "raw boxes", per_cell=1)
    beside = Output("1/0", (1, 3, 224, 224), "pixels", order=1)
    assert find_reading([rows, beside], 3).reading == Reading("0", "yolov8")
    assert find_reading([rows, beside], 224).reading.output == "0"  # a layout is worth more than the last place


class Answers(nn.Module):
    """Answers what it was made with."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Any:
        return self.value


def read(value: Any, size: tuple[int, int] = SIZE, classes: int = 0) -> Found:
    return find_reading(recorded(Answers(value), torch.rand(1, 3, *size)).outputs, classes)


@pytest.mark.parametrize(
    ("shape", "size", "classes", "reads"),
    [
        ((1, 84, 8400), (640, 640), 0, "yolov8"),
        ((1, 84, 126), SIZE, 0, "yolov8"),  # 8 x 12 + 4 x 6 + 2 x 3 cells
        ((1, 126, 84), SIZE, 0, "yolov8"),
        ((1, 126, 85), SIZE, 80, "yolov5"),  # YOLOX's: the class names say that there is an objectness
        ((1, 126, 85), SIZE, 81, "yolov8"),
        ((1, 378, 85), SIZE, 0, "yolov5"),
        ((1, 378, 85), SIZE, 3, "yolov5"),  # names that fit neither are said elsewhere
        ((1, 25200, 6), (640, 640), 1, "yolov5"),
        ((1, 25200, 5), (640, 640), 0, ""),  # no class is left
        ((1, 84, 125), SIZE, 0, ""),
        ((1, 84, 252), SIZE, 0, ""),  # two per cell
        ((1, 84, 126), (64, 97), 0, ""),
        ((1, 4, 126), SIZE, 0, ""),
        ((1, 197, 768), (224, 224), 0, ""),
        ((1, 126), SIZE, 0, "softmax"),
    ],
)
def test_raw_boxes_are_known_by_their_count(
    shape: tuple[int, ...], size: tuple[int, int], classes: int, reads: str
) -> None:
    found = read(torch.rand(shape), size, classes)
    assert found.reading.reads == reads and found.assumed == bool(reads)
    assert ("strides 8, 16 and 32" in found.why and "0.45" in found.why) == reads.startswith("yolo")


@pytest.mark.parametrize("wrong", [-0.1, 1.01, float("nan")])
def test_what_is_no_score_makes_them_something_else(wrong: float) -> None:
    rows = torch.rand(1, 84, 126)
    rows[0, :4] *= 64
    assert read(rows).reading.reads == "yolov8"
    rows[0, 40, 7] = wrong  # such as a mask's coefficient, or a logit
    assert read(rows).reading.reads == ""


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)]
    return float(width * height / (sum(areas) - width * height))


def by_hand(rows: np.ndarray, first: int) -> list[tuple[int, int, float, list[float]]]:
    """(row, label, score, box) of what is listed, one by one: (box, number) given."""
    scores = rows[:, first:] * (rows[:, 4:5] if first == 5 else 1)
    found = sorted(((scores[n].max(), n, int(scores[n].argmax())) for n in range(len(rows))), reverse=True)
    kept: list[tuple[int, int, float, list[float]]] = []
    for score, row, label in found:
        x, y, width, height = rows[row, :4]
        box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        worse = any(each[1] == label and overlap(np.array(each[3]), box) > 0.45 for each in kept)
        if score >= 0.25 and not worse and len(kept) < 100:
            kept.append((row, label, float(score), box.tolist()))
    return kept


@pytest.mark.parametrize(("net", "reads", "first"), [(Ultralytics(), "yolov8", 4), (Raw(3, 3, True), "yolov5", 5)])
def test_the_best_boxes_are_those_by_hand(net: nn.Module, reads: str, first: int) -> None:
    picture = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = net(picture)
    rows = output[0][0].T.numpy() if reads == "yolov8" else output[0].numpy()
    right = by_hand(rows.astype(np.float64), first)
    with looking(reading=Reading("0" if reads == "yolov8" else "", reads)):
        found = detections(output)
    assert found is not None and 20 < len(right) == len(found.scores) <= 100
    assert len(right) < (rows[:, first:] * (rows[:, 4:5] if first == 5 else 1) >= 0.25).any(1).sum()  # some overlapped
    assert {each[1] for each in right} == {0, 1, 2}
    assert found.labels.tolist() == [each[1] for each in right]
    np.testing.assert_allclose(found.scores, [each[2] for each in right], atol=1e-6)
    np.testing.assert_allclose(found.boxes, [each[3] for each in right], atol=1e-4)


def test_a_box_is_explained_by_its_own_number() -> None:
    net = Ultralytics().eval()
    picture = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    kept: list[Tensor] = []
    handle = net.stem.register_forward_hook(lambda *each: kept.append(each[2]))
    rows = net(picture)[0][0].T
    handle.remove()
    row, label, score, box = by_hand(rows.detach().numpy().astype(np.float64), 4)[3]
    layers = recorded(net, picture).layers
    for target, number in ((Box(3), rows[row, 4 + label]), (Box(3, "left"), rows[row, 0] - rows[row, 2] / 2)):
        (slope,) = torch.autograd.grad(number, kept[0], retain_graph=True)
        with looking(reading=Reading("0", "yolov8")):
            ((*_, found),) = grad_cam(net, picture, [("stem", 0)], target, layers, method="layercam")
        assert isinstance(found, GradCam) and found.target == label
        assert found.logit == pytest.approx(score if target == Box(3) else box[0], abs=1e-4)
        right = (slope.clamp(min=0) * kept[0])[0].sum(0).detach().numpy()
        assert right.max() > 0
        np.testing.assert_allclose(found.values, right, atol=1e-5 * right.max())


def test_a_class_is_its_best_box_and_another_answer_is_refused() -> None:
    output = Raw()(torch.rand(1, 3, *SIZE))
    with looking(reading=Reading("", "yolov8")):
        (found,) = best(output, "yolov8")
        right = found["scores"][found["labels"] == 2].max()
        assert score_of(output, Class(2)).value == pytest.approx(float(right.detach()))
        with pytest.raises(TargetNotFound, match="this one has none of a picture"):
            score_of(torch.zeros(2, 84, 126), Box(0))


@pytest.mark.parametrize("wrong", [1.5, -0.5, float("nan")])
def test_raw_boxes_without_scores_are_refused(wrong: float) -> None:
    output = torch.rand(1, 84, 126)
    output[0, 50, 7] = wrong
    with pytest.raises(TargetNotFound, match="numbers that are not 0 to 1"):
        best(output, "yolov8")


def test_so_few_boxes_that_they_lie_the_other_way_are_refused() -> None:
    output = torch.rand(1, 84, 21) * torch.tensor([32.0] * 4 + [1.0] * 80)[:, None]  # of a picture of 32 x 32
    with pytest.raises(TargetNotFound, match="prepare it larger"):
        best(output, "yolov8")


# --- behind the page


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(ModelOptions("raw_nets:yolov8"), "cpu")


def test_a_yolo_opens_as_a_detector_with_its_reading_assumed(loaded: LoadedModel) -> None:
    info = loaded.info
    assert info.form() == "boxes" and info.answer.assumed and info.answer.reading == Reading("0", "yolov8")
    assert info.classes == ("class 0", "class 1", "class 2")
    assert info.names(Reading("0", "yolov5")) == ("class 0", "class 1")
    assert info.form(Reading("0", "values")) == "other" and info.form(Reading("1/0", "")) == "pixels"
    assert readable(info, Reading("0", "yolov5")) and not readable(info, Reading("1/0", "yolov5"))
    five = load(ModelOptions("raw_nets:yolov5"), "cpu").info
    assert five.answer.reading == Reading("", "yolov5") and len(five.classes) == 3


def test_its_boxes_lie_on_the_original(loaded: LoadedModel) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    prepared = Prepared(pixels, (10.0, 20.0, 138.0, 148.0), (0.0,) * 3, (1.0,) * 3)
    with torch.no_grad():
        right = by_hand(loaded.module(prepared.tensor)[0][0].T.double().numpy(), 4)
    with looking(reading=loaded.info.answer.reading):
        found = answer(loaded, prepared, "prediction")
        cam = answer(loaded, prepared, "gradcam", "stem", Box(1))
    assert isinstance(found, Prediction) and found.detections is not None
    np.testing.assert_allclose(found.detections.boxes[0], np.array(right[0][3]) * 2 + [10, 20] * 2, atol=1e-3)
    assert isinstance(cam, GradCam) and cam.logit == pytest.approx(right[1][2], abs=1e-5)


def test_what_is_not_recognised_says_how_to_wrap_it_and_that_does_it() -> None:
    model = load(ModelOptions("raw_nets:cut"), "cpu")
    assert model.info.form() == "other"
    text = how_to_wrap(model.info.outputs)
    assert "start with --reads yolov8 --output preds" in text and "then 3 scores" in text
    names: dict[str, Any] = {"torch": torch, "torchvision": torchvision}
    exec(textwrap.dedent(text.partition("\n")[2]), names)
    picture = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    net = Cut().eval()
    wrapped = names["Boxes"](net)(picture)
    (right,) = best(net(picture)["preds"], "yolov8")
    assert all(torch.equal(wrapped[0][part], right[part]) for part in right) and len(right["scores"]) > 5
    assert how_to_wrap([Output("", (1, 10), "vector")]) == how_to_wrap([Output("", (1, 197, 768), "other")]) == ""
    told = load(ModelOptions("raw_nets:cut", reads="yolov8"), "cpu").info
    assert told.form() == "boxes" and not told.answer.assumed and len(told.classes) == 3
    prepared = Prepared(np.zeros((64, 64, 3), np.uint8), (0.0, 0.0, 64.0, 64.0), (0.0,) * 3, (1.0,) * 3)
    assert "class Boxes(torch.nn.Module)" in answer(model, prepared, "prediction").note


@pytest.mark.parametrize("output", ["", "1/0"])
def test_what_cannot_be_raw_boxes_is_not_read_so(output: str) -> None:
    spec = "raw_nets:yolov8" if output else "torchvision:resnet18@random"
    with pytest.raises(OutputError, match=r"cannot be read as yolov5: it is .* with more than 5 numbers each"):
        load(ModelOptions(spec, reads="yolov5", output=output), "cpu")
