"""What comes back of A's answer: identities of activation patching, estimates against exact values."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import assert_untouched
from scipy.stats import spearmanr
from test_parting import Net
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from hookscope.hooks.causes.patching import PLAIN
from hookscope.hooks.causes.restoring import _Pair, restore, restore_parts
from hookscope.hooks.errors import HooksError, TargetNotFound
from hookscope.hooks.results.restoring import Restored, RestoredParts, spearman
from hookscope.hooks.results.targets import Against, Class


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(3)
    return Net().eval()


@pytest.fixture(scope="module")
def sides() -> tuple[Tensor, Tensor]:
    torch.manual_seed(4)
    return torch.rand(1, 3, 12, 12), torch.rand(1, 3, 12, 12) * torch.tensor([2.0, -1.0, 0.3]).reshape(1, 3, 1, 1)


def last(found: object) -> Restored:
    *_, known = found  # type: ignore[misc]
    assert isinstance(known, Restored)
    return known


def test_a_cut_layer_brings_all_back_and_a_branch_does_not(net: Net, sides: tuple[Tensor, Tensor]) -> None:
    with assert_untouched(net):
        known = last(restore(net, *sides))
    by_name = {each.layer: each for each in known.layers}
    for name in ("stem", "blocks.0.relu", "blocks.3.relu", "head"):
        assert abs(by_name[name].whole - 1) <= 1e-5 and by_name[name].all_paths
    branch = by_name["blocks.1.norm"]
    assert branch.branch == "blocks.1/add" and not branch.all_paths and not 0.999 < branch.whole < 1.001
    assert (known.done, known.total) == (len(known.layers), len(known.layers))
    first = ["stem", "blocks.0.conv", "blocks.0.norm", "blocks.0/add", "blocks.0.relu"]
    assert [each.layer for each in known.layers][:5] == first


def test_a_branch_by_hand(net: Net, sides: tuple[Tensor, Tensor]) -> None:
    a, b = sides
    known = last(restore(net, a, b, ["blocks.2.norm"], target=1, target_b=3))
    with torch.no_grad():
        inside = [net.blocks[:2](net.stem(each)) for each in sides]
        block = net.blocks[2]
        joined = block.relu(block.norm(block.conv(inside[0])) + inside[1])
        logits = net.head(net.blocks[3](joined).mean((2, 3)))[0]
        of_a, of_b = (net(each)[0] for each in sides)
    gap = (of_a[1] - of_a[3]) - (of_b[1] - of_b[3])
    expected = ((logits[1] - logits[3]) - (of_b[1] - of_b[3])) / gap
    assert known.layers[0].whole == pytest.approx(float(expected), abs=1e-5)
    assert (known.target, known.target_b) == (1, 3)
    assert (known.of_a, known.of_b) == (
        pytest.approx(float(of_a[1] - of_a[3])),
        pytest.approx(float(of_b[1] - of_b[3])),
    )


def test_its_own_value_changes_nothing(net: Net, sides: tuple[Tensor, Tensor]) -> None:
    pair = _Pair.of(net, *sides, None, None, (), PLAIN)
    pair.a.outputs = pair.b.outputs
    for place in pair.b.outputs:
        assert abs(pair.measured(place, ())[0]) <= 1e-6


def test_both_directions_are_no_mirror_images(net: Net, sides: tuple[Tensor, Tensor]) -> None:
    there = last(restore(net, *sides, ["blocks.1.norm"], target=1, target_b=3))
    back = last(restore(net, *reversed(sides), ["blocks.1.norm"], target=3, target_b=1))
    assert (back.of_a, back.of_b) == (pytest.approx(-there.of_b), pytest.approx(-there.of_a))
    assert abs(there.layers[0].whole - back.layers[0].whole) > 1e-3


def test_with_one_class_it_is_set_against_the_runner_up(net: Net, sides: tuple[Tensor, Tensor]) -> None:
    known = last(restore(net, *sides, ["stem"], target=2, target_b=2))
    with torch.no_grad():
        ranked = [int(each) for each in net(sides[0])[0].argsort(descending=True)]
    assert known.runner_up and known.target == 2
    assert known.target_b == next(each for each in ranked if each != 2)
    with pytest.raises(HooksError, match="differ in nothing"):
        next(restore(net, sides[0], sides[0]))
    with pytest.raises(TargetNotFound, match="a detector's boxes, or what a callable picks, belong to one run"):
        next(restore(net, *sides, target=lambda output: output[0, 0], target_b=1))
    one = nn.Sequential(nn.Conv2d(3, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(TargetNotFound, match="have the same class"):
        next(restore(one, *sides, target=0, target_b=0))


def test_a_segmenters_class_is_set_against_the_runner_up_of_its_own_pixels(sides: tuple[Tensor, Tensor]) -> None:
    """By hand: the sums of both classes' logits over the pixels of A's class, after one branch of B is A's."""

    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            maps: Tensor = self.head((self.left(x) + self.right(x)).relu())
            return maps

    net, own = Segmenter().eval(), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for each in net.parameters():
            each.copy_(torch.randn(each.shape, generator=own))
        of_a, of_b = (net(each)[0] for each in sides)
        counts = torch.bincount(of_a.argmax(0).ravel(), minlength=3)
        first = int(counts.argmax())
        pixels = of_a.argmax(0) == first
        sums = (of_a * pixels).sum((1, 2))
        sums[first] = -torch.inf
        second = int(sums.argmax())
        patched = net.head((net.left(sides[0]) + net.right(sides[1])).relu())[0]
    known = last(restore(net, *sides, ["left"], target=first, target_b=first))
    assert (known.target, known.target_b, known.runner_up) == (first, second, True)
    number_a, number_b, number = (float(((m[first] - m[second]) * pixels).sum()) for m in (of_a, of_b, patched))
    assert known.of_a == pytest.approx(number_a, rel=1e-5)
    assert known.layers[0].whole == pytest.approx((number - number_b) / (number_a - number_b), abs=1e-5)
    with pytest.raises(HooksError, match="at 12 x 12 of A and 12 x 9 of B"):
        next(restore(net, sides[0], sides[1][..., :9], target=first, target_b=first))


def test_what_both_sides_hold_their_class_against_is_what_is_compared(net: Net, sides: tuple[Tensor, Tensor]) -> None:
    both = last(restore(net, *sides, ["blocks.2.norm"], target=Against(Class(1), Class(3)), target_b=Against(1, 3)))
    plain = last(restore(net, *sides, ["blocks.2.norm"], target=1, target_b=3))
    assert (both.target, both.target_b, both.runner_up) == (1, 3, False)
    assert both.layers[0].whole == plain.layers[0].whole and both.of_a == plain.of_a
    # where each holds its own class against something, why A is not B is asked all the same
    apart = last(
        restore(net, *sides, ["blocks.2.norm"], target=Against(Class(1)), target_b=Against(Class(3), Class(0)))
    )
    assert (apart.target, apart.target_b) == (1, 3) and apart.layers[0].whole == plain.layers[0].whole


def test_squares_of_patches_leave_the_class_token_as_it_is(sides: tuple[Tensor, Tensor]) -> None:
    """By hand: of 8 rows in 7 squares the fourth has two, so four patches, counted behind the class token."""
    net = VisionTransformer(32, 4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5).double().eval()
    own = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in net.parameters():
            each.copy_(torch.randn(each.shape, generator=own) * 0.3)
    a, b = torch.rand(2, 1, 3, 32, 32, generator=own, dtype=torch.float64)
    name = "encoder.layers.encoder_layer_0"
    seen: list[Tensor] = []
    with torch.no_grad():
        layer = net.get_submodule(name)
        handle = layer.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
        answers = [net(each)[0] for each in (a, b)]
        handle.remove()
        changed = seen[1].clone()
        for row, column in ((3, 3), (3, 4), (4, 3), (4, 4)):
            changed[:, 1 + row * 8 + column] = seen[0][:, 1 + row * 8 + column]
        handle = layer.register_forward_hook(lambda module, args, output: changed)
        patched = net(b)[0]
        handle.remove()
    *_, parts = restore_parts(net, a, b, name, by="positions", target=1, target_b=2)
    assert isinstance(parts, RestoredParts) and parts.exact.shape == (7, 7)
    of_a, of_b, of_patched = (float(each[1] - each[2]) for each in (*answers, patched))
    assert parts.exact[3, 3] == pytest.approx((of_patched - of_b) / (of_a - of_b), abs=1e-9)
    assert abs(parts.exact).min() > 0
    with pytest.raises(HooksError, match="no height and width"):
        next(restore_parts(net, a, b, "heads.head", by="positions", target=1, target_b=2))


def test_channels_and_positions_add_up_where_what_follows_is_linear(sides: tuple[Tensor, Tensor]) -> None:
    """Then the estimate is exact, and the parts are all of it."""
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()
    for by, shape in (("channels", (6,)), ("positions", (7, 7))):
        *_, parts = restore_parts(linear, *sides, "0", by=by)  # type: ignore[arg-type]
        assert isinstance(parts, RestoredParts) and parts.exact.shape == shape
        np.testing.assert_allclose(parts.estimate, parts.exact, atol=1e-5)
        assert parts.exact.sum() == pytest.approx(1, abs=1e-4) and parts.agreement > 0.99


def test_the_estimate_comes_first_and_agrees_with_what_is_measured(net: Net, sides: tuple[Tensor, Tensor]) -> None:
    steps = list(restore_parts(net, *sides, "blocks.3.norm"))
    assert np.isnan(steps[0].exact).all() and np.isfinite(steps[0].estimate).all()
    assert [np.isfinite(each.exact).sum() for each in steps] == list(range(9))
    order = [int(np.flatnonzero(np.isfinite(b.exact) & ~np.isfinite(a.exact))[0]) for a, b in pairwise(steps)]
    assert order[0] == int(np.abs(steps[0].estimate).argmax())
    assert steps[-1].agreement == pytest.approx(spearmanr(steps[-1].estimate, steps[-1].exact).statistic)
    assert steps[-1].agreement >= 0.9


def test_integrated_estimates_add_up_to_what_the_whole_layer_brings_back(sides: tuple[Tensor, Tensor]) -> None:
    """Completeness: of a cut layer all of A's answer, M_A - M_B; and each is the integral that is taken by hand."""
    own = torch.Generator().manual_seed(1)
    parts = [nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    smooth = nn.Sequential(*parts, nn.Linear(6, 4)).eval()
    with torch.no_grad():
        for each in smooth.parameters():
            each.copy_(torch.randn(each.shape, generator=own) * 0.5)
    found = {}
    for steps in (0, 1, 4, 16, 64):
        found[steps] = next(restore_parts(smooth, *sides, "0", target=0, target_b=1, steps=steps))
        assert found[steps].steps == steps
    errors = {steps: abs(float(each.estimate.sum()) - 1) for steps, each in found.items()}
    assert errors[64] < 1e-3 and errors[64] < errors[16] / 8 < errors[4] / 64  # the midpoint rule's error is quadratic
    assert errors[0] > 0.05
    a, b = (smooth[0](each).detach() for each in sides)
    summed = torch.zeros_like(a)
    for step in range(4):
        value = (b + (step + 0.5) / 4 * (a - b)).requires_grad_()
        logits = smooth[1:](value)[0]
        summed += torch.autograd.grad(logits[0] - logits[1], value)[0]
    of_a, of_b = (smooth(each)[0].detach() for each in sides)
    gap = float((of_a[0] - of_a[1]) - (of_b[0] - of_b[1]))
    expected = ((a - b) * summed / 4).sum((0, 2, 3)) / gap
    np.testing.assert_allclose(found[4].estimate, expected.numpy(), atol=1e-5)


def test_spearman_is_that_of_scipy_with_equal_values() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        one, other = random.integers(0, 5, 12), random.integers(0, 5, 12)
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert math.isnan(spearman([1, 2], [1, 2])) and math.isnan(spearman([1, 1, 1], [1, 2, 3]))


class Aside(nn.Module):
    """Leaves a value beside the path, which another layer reads: what is handed out as before does not leave it."""

    def __init__(self, store: list[Tensor], reads: bool) -> None:
        super().__init__()
        self.store, self.reads = store, reads

    def forward(self, x: Tensor) -> Tensor:
        if self.reads:
            return x + self.store.pop()
        self.store.append(x * 2)
        return x * 0.5


def test_a_model_that_passes_values_on_by_the_way(sides: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    store: list[Tensor] = []
    parts = [nn.Conv2d(3, 4, 3), Aside(store, False), nn.ReLU(), Aside(store, True)]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    known = last(restore(model, *sides, target=0, target_b=1))
    by_name = {each.layer: each for each in known.layers}
    assert by_name["0"].all_paths and by_name["3"].all_paths and not by_name["2"].all_paths


# --- functions, and modules that are called several times


class Odd(nn.Module):
    """Functions that no module computes, a part that is called twice, and a ReLU that is called for what it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.part = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.LeakyReLU(0.3))
        self.write = nn.ReLU(inplace=True)
        self.mix = Mixed()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        first = self.part(self.stem(x))
        second = self.part(first)
        self.write(second)  # what it returns is not read, but what it wrote over
        mixed = self.mix(self.mix(second, first), first)
        return self.head(torch.cat([mixed, first], 1).mean((2, 3)))


class Mixed(nn.Module):
    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return nn.functional.relu(one + other * 0.5 - 0.1)


def m_of(logits: Tensor) -> float:
    return float(logits[0, 0] - logits[0, 1])


@pytest.fixture(scope="module")
def odd() -> Odd:
    own, model = torch.Generator().manual_seed(0), Odd().eval()
    with torch.no_grad():
        for each in model.parameters():
            each.copy_(torch.randn(each.shape, generator=own) * 0.4)
    return model


def by_hand(model: Odd, x: Tensor, given: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The network step by step, where a step's value may be given; the answer, and every step's value."""
    act, steps = nn.functional.leaky_relu, dict[str, Tensor]()

    def step(name: str, value: Tensor) -> Tensor:
        steps[name] = given.get(name, value)
        return steps[name]

    with torch.no_grad():
        first = act(step("part.0", model.part[0](model.stem(x))), 0.3)
        second = act(step("part.0:1", model.part[0](first)), 0.3)
        second = step("write", second.clamp_min(0))
        mixed = second
        for call in ("", ":1"):
            mixed = step(f"mix{call}", torch.relu(step(f"mix/add{call}", mixed + first * 0.5) - 0.1))
        joined = step("/cat", torch.cat([mixed, first], 1))
        return model.head(joined.mean((2, 3))), steps


NAMES = ("part.0", "part.0:1", "write", "mix/add", "mix/add:1", "mix", "mix:1", "/cat")


@pytest.mark.parametrize("key", NAMES)
def test_each_call_of_a_function_and_of_a_module_by_hand(odd: Odd, sides: tuple[Tensor, Tensor], key: str) -> None:
    a, b = sides
    (of_a, in_a), (of_b, in_b) = by_hand(odd, a, {}), by_hand(odd, b, {})
    torch.testing.assert_close(of_a, odd(a))  # the steps are the network's
    name, _, call = key.partition(":")
    gap = m_of(of_a) - m_of(of_b)

    def share(value: Tensor) -> float:
        return (m_of(by_hand(odd, b, {key: value})[0]) - m_of(of_b)) / gap

    with assert_untouched(odd):
        known = last(restore(odd, a, b, [name], target=0, target_b=1))
    found = next(each for each in known.layers if each.call == int(call or 0))
    assert found.whole == pytest.approx(share(in_a[key]), abs=1e-5)
    *_, parts = restore_parts(odd, a, b, name, int(call or 0), target=0, target_b=1)
    for channel in range(in_a[key].shape[1]):
        value = in_b[key].clone()
        value[:, channel] = in_a[key][:, channel]
        assert parts.exact[channel] == pytest.approx(share(value), abs=1e-5)
    assert parts.whole == pytest.approx(found.whole, abs=1e-6)


def test_functions_stand_in_the_profile_unless_their_module_returns_the_same(
    odd: Odd, sides: tuple[Tensor, Tensor]
) -> None:
    known = last(restore(odd, *sides, target=0, target_b=1))
    places = [(each.layer, each.call) for each in known.layers]
    assert ("/cat", 0) in places and ("mix/add", 1) in places
    assert ("mix", 0) in places and ("mix/relu", 0) not in places  # one value, under one name
    by_place = {(each.layer, each.call): each for each in known.layers}
    assert by_place["/cat", 0].all_paths and not by_place["mix/add", 0].all_paths


def test_another_models_values_are_put_where_the_layers_have_one_name(net: Net, sides: tuple[Tensor, Tensor]) -> None:
    own, a, b = torch.Generator().manual_seed(5), *sides
    old = Net().eval()
    with torch.no_grad():
        for each in old.parameters():
            each.copy_(torch.randn(each.shape, generator=own) * 0.3)
    with assert_untouched(net), assert_untouched(old):
        known = last(restore(net, a, b, ["blocks.1.relu", "stem"], target=1, target_b=3, model_a=old))
    with torch.no_grad():
        of_a, of_b = old(a)[0], net(b)[0]
        gap = (of_a[1] - of_a[3]) - (of_b[1] - of_b[3])
        rest = {"stem": net.blocks(old.stem(a)), "blocks.1.relu": net.blocks[2:](old.blocks[:2](old.stem(a)))}
        for found in known.layers:
            logits = net.head(rest[found.layer].mean((2, 3)))[0]
            expected = ((logits[1] - logits[3]) - (of_b[1] - of_b[3])) / gap
            assert found.whole == pytest.approx(float(expected), abs=1e-4) and not found.all_paths
    assert known.of_a == pytest.approx(float(of_a[1] - of_a[3]), abs=1e-5)
    with pytest.raises(HooksError, match="not of one architecture"):
        next(restore(net, a, b, target=0, target_b=1, model_a=nn.Sequential(nn.Flatten(), nn.Linear(432, 5))))


@pytest.mark.parametrize("side", [0, 1])
def test_an_answer_that_is_no_number_is_not_taken_for_the_same(
    net: Net, sides: tuple[Tensor, Tensor], side: int
) -> None:
    broken = [each * math.nan if number == side else each for number, each in enumerate(sides)]
    with pytest.raises(HooksError, match="An answer is NaN or infinite for these two classes"):
        next(restore(net, *broken, target=0, target_b=1))


def test_what_cannot_be_restored_says_why(net: Net, sides: tuple[Tensor, Tensor]) -> None:
    known = last(restore(net, sides[0], torch.rand(1, 3, 9, 9)))
    assert known.layers[0].reason.startswith("A is 1 x 8 x 12 x 12 here and B 1 x 8 x 9 x 9")
    assert known.layers[-1].layer == "head" and known.layers[-1].all_paths
    with pytest.raises(HooksError, match="no height and width"):
        next(restore_parts(net, *sides, "head", by="positions"))


class CalledAgain(nn.Module):
    """Calls a part of `first` once more, by itself, before the layer that is restored."""

    def __init__(self) -> None:
        super().__init__()
        part = nn.Linear(6, 6)
        self.first, self.last, self.head = nn.Sequential(part, nn.Tanh()), nn.Linear(6, 6), nn.Linear(6, 3)

    def before(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.first[0](self.first(x)))

    def after(self, u: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        return self.head(last * u)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = self.before(x)
        return self.after(u, self.last(u))


def test_a_part_that_is_called_inside_a_container_and_again_outside_it() -> None:
    """By hand; the second call once got the value of the first."""
    torch.manual_seed(0)
    net, a, b = CalledAgain().eval(), torch.rand(1, 6), torch.rand(1, 6)
    *_, found = restore(net, a, b, ["last"], target=0, target_b=1)
    with torch.no_grad():
        of_a, of_b, restored = (
            float((logits := net.after(net.before(x), net.last(net.before(y))))[0, 0] - logits[0, 1])
            for x, y in ((a, a), (b, b), (b, a))
        )
    assert found.layers[0].whole == pytest.approx((restored - of_b) / (of_a - of_b), abs=1e-5)


def test_what_comes_back_is_that_of_the_logits_before_a_softmax(net: Net, sides: tuple[Tensor, Tensor]) -> None:
    ending = nn.Sequential(net, nn.Softmax(1)).eval()
    plain, ended = last(restore(net, *sides)), last(restore(ending, *sides))
    by_name = {each.layer: each for each in ended.layers}
    assert len(plain.layers) > 10
    for each in plain.layers:
        assert by_name[f"0.{each.layer}" if each.layer[0] != "/" else f"0{each.layer}"].whole == each.whole
