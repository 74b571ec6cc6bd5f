"""What is collected over batches, against the same thing worked out by hand or from the whole at once."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from helpers import assert_untouched, fixed, four_pixels, snapshot
from torch import nn

from hookscope.hooks.datasets.diagnostics import Diagnostics
from hookscope.hooks.errors import HooksError, LayerNotExecuted, LayerNotFound, NoGradient, TargetNotFound
from hookscope.hooks.passes.registry import live_hooks


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    ).eval()


def test_batches_add_up_to_what_one_batch_of_all_gives():
    model = network()
    parts, whole = Diagnostics(model), Diagnostics(model)
    with assert_untouched(model):
        for part in images(10).split([4, 4, 2]):
            parts.run(part)
        whole.run(images(10))
    assert [summary.layer for summary in parts.summaries()] == list("012345")
    for one, other in zip(parts.summaries(), whole.summaries(), strict=True):
        assert one.inputs == other.inputs == 10
        np.testing.assert_array_equal(one.fired, other.fired)
        np.testing.assert_array_equal(one.statistics.histogram, other.statistics.histogram)
        for name in ("count", "mean", "std", "min", "max", "zeros"):
            assert getattr(one.statistics, name) == pytest.approx(getattr(other.statistics, name), rel=1e-6, abs=1e-7)


def test_the_numbers_are_those_before_the_in_place_relu():
    model, image = four_pixels()
    diagnostics = Diagnostics(model)
    with diagnostics.watch():
        model(image)
    before, after = diagnostics.summary("0").statistics, diagnostics.summary("1").statistics
    assert (before.min, before.max, before.mean) == (-4, 8, 1.25)
    assert (after.min, after.zeros) == (0, 0.5)
    np.testing.assert_array_equal(after.channels["mean"], [5, 0])
    assert diagnostics.summary("1").norm == pytest.approx(np.sqrt(4 + 16 + 36 + 64))


def test_a_block_with_an_exception_adds_nothing_and_leaves_no_hook():
    model = network()
    diagnostics = Diagnostics(model)
    diagnostics.run(images(2))
    with pytest.raises(ZeroDivisionError), diagnostics.watch():
        model(images(3, 1))
        _ = 1 / 0
    assert diagnostics.summary("0").inputs == 2
    assert not live_hooks()
    diagnostics.reset()
    with pytest.raises(LayerNotExecuted, match="nothing yet"):
        diagnostics.summary("0")


def test_the_model_comes_back_in_the_mode_it_was_in():
    model = network().train()
    with assert_untouched(model):
        Diagnostics(model).run(images(3))
    buffers = model[1].running_mean.clone()
    diagnostics = Diagnostics(model)
    with diagnostics.watch(training=True):
        model(images(3))
    assert model.training and not torch.equal(model[1].running_mean, buffers)
    assert diagnostics.summary("1").statistics.channels["mean"] == pytest.approx(np.zeros(6), abs=1e-6)


def test_dead_channels_are_found_after_the_activation_and_over_all_inputs():
    conv = fixed(nn.Conv2d(1, 3, 1), [1.0, 1.0, -1.0], [0.0, -10.0, -0.5])
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten()).eval()
    batch = torch.ones(4, 1, 2, 2)
    batch[3] = -1  # the third channel fires for this one only
    diagnostics = Diagnostics(model)
    diagnostics.run(batch[:3])
    dead = diagnostics.dead_channels()
    assert [(channel.layer, channel.channel) for channel in dead] == [("1", 1), ("1", 2)]
    diagnostics.run(batch[3:])
    (dead,) = diagnostics.dead_channels()
    assert (dead.layer, dead.channel, dead.fired, dead.inputs, dead.largest) == ("1", 1, 0, 4, 0.0)
    seldom = diagnostics.dead_channels(share=0.25)
    assert [(channel.channel, channel.share) for channel in seldom] == [(1, 0.0), (2, 0.25)]
    # Control: the largest value of the layer, by which the article looks, is 1, so it calls nothing dead; and before
    # the activation the dead channel has plenty of values.
    assert diagnostics.summary("1").statistics.max > 1e-6
    assert not diagnostics.dead_channels("0")


def test_gelu_saturates_near_zero_so_the_threshold_says_what_silence_is():
    conv = fixed(nn.Conv2d(1, 2, 1), [1.0, 1.0], [0.0, -4.0])
    model = nn.Sequential(conv, nn.GELU()).eval()
    exact, near = Diagnostics(model), Diagnostics(model, threshold=0.01)
    for diagnostics in (exact, near):
        diagnostics.run(torch.ones(2, 1, 2, 2))
    assert not exact.dead_channels()
    assert [(dead.layer, dead.channel) for dead in near.dead_channels()] == [("1", 1)]
    assert 0 < near.dead_channels()[0].largest <= 0.01


def test_a_channel_of_nan_is_broken_and_not_dead():
    model = nn.Sequential(nn.ReLU()).eval()
    batch = torch.zeros(1, 2, 2, 2)
    batch[0, 1, 0, 0] = float("nan")
    diagnostics = Diagnostics(model)
    diagnostics.run(batch)
    assert [dead.channel for dead in diagnostics.dead_channels()] == [0]
    assert diagnostics.summary("0").statistics.nan == 1


def test_channels_last_layers_have_their_channels_too():
    torch.manual_seed(0)
    from torchvision.models import swin_t

    model = swin_t(weights=None).eval()
    diagnostics = Diagnostics(model, [":GELU", "features.0.0"])
    diagnostics.run(torch.randn(2, 3, 64, 64))
    summary = diagnostics.summary("features.1.0.mlp.1")
    assert summary.fired.shape == summary.statistics.channels["mean"].shape == (384,)
    assert summary.inputs == 2


def test_every_call_of_a_reused_module_is_kept_apart():
    relu = nn.ReLU()
    model = nn.Sequential(
        fixed(nn.Conv2d(1, 1, 1, bias=False), 2.0), relu, fixed(nn.Conv2d(1, 1, 1, bias=False), 3.0), relu
    )
    diagnostics = Diagnostics(model.eval(), ":ReLU")
    for _ in range(2):
        diagnostics.run(torch.ones(1, 1, 2, 2))
    assert [
        (diagnostics.summary("1", call).statistics.mean, diagnostics.summary("1", call).inputs) for call in (0, 1)
    ] == [
        (2, 2),
        (6, 2),
    ]


def test_gradients_equal_those_of_a_split_network():
    model = network()
    batch = images(3)
    diagnostics = Diagnostics(model, ["0", "2"], gradients=True)
    with assert_untouched(model):
        diagnostics.run(batch[:2], target=1)
        diagnostics.run(batch[2:], target=1)
    norms, least = [], []
    for part in (batch[:2], batch[2:]):
        value = model[0](part).detach().requires_grad_(True)
        model[1:](value.clone())[:, 1].sum().backward()
        norms.append(float(value.grad.norm()))
        least.append(float(value.grad.min()))
    found = diagnostics.summary("0", of="gradient")
    assert found.norm == pytest.approx(np.hypot(*norms), rel=1e-5)
    assert found.statistics.min == pytest.approx(min(least), rel=1e-6)
    assert found.inputs == 3 and [summary.layer for summary in diagnostics.summaries("gradient")] == ["0", "2"]


def test_targets_and_gradients_that_are_not_there_are_refused():
    model = network()
    diagnostics = Diagnostics(model, gradients=True)
    with pytest.raises(TargetNotFound, match="from 0 to 3"):
        diagnostics.run(images(1), target=9)
    assert not diagnostics.summaries()  # nothing half collected
    diagnostics.run(images(2), target=lambda logits: logits[0, 1] - logits[0, 2])
    chosen = Diagnostics(model, gradients=True)
    chosen.run(images(2))  # each image's own first class
    assert chosen.summary("5", of="gradient").norm == pytest.approx(np.sqrt(2))
    with pytest.raises(NoGradient), Diagnostics(model).watch() as step:
        step.differentiate(model(images(1)).sum())
    with pytest.raises(LayerNotFound, match="no layer 'nothing'"):
        Diagnostics(model, "nothing")


def test_two_sets_are_compared_and_ranked():
    relu_of = nn.Sequential(nn.Identity(), nn.ReLU(), nn.Flatten()).eval()
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(64, 4, 8, 8, generator=generator), torch.randn(64, 4, 8, 8, generator=generator)
    second[:, 2] += 5
    source, target = Diagnostics(relu_of, ["0", "1"]), Diagnostics(relu_of, ["0", "1"])
    source.run(first)
    target.run(second)
    shifts = {shift.layer: shift for shift in source.compare(target)}
    shift = shifts["0"]
    assert shift.channel_difference == pytest.approx([0, 0, 5, 0], abs=0.06)
    assert int(np.argmax(shift.channel_distance)) == 2
    scale = torch.cat([first, second]).std(correction=0).item()
    assert shift.channel_distance[2] == pytest.approx(5 / scale, rel=0.02)
    assert shift.distance == pytest.approx(np.sqrt(np.mean(shift.channel_distance**2)))
    assert 0 < shift.divergence < 1 and shift.wasserstein > 0.3
    assert [pair.distance for pair in source.compare(target)] == sorted(
        (pair.distance for pair in shifts.values()), reverse=True
    )
    same = source.compare(source)[0]
    assert (same.distance, same.wasserstein, same.divergence) == (0, 0, 0)
    # Control: both sides hooked on the same module while one input runs, as the article's helpers do it, part by 0
    # for N(0, 1) against N(5, 1).
    found: dict[str, torch.Tensor] = {}
    handles = [
        relu_of[0].register_forward_hook(lambda module, args, output, side=side: found.update({side: output}))
        for side in ("first", "second")
    ]
    relu_of(first), relu_of(first + 5)
    for handle in handles:
        handle.remove()
    assert (found["first"].mean() - found["second"].mean()).abs() == 0
    apart, shifted = Diagnostics(relu_of, "0"), Diagnostics(relu_of, "0")
    apart.run(first)
    shifted.run(first + 5)
    assert apart.compare(shifted)[0].channel_difference == pytest.approx(np.full(4, 5), rel=0.05)


def test_layers_without_positions_can_be_compared_for_two_single_images():
    model = network()
    one, other = Diagnostics(model, "5"), Diagnostics(model, "5")
    first = one.run(images(1))
    second = other.run(images(1, 5))
    (shift,) = one.compare(other)
    scale = torch.cat([first, second]).std(correction=0)
    expected = ((second - first).abs() / scale)[0]
    assert shift.channel_distance == pytest.approx(expected.numpy(), rel=1e-4)
    assert np.isnan(shift.channel_difference).all()  # one value per channel has no deviation


def test_sets_that_have_nothing_in_common_are_refused():
    model = network()
    one, other = Diagnostics(model, "0"), Diagnostics(model, "5")
    one.run(images(1))
    other.run(images(1))
    with pytest.raises(HooksError, match="no layer in common"):
        one.compare(other)


def test_features_are_kept_only_where_asked_and_only_so_many():
    model = network()
    diagnostics = Diagnostics(model, ["0", "2"], features=3)
    diagnostics.run(images(2))
    diagnostics.run(images(2, 1))
    expected = model[0](torch.cat([images(2), images(2, 1)])[:3])
    assert torch.allclose(diagnostics.features("0"), expected, atol=1e-6)
    kept = diagnostics.features("0")
    assert kept.grad_fn is None and kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()
    statistics_only = Diagnostics(model, "0")
    statistics_only.run(images(2))
    with pytest.raises(LayerNotExecuted, match="features=8"):
        statistics_only.features("0")


def test_the_model_and_its_graph_are_free_while_the_diagnostics_live():
    model = network()
    diagnostics = Diagnostics(model, gradients=True)
    diagnostics.run(images(2))
    dropped = weakref.ref(model)
    weights = [weakref.ref(parameter) for parameter in model.parameters()]
    del model
    gc.collect()
    assert dropped() is None and not any(weight() is not None for weight in weights)
    assert diagnostics.summary("0").inputs == 2  # the numbers stay
    with pytest.raises(HooksError, match="is gone"):
        diagnostics.run(images(1))


def test_fifty_runs_leave_no_tensor_behind():
    model, batch = network(), images(2)
    diagnostics = Diagnostics(model, gradients=True)
    diagnostics.run(batch)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    state = set(snapshot(model))
    before = tensors()
    for _ in range(50):
        diagnostics.run(batch)
    assert tensors() <= before and set(snapshot(model)) == state


class Functional(nn.Module):
    """Two convolutions whose ReLU has no module; the second channel of the first is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.one = fixed(nn.Conv2d(1, 2, 1), [1.0, 1.0], [0.0, -10.0])
        self.two = fixed(nn.Conv2d(2, 2, 1), [1.0, 0.0, 0.0, 1.0], [0.0, 0.0])

    def forward(self, images):
        return torch.relu(self.two(torch.relu(self.one(images)))).mean((2, 3))


def test_functional_activations_have_dead_channels_too():
    model = Functional().eval()
    diagnostics = Diagnostics(model, ["one", "/relu", "/relu@2"])
    with assert_untouched(model):
        diagnostics.run(torch.ones(3, 1, 2, 2))
        diagnostics.run(torch.ones(1, 1, 2, 2))
    found = diagnostics.summary("/relu")
    assert (found.type, found.activation, found.inputs, found.statistics.mean) == ("relu", True, 4, 0.5)
    assert diagnostics.summary("one").statistics.min == -9
    assert [(dead.layer, dead.channel) for dead in diagnostics.dead_channels()] == [("/relu", 1), ("/relu@2", 1)]


class Auxiliary(nn.Module):
    """Branches that only training takes, of tokens, of channels last and of maps; a layer is called there first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, 4)
        self.norm = nn.BatchNorm2d(6)
        self.shared = nn.ReLU()
        self.tokens = nn.Linear(6, 5)
        self.last = nn.LayerNorm(6)
        self.act = nn.ReLU()
        self.maps = nn.Conv2d(6, 2, 1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.conv(x))
        answer = 0
        if self.training:
            answer = answer + self.shared(self.tokens(features.flatten(2).mT)).mean((1, 2))[:, None]
            answer = answer + self.act(self.last(features.permute(0, 2, 3, 1))).mean((1, 2, 3))[:, None]
            answer = answer + self.maps(features).mean((1, 2, 3))[:, None]
        return self.fc(self.drop(self.shared(features).mean((2, 3)))) + answer


def test_layers_that_only_training_runs_have_the_axes_that_they_had_there():
    torch.manual_seed(0)
    model = Auxiliary().train()
    plain = copy.deepcopy(model)
    named = ("tokens", "shared", "last", "act", "maps")
    kept = {name: [] for name in named}
    for name in named:
        plain.get_submodule(name).register_forward_hook(lambda *each, name=name: kept[name].append(each[2].detach()))
    diagnostics = Diagnostics(model, features=8)
    torch.manual_seed(1)
    with diagnostics.watch(training=True):
        watched = [model(batch) for batch in images(8).split([5, 3])]
    torch.manual_seed(1)
    right = [plain(batch) for batch in images(8).split([5, 3])]
    assert all(map(torch.equal, watched, right))  # the step itself is as without anybody watching
    assert torch.equal(model.norm.running_mean, plain.norm.running_mean)
    assert model.norm.num_batches_tracked == plain.norm.num_batches_tracked == 2
    cases = {  # which axes are neither image nor channel
        ("tokens", 0): (torch.cat(kept["tokens"]), (1,)),
        ("shared", 0): (torch.cat(kept["shared"][::2]), (1,)),
        ("shared", 1): (torch.cat(kept["shared"][1::2]), (2, 3)),
        ("last", 0): (torch.cat(kept["last"]), (1, 2)),
        ("act", 0): (torch.cat(kept["act"]), (1, 2)),
        ("maps", 0): (torch.cat(kept["maps"]), (2, 3)),
    }
    for (layer, call), (values, rest) in cases.items():
        summary = diagnostics.summary(layer, call)
        assert summary.inputs == 8
        np.testing.assert_allclose(summary.statistics.channels["mean"], values.mean((0, *rest)), atol=1e-6)
        np.testing.assert_array_equal(summary.fired, (values.abs().amax(rest) > 0).sum(0))
        torch.testing.assert_close(diagnostics.features(layer, call), values, rtol=0, atol=0)
    np.testing.assert_array_equal(diagnostics.maps("last"), kept["last"][0][0].permute(2, 0, 1))
    assert not live_hooks()


def test_axes_of_training_are_learnt_when_it_comes_and_not_taken_for_those_of_evaluation():
    torch.manual_seed(0)
    model = Auxiliary().eval()
    diagnostics = Diagnostics(model, ("shared", "tokens"))
    with diagnostics.watch():
        model(images(2))
    assert diagnostics.summary("shared").statistics.channels["mean"].shape == (6,)
    model.train()
    diagnostics.reset()
    with diagnostics.watch(training=True):
        model(images(2))
    assert diagnostics.summary("shared").statistics.channels["mean"].shape == (5,)  # of the tokens, which come first
    assert diagnostics.summary("shared", 1).statistics.channels["mean"].shape == (6,)
    diagnostics.reset()
    diagnostics.run(images(2))
    assert diagnostics.summary("shared").statistics.channels["mean"].shape == (6,)


def test_a_training_pass_that_cannot_be_tried_with_one_image_is_watched_all_the_same():
    class Pairs(Auxiliary):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training and len(x) < 2:
                raise ValueError("pairs are wanted")
            return super().forward(x)

    model = Pairs().train()
    diagnostics = Diagnostics(model, ("conv", "tokens"))
    with diagnostics.watch(training=True):
        model(images(4))
    assert diagnostics.summary("conv").inputs == 4
    assert diagnostics.summary("tokens").statistics.count == 4 * 16 * 5
    assert diagnostics.summary("tokens").fired.size == 0  # not known, and not guessed
