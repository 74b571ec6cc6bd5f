"""Importance over a set and what can be pruned: by hand, against one gradient per picture, one plain pass per point,
and against Torch-Pruning, which really removes the channels."""

from __future__ import annotations

import copy
import csv
import doctest
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch_pruning
import torchvision
from digits_models import digits
from helpers import Count, assert_untouched, four_pixels
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from hookscope.hooks.datasets import importance as importance_module
from hookscope.hooks.datasets import pruning, removal
from hookscope.hooks.datasets.importance import importance
from hookscope.hooks.datasets.pruning import prune_curve
from hookscope.hooks.datasets.removal import removals
from hookscope.hooks.errors import Cancelled, HooksError, LayerNotExecuted, LayerNotFound, NoGradient, TargetNotFound
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.codec import decode, encode
from hookscope.hooks.results.importance import LayerImportance, PruneCurve, PruneTable, Removal, indices, table

models = torchvision.models


def some_pictures(count: int, pixels: int = 32, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, pixels, pixels, generator=torch.Generator().manual_seed(1))


def lived(model: nn.Module) -> nn.Module:
    """The same in evaluation mode, with batch normalisations as a training leaves them: none hands a 0 on as a 0."""
    own = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, least, most in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                tensor.data.uniform_(least, most, generator=own)
    return model.eval()


def made(build: Callable[..., nn.Module], **options: Any) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lived(build(weights=None, **options))


def chain() -> nn.Sequential:
    """Two convolutions with all between them that hands channels on one by one, and a head."""
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    deep = [nn.Conv2d(12, 12, 3, groups=12, padding=1), nn.BatchNorm2d(12), nn.PReLU(12), nn.Dropout()]
    head = [nn.Conv2d(12, 8, 3), nn.Hardswish(), nn.Flatten(), nn.Linear(8 * 36, 10), nn.ReLU(), nn.Linear(10, 5)]
    return lived(nn.Sequential(*body, *deep, *head))  # type: ignore[return-value]


def muted(
    model: nn.Module, pictures: Tensor, layer: str, channels: Sequence[int], axis: int = 1, call: int = 0
) -> Tensor:
    """The plain answer with some channels of a layer's output set to 0 by a hook that knows nothing of ours."""
    calls = iter(range(1000))

    def zero(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if next(calls) != call:
            return None
        changed = output.clone()
        changed.index_fill_(axis, torch.tensor(channels, dtype=torch.int64), 0.0)
        return changed

    handle = model.get_submodule(layer).register_forward_hook(zero)
    try:
        with torch.no_grad():
            return model(pictures)
    finally:
        handle.remove()


def what_goes(model: nn.Module, layer: str, pixels: int = 32, call: int = 0) -> Removal:
    picture = some_pictures(1, pixels)
    return removals(model, picture, describe(model, picture), [(layer, call)])[layer, call]


def beginning(build: Callable[..., nn.Module], blocks: int, channels: int) -> nn.Module:
    """The first blocks of a network, and a head: of the whole untrained one the answer hardly depends on a picture."""
    body = made(build).features[:blocks]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)).eval()


def assert_is_brute_force(
    model: nn.Module, pictures: Tensor, curve: PruneCurve, axis: int = 1, labels: Sequence[int] = ()
) -> None:
    """Compare every point with plain passes, one picture and one point at a time."""
    at, call = curve.removal.at, curve.removal.at_call
    with torch.no_grad():
        whole = [model(each[None])[0] for each in pictures]
    assert curve.pictures == len(pictures) and curve.labelled == len(labels)
    for row, order in enumerate((curve.order, *curve.random_orders)):
        for point, count in enumerate(curve.counts):
            channels = order[:count].tolist()
            answers = [muted(model, each[None], at, channels, axis, call)[0] for each in pictures]
            first = [int(each.argmax()) for each in answers]
            agreed = sum(one == int(other.argmax()) for one, other in zip(first, whole, strict=True))
            assert curve.agreed[row, point] == agreed, (row, point)
            if labels:
                assert curve.right[row, point] == sum(one == other for one, other in zip(first, labels, strict=True))
            apart = [
                float(functional.kl_div(a.double().log_softmax(0), b.double().softmax(0), reduction="sum"))
                for a, b in zip(answers, whole, strict=True)
            ]
            assert curve.divergences[row, point] == pytest.approx(np.mean(apart), rel=1e-3, abs=1e-6)
    assert curve.agreement[0] == 1 and curve.divergence[0] == 0


# --- importance


def test_by_hand_on_four_pixels_each_picture_is_explained_by_its_own_class() -> None:
    """Of the picture channel 0 has mean 5 and weight 3; of its negative channel 1 has mean 2.5 and, for class 1, 2."""
    model, picture = four_pixels()
    (found,) = importance(model, [torch.cat([picture, -picture])], ["0"])
    assert (found.layer, found.call, found.pictures, found.explained) == ("0", 0, 2, "first class")
    np.testing.assert_allclose(found.taylor, [15 / 2, 5 / 2])
    np.testing.assert_allclose(found.gate, [15**2 / 2, 5**2 / 2])
    assert found.order().tolist() == [1, 0] == found.order("gate").tolist()
    (of_class,) = importance(model, [torch.cat([picture, -picture])], ["0"], target=1)
    np.testing.assert_allclose(of_class.taylor, [5 / 2, 5 / 2])
    assert of_class.explained == "class 1"


def test_before_mean_and_linear_a_channel_is_worth_its_mean_times_its_weight() -> None:
    model, pictures = made(models.resnet18), some_pictures(5)
    (found,) = importance(model, [pictures[:3], pictures[3:]], ["layer4"])
    with torch.no_grad():
        maps = nn.Sequential(*list(model.children())[:-2])(pictures)
        first = model(pictures).argmax(1)
    each = (maps.mean((2, 3)) * model.fc.weight[first]).detach().double().numpy()
    np.testing.assert_allclose(found.taylor, np.abs(each).mean(0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.gate, np.square(each).mean(0), rtol=1e-4, atol=1e-7)


def one_by_one(model: nn.Module, pictures: Tensor, labels: Tensor | None, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Taylor and gate by one gradient per picture, with hooks that know nothing of ours."""
    kept: list[tuple[Tensor, GradientEdge]] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        kept.append((output.detach().clone(), get_gradient_edge(output)))  # a block adds its input in place

    handle = model.get_submodule(layer).register_forward_hook(keep)
    rows = []
    for index in range(len(pictures)):
        logits = model(pictures[index : index + 1].clone().requires_grad_(True))
        number = logits.max() if labels is None else functional.cross_entropy(logits, labels[index : index + 1])
        value, edge = kept[-1]
        (slope,) = torch.autograd.grad(number, [edge])
        rows.append((value * slope).double().sum((0, 2, 3)).numpy())
    handle.remove()
    return np.abs(rows).mean(0), np.square(rows).mean(0)


@pytest.mark.parametrize("with_labels", [False, True])
def test_a_batch_gives_what_one_gradient_per_picture_gives(with_labels: bool) -> None:
    model, pictures = made(models.resnet18), some_pictures(6)
    labels = torch.tensor([3, 1, 4, 1, 5, 9]) if with_labels else None
    batches: list[Any] = [pictures[:4], pictures[4:]] if labels is None else [(pictures, labels.numpy())]
    with assert_untouched(model):
        found = importance(model, batches, ["layer1.0.conv2", "layer3.0.conv2"], target="loss" if with_labels else None)
    assert [(each.layer, each.at) for each in found] == [
        ("layer1.0.conv2", "layer1.0.bn2"),  # whose sum keeps the channel
        ("layer3.0.conv2", "layer3.0.bn2"),
    ]
    for each in found:
        taylor, gate = one_by_one(model, pictures, labels, each.at)
        np.testing.assert_allclose(each.taylor, taylor, rtol=2e-3, atol=1e-5 * taylor.max())
        np.testing.assert_allclose(each.gate, gate, rtol=4e-3, atol=1e-5 * gate.max())


class BatchStatistics(nn.Module):
    """Normalises by the statistics of what it is given, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.norm, self.fc = nn.BatchNorm2d(8, track_running_stats=False), nn.Linear(8, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(self.first(pictures).relu())).relu().mean((2, 3)))


def test_where_pictures_change_each_other_they_are_asked_one_by_one() -> None:
    torch.manual_seed(0)
    model, pictures = BatchStatistics().eval(), some_pictures(4, 12) * torch.arange(1.0, 5)[:, None, None, None]
    (found, _) = importance(model, [pictures])
    taylor, _ = one_by_one(model, pictures, None, "first")
    np.testing.assert_allclose(found.taylor, taylor, rtol=1e-4)
    kept: list[Tensor] = []
    handle = model.first.register_forward_hook(lambda module, args, output: kept.append(output))
    (slope,) = torch.autograd.grad(model(pictures).max(1).values.sum(), kept)  # the control: the way that is not taken
    handle.remove()
    naive = (kept[0] * slope).sum((2, 3)).abs().mean(0).detach().numpy()
    assert np.abs(naive - taylor).max() > 0.05 * taylor.max()
    with assert_untouched(model):
        curve = prune_curve(model, [pictures], "first", shares=(0.25, 0.5), random_orders=0)
    assert curve.how.startswith("One point per pass")
    assert_is_brute_force(model, pictures, curve)
    behind = prune_curve(model, [pictures], "conv", shares=(0.25, 0.5), random_orders=0)
    assert behind.removal.at == "norm" and behind.how.startswith(
        "Up to"
    )  # behind the statistics copies do not change each other
    assert_is_brute_force(model, pictures, behind)


def test_two_halves_added_are_the_whole() -> None:
    model, pictures = made(models.resnet18), some_pictures(8)
    batches = [pictures[:2], pictures[2:4], pictures[4:6], pictures[6:]]
    whole, one, other = (importance(model, each) for each in (batches, batches[:2], batches[2:]))
    assert len(whole) == 20 and "fc" not in [each.layer for each in whole]
    for expected, first, second in zip(whole, one, other, strict=True):
        both = first + second
        assert both.pictures == expected.pictures == 8
        np.testing.assert_allclose(both.taylor, expected.taylor, rtol=1e-12)
        np.testing.assert_allclose(both.gate, expected.gate, rtol=1e-12)
    with pytest.raises(HooksError, match="cannot be added"):
        whole[0] + whole[1]


def test_a_set_is_anything_that_gives_batches() -> None:
    model, pictures = chain(), some_pictures(6, 16)
    labels = torch.arange(6) % 5
    told: list[tuple[int, int]] = []
    with looking(progress=lambda done, total: told.append((done, total))):
        expected = importance(model, [pictures], ["0"])[0]
    assert told == [(6, 6)]
    told.clear()
    loader = DataLoader(TensorDataset(pictures, labels), batch_size=3)
    with looking(progress=lambda done, total: told.append((done, total))):
        found = importance(model, loader, ["0"])[0]
    assert told == [(3, 6), (6, 6)]
    np.testing.assert_allclose(found.taylor, expected.taylor, rtol=1e-5)
    told.clear()
    with looking(progress=lambda done, total: told.append((done, total))):
        importance(model, (each[None] for each in pictures), ["0"])
    assert told[0] == (1, 1) and told[-1] == (6, 6)
    np.testing.assert_allclose(importance(model, [(pictures, labels, "named")], ["0"])[0].taylor, expected.taylor)


def test_a_batch_too_large_for_one_pass_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pictures = chain(), some_pictures(5, 16)
    expected = importance(model, [pictures])
    monkeypatch.setattr(importance_module, "HELD_BYTES", 150_000)
    told: list[int] = []
    with looking(progress=lambda done, total: told.append(done)):
        found = importance(model, [pictures])
    assert 1 < len(told) <= 5 and told[-1] == 5
    for each, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(each.taylor, other.taylor, rtol=1e-4, atol=1e-7)


def test_a_segmenter_and_another_target_are_asked_one_by_one() -> None:
    torch.manual_seed(0)
    model, pictures = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1)).eval(), some_pictures(3, 9)
    (found,) = importance(model, [pictures])
    rows = []
    for each in pictures:
        maps = model[:2](each[None]).detach().requires_grad_(True)
        logits = model[2](maps)[0]
        regions = logits.argmax(0)
        best = int(torch.bincount(regions.flatten(), minlength=4).argmax())
        (slope,) = torch.autograd.grad((logits[best] * (regions == best)).sum(), maps)
        rows.append((maps * slope).sum((0, 2, 3)).abs().detach().numpy())
    np.testing.assert_allclose(found.taylor, np.mean(rows, 0), rtol=1e-4)
    (other,) = importance(model, [pictures], ["0"], target=lambda output: output.square().sum())
    assert other.explained == "another target" and (other.taylor > 0).all()


# --- removing and muting


def pruned(model: nn.Module, layer: str, channels: list[int], pixels: int) -> nn.Module:
    """A copy from which Torch-Pruning has removed the channels."""
    smaller = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(smaller, example_inputs=some_pictures(1, pixels))
        module = smaller.get_submodule(layer)
        out = torch_pruning.prune_linear_out_channels
        group = graph.get_pruning_group(
            module, out if isinstance(module, nn.Linear) else torch_pruning.prune_conv_out_channels, idxs=channels
        )
        assert graph.check_pruning_group(group)
        group.prune()
    return smaller.eval()


def size_of(model: nn.Module, pixels: int) -> tuple[int, int]:
    whole = describe(model, some_pictures(1, pixels))[0]
    assert whole.multiply_adds is not None
    return sum(each.numel() for each in model.parameters()), whole.multiply_adds


SMALL_SWIN = {"patch_size": [4, 4], "embed_dim": 24, "depths": [2], "num_heads": [2], "window_size": [4, 4]}
SMALL_DENSENET = {"growth_rate": 8, "block_config": (2, 2), "num_init_features": 16}
REMOVED: list[tuple[str, Callable[[], nn.Module], str, str, int]] = [
    ("normalised, pooled, depthwise, PReLU", chain, "0", "6", 16),
    ("flattened", chain, "8", "9", 16),
    ("linear", chain, "11", "12", 16),
    ("residual branch", lambda: made(models.resnet18), "layer1.0.conv1", "layer1.0.relu", 32),
    ("inverted residual", lambda: beginning(models.mobilenet_v2, 5, 32), "3.conv.0.0", "3.conv.1.2", 32),
    ("before dropout", lambda: made(models.mobilenet_v2), "features.18.0", "features.18.2", 32),
    ("read by several", lambda: made(models.squeezenet1_1), "features.3.squeeze", "features.3.squeeze_activation", 32),
    ("joined", lambda: made(models.squeezenet1_1), "features.3.expand3x3", "features.3.expand3x3_activation", 32),
    ("tokens", lambda: lived(models.SwinTransformer(**SMALL_SWIN)), "features.1.0.mlp.0", "features.1.0.mlp.1", 32),
]


@pytest.mark.parametrize("build, layer, at, pixels", [case[1:] for case in REMOVED], ids=[case[0] for case in REMOVED])
def test_muting_is_what_torch_pruning_makes_and_saves_what_it_saves(
    build: Callable[[], nn.Module], layer: str, at: str, pixels: int
) -> None:
    model, pictures = build(), some_pictures(2, pixels)
    found = what_goes(model, layer, pixels)
    assert found.exact and found.at == at and not found.note
    filters = model.get_submodule(layer)
    channels = [1, 2, *range(5, filters.weight.shape[0], 3)]
    smaller = pruned(model, layer, channels, pixels)
    with torch.no_grad():
        whole, expected = model(pictures), smaller(pictures)
    answer = muted(model, pictures, found.at, channels, axis=-1 if "mlp" in layer else 1)
    assert (whole - expected).abs().max() > 1e-3 * whole.abs().max()
    torch.testing.assert_close(answer, expected, atol=1e-5 * float(whole.abs().max()), rtol=1e-5)
    before, after = size_of(model, pixels), size_of(smaller, pixels)
    saved = before[0] - after[0], before[1] - after[1]
    assert saved == (len(channels) * found.parameters, len(channels) * found.multiply_adds)
    assert found.own_parameters == filters.weight[0].numel() + (filters.bias is not None)


def test_muted_before_a_batch_normalisation_a_channel_is_not_gone() -> None:
    """The control of the test above: the layer's own output is the wrong place."""
    model, pictures = chain(), some_pictures(2, 16)
    smaller = pruned(model, "0", [1, 2, 5], 16)
    with torch.no_grad():
        expected = smaller(pictures)
    for layer in ("0", "2", "3"):  # and neither are places before the depthwise convolution, whose bias remains
        assert (muted(model, pictures, layer, [1, 2, 5]) - expected).abs().max() > 1e-2


def test_a_gate_is_followed_and_its_own_filters_are_not_counted() -> None:
    model, pictures = made(models.mobilenet_v3_small), some_pictures(2, 64)
    found = what_goes(model, "features.4.block.0.0", 64)
    assert found.exact and found.at == "features.4.block.1.2" and "gate" in found.note
    assert found.readers == ("features.4.block.2.fc1", "features.4.block.3.0")
    channels = list(range(0, 96, 5))
    smaller = pruned(model, "features.4.block.0.0", channels, 64)
    with torch.no_grad():
        expected = smaller(pictures)
    torch.testing.assert_close(muted(model, pictures, found.at, channels), expected, atol=1e-5, rtol=1e-5)
    saved = size_of(model, 64)[0] - size_of(smaller, 64)[0]
    gate = model.get_submodule("features.4.block.2.fc2")
    assert saved == len(channels) * (found.parameters + gate.weight[0].numel() + 1)


class Tied(nn.Module):
    """A block before whose activation nothing is normalised: its shortcut is a module that returns what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.shortcut = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Identity()
        self.conv2, self.conv3 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        first = functional.relu(self.norm(self.conv1(pictures)))
        kept = self.shortcut(first)
        second = self.conv2(first)
        return self.fc(functional.relu(self.conv3(second) + kept).mean((2, 3)))


class Shared(nn.Module):
    """A convolution that runs twice, one in groups, and channels that are normalised together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.back = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.groups, self.norm = nn.Conv2d(6, 6, 3, groups=2), nn.LayerNorm(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.groups(self.conv(self.back(self.conv(pictures).relu())))
        return self.fc(self.norm(maps.mean((2, 3))))


def test_where_muting_is_not_removing_it_says_why() -> None:
    torch.manual_seed(0)
    tied, shared = lived(Tied()), lived(Shared())
    sum_of = what_goes(tied, "conv1", 12)
    assert not sum_of.exact and "added" in sum_of.note and sum_of.parameters == 0
    assert sum_of.at == "norm"  # and not the shortcut, behind which the other branch would still see the channel
    assert sum_of.own_parameters == 28 and sum_of.own_multiply_adds == 27 * 100
    assert "added" in what_goes(tied, "conv3", 12).note and what_goes(tied, "conv2", 12).exact
    assert "are filters" in what_goes(tied, "norm", 12).note
    assert "2 times" in what_goes(shared, "back", 12).note  # what reads it reads others too
    assert "in groups" in what_goes(shared, "conv", 12, call=1).note and "2 times" in what_goes(shared, "conv", 12).note
    assert "together with those" in what_goes(shared, "groups", 12).note
    ending, shares = what_goes(tied, "fc", 12), what_goes(nn.Sequential(*chain(), nn.Softmax(1)), "13", 16)
    assert ending.is_answer and shares.is_answer and "returns" in ending.note and not (ending.exact or shares.exact)
    normalised = lived(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(2), nn.LayerNorm(100), nn.Flatten(), nn.Linear(600, 2))
    )
    assert "normalised together" in what_goes(normalised, "0", 12).note
    own = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ChannelShuffle(2), nn.Conv2d(6, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert "operator" in what_goes(own.eval(), "0", 12).note
    dense = lived(models.DenseNet(**SMALL_DENSENET))
    assert "makes something else of a 0" in what_goes(dense, "features.denseblock1.denselayer1.conv2").note
    assert what_goes(dense, "features.denseblock1.denselayer1.conv1").exact


# --- the curve


ONE_BY_ONE: list[tuple[str, Callable[[], nn.Module], str, int, str]] = [
    ("residual branch", lambda: made(models.resnet18), "layer3.0.conv1", 1, "before the layer"),
    ("added in place", lambda: made(models.resnet18), "layer2.0.downsample.0", 1, "from the input"),
    ("joined", lambda: lived(models.DenseNet(**SMALL_DENSENET)), "features.denseblock2.denselayer1.conv2", 1, "input"),
    ("chain", chain, "0", 1, "before the layer"),
]


@pytest.mark.parametrize(
    "build, layer, axis, how", [case[1:] for case in ONE_BY_ONE], ids=[case[0] for case in ONE_BY_ONE]
)
def test_every_point_is_what_plain_passes_give(build: Callable[[], nn.Module], layer: str, axis: int, how: str) -> None:
    model, labels = build(), [3, 1, 4]
    pictures = some_pictures(3, 16 if isinstance(model, nn.Sequential) else 32)
    with assert_untouched(model):
        curve = prune_curve(model, [(pictures, labels)], layer, shares=(0.1, 0.5, 0.9), random_orders=2)
    assert how in curve.how and (curve.divergence[2:] > 0).all()
    assert_is_brute_force(model, pictures, curve, axis, labels)
    again = prune_curve(model, [(pictures, labels)], layer, curve.order, shares=(0.1, 0.5, 0.9), random_orders=2)
    assert np.array_equal(again.agreed, curve.agreed) and np.array_equal(again.random_orders, curve.random_orders)


def test_a_useless_channel_goes_first_and_nobody_misses_it() -> None:
    model, pictures = chain(), some_pictures(6, 16)
    with torch.no_grad():
        model[8].weight[:, 7] = 0.0
    found = importance(model, [pictures], ["0"])[0]
    assert found.order()[0] == 7 and found.taylor[7] == 0 < np.sort(found.taylor)[1]
    curve = prune_curve(model, [pictures], "0", found, shares=(1 / 12, 0.5), random_orders=3)
    assert curve.counts.tolist() == [0, 1, 6] and curve.agreed[0, 1] == 6
    assert curve.divergence[1] < 1e-12 < 1e-6 < curve.divergence[2]
    assert curve.removable(0).count >= 1 and 7 in indices(curve, 0)


def test_together_is_not_the_sum_of_each() -> None:
    """Two channels that are the same and are subtracted from each other: either is missed, and both are not."""
    model, pictures = chain(), some_pictures(6, 16)
    with torch.no_grad():
        for each in (model[0].weight, model[0].bias, model[1].weight, model[1].bias, model[4].weight, model[4].bias):
            each[1] = each[0]
        for each in (*model[1].buffers(), *model[5].buffers(), *model[5].parameters()):
            if each.ndim:
                each[1] = each[0]
        model[8].weight[:, 1] = -model[8].weight[:, 0]
    found = importance(model, [pictures], ["0"])[0]
    np.testing.assert_allclose(found.taylor[0], found.taylor[1], rtol=1e-4)
    assert found.taylor[0] > 1e-4
    curve = prune_curve(model, [pictures], "0", list(range(12)), shares=(1 / 12, 2 / 12), random_orders=0)
    assert curve.divergence[1] > 1e-6 > 1e-12 > curve.divergence[2]


def trained(pictures: Tensor, classes: Tensor) -> nn.Module:
    """A small network that reads digits."""
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    rest = [nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    model = nn.Sequential(*body, *rest, nn.Linear(24 * 16, 10)).train()
    optimiser, own = torch.optim.Adam(model.parameters(), 3e-3), torch.Generator().manual_seed(0)
    for _ in range(120):
        some = torch.randint(len(pictures), (64,), generator=own)
        optimiser.zero_grad()
        functional.cross_entropy(model(pictures[some]), classes[some]).backward()
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return model.eval()


def test_of_a_trained_network_the_least_important_channels_are_missed_less_than_any() -> None:
    pictures, classes = digits()
    pictures = pictures[:, :1].contiguous()
    model = trained(pictures[400:], classes[400:])
    unseen = DataLoader(TensorDataset(pictures[:120], classes[:120]), batch_size=50)
    with torch.no_grad():
        accuracy = float((model(pictures[:120]).argmax(1) == classes[:120]).double().mean())
    assert accuracy > 0.9
    for target in (None, "loss"):
        order = importance(model, unseen, ["0"], target=target)[0]
        curve = prune_curve(model, unseen, "0", order)
        assert curve.agreement[0] == 1 and curve.accuracy[0] == pytest.approx(accuracy)
        agreement, divergence = curve.random_agreement, curve.random_divergence
        assert (curve.agreement >= agreement.mean).mean() > 0.9, target
        assert (curve.agreement >= agreement.most).mean() > 0.7, target
        assert (curve.divergence[1:] < divergence.least[1:]).mean() > 0.7, target
        assert (agreement.least <= agreement.mean).all() and (agreement.mean <= agreement.most).all()
        assert curve.removable(0.01).count >= 3 and curve.accuracy[3] > accuracy - 0.02
    most_first = prune_curve(model, unseen, "0", order.order()[::-1], shares=(0.3,), random_orders=3)
    assert most_first.agreement[1] < most_first.random_agreement.least[1]


def test_how_many_can_go_is_the_last_point_before_too_many_change() -> None:
    removal = Removal("2", 0, True, "", ("3",), 10, 100, 15, 150)
    agreed = np.array([[100, 100, 99, 98, 100], [100, 90, 80, 70, 60], [100, 96, 90, 80, 50]])
    order, counts = np.array([3, 0, 2, 1, 4, 5, 6, 7]), np.array([0, 1, 3, 4, 6])
    zeros = np.zeros(agreed.shape)
    curve = PruneCurve("0", 0, 8, removal, order, np.array([order, order]), counts, 100, 0, agreed, zeros, zeros)
    assert curve.removable(0).count == 1  # not 6, before which 2 % change
    found = curve.removable(0.01)
    assert (found.count, found.disagreement, found.indices.tolist()) == (3, 0.01, [0, 2, 3])
    assert (found.parameters, found.multiply_adds, found.own_parameters, found.own_multiply_adds) == (45, 450, 30, 300)
    assert curve.removable(0.02).count == 6 and indices(curve) == [0, 2, 3] == sorted(indices(curve))
    assert all(type(each) is int for each in indices(curve))
    np.testing.assert_allclose(curve.random_agreement.mean, [1, 0.93, 0.85, 0.75, 0.55])
    assert curve.random_agreement.least.tolist() == [1, 0.9, 0.8, 0.7, 0.5]
    assert curve.shares.tolist() == [0, 0.125, 0.375, 0.5, 0.75] and np.isnan(curve.accuracy).all()


def test_a_table_has_a_row_for_each_layer_and_becomes_csv() -> None:
    model, pictures = chain(), some_pictures(4, 16)
    importances = importance(model, [pictures])
    curves = [prune_curve(model, [pictures], each.layer, each, random_orders=0) for each in importances[:2]]
    found = table(importances, curves, 0.25)
    assert [row.layer for row in found.rows] == ["0", "8", "11"]
    first, _, last = found.rows
    assert first.removable == curves[0].removable(0.25).count and first.exact and first.muted_at == "6"
    taylor = importances[0].taylor
    assert first.carried == pytest.approx(taylor[curves[0].removable(0.25).indices].sum() / taylor.sum())
    assert last.removable is None and last.channels == 10
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["layer"] for row in rows] == ["0", "8", "11"] and rows[2]["removable"] == rows[2]["share"] == ""
    assert int(rows[0]["parameters"]) == first.parameters == first.removable * curves[0].removal.parameters
    assert table([], curves).rows[0].carried != table([], curves).rows[0].carried  # NaN: nothing is known of it


def test_results_cross_as_bytes() -> None:
    model, pictures = chain(), some_pictures(3, 16)
    one = importance(model, [pictures], ["0"])[0]
    curve = prune_curve(model, [pictures], "0", one, shares=(0.5,), random_orders=1)
    found = decode(encode(one), LayerImportance)
    assert np.array_equal(found.taylor, one.taylor) and (found.at, found.pictures) == (one.at, 3)
    read = decode(encode(curve), PruneCurve)
    assert read.removal == curve.removal and np.array_equal(read.agreed, curve.agreed) and read.how == curve.how
    rows = decode(encode(table([one], [curve])), PruneTable)
    assert rows.rows[0].removable == curve.removable().count


# --- how it is handed back, and what is refused


def test_the_model_is_handed_back_whatever_happens() -> None:
    model, pictures = made(models.resnet18).train(), some_pictures(2)
    batches = [pictures[:1], pictures[1:]]
    with assert_untouched(model):
        importance(model, batches, ["layer1.0.conv1"])
        prune_curve(model, batches, "layer4.0.conv1", shares=(0.5,), random_orders=1)
    for look in (
        lambda: importance(model, batches),
        lambda: prune_curve(model, batches, "layer4.0.conv1", shares=(0.5,), random_orders=0),
    ):
        with looking(cancelled=(never := Count())):
            look()
        for share in (0.1, 0.5, 0.95):
            stop = Count(yes_from=int(share * never.asked))
            with assert_untouched(model), looking(cancelled=stop), pytest.raises(Cancelled):
                look()

    def failing() -> Iterator[Tensor]:
        yield pictures[:1]
        raise OSError("as a disk may")

    with assert_untouched(model), pytest.raises(OSError, match="as a disk"):
        importance(model, failing(), ["layer1.0.conv1"])
    with assert_untouched(model), pytest.raises(OSError, match="as a disk"):
        prune_curve(model, failing(), "layer4.0.conv1", range(512), shares=(0.5,), random_orders=0)
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        with assert_untouched(model):
            model(pictures[:1])
        told.append((done, total))

    with looking(progress=tell):
        prune_curve(model.eval(), batches, "layer4.0.conv1", range(512), shares=(0.5,), random_orders=0)
    assert told == [(1, 2), (2, 2)]


def test_what_is_no_set_of_pictures_is_refused() -> None:
    model, pictures = chain(), some_pictures(4, 16)
    for given, said in (
        ([], "the loader gave no batch"),
        (pictures, r"this one is float32 of shape \(3, 16, 16\)"),
        ([pictures, "file.png"], r"this one is str\."),
        ([pictures[:0]], r"this one is float32 of shape \(0, 3"),
        ([(pictures, [1, 2, 3])], "4 pictures and 3 labels"),
    ):
        with pytest.raises(HooksError, match=said):
            importance(model, given)
        with pytest.raises(HooksError, match=said):
            prune_curve(model, given, "0")
    with pytest.raises(HooksError, match="without labels"):
        importance(model, [(pictures, [1, 2, 3, 4]), pictures], target="loss")
    with pytest.raises(TargetNotFound, match="no class 7: the model has 5"):
        importance(model, [(pictures, [1, 2, 7, 4])], target="loss")
    with pytest.raises(HooksError, match="without labels"):
        importance(model, [(pictures, [1, 2, -1, 4])], target="loss")
    with pytest.raises(TargetNotFound, match="no class 9: the model has 5"):
        prune_curve(model, [(pictures, [1, 2, 9, 4])], "0", shares=(0.5,), random_orders=0)
    assert prune_curve(model, [(pictures, [1, 2, -1, 4])], "0", shares=(0.5,), random_orders=0).labelled == 3
    with pytest.raises(HooksError, match="twice"):
        prune_curve(model, iter([pictures]), "0")
    assert prune_curve(model, iter([pictures]), "0", range(12), shares=(0.5,), random_orders=0).pictures == 4


def test_what_cannot_be_asked_of_a_layer_or_a_model_says_why() -> None:
    model, pictures = chain(), some_pictures(2, 16)
    for ask in (importance, prune_curve):
        with pytest.raises(LayerNotFound):
            ask(model, [pictures], "layer9")
    with pytest.raises(LayerNotExecuted, match="no call 2"):
        prune_curve(model, [pictures], "0", call=1)
    with pytest.raises(HooksError, match="gives the answer itself"):
        prune_curve(model, [pictures], "13")
    with pytest.raises(HooksError, match="is a function and no module"):
        prune_curve(made(models.resnet18), [some_pictures(1)], "layer1.0/add")
    for share in (0, 1, 1.5, float("nan")):
        with pytest.raises(HooksError, match="is no share of the channels"):
            prune_curve(model, [pictures], "0", shares=(0.5, share))
    with pytest.raises(HooksError, match="each of them once"):
        prune_curve(model, [pictures], "0", [0, 1, 2])
    with pytest.raises(HooksError, match="is of layer '8'"):
        prune_curve(model, [pictures], "0", importance(model, [pictures], ["8"])[0])
    with pytest.raises(HooksError, match="has no channels to tell apart"):
        importance(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(0)), [pictures[:1]], ["1"], target=lambda out: out.sum()
        )
    with pytest.raises(HooksError, match="no convolution and no linear layer"):
        importance(nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), [pictures])
    maps = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1)).eval()
    with pytest.raises(HooksError, match="no list of classes of which one comes first"):
        prune_curve(maps, [pictures], "0", range(6))
    with pytest.raises(HooksError, match="no cross-entropy"):
        importance(maps, [(pictures, [0, 1])], target="loss")
    with pytest.raises(TargetNotFound):
        importance(model, [pictures], target="lost")
    with pytest.raises(HooksError, match=r"removing them is something else\. Its channels are added"):
        resnet = made(models.resnet18)
        indices(prune_curve(resnet, [some_pictures(1)], "layer1.0.conv2", range(64), shares=(0.5,), random_orders=0))

    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, given: Tensor) -> Tensor:
            return self.fc(self.conv(given).detach().mean((2, 3)))

    with pytest.raises(NoGradient, match="'conv' has no gradient"):
        importance(Detached(), [pictures], ["conv"])
    assert importance(Detached(), [pictures]) == ()


def test_doctests() -> None:
    for module in (importance_module, pruning, removal):
        names = {"torch": torch, "nn": nn}
        assert doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS).failed == 0
