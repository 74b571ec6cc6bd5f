"""Models that take something else than one float32 picture of three channels, and pictures prepared in other ways.

What is right is worked out without our own preparation: by Pillow, by the same network called by hand, by torchvision.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from brought_models import PLAIN, Net
from PIL import Image
from torch import Tensor, nn

from hookscope.dashboard.asking.sides import Preparation
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.inputs.rows import Exact
from hookscope.dashboard.sources.building import FactoryError
from hookscope.dashboard.sources.load import LoadedModel, load
from hookscope.dashboard.sources.preprocessing import PreparationError
from hookscope.hooks.errors import HooksError, NoGradient
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.looks.gradients import gradients
from hookscope.hooks.looks.inputs import Sampling, attribute_input
from hookscope.hooks.looks.prediction import predict
from hookscope.hooks.looks.score_cam import score_cam
from hookscope.hooks.looks.survey import survey
from hookscope.hooks.looks.weights import weights
from hookscope.hooks.methods import INPUTS, METRICS
from hookscope.hooks.results.maps import why_no_maps

WIDE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 200, 3), np.uint8))
SQUARE = WIDE.crop((0, 0, 64, 64))


@pytest.fixture
def factory(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Opens what a function makes, as an operator's factory would."""
    name = f"brought_{abs(hash(request.node.name))}"
    module = types.ModuleType(name)
    sys.modules[name] = module

    def opened(make: Any, **options: Any) -> LoadedModel:
        module.make = make  # type: ignore[attr-defined]
        return load(ModelOptions(f"{name}:make", **options), "cpu")

    yield opened
    del sys.modules[name]


def plainly(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255


# --- the type in which a model computes

WAYS = {
    "half": lambda net: net.half(),
    "bfloat16": lambda net: net.to(torch.bfloat16),
    "double": lambda net: net.double(),
    "compiled": torch.compile,
    "parallel": nn.DataParallel,
    "parallel half": lambda net: nn.DataParallel(net.half()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_model_of_another_type_or_wrapper_opens_and_answers_alike(way: str, factory: Any) -> None:
    model = factory(lambda: (WAYS[way](Net()), PLAIN))
    own, net = model.prepare(SQUARE).tensor, Net().eval()
    assert torch.equal(own, plainly(SQUARE))
    dtype = next(model.module.parameters()).dtype
    assert any(str(dtype).removeprefix("torch.") in note for note in model.info.notes) == (dtype != torch.float32)
    near = 0.05 if dtype in (torch.float16, torch.bfloat16) else 1e-5
    with torch.no_grad():
        logits = net(own)[0]
    np.testing.assert_allclose(predict(model.module, own).logits, logits, atol=near)
    layer = next(each.name for each in model.info.layers if each.name.endswith("act"))
    with capture(model.module, [layer]) as seen:
        model.module(own)
    np.testing.assert_allclose(seen[layer].value.float(), net.features(own).detach(), atol=near)
    found, plain = layer_map(model.module, own, layer, 1), layer_map(net, own, "act", 1)
    np.testing.assert_allclose(found.values, plain.values, atol=near * plain.values.max(), rtol=near)
    ours, theirs = gradients(model.module, own, None, 1), gradients(net, own, None, 1)
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        assert one.layer.endswith(other.layer) and one.norm == pytest.approx(other.norm, rel=2 * near)
    sampling = Sampling(steps=4, window=16, stride=16)
    for method in INPUTS:
        one = attribute_input(model.module, own, method, 1, sampling=sampling).values
        other = attribute_input(net, own, method, 1, sampling=sampling).values
        # a ReLU that is nearly 0 may be another in half precision: single positions differ
        assert np.abs(one - other).mean() <= 2 * near * np.abs(other).max()
    numbers = survey(model.module, own, model.info.layers, metrics=METRICS, target=1)
    assert len(numbers.calls) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_statically_quantised_model_is_seen_through_and_says_why_it_has_no_gradient(factory: Any) -> None:
    import torch.ao.quantization as quantization

    net = nn.Sequential(quantization.QuantStub(), Net(), quantization.DeQuantStub()).eval()
    plain = Net().eval()
    torch.backends.quantized.engine = "fbgemm"
    net.qconfig = quantization.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    quantization.prepare(net, inplace=True)
    net(plainly(SQUARE))
    quantization.convert(net, inplace=True)
    model = factory(lambda: (net, PLAIN))
    own = model.prepare(SQUARE).tensor
    with torch.no_grad():
        np.testing.assert_allclose(predict(model.module, own).logits, net(own)[0], atol=1e-6)
        np.testing.assert_allclose(predict(model.module, own).logits, plain(own)[0], atol=0.1)
    with pytest.raises(NoGradient, match="in integers such as int8"):
        layer_map(model.module, own, "1.act", 1)
    (*_, found) = next(iter(score_cam(model.module, own, [("1.act", 0)], 1, model.info.layers)))
    assert not isinstance(found, HooksError) and found.values.any()
    kept = {each.name: each.values for each in weights(model.module, "1.conv").parameters}
    np.testing.assert_allclose(kept["weight"], plain.conv.weight.detach(), atol=0.01)


def test_the_type_is_that_of_the_first_layer_the_picture_reaches(factory: Any) -> None:
    """The text's half comes first in the list of parameters, and is not called with the picture."""

    class Both(Net):
        def __init__(self) -> None:
            super().__init__()
            self._modules = {"text": nn.Embedding(4, 6, dtype=torch.float64), **self._modules}  # type: ignore[assignment]

        def forward(self, picture: Tensor) -> Any:
            return super().forward(picture) + self.text(torch.tensor([0])).float().sum()

    assert next(Both().parameters()).dtype == torch.float64
    assert not factory(lambda: (Both(), PLAIN)).info.notes


# --- channels


def test_a_model_of_one_channel_gets_the_luminance(factory: Any) -> None:
    def make() -> Any:
        net = Net()
        net.conv = nn.Conv2d(1, 6, 5, stride=4, padding=2)
        return net, {**PLAIN, "mean": (0.5,), "std": (0.25,)}

    model = factory(make)
    grey = torch.from_numpy(np.asarray(SQUARE.convert("L")).copy())[None, None].float() / 255
    prepared = model.prepare(SQUARE)
    torch.testing.assert_close(prepared.tensor, (grey - 0.5) / 0.25)
    assert "one channel" in model.info.notes[0] and prepared.pixels.shape == (64, 64, 3)
    assert model.info.preprocessing.mean == (0.5,) and model.info.preprocessing.known("mean") == "given"
    assert [each.shape for each in model.info.layers[1].calls] == [(1, 6, 16, 16)]
    padded = model.prepare.otherwise(Preparation.read("padded,bytes"))(WIDE)
    assert padded.tensor.shape == (1, 1, 64, 64) and padded.tensor.max() > 100


def of_channels(channels: int, **settings: Any) -> Any:
    return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), {**PLAIN, **settings}


@pytest.mark.parametrize("channels", [2, 6])
def test_a_model_of_other_channels_opens_and_says_of_a_photograph_what_it_wants(channels: int, factory: Any) -> None:
    model = factory(lambda: of_channels(channels))
    assert model.info.preprocessing.channels == channels and model.info.layers[1].calls[0].shape[1] == 2
    said = (
        rf"This model wants {channels} channels, and this picture has 3\. Give it an array of {channels} \(\.npy\), or"
    )
    with pytest.raises(PreparationError, match=said):
        model.prepare(SQUARE)


def test_channels_that_the_model_makes_itself_are_not_asked_of_the_picture(factory: Any) -> None:
    """As of a network on the coefficients of a cosine transform."""
    make = lambda: (nn.Sequential(nn.PixelUnshuffle(8), nn.Conv2d(192, 3, 1), nn.Flatten()), PLAIN)  # noqa: E731
    assert factory(make).info.preprocessing.channels == 3


def test_an_array_of_many_channels_is_prepared_like_a_picture(factory: Any) -> None:
    mean = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    model = factory(lambda: of_channels(6, mean=mean, std=0.5, resize=None))
    values = np.random.default_rng(1).integers(0, 65536, (90, 200, 6), np.uint16)
    prepared = model.prepare(WIDE, Exact(values, 0, 65535))
    right = torch.from_numpy(values.astype(np.float32) / 65535).permute(2, 0, 1)[None]
    right = torch.nn.functional.interpolate(right, (74, 164), mode="bilinear", antialias=True)[:, :, 5:69, 50:114]
    torch.testing.assert_close(prepared.tensor, (right - torch.tensor(mean)[:, None, None]) / 0.5, rtol=1e-4, atol=1e-4)
    assert prepared.crop == pytest.approx(model_of_three(factory).prepare(WIDE).crop)
    assert np.abs(prepared.pixels - right[0, :3].permute(1, 2, 0).numpy() * 255).max() <= 0.51


def model_of_three(factory: Any) -> LoadedModel:
    model: LoadedModel = factory(lambda: of_channels(3, resize=None))
    return model


def test_a_model_of_three_channels_says_what_to_do_with_seven(factory: Any) -> None:
    seven = Exact(np.zeros((90, 200, 7), np.float32), 0, 1)
    with pytest.raises(PreparationError, match=r"wants 3 channels, and this picture has 7\. Save the three that it is"):
        model_of_three(factory).prepare(WIDE, seven)


def test_means_for_another_number_of_channels_are_told(factory: Any) -> None:
    with pytest.raises(PreparationError, match=r"6 channels, and 4 different numbers were given as mean\. Give 6, or"):
        factory(lambda: of_channels(6, mean=(0.1, 0.2, 0.3, 0.4)))
    with pytest.raises(PreparationError, match="wants 17 channels, and a picture has at most 16"):
        factory(lambda: of_channels(17))


def test_all_levels_of_16_bit_grey_reach_the_network(factory: Any) -> None:
    """As X-ray detectors give it: 12 bits in 16, of which 8 would leave 17 levels."""
    ramp = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))[:, :, None]
    shown = Image.fromarray(np.repeat((ramp / 257).astype(np.uint8), 3, 2))
    model = factory(lambda: of_channels(1))
    exact = Exact(ramp, 0, 65535)
    assert len(np.unique(model.prepare(shown).tensor)) <= 17
    tensor = model.prepare(shown, exact).tensor
    torch.testing.assert_close(tensor[0, 0], torch.from_numpy(ramp[:, :, 0] / 65535).float())
    assert len(np.unique(tensor)) == 64
    spread = model.prepare.otherwise(Preparation(levels="spread"))(shown, exact)
    assert (float(spread.tensor.min()), float(spread.tensor.max())) == (0, 1) and spread.pixels.max() == 255
    colours = model_of_three(factory).prepare(shown, exact).tensor
    assert torch.equal(colours[0, 0], colours[0, 2]) and len(np.unique(colours)) == 64


def test_different_means_for_one_channel_are_no_guess(factory: Any) -> None:
    make = lambda: (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), {**PLAIN, "mean": (0.1, 0.2, 0.3)})  # noqa: E731
    with pytest.raises(PreparationError, match="wants 1 channel, and 3 different numbers were given as mean"):
        factory(make)


def test_timm_makes_a_model_of_one_channel_too() -> None:
    model = load(ModelOptions("timm:resnet18@random", arguments='{"in_chans": 1}'), "cpu")
    assert model.info.preprocessing.channels == 1 and model.prepare(SQUARE).tensor.shape == (1, 1, 224, 224)


# --- what else a model takes


class Pair(Net):
    def forward(self, left: Tensor, right: Tensor) -> Any:  # type: ignore[override]
        return self.fc(self.vector(left) - self.vector(right))


class WithRow(Net):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Linear(4, 6)

    def forward(self, picture: Tensor, age_sex_site: Tensor) -> Any:  # type: ignore[override]
        return self.fc(self.vector(picture) + self.table(age_sex_site))


class Keyword(Net):
    def forward(self, input_ids: Any = None, pixel_values: Any = None, *, scale: float) -> Any:  # type: ignore[override]
        assert input_ids is None
        return super().forward(pixel_values) * scale


ROW = torch.tensor([[0.6, 1.0, 0.0, 2.0]])


@pytest.mark.parametrize("row", ["[0.6, 1, 0, 2]", [0.6, 1.0, 0.0, 2.0], ROW, np.array([0.6, 1.0, 0.0, 2.0])])
def test_a_row_of_a_table_comes_from_the_factory(row: Any, factory: Any) -> None:
    net = WithRow().eval()
    model = factory(lambda: (net, {**PLAIN, "inputs": {"age_sex_site": row}}))
    own = model.prepare(SQUARE).tensor
    with torch.no_grad():
        logits = net.fc(net.vector(own) + net.table(ROW))[0]
    np.testing.assert_allclose(predict(model.module, own).logits, logits, atol=1e-6)
    assert "age_sex_site = [[0.6" in model.info.notes[0]
    # pictures that are given together get it each
    found = attribute_input(model.module, own, "occlusion", 1, sampling=Sampling(window=16, stride=16)).values
    with torch.no_grad():
        hidden = own.clone()
        hidden[..., :16, :16] = 0
        drop = logits[1] - net.fc(net.vector(hidden) + net.table(ROW))[0, 1]
    assert float(found[8, 8]) == pytest.approx(float(drop), abs=1e-5)
    other = factory(lambda: (WithRow(), {**PLAIN, "inputs": {"age_sex_site": [1.0, 1.0, 1.0, 1.0]}}))
    assert other.info.fingerprint != model.info.fingerprint


def test_the_picture_goes_to_the_parameter_that_is_called_like_one(factory: Any) -> None:
    model = factory(lambda: (Keyword(), {**PLAIN, "inputs": {"scale": 2.0}}))
    own = model.prepare(SQUARE).tensor
    with torch.no_grad():
        np.testing.assert_allclose(predict(model.module, own).logits, 2 * Net()(own)[0], rtol=1e-5)
    assert model.info.notes == ("Given beside the picture: scale = 2.0.",)


def test_what_nobody_gives_is_asked_for_with_the_wrapper_to_write(factory: Any) -> None:
    with pytest.raises(FactoryError) as caught:
        factory(lambda: (WithRow(), PLAIN))
    said = str(caught.value)
    assert said.startswith("WithRow.forward(picture, age_sex_site) needs a value for 'age_sex_site' beside its picture")
    assert "return model, {'inputs': {'age_sex_site': ...}}" in said
    wrapper = said[said.index("class Wrapped") :].replace("age_sex_site=...", "age_sex_site=ROW")
    made: dict[str, Any] = {"torch": torch, "ROW": ROW}
    exec(wrapper, made)
    assert factory(lambda: (made["Wrapped"](WithRow()), PLAIN)).info.answer.reading.reads == "softmax"


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"age": ROW}, r"gives 'age' among its inputs, and WithRow\.forward\(picture, age_sex_site\) has no such"),
        (
            {"age_sex_site": ROW[:, :2]},
            r"does not run with what stands beside the picture \(age_sex_site\): RuntimeError",
        ),
        ({"age_sex_site": "sixty"}, r"does not run with what stands beside the picture"),
        (7, "a dictionary is needed"),
    ],
)
def test_inputs_that_do_not_fit_are_told(inputs: Any, sentence: str, factory: Any) -> None:
    with pytest.raises(FactoryError, match=sentence):
        factory(lambda: (WithRow(), {**PLAIN, "inputs": inputs}))


def test_a_model_of_two_pictures_opens_and_says_so(factory: Any) -> None:
    model = factory(lambda: (Pair(), PLAIN))
    own = model.prepare(SQUARE).tensor
    with torch.no_grad():
        np.testing.assert_allclose(predict(model.module, own).logits, Pair()(own, own)[0], atol=1e-6)
    assert "By their names, 'left' and 'right' are two pictures." in model.info.notes[0]


@pytest.mark.parametrize(
    ("names", "second"),
    [
        (("x1", "x2"), "x2"),
        (("image_a", "image_b"), "image_b"),
        (("pre_image", "post_image"), "post_image"),
        (("template", "search"), "search"),
        (("picture", "mask"), ""),
        (("image", "age"), ""),
    ],
)
def test_two_pictures_are_known_by_their_names(names: tuple[str, str], second: str, factory: Any) -> None:
    made: dict[str, Any] = {"Net": Net}
    code = f"class Two(Net):\n def forward(self, {names[0]}, {names[1]}):\n  return self.fc(self.vector({names[0]}))"
    exec(code, made)
    if second:
        assert repr(second) in factory(lambda: (made["Two"](), PLAIN)).info.notes[0]
    else:
        with pytest.raises(FactoryError, match=f"needs a value for '{names[1]}'"):
            factory(lambda: (made["Two"](), PLAIN))


def test_a_model_of_sequences_says_what_it_wants_and_the_wrapper_runs(factory: Any) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(2), _Mean(), nn.Linear(4, 3))

    with pytest.raises(FactoryError, match=r"wants a sequence .* and no picture: its first layer is") as caught:
        factory(lambda: (make(), PLAIN))
    made: dict[str, Any] = {"torch": torch}
    exec(str(caught.value)[str(caught.value).index("class Wrapped") :], made)
    assert factory(lambda: (made["Wrapped"](make()), PLAIN)).info.answer.reading.reads == "softmax"


class _Mean(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.mean(2)


# --- how pictures are prepared


def opened_with(factory: Any, settings: dict[str, Any], **options: Any) -> LoadedModel:
    model: LoadedModel = factory(lambda: (Net(), settings), **options)
    return model


def test_a_mean_above_1_is_of_pixels_up_to_255(factory: Any) -> None:
    """As OpenMMLab's and detectron2's configurations have it; torchvision's oracle is (255 x - mean) / std."""
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    right = (255 * plainly(SQUARE) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    plain = {"input_size": 64, "resize": 64}
    by_flags = opened_with(factory, plain, mean=mean, std=std)
    by_factory = opened_with(factory, {**plain, "mean": mean, "std": std})
    caffe = opened_with(factory, {**plain, "mean": mean, "std": 1})
    for model in (by_flags, by_factory):
        torch.testing.assert_close(model.prepare(SQUARE).tensor, right, rtol=1e-4, atol=1e-4)
        assert model.info.preprocessing.range == 255 and "pixels of 0 to 255" in model.info.notes[0]
    torch.testing.assert_close(
        caffe.prepare(SQUARE).tensor, 255 * plainly(SQUARE) - torch.tensor(mean)[:, None, None], rtol=1e-4, atol=1e-3
    )


def test_a_range_alone_gives_pixels_as_they_are(factory: Any) -> None:
    model = opened_with(factory, {"input_size": 64, "resize": 64}, range=255)
    torch.testing.assert_close(model.prepare(SQUARE).tensor, 255 * plainly(SQUARE), rtol=1e-5, atol=1e-3)
    assert not model.info.notes


def test_the_channels_come_in_the_order_that_is_told(factory: Any) -> None:
    model = opened_with(factory, {**PLAIN, "mean": (0.1, 0.2, 0.3)}, channel_order="bgr")
    right = plainly(SQUARE).flip(1) - torch.tensor((0.1, 0.2, 0.3))[:, None, None]
    torch.testing.assert_close(model.prepare(SQUARE).tensor, right)
    back = model.prepare.otherwise(Preparation(channels="rgb"))(SQUARE)
    torch.testing.assert_close(back.tensor, plainly(SQUARE) - torch.tensor((0.1, 0.2, 0.3))[:, None, None])
    assert torch.equal(
        model.prepare.otherwise(Preparation(channels="bgr"))(SQUARE).tensor, model.prepare(SQUARE).tensor
    )
    assert torch.equal(model.prepare.otherwise(Preparation(size="cut"))(SQUARE).tensor, model.prepare(SQUARE).tensor)


FITS = {
    "squash": (WIDE.resize((64, 64), Image.Resampling.BILINEAR), (0, 0, 200, 90)),
    "crop": (WIDE.resize((164, 74), Image.Resampling.BILINEAR).crop((50, 5, 114, 69)), None),
    "none": (WIDE, (0, 0, 200, 90)),
    "64": (WIDE.resize((142, 64), Image.Resampling.BILINEAR).crop((39, 0, 103, 64)), None),
}


@pytest.mark.parametrize("fit", [*FITS, "pad"])
def test_how_a_picture_gets_its_size(fit: str, factory: Any) -> None:
    settings = {**PLAIN, "resize": None}
    models = [
        opened_with(factory, {**settings, "resize": int(fit) if fit.isdigit() else fit}),
        opened_with(factory, settings, resize=fit),
    ]
    if fit == "pad":
        right = Image.new("RGB", (64, 64))
        right.paste(WIDE.resize((64, 29), Image.Resampling.BILINEAR), (0, 17))
        crop: Any = (0, -17 * 90 / 29, 200, (64 - 17) * 90 / 29)
    else:
        right, crop = FITS[fit]
    for model in models:
        prepared = model.prepare(WIDE)
        assert np.array_equal(prepared.pixels, np.asarray(right))
        if crop is not None:
            assert prepared.crop == pytest.approx(crop, abs=0.01)
        assert model.info.preprocessing.known("fit") == "given"
        assert model.info.preprocessing.known("interpolation") == "assumed"


def test_a_librarys_own_way_is_kept_where_only_the_values_are_told() -> None:
    own = load(ModelOptions("timm:resnet18@random"), "cpu")
    told = load(ModelOptions("timm:resnet18@random", mean=(0.5,) * 3, channel_order="bgr"), "cpu")
    assert np.array_equal(told.prepare(WIDE).pixels, own.prepare(WIDE).pixels[:, :, ::-1])
    assert told.info.preprocessing.known("mean") == "given"
    assert told.info.preprocessing.known("std") == "from the weights"


# --- no map where the picture does not come in


class Elsewhere(Net):
    """Layers whose values lie nowhere on the picture, although their shapes are square."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mask, self.gram, self.added = (_Calls() for _ in range(4))
        self.bias = nn.Parameter(torch.rand(1, 2, 16, 16))

    def forward(self, picture: Tensor) -> Any:
        features = self.features(picture)
        self.table(lambda: self.bias * 2)
        self.mask(lambda: torch.ones(256, 256).tril()[None, None])
        rows = features.flatten(2)
        self.gram(lambda: torch.cdist(rows.mT, rows.mT)[None])
        self.added(lambda: features[:, :2] + self.bias)
        return self.fc(features.mean((2, 3)))


class _Calls(nn.Module):
    def forward(self, function: Any) -> Tensor:
        made: Tensor = function()
        return made


def test_what_does_not_come_from_the_picture_has_no_map() -> None:
    layers = {each.name: each.calls[0] for each in describe(Elsewhere().eval(), torch.rand(1, 3, 64, 64)) if each.calls}
    for name in ("table", "mask"):
        assert "from the weights alone, whatever the picture" in why_no_maps(layers[name], layers[name].shape)
    assert "is not known" in why_no_maps(layers["gram"], layers["gram"].shape)
    assert not why_no_maps(layers["added"], layers["added"].shape)


class Joined(nn.Module):
    """Patches with other tokens before and after them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 16, 16)
        self.before = nn.Parameter(torch.rand(1, before, 8))
        self.after = nn.Parameter(torch.rand(1, after, 8))
        self.block = nn.Linear(8, 8)
        self.fc = nn.Linear(8, 3)

    def forward(self, picture: Tensor) -> Tensor:
        parts = [self.before, self.patches(picture).flatten(2).mT, self.after]
        tokens = self.block(torch.cat([part for part in parts if part.shape[1]], 1) * 2)
        answer: Tensor = self.fc(tokens.mean(1))
        return answer


@pytest.mark.parametrize(("before", "after"), [(1, 0), (3, 0), (0, 2), (1, 2)])
def test_patches_are_drawn_where_they_lie_or_not_at_all(before: int, after: int) -> None:
    """Two tokens before the patches and two after them are as many: only the place where they were joined tells."""
    model = Joined(before, after).eval()
    layers = {each.name: each.calls[0] for each in describe(model, torch.rand(1, 3, 64, 64)) if each.calls}
    assert layers["block"].axes == ("image", "token", "channel")
    assert (layers["block"].grid, layers["block"].prefix_tokens) == (((4, 4), before) if not after else (None, 0))


class Positions(nn.Module):
    """A transformer whose patches and table of positions meet in a sum, in either order or place; SigLIP's."""

    def __init__(self, joined: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 16, 16)
        self.table = nn.Embedding(16, 8)
        self.joined = joined
        self.block = nn.Identity()
        self.fc = nn.Linear(8, 3)

    def forward(self, picture: Tensor) -> Tensor:
        tokens = self.patches(picture).flatten(2).mT
        tokens = self.joined(tokens, self.table(torch.arange(16)[None]))
        answer: Tensor = self.fc(self.block(tokens + 0).mean(1))
        return answer


@pytest.mark.parametrize(
    "joined",
    [
        lambda tokens, table: tokens + table,
        lambda tokens, table: table + tokens,
        lambda x, table: table.clone().add_(x),
    ],
    ids=["after", "before", "into"],
)
def test_what_is_made_of_the_picture_and_of_weights_has_a_map(joined: Callable[[Tensor, Tensor], Tensor]) -> None:
    layers = {each.name: each.calls[0] for each in describe(Positions(joined).eval(), torch.rand(1, 3, 64, 64))}
    assert "from the weights alone" in why_no_maps(layers["table"], layers["table"].shape)
    assert layers["block"].axes == ("image", "token", "channel") and layers["block"].grid == (4, 4)
