"""What the library says of models and inputs that are not as usual: each against a value worked out without it."""

from __future__ import annotations

import collections
import copy
import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.datasets.diagnostics import Diagnostics
from hookscope.hooks.errors import HooksError, NoGradient, TargetNotFound
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.attention import attention_maps
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.looks.gradients import gradients
from hookscope.hooks.looks.inputs import Sampling, attribute_input
from hookscope.hooks.looks.survey import survey
from hookscope.hooks.looks.targets import score_of
from hookscope.hooks.methods import METRICS
from hookscope.hooks.numbers.reductions import statistics
from hookscope.hooks.results.looks import AttentionMaps


@pytest.fixture
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double_by_default")
def test_numbers_do_not_depend_on_the_default_dtype() -> None:
    values = torch.tensor([[0.0, 1.0, 0.0], [2.0, -1.0, 0.0]], dtype=torch.float32)
    found = statistics(values, 0)
    assert (
        found.zeros == 0.5 and found.channels["zeros"].tolist() == [2 / 3, 1 / 3] and found.mean == pytest.approx(1 / 3)
    )
    with torch.device("meta"):
        assert statistics(values, 0).zeros == 0.5


def test_there_is_one_share_of_zeros_that_of_the_finite_values() -> None:
    from hookscope.dashboard.drawing.ranking import channel_numbers

    values = torch.tensor([[[0.0, float("nan")], [0.0, 2.0]]])
    assert statistics(values, 1).channels["zeros"].tolist() == [1.0, 0.5] and statistics(values, 1).zeros == 2 / 3
    assert channel_numbers(values[0].numpy())["zeros"].tolist() == [1.0, 0.5]
    model = nn.Identity()
    (call,) = survey(model, values, describe(model, values), metrics=["zeros"]).calls
    assert call.numbers["zeros"] == pytest.approx(2 / 3) and METRICS["zeros"].highest == 1


class Divided(nn.Module):
    """A picture, and something beside it of which there is not one per image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, picture: Tensor, by: Any) -> Tensor:
        number = by if isinstance(by, Tensor) else float(sum(by))
        found: Tensor = self.conv(picture).mean((2, 3)) / number
        return found


@pytest.mark.parametrize("beside", [torch.tensor(2.0), [1, 2, 3], (224, 224), torch.ones(4), 3 * torch.ones(7, 4)[0]])
def test_what_stands_beside_the_pictures_is_passed_on_as_it_is(beside: Any) -> None:
    model = Divided()
    seen = Diagnostics(model, "conv")
    pictures = torch.randn(5, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with seen.watch():
            model(pictures, beside)
    assert seen.summary("conv").inputs == 5
    assert seen.summary("conv").statistics.channels["mean"] == pytest.approx(
        model.conv(pictures).mean((0, 2, 3)).detach().double().numpy(), abs=1e-6
    )


def test_a_step_never_fails_because_it_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    seen = Diagnostics(model)
    monkeypatch.setattr("hookscope.hooks.datasets.diagnostics.summarise", lambda *_: 1 / 0)
    pictures = torch.randn(2, 3, 8, 8)
    with pytest.warns(
        UserWarning, match="stopped watching Sequential, and the step goes on: ZeroDivisionError"
    ) as told:
        with seen.watch(training=True):
            for _ in range(3):
                assert torch.equal(model(pictures), model[1](model[0](pictures)))
    assert len(told) == 1
    with pytest.raises(ZeroDivisionError):  # of one's own looks the error is told
        seen.run(pictures)


def test_observers_of_a_quantisation_are_put_back_with_their_shapes() -> None:
    quantization = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(quantization.QuantStub(), nn.Conv2d(3, 4, 3)).train()
        net.qconfig = quantization.get_default_qat_qconfig("x86")
        net = quantization.prepare_qat(net)
        before = {name: (value.clone(), value) for name, value in net.state_dict().items()}
        describe(net, torch.randn(1, 3, 8, 8))
    for name, value in net.state_dict().items():
        kept, same = before[name]
        assert value.shape == kept.shape and torch.equal(value.nan_to_num(), kept.nan_to_num()), name
        assert value.data_ptr() == same.data_ptr() or not value.numel()


def test_state_in_a_buffer_comes_back_without_a_graph() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.register_buffer("state", torch.full((1, 4), 0.5))

        def forward(self, vector: Tensor) -> Tensor:
            found = torch.tanh(self.fc(vector) + self.state)
            self.state.copy_(found)
            return found

    model = Remembers()
    for look in (lambda: describe(model, torch.randn(1, 4)), lambda: gradients(model, torch.randn(1, 4), target=0)):
        look()
        assert not model.state.requires_grad and model.state.tolist() == [[0.5] * 4]
        copy.deepcopy(model)


@dataclasses.dataclass(frozen=True)
class Packed:
    image: Tensor
    size: tuple[int, int] = (8, 8)


class Named(dict[str, Any]):
    """A dict of one's own, as a batch of features is."""


@pytest.mark.parametrize(
    "pack",
    [
        lambda image: {"image": image},
        lambda image: collections.UserDict(image=image),
        lambda image: collections.OrderedDict(image=image),
        lambda image: collections.defaultdict(list, image=image),
        lambda image: Named(image=image),
        Packed,
        lambda image: {"inner": [collections.UserDict(image=image)]},
    ],
)
def test_inputs_in_whatever_holds_them_are_copied_and_keep_their_type(pack: Any) -> None:
    kinds: list[type] = []

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, given: Any) -> Tensor:
            kinds.append(type(given))
            inner = given["inner"][0] if isinstance(given, dict) and "inner" in given else given
            image = inner.image if isinstance(inner, Packed) else inner["image"]
            found: Tensor = self.conv(image.sub_(1)).mean((2, 3))
            return found

    image = torch.ones(1, 3, 8, 8)
    given = pack(image)
    describe(Writes(), given)
    assert image.mean() == 1 and set(kinds) == {type(given)}


def test_methods_that_batch_do_not_where_an_answer_depends_on_the_batch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()
    picture = torch.randn(1, 3, 16, 16)
    found = attribute_input(model, picture, "occlusion", 1, Sampling(window=4, stride=4))
    assert "One picture at a time" in found.note
    with torch.no_grad():
        whole = model(picture)[0, 1]
        right = np.zeros((16, 16))
        for top in range(0, 16, 4):
            for left in range(0, 16, 4):
                hidden = picture.clone()
                hidden[:, :, top : top + 4, left : left + 4] = 0
                right[top : top + 4, left : left + 4] = float(whole - model(hidden)[0, 1])
    assert np.allclose(found.values, right, atol=1e-5)
    cam = layer_map(model, picture, "2", 1, "scorecam")
    assert "One picture at a time" in cam.note
    normal = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    assert "One picture" not in attribute_input(normal, picture, "occlusion", 1, Sampling(window=4, stride=4)).note


def test_a_model_for_one_picture_at_a_time_is_asked_so() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, picture: Tensor) -> Tensor:
            return self.conv(picture).mean((2, 3)).view(1, 4)  # fails for two

    found = attribute_input(Single(), torch.randn(1, 3, 16, 16), "integrated gradients", 1, Sampling(steps=4))
    assert "One picture at a time" in found.note and found.values.any()


def test_functions_after_an_exception_that_the_model_catches_are_operations() -> None:
    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc, self.block = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 2))

        def forward(self, picture: Tensor) -> Tensor:
            found = self.conv(picture).mean((2, 3))
            for part in (self.fc, self.block):
                try:
                    part(found[:, :3])
                except RuntimeError:
                    found = found * 2
            return torch.relu(found + 1)

    layers = {layer.name: layer for layer in describe(Tries(), torch.randn(1, 3, 8, 8))}
    assert [name for name, layer in layers.items() if layer.operation] == ["/mean", "/mul", "/mul@2", "/add", "/relu"]
    assert layers["fc"].calls == () and layers["block"].calls == ()
    model = Tries()
    with torch.no_grad(), capture(model, ["/relu"]) as seen:
        right = model(torch.ones(1, 3, 8, 8))
    assert torch.equal(seen["/relu"].value, right)


@pytest.mark.parametrize(
    ("layer", "shape", "channels"),
    [
        (nn.Conv2d(3, 4, 3), (3, 8, 8), 4),
        (nn.Conv2d(3, 4, 3), (2, 3, 8, 8), 4),
        (nn.Conv1d(3, 5, 3), (2, 3, 8), 5),
        (nn.Conv3d(3, 6, 3), (3, 8, 8, 8), 6),
        (nn.BatchNorm2d(3), (2, 3, 8, 8), 3),
    ],
)
def test_the_channels_of_a_picture_without_an_image_axis(
    layer: nn.Module, shape: tuple[int, ...], channels: int
) -> None:
    with torch.no_grad(), capture(layer, "", numbers="plain") as seen:
        output = layer(torch.randn(shape))
    means = seen[""].statistics.channels["mean"]
    axis = output.shape.index(channels)
    assert means == pytest.approx(output.double().mean([a for a in range(output.ndim) if a != axis]).numpy(), abs=1e-6)


def test_a_layer_under_vmap_has_a_value_that_can_be_used() -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, rows: Tensor) -> Tensor:
            found: Tensor = torch.vmap(torch.vmap(self.fc))(rows)
            return found

    model, rows = Mapped(), torch.randn(5, 3, 4)
    with torch.no_grad(), capture(model, "fc") as seen:
        right = model(rows)
    assert sorted(seen["fc"].value.flatten().tolist()) == pytest.approx(sorted(right.flatten().tolist()))


# --- of the same kinds


def test_a_first_argument_that_is_a_list_of_feature_maps() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.high = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 1)

        def forward(self, maps: list[Tensor]) -> list[Tensor]:
            return [self.low(maps[0]), self.high(maps[1])]

    maps = [torch.randn(3, 4, 16, 16), torch.randn(3, 4, 8, 8)]
    layers = {layer.name: layer for layer in describe(Head(), maps)}
    assert layers["low"].calls[0].axes == layers["high"].calls[0].axes == ("image", "channel", "height", "width")
    model = Head()
    seen = Diagnostics(model)
    with seen.watch():
        model(maps)
    assert seen.summary("high").inputs == 3


def test_features_of_pictures_of_two_sizes_are_a_sentence() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    seen = Diagnostics(model, features=4)
    seen.run(torch.randn(1, 3, 8, 8))
    seen.run(torch.randn(1, 3, 12, 8))
    with pytest.raises(HooksError, match=r"several sizes \(1 x 4 x 6 x 6, 1 x 4 x 10 x 6\)"):
        seen.features("0")


def test_normalisations_of_other_packages_have_their_channels_where_they_norm() -> None:
    class MyRMSNorm(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight / x.square().mean(-1, keepdim=True).sqrt()

    class NextLayerNorm(nn.Module):
        def __init__(self, width: int, data_format: str) -> None:
            super().__init__()
            self.weight, self.data_format = nn.Parameter(torch.ones(width)), data_format

        def forward(self, x: Tensor) -> Tensor:
            if self.data_format == "channels_first":
                return functional.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight).movedim(-1, 1)
            return functional.layer_norm(x, self.weight.shape, self.weight)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.first = nn.Conv2d(3, 6, 2, 2), NextLayerNorm(6, "channels_first")
            self.last, self.rms = NextLayerNorm(6, "channels_last"), MyRMSNorm(6)

        def forward(self, picture: Tensor) -> Tensor:
            found = self.first(self.conv(picture)).permute(0, 2, 3, 1)
            return self.rms(self.last(found).flatten(1, 2)).mean(1)

    calls = {layer.name: layer.calls[0] for layer in describe(Net(), torch.randn(1, 3, 16, 16)) if layer.calls}
    assert calls["first"].axes == ("image", "channel", "height", "width")
    assert calls["last"].axes == ("image", "height", "width", "channel")
    assert calls["rms"].axes == ("image", "token", "channel") and calls["rms"].grid == (8, 8)


def test_attention_alone_is_a_model() -> None:
    torch.manual_seed(1)
    model = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    tokens = torch.randn(1, 5, 8)
    found: list[Any] = []
    layers = describe(model, tokens, tokens, tokens)
    attention_maps(model, (tokens, tokens, tokens), [("", 0)], layers, lambda *each: found.append(each[2]))
    with torch.no_grad():
        right = model(tokens, tokens, tokens, average_attn_weights=False)[1][0]
    assert isinstance(found[0], AttentionMaps) and np.allclose(found[0].weights, right.numpy(), atol=1e-6)


@pytest.mark.parametrize("target", [torch.tensor(2), torch.tensor([2]), np.int64(2), 2])
def test_an_index_is_one_in_whatever_it_is_written(target: Any) -> None:
    assert score_of(torch.tensor([[1.0, 4.0, 7.0]], requires_grad=True), target).value == 7


@pytest.mark.parametrize("target", ["cat", "2", [2], 2.5, torch.tensor([1, 2]), {"class": 2}])
def test_what_is_no_target_is_a_sentence(target: Any) -> None:
    with pytest.raises(TargetNotFound, match=r"is no target\. A class is given by its index"):
        score_of(torch.tensor([[1.0, 4.0]], requires_grad=True), target)


def test_a_value_in_no_graph_says_why_and_what_works() -> None:
    class Probe(nn.Module):
        def __init__(self, how: str) -> None:
            super().__init__()
            self.conv, self.fc, self.how = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), how

        def forward(self, picture: Tensor) -> Tensor:
            if self.how == "no_grad":
                with torch.no_grad():
                    features = self.conv(picture)
            else:
                features = self.conv(picture.detach()).detach()
            found: Tensor = self.fc(features.mean((2, 3)))
            return found

    picture = torch.randn(1, 3, 8, 8)
    for how, why in (("no_grad", "under torch.no_grad. Take that out"), ("detach", "No path leads from the layer")):
        model = Probe(how)
        with pytest.raises(NoGradient, match=why) as caught:
            layer_map(model, picture, "conv", 1)
        assert how == "detach" or "Score-CAM needs no gradient." in str(caught.value)
        assert layer_map(model, picture, "conv", 1, "scorecam").values.shape == (6, 6)
    quantization = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.quantized.engine = next(e for e in torch.backends.quantized.supported_engines if e != "none")
        net = nn.Sequential(
            quantization.QuantStub(), nn.Conv2d(3, 4, 3), quantization.DeQuantStub(), nn.Flatten(2),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2),
        ).eval()  # fmt: skip
        net.qconfig = quantization.default_qconfig
        net = quantization.prepare(net)
        net[6].qconfig = None
        net(picture)
        net = quantization.convert(net)
        with pytest.raises(NoGradient, match=r"in whole numbers \(quint8\), which have no gradient. Score-CAM"):
            layer_map(net, picture, "1", 1)
        assert layer_map(net, picture, "1", 1, "scorecam").values.any()
