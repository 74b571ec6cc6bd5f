"""What a model's answer is, and what its numbers mean: found, said, given, chosen, and what is then explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brought_models import ENDS, Ends, Net, TwoOutputs, saying
from PIL import Image
from torch import nn

from hookscope.dashboard.asking.readings import read_reading, write_reading
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.building import FactoryError
from hookscope.dashboard.sources.given import checked
from hookscope.dashboard.sources.load import LoadedModel, OutputError, load
from hookscope.hooks.errors import TargetNotFound
from hookscope.hooks.layers.describe import recorded
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.looks.gradients import gradients
from hookscope.hooks.looks.inputs import Sampling, attribute_input
from hookscope.hooks.looks.prediction import predict
from hookscope.hooks.looks.targets import Mask
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.outputs import Output, Reading, Scores, find_reading, form_of

PICTURE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
HALF_RED = np.zeros((64, 64, 3), np.uint8)
HALF_RED[:, :32, 0] = 255


def opened(name: str, **options: Any) -> LoadedModel:
    return load(ModelOptions(f"brought_models:{name}", **options), "cpu")


def answer_of(model: LoadedModel, reading: Reading = Reading()) -> Scores:  # noqa: B008
    prepared = model.prepare(Image.fromarray(HALF_RED))
    with looking(reading=model.info.found(reading).reading):
        return predict(model.module, prepared.tensor)


# --- what is before a softmax


@pytest.mark.parametrize("name", ENDS)
def test_an_answer_that_ends_in_shares_shows_them_and_explains_what_is_before(name: str) -> None:
    net = saying(3.0, -1.0, 0.5)
    model = Ends(net, ENDS[name]).eval()
    with torch.no_grad():
        logits, shares = net(PICTURE)[0].numpy(), model(PICTURE)[0].float().numpy()
    (output,) = recorded(model, PICTURE).outputs
    assert output.ending == ("sigmoid" if "sigmoid" in name or "expit" in name else "softmax")
    scores = predict(model, PICTURE)
    assert scores.reads == "probabilities" and np.allclose(scores.logits, logits, atol=1e-5)
    assert np.array_equal(scores.shares, shares) and np.array_equal(scores.numbers, shares)
    found = layer_map(model, PICTURE, "net.act", 2)
    plain = layer_map(net, PICTURE, "act", 2)
    assert found.logit == pytest.approx(plain.logit, abs=1e-5)
    assert np.allclose(found.values, plain.values, rtol=1e-3, atol=1e-9) and found.values.any()
    assert not live_hooks()


def test_a_sure_model_that_ends_in_softmax_still_has_a_gradient() -> None:
    """The share's own gradient vanishes: the naive target gives 0 everywhere."""
    net = Net(2)
    with torch.no_grad():
        net.fc.bias += torch.tensor([150.0, 0.0])
    model = nn.Sequential(net, nn.Softmax(1)).eval()
    picture = PICTURE.clone().requires_grad_()
    (naive,) = torch.autograd.grad(model(picture)[0, 0], picture)
    assert not naive.any()
    found, plain = gradients(model, PICTURE, target=0), gradients(net, PICTURE, target=0)
    assert [each.norm for each in found.layers] == [each.norm for each in plain.layers]
    assert found.layers[0].norm > 0 and found.score == pytest.approx(150, abs=5)
    for method in ("saliency", "occlusion", "integrated gradients"):
        sampling = Sampling(steps=5, window=16)
        ours, right = (attribute_input(each, PICTURE, method, 0, sampling) for each in (model, net))
        assert np.allclose(ours.values, right.values, atol=1e-4) and ours.values.any()


def test_what_changes_the_shares_afterwards_is_what_is_explained() -> None:
    model = Ends(saying(1.0, 0.0), lambda x: x.softmax(1) * 3).eval()
    (output,) = recorded(model, PICTURE).outputs
    assert output.ending == "" and predict(model, PICTURE).logits == pytest.approx([3 * 0.7311, 3 * 0.2689], abs=1e-3)


def test_attention_is_no_ending_and_a_log_softmax_is_read_as_shares() -> None:
    model = Ends(saying(1.0, 2.0, 3.0), nn.LogSoftmax(1)).eval()
    scores = predict(model, PICTURE)
    assert scores.reads == "softmax" and scores.shares == pytest.approx([0.0900, 0.2447, 0.6652], abs=1e-3)
    assert scores.logits == pytest.approx([1, 2, 3], abs=1e-2) and scores.numbers == pytest.approx(
        np.log([0.0900, 0.2447, 0.6652]), abs=1e-3
    )

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
            self.net = Net()

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            tokens = self.net.features(picture).flatten(2).transpose(1, 2)
            found: torch.Tensor = self.net.fc(self.attend(tokens, tokens, tokens)[0].mean(1))
            return found

    attends = Attends().eval()
    with torch.no_grad():
        right = attends(PICTURE)[0].numpy()
    assert np.array_equal(predict(attends, PICTURE).logits, right)  # by the kernel that it takes otherwise


# --- which output


@pytest.mark.parametrize(
    ("form", "path"),
    [
        (lambda vector, logits: {"features": vector, "logits": logits}, "logits"),
        (lambda vector, logits: {"logits": logits, "features": vector}, "logits"),
        (lambda vector, logits: {"loss": None, "out": logits, "aux": vector}, "out"),
        (lambda vector, logits: [{"heads": {"logits": logits}, "vector": vector}], "0/heads/logits"),
    ],
)
def test_the_output_called_logits_is_the_answer_wherever_it_stands(form: Any, path: str) -> None:
    model = TwoOutputs(form).eval()
    with torch.no_grad():
        logits = Net(5)(PICTURE)[0]
    outputs = recorded(model, PICTURE).outputs
    found = find_reading(outputs)
    assert found.reading.output == path and repr(path.rpartition("/")[2]) in found.why
    assert np.allclose(predict(model, PICTURE).logits, logits, atol=1e-6)
    assert layer_map(model, PICTURE, "act", 3).logit == pytest.approx(float(logits[3]), abs=1e-6)


@pytest.mark.parametrize("form", [lambda vector, logits: (vector, logits), lambda vector, logits: (logits, vector)])
def test_of_two_without_a_name_the_page_assumes_the_later_one_and_the_library_asks(form: Any) -> None:
    model = TwoOutputs(form).eval()
    outputs = recorded(model, PICTURE).outputs
    found = find_reading(outputs)
    (chosen,) = (each for each in outputs if each.path == found.reading.output)
    assert chosen.length == 5 and found.assumed and "computed last" in found.why
    with pytest.raises(TargetNotFound, match=r"has 2 parts that may be its answer: '0' \(1 x \d\), '1'"):
        layer_map(model, PICTURE, "act", 0)
    with looking(reading=Reading(chosen.path)):
        assert layer_map(model, PICTURE, "act", 4).target == 4
    with looking(reading=Reading("nope")), pytest.raises(TargetNotFound, match="has no part 'nope', but '0'"):
        predict(model, PICTURE)


@pytest.mark.parametrize(
    ("outputs", "classes", "given", "expected", "assumed"),
    [
        ([Output("", (1, 1), "vector")], 0, Reading(), ("", "values"), True),
        ([Output("", (1, 9), "vector")], 0, Reading(), ("", "softmax"), True),
        ([Output("", (1, 9), "vector")], 0, Reading("", "sigmoid"), ("", "sigmoid"), False),
        ([Output("", (1, 9), "vector", shares=True)], 0, Reading(), ("", "probabilities"), True),
        ([Output("", (1, 9), "vector", unit=True)], 0, Reading(), ("", "embedding"), True),
        ([Output("", (1, 3), "vector", unit=True)], 0, Reading(), ("", "softmax"), True),
        ([Output("", (1, 9, 1, 1), "vector")], 0, Reading(), ("", "softmax"), True),
        ([Output("0", (1, 9), "vector", order=2, unit=True), Output("1", (1, 5), "vector", order=1)],
         0, Reading(), ("1", "softmax"), True),
        ([Output("0", (1, 5), "vector", order=2), Output("1", (1, 3), "vector", order=1)],
         3, Reading(), ("1", "softmax"), True),
        ([Output("a", (1, 5), "vector"), Output("b", (1, 3), "vector")], 0, Reading("a"), ("a", "softmax"), True),
        ([Output("", (1, 1, 8, 8), "pixels", stride=1)], 0, Reading(), ("", "sigmoid"), True),
        ([Output("", (1, 3, 8, 8), "pixels", stride=1)], 0, Reading(), ("", "values"), True),
        ([Output("", (1, 3, 8, 8), "pixels", stride=1)], 3, Reading(), ("", "softmax"), True),
        ([Output("", (1, 21, 8, 8), "pixels", stride=4)], 0, Reading(), ("", "softmax"), True),
        ([Output("", (1, 512, 7, 7), "pixels", stride=32)], 0, Reading(), ("", "values"), True),
        ([Output("0", (1, 8, 8, 8), "pixels"), Output("1", (1, 9, 4, 4), "pixels")], 0, Reading(), ("", ""), False),
        ([Output("", (1, 84, 99), "other")], 80, Reading(), ("", ""), False),
        ([Output("0/boxes", (2, 4), "boxes"), Output("0/scores", (2,), "boxes")], 0, Reading(), ("0/boxes", ""), False),
        ([], 0, Reading(), ("", ""), False),
    ],
)  # fmt: skip
def test_what_is_made_of_a_models_outputs(
    outputs: list[Output], classes: int, given: Reading, expected: tuple[str, str], assumed: bool
) -> None:
    found = find_reading(outputs, classes, given)
    assert (found.reading.output, found.reading.reads, found.assumed) == (*expected, assumed)


def test_the_form_of_an_output_is_seen_by_its_shape() -> None:
    shapes: list[tuple[int, ...]] = [
        (),
        (1,),
        (7,),
        (1, 7),
        (1, 7, 1, 1),
        (1, 7, 2, 2),
        (1, 7, 9),
        (2, 7),
        (1, 0, 2, 2),
    ]
    assert [form_of("", shape, 1)[:1] for shape in shapes] == ["v", "v", "v", "v", "v", "p", "o", "o", "o"]
    assert form_of("", (2, 7), 2) == "vector" and form_of("", (2,), 2) == "other"


# --- what people bring


@pytest.mark.parametrize(
    ("name", "reads", "names", "numbers"),
    [
        ("yes_or_no", "values", ("defect",), {0: -2.0}),
        ("age", "values", ("age",), {0: 58.0}),
        ("ends_in_softmax", "probabilities", ("good", "bad"), {0: 0.900, 1: 0.100}),
    ],
)
def test_numbers_are_shown_as_what_they_are(
    name: str, reads: str, names: tuple[str, ...], numbers: dict[int, float]
) -> None:
    model = opened(name)
    scores = answer_of(model)
    assert (scores.reads, model.info.classes) == (reads, names)
    assert {index: float(scores.numbers[index]) for index in numbers} == pytest.approx(numbers, abs=2e-3)
    assert (scores.shares.size == 0) == (reads == "values")


def test_one_logit_is_a_yes_or_no_where_somebody_says_so() -> None:
    for model, chosen in (
        (opened("yes_or_no", reads="sigmoid"), Reading()),
        (opened("yes_or_no"), Reading("", "sigmoid")),
    ):
        assert answer_of(model, chosen).shares == pytest.approx([0.1192], abs=1e-3)
        assert not model.info.found(chosen).assumed
    with pytest.raises(OutputError, match="softmax of one number is always 1"):
        opened("yes_or_no", reads="softmax")


def test_of_several_outputs_the_names_say_which_one_and_the_other_can_be_chosen() -> None:
    info = opened("embedding_and_logits").info
    assert (
        info.answer.reading.output == "1"
        and info.classes == tuple("abcde")
        and info.names(Reading("0"))[0] == "class 0"
    )
    model = opened("heads")
    assert model.info.answer.reading == Reading("emotion", "softmax")
    assert model.info.found(Reading("age")).reading == Reading("age", "values")
    assert model.info.names(Reading("age")) == ("age",) and answer_of(model, Reading("age")).numbers == pytest.approx(
        [31.0], abs=4
    )
    age = opened("heads", output="age").info
    assert age.classes == ("age",) and age.names(Reading("emotion")) == ("calm", "glad", "sad") and not age.notes
    with pytest.raises(OutputError, match=r"has no output 'nope': it has 'age', 'emotion'"):
        opened("heads", output="nope")
    with pytest.raises(OutputError, match=r"has no output 'nope': it returns a single tensor"):
        opened("age", output="nope")


def test_an_embedding_has_no_classes_and_a_thousand_parts_are_not_imagenets() -> None:
    face = opened("face")
    assert face.info.answer.reading.reads == "embedding" and face.info.classes == ()
    with looking(reading=face.info.answer.reading), pytest.raises(TargetNotFound, match="read as an embedding"):
        layer_map(face.module, PICTURE, "act")
    parts = opened("thousand_parts").info
    assert parts.classes[752] == "class 752" and parts.answer.assumed


@pytest.mark.parametrize("name", ["autoencoder", "depth", "pyramid", "boxes"])
def test_pictures_features_depth_and_raw_boxes_are_no_classes(name: str, tmp_path: Path) -> None:
    info = opened(name).info
    assert info.classes == () and info.answer.reading.reads in ("", "values")
    (tmp_path / "three.txt").write_text("person\ncar\ndog\n")
    if name == "boxes":
        named = opened(name, labels=str(tmp_path / "three.txt")).info
        assert named.notes == ("three.txt has 3 class names, and the answer is no list of classes.",)


def test_one_channel_per_pixel_is_foreground_above_0() -> None:
    model = opened("foreground")
    picture = model.prepare(Image.fromarray(HALF_RED)).tensor
    scores = answer_of(model)
    assert (scores.reads, model.info.classes) == ("sigmoid", ("lesion",))
    assert scores.shares == pytest.approx([0.5]) and scores.logits == pytest.approx([4.0 * 64 * 32])
    found = layer_map(model.module, picture, "0", 0)  # the mean slope is 8 on half of the positions, the map's peak 1
    assert found.values.max() == pytest.approx(4.0) and found.logit == pytest.approx(4.0 * 64 * 32)
    ends = nn.Sequential(model.module, nn.Sigmoid())
    assert predict(ends, picture).shares == pytest.approx([0.5])
    assert layer_map(ends, picture, "0.0", 0).logit == pytest.approx(4.0 * 64 * 32)
    dark = torch.zeros(1, 3, 64, 64)
    with pytest.raises(TargetNotFound, match="gives no pixel of this image to class 0"):
        layer_map(model.module, dark, "0", 0)


def test_layers_of_pixels_may_overlap() -> None:
    model = opened("layers_of_pixels")
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, 0, :16], picture[:, 0, 16:32] = 1.0, 0.4
    with looking(reading=model.info.answer.reading):
        assert predict(model.module, picture).shares == pytest.approx([0.25, 0.5])
        assert gradients(model.module, picture, [""]).target == 1  # that of the most pixels
        mask = Mask(np.ones((64, 64), bool), 0)
        assert gradients(model.module, picture, [""], mask).score == pytest.approx(
            64 * (16 * 4 + 16 * -0.8 + 32 * -4), rel=1e-4
        )
    with looking(reading=Reading("", "softmax")):
        assert predict(model.module, picture).shares == pytest.approx([0.0, 1.0])
    with looking(reading=Reading("", "values")):
        found = gradients(model.module, picture, [""], 0)
        assert found.score == pytest.approx((16 * 4 + 16 * -0.8 + 32 * -4) / 64, rel=1e-4)
        with pytest.raises(TargetNotFound, match="several numbers per position and no classes"):
            gradients(model.module, picture, [""])


def test_what_torchvision_and_timm_say_is_not_assumed() -> None:
    for spec in (
        "timm:resnet10t@random",
        "torchvision:shufflenet_v2_x0_5@random",
        "torchvision:lraspp_mobilenet_v3_large@random",
    ):
        info = load(ModelOptions(spec, input_size=(64, 64)), "cpu").info
        assert info.answer.reading.reads == "softmax" and not info.answer.assumed, spec
    features = load(
        ModelOptions("timm:resnet10t@random", arguments='{"num_classes": 0}', input_size=(64, 64)), "cpu"
    ).info
    assert features.answer.reading.reads == "embedding" and features.classes == ()


def test_an_address_writes_a_reading_and_reads_it() -> None:
    for reading in (Reading(), Reading("", "sigmoid"), Reading("heads/a:b"), Reading("1", "values")):
        assert read_reading(write_reading(reading)) == reading
    for nothing in ("exec", "exec:1", "softmax:" + "x" * 999, 5, None, "\ud800"):
        assert read_reading(nothing) == Reading()


def test_settings_of_a_reading_that_cannot_be_are_sentences() -> None:
    assert checked("f", {"output": 1, "reads": "Sigmoid"}) == {"output": "1", "reads": "sigmoid"}
    for name, value in (("output", " "), ("output", "a//b"), ("reads", "both"), ("reads", 3)):
        with pytest.raises(FactoryError, match=f"as '{name}'"):
            checked("f", {name: value})
