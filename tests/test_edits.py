"""Edits: what a muted, scaled, levelled, replaced channel does to the answer, and that the model comes back."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest
import torch
import torchvision
from helpers import assert_untouched
from torch import Tensor, nn
from torch.nn import functional

import hookscope as hs
from hookscope.hooks.errors import EditNotPossible, LayerNotExecuted, LayerNotFound
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.survey import survey
from hookscope.hooks.results.edits import Edit
from hookscope.hooks.results.targets import OWN

models = torchvision.models


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return models.resnet18().eval()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def run(model: nn.Module, given: Tensor, *edits: Edit) -> Tensor:
    with assert_untouched(model), hs.edit(model, edits), torch.no_grad():
        return model(given)


# --- oracles


def test_a_gain_of_one_changes_no_bit(resnet: nn.Module, picture: Tensor) -> None:
    plain = run(resnet, picture)
    for layer in ("layer1.0.relu", "layer2", "layer4.1/add", "conv1", "fc"):
        assert torch.equal(run(resnet, picture, hs.scale(layer, 3, 1.0), hs.scale(layer, None, 1.0)), plain)


@pytest.mark.parametrize(
    ("build", "layer", "head", "pooled"),
    [
        (models.resnet18, "layer4", "fc", lambda a: a.mean((2, 3))),
        (models.efficientnet_b0, "features.8", "classifier.1", lambda a: a.mean((2, 3))),
    ],
    ids=["ResNet", "EfficientNet"],
)
def test_what_a_muted_channel_of_the_last_layer_takes_from_a_class_is_its_mean_times_its_weight(
    build: Callable[[], nn.Module], layer: str, head: str, pooled: Callable[[Tensor], Tensor], picture: Tensor
) -> None:
    torch.manual_seed(0)
    model = build().eval()
    with hs.capture(model, [layer]) as seen, torch.no_grad():
        plain = model(picture)
    means = pooled(seen[layer].value)[0]
    weight: Tensor = model.get_submodule(head).weight
    for channel in (0, 17, int(means.abs().argmax())):
        change = run(model, picture, hs.mute(layer, channel)) - plain
        torch.testing.assert_close(change[0], -means[channel] * weight[:, channel], atol=1e-5, rtol=0)


def test_the_same_of_a_head_that_normalises_what_is_pooled(picture: Tensor) -> None:
    """ConvNeXt: mean pool, LayerNorm, linear; so the muting is exact where the norm stands already."""
    torch.manual_seed(0)
    model = models.convnext_tiny().eval()
    with hs.capture(model, ["classifier.0"]) as seen, torch.no_grad():
        plain = model(picture)
    layer, value = "classifier.0", seen["classifier.0"].value[0, :, 0, 0]
    channel = int(value.abs().argmax())
    change = run(model, picture, hs.mute(layer, channel)) - plain
    expected = -value[channel] * model.classifier[2].weight[:, channel]
    torch.testing.assert_close(change[0], expected, atol=1e-5, rtol=0)
    with hs.capture(model, ["features"]) as seen, torch.no_grad():
        model(picture)
    pooled = seen["features"].value.mean((2, 3), keepdim=True)
    pooled[0, 5] = 0
    with torch.no_grad():
        by_hand = model.classifier(pooled)
    torch.testing.assert_close(run(model, picture, hs.mute("features", 5)), by_hand, atol=1e-5, rtol=0)


def test_what_a_layer_computed_itself_changes_nothing_and_what_it_computed_elsewhere_brings_that_answer(
    resnet: nn.Module, picture: Tensor
) -> None:
    other = picture.flip(3)
    with hs.capture(resnet, ["layer3"]) as own, torch.no_grad():
        plain = resnet(picture)
    with hs.capture(resnet, ["layer3"]) as seen, torch.no_grad():
        answer = resnet(other)
    kept = seen["layer3"].value.clone()
    assert (run(resnet, picture, hs.patch("layer3", own)) - plain).abs().max() <= 1e-6
    torch.testing.assert_close(run(resnet, picture, hs.patch("layer3", seen)), answer, atol=1e-5, rtol=0)
    assert torch.equal(seen["layer3"].value, kept)  # layer4 begins with what would write into its own input, if it did
    one = run(resnet, picture, hs.patch("layer3", seen, 7))
    by_hand = own["layer3"].value.clone()
    by_hand[:, 7] = kept[:, 7]
    with torch.no_grad():
        tail = resnet.fc(resnet.avgpool(resnet.layer4(by_hand)).flatten(1))
    torch.testing.assert_close(one, tail, atol=1e-5, rtol=0)
    for value in (kept[0, 7], kept[:, 7], kept[:, 7:8], kept):
        assert torch.equal(run(resnet, picture, hs.replace("layer3", 7, value)), one)


def test_a_levelled_channel_is_its_mean_everywhere(resnet: nn.Module, picture: Tensor) -> None:
    two = torch.cat([picture, picture * 0.5])
    with hs.capture(resnet, ["layer2"]) as plain, torch.no_grad():
        resnet(two)
    with hs.edit(resnet, [hs.level("layer2", 4)]), hs.capture(resnet, ["layer2"]) as seen, torch.no_grad():
        resnet(two)
    before, after = plain["layer2"].value, seen["layer2"].value
    torch.testing.assert_close(after[:, 4], before[:, 4].mean((1, 2), keepdim=True).expand(2, 8, 8))
    assert torch.equal(after[:, 5:], before[:, 5:])
    with hs.edit(resnet, [hs.level("layer2")]), hs.capture(resnet, ["layer2"]) as seen, torch.no_grad():
        resnet(two)
    torch.testing.assert_close(seen["layer2"].value, before.mean((2, 3), keepdim=True).expand_as(before))


def test_edits_of_one_layer_act_in_their_order() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    x = torch.ones(1, 1, 2, 2)
    last = run(model, x, hs.scale("0", 1, 3), hs.replace("0", 1, 2.0), hs.scale("0", None, 2))
    assert last[0, 1].tolist() == [[4, 4], [4, 4]]
    assert run(model, x, hs.replace("0", 1, 2.0), hs.mute("0", 1))[0, 1].tolist() == [[0, 0], [0, 0]]


# --- where the value is read


class Tail(nn.Module):
    """A convolution, then a ReLU in place that is called in one of four ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv = nn.Conv2d(1, 2, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.way == "returned":
            return self.relu(x)
        if self.way == "dropped":
            self.relu(x)
        elif self.way == "function":
            functional.relu_(x)
        else:
            x += 1
        return x


@pytest.mark.parametrize(
    ("way", "layer"), [("returned", "relu"), ("dropped", "relu"), ("function", "/relu"), ("added", "/add")]
)
def test_what_works_in_place_is_edited_for_all_that_read_it(way: str, layer: str) -> None:
    model, x = Tail(way), torch.ones(1, 1, 2, 2)
    assert run(model, x, hs.replace(layer, 1, -7.0))[0, 1].unique().tolist() == [-7]
    assert run(model, x, hs.replace("conv", 1, -7.0))[0, 1].unique().tolist() == [-6 if way == "added" else 0]
    with torch.inference_mode(), hs.edit(model, [hs.replace(layer, 1, -7.0)]):
        assert model(x)[0, 1].unique().tolist() == [-7]


def test_a_layer_behind_that_works_in_place_never_writes_into_a_given_value() -> None:
    model, value = Tail("returned"), torch.full((1, 2, 2, 2), -3.0)
    edit = hs.replace("conv", None, value)
    assert run(model, torch.ones(1, 1, 2, 2), edit).unique().tolist() == [0]
    assert (value == -3).all() and (edit.value == -3).all()


def test_a_gradient_passes_through_what_was_edited(resnet: nn.Module, picture: Tensor) -> None:
    layers = hs.describe(resnet, picture)
    with hs.edit(resnet, [hs.mute("layer4.1.relu", 3)]):
        (_, _, found), *_ = grad_cam(resnet, picture, [("layer4", 0)], OWN, layers)
    (_, _, plain), *_ = grad_cam(resnet, picture, [("layer4", 0)], OWN, layers)
    assert found.values.shape == plain.values.shape and not (found.values == plain.values).all()
    given = picture.clone().requires_grad_()
    with hs.edit(resnet, [hs.mute("bn1")]):
        resnet(given)[0, 0].backward()
    assert given.grad is not None and not given.grad.any()
    resnet.zero_grad(set_to_none=True)


def test_reused_modules_are_edited_in_one_call_or_in_all() -> None:
    shared = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(shared.weight, 2.0)
    model = nn.Sequential(shared, shared, shared)
    x = torch.ones(1, 1, 1, 1)
    assert run(model, x, hs.scale("0", 0, 0.5)).item() == 1  # 8 / 2 / 2 / 2
    assert run(model, x, hs.scale("0", 0, 0.5, call=1)).item() == 4
    assert run(model, x, hs.scale("2", 0, 0.5, call=1), hs.scale("0", None, 10, call=0)).item() == 40
    with pytest.raises(LayerNotExecuted, match="called 3 times in a pass, so there was no call 4"):
        run(model, x, hs.mute("0", 0, call=3))


# --- the kinds of networks


def captured(model: nn.Module, given: Tensor, layer: str, *edits: Edit, path: str = "") -> Tensor:
    with hs.edit(model, edits), hs.capture(model, [layer]) as seen, torch.no_grad():
        model(given)
    assert len([record for record in seen if record.path == path]) == 1
    return next(record.value for record in seen if record.path == path)


def test_tokens_have_their_channels_last(picture: Tensor) -> None:
    torch.manual_seed(0)
    model = models.VisionTransformer(64, 16, 2, 2, 32, 64).eval()
    nn.init.normal_(model.heads.head.weight)
    layer = "encoder.layers.encoder_layer_1"
    plain, muted = captured(model, picture, layer), captured(model, picture, layer, hs.mute(layer, 5))
    assert plain.shape == (1, 17, 32)
    assert not muted[..., 5].any() and torch.equal(muted[..., 6:], plain[..., 6:])
    assert not torch.equal(run(model, picture), run(model, picture, hs.mute(layer, 5)))
    inner = "encoder.layers.encoder_layer_0.self_attention"  # returns (tokens, None)
    assert not captured(model, picture, inner, hs.mute(inner, 1), path="0")[..., 1].any()


def test_operations_around_an_attention_are_edited_and_seen_one_after_the_other(picture: Tensor) -> None:
    """`nn.MultiheadAttention` runs unwatched, by the edit and by the look: afterwards both watch again."""
    torch.manual_seed(0)
    model = models.VisionTransformer(64, 16, 2, 2, 32, 64).eval()
    layers = hs.describe(model, picture)
    for name in [info.name for info in layers if info.operation]:
        with hs.edit(model, [hs.mute(name, 3)], layers=layers), hs.capture(model, [name]) as seen, torch.no_grad():
            model(picture)
        assert not seen[name].value[..., 3].any() and seen[name].value[..., 4].any(), name


def test_swin_has_its_channels_last(picture: Tensor) -> None:
    torch.manual_seed(0)
    model = models.swin_transformer.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4]).eval()
    muted = captured(model, picture, "features.1", hs.mute("features.1", 5))
    assert muted.shape == (1, 16, 16, 16) and not muted[..., 5].any() and muted[..., 6].any()


def test_what_is_concatenated_can_be_edited_before_and_after(picture: Tensor) -> None:
    torch.manual_seed(0)
    model = models.DenseNet(4, (2, 2), 8).eval()
    one = "features.denseblock1.denselayer1"
    plain = captured(model, picture, "features.denseblock1")
    muted = captured(model, picture, "features.denseblock1", hs.mute(one, 2))
    assert not muted[0, 8 + 2].any() and torch.equal(muted[0, :10], plain[0, :10])
    assert not torch.equal(muted[0, 12:], plain[0, 12:])  # the layer behind reads it too
    again = captured(model, picture, "features.denseblock1", hs.mute("features.denseblock1", 10))
    assert not again[0, 10].any() and torch.equal(again[0, 12:], plain[0, 12:])


def test_of_a_backbone_that_returns_levels_the_first_is_edited(picture: Tensor) -> None:
    torch.manual_seed(0)
    model = models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=64, num_classes=3
    ).eval()
    plain, muted = (captured(model, picture, "backbone", *each, path="0") for each in ((), (hs.mute("backbone", 5),)))
    assert not muted[0, 5].any() and torch.equal(muted[0, 6:], plain[0, 6:])
    with assert_untouched(model), hs.edit(model, [hs.mute("backbone.body.0")]), torch.no_grad():
        assert model(picture)[0]["boxes"].shape[1] == 4


def test_every_look_in_the_block_sees_the_edit(resnet: nn.Module, picture: Tensor) -> None:
    layers = hs.describe(resnet, picture)
    with hs.edit(resnet, [hs.mute("layer3")], layers=layers) as editing:
        found = survey(resnet, picture, layers, also=("containers",))
        assert next(each for each in found.calls if each.layer == "layer3")["zeros"] == 1
        with editing.lifted(), hs.capture(resnet, ["layer3"]) as plain, torch.no_grad():
            resnet(picture)
        assert plain["layer3"].value.any()
        shown: list[float] = []
        hs.stream(resnet, picture, [("layer3", 0)], lambda *f: shown.append(f[2].statistics.mean), layers)
        assert shown == [0]


def test_another_thread_is_not_edited(resnet: nn.Module, picture: Tensor) -> None:
    plain, found = run(resnet, picture), []

    def other() -> None:
        with torch.no_grad():
            found.append(resnet(picture))

    with hs.edit(resnet, [hs.mute("layer3")]), torch.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert not torch.equal(resnet(picture), plain)
    assert torch.equal(found[0], plain)


# --- refused


class Odd(nn.Module):
    """Layers that return what cannot be edited, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.aux = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)
        self.whole, self.nothing, self.held = _Returns(lambda x: x.argmax(1)), _Returns(lambda x: None), _Returns(_Held)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for layer in (self.whole, self.nothing, self.held):
            layer(x)
        return x


class _Returns(nn.Module):
    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


class _Held:
    def __init__(self, values: Tensor) -> None:
        self.values = values


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda: hs.mute("conv", 2), "Layer 'conv' has 2 channels, counted from 0, so there is no channel 2"),
        (lambda: hs.mute("conv", -1), "has no channel -1"),
        (lambda: hs.mute("conv", 0, call=-1), "has no call -1"),
        (lambda: hs.mute("conv", "1"), "has no channel '1': give a whole number"),
        (lambda: hs.mute("conv", 1.0), "has no channel 1.0: give a whole number"),
        (lambda: hs.mute("conv", True), "has no channel True: give a whole number"),
        (lambda: hs.scale("conv", 0, math.nan), "cannot be scaled by nan"),
        (lambda: hs.replace("conv", 0, [[1, math.inf], [0, 0]]), "holds NaN or infinite numbers"),
        (
            lambda: hs.replace("conv", 0, torch.ones(3, 3)),
            "is of 3 x 3 numbers, and what is .* is 1 x 2 x 2",
        ),
        (lambda: hs.replace("conv", None, torch.ones(1, 2, 2, 2) * 1j), "the value for it is complex"),
        (lambda: hs.mute("whole"), "Layer 'whole' returns int64 values, which cannot be edited"),
        (lambda: hs.mute("nothing"), "returned no tensor, so there is nothing to edit"),
        (lambda: hs.mute("held"), "returns its value inside a _Held"),
        (lambda: hs.mute("aux", 0), r"Layer 'aux' was not run, so the edit changed nothing. .*Auxiliary heads"),
        (lambda: hs.mute("conv", 0, call=1), "was called once in a pass, so there was no call 2"),
        (lambda: hs.mute("cnv", 0), "has no layer 'cnv'. Did you mean 'conv'"),
        (lambda: hs.mute("/add", 0), "Layer '/add' was not run, so the edit changed nothing. No forward pass did it"),
    ],
)
def test_what_cannot_be_edited_says_why_and_the_model_comes_back(edit: Callable[[], Edit], sentence: str) -> None:
    model = Odd().eval()
    with pytest.raises((EditNotPossible, LayerNotExecuted, LayerNotFound), match=sentence):
        run(model, torch.ones(1, 1, 2, 2), edit())


def test_a_vector_has_no_positions_and_a_map_of_unknown_axes_no_channels() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Unflatten(1, (3, 1)))
    with pytest.raises(EditNotPossible, match="has no positions over which"):
        run(model, torch.ones(1, 1, 2, 2), hs.level("1", 0))
    assert run(model, torch.ones(1, 1, 2, 2), hs.mute("1", 2))[0, 2] == 0
    odd = nn.Sequential(nn.Flatten(), nn.Flatten(0))
    with pytest.raises(EditNotPossible, match="Which axis of the output of layer '1' holds its channels is not known"):
        run(odd, torch.ones(1, 1, 2, 2), hs.mute("1", 0))


def test_what_a_recorded_run_says_is_refused_before_a_pass(resnet: nn.Module, picture: Tensor) -> None:
    layers = hs.describe(resnet, picture)
    for wrong, sentence in (
        (hs.mute("layer4", 512), "has 512 channels"),
        (hs.mute("layer4", 1, call=1), "is called once in a forward pass, so there is no call 2"),
        (hs.mute("layer4/mul", 1), "No operation 'mul' was seen"),
    ):
        with (
            assert_untouched(resnet),
            pytest.raises((EditNotPossible, LayerNotExecuted), match=sentence),
            hs.edit(resnet, [wrong], layers=layers),
        ):
            raise AssertionError("not reached")
    with (
        pytest.raises(EditNotPossible, match="These are 401 edits, and at most 400"),
        hs.edit(resnet, [hs.mute("fc")] * 401),
    ):
        pass


def test_the_model_comes_back_after_an_exception_and_an_early_end_is_none(resnet: nn.Module, picture: Tensor) -> None:
    with (
        assert_untouched(resnet),
        pytest.raises(KeyError),
        hs.edit(resnet, [hs.mute("layer4", 1), hs.mute("/flatten")]),
    ):
        resnet(picture)
        raise KeyError("of the caller's")
    with assert_untouched(resnet), hs.edit(resnet, [hs.mute("layer4", 1)]):
        hs.stream(resnet, picture, [("layer1", 0)], lambda *found: None, ())
    with pytest.raises(LayerNotExecuted, match="The model itself did not run"), hs.edit(resnet, [hs.mute("layer4")]):
        pass


def test_the_run_that_learns_the_axes_is_seen_by_nobody_else(resnet: nn.Module, picture: Tensor) -> None:
    with hs.edit(resnet, [hs.mute("layer4", 1)]), hs.capture(resnet, ["layer1", "layer1.0/add"]) as seen:
        resnet(picture)
    assert [(record.layer, record.call) for record in seen] == [("layer1.0/add", 0), ("layer1", 0)]
