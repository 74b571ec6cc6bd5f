"""Numbers that the usual calls get wrong, beside ours (docs/truth.md, 8, 6.7, 9.2, 9.5 and 9.6)."""

from __future__ import annotations

import json
import math
import threading

import numpy as np
import pytest
import torch
from helpers import assert_untouched
from torch import Tensor, nn

from hookscope.hooks.datasets.diagnostics import Diagnostics
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.numbers.reductions import statistics
from hookscope.hooks.results.codec import MAGIC, decode, encode
from hookscope.hooks.results.looks import Statistics


def test_histc_and_quantile_refuse_or_drop_what_is_not_finite() -> None:
    values = torch.linspace(-1, 1, 1000)
    values[:3], values[3], values[4] = math.nan, math.inf, -math.inf
    with pytest.raises(RuntimeError, match="is not finite"):
        torch.histc(values)
    assert torch.histc(values, 64, -1, 1).sum() == 995  # without a word
    assert values.mean().isnan() and values.max().isnan() and torch.quantile(values, 0.5).isnan()
    assert not (values.max() < 1e-6) and not (values.max().abs() > 1e3)  # so neither alarm of the article sounds
    for distribution in (True, "approximate"):
        found = statistics(values, None, distribution=distribution)
        assert (found.nan, found.inf, found.count, found.histogram.sum()) == (3, 2, 1000, 995)
        assert found.max == 1 and found.mean == pytest.approx(values[5:].double().mean().item(), rel=1e-12)
        assert not np.isnan(found.quantiles).any()


def test_numbers_that_are_none_travel_as_json_that_others_can_read() -> None:
    def refuse(text: str) -> None:
        raise ValueError(f"{text} is no JSON")

    found = statistics(torch.full((3,), math.nan), None)
    assert math.isnan(found.mean)
    with pytest.raises(ValueError, match="NaN is no JSON"):
        json.loads(json.dumps({"mean": found.mean}), parse_constant=refuse)  # the control
    data = encode(found)
    start = len(MAGIC) + 4
    header = data[start : start + int.from_bytes(data[len(MAGIC) : start], "little")]
    assert json.loads(header, parse_constant=refuse)["$type"] == "Statistics"
    again = decode(data, Statistics)
    assert math.isnan(again.mean) and again.nan == 3


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 2048), (torch.bfloat16, 256)])
def test_histc_stops_counting_in_reduced_precision(dtype: torch.dtype, most: int) -> None:
    values = torch.zeros(10_000, dtype=dtype)
    assert torch.histc(values, 3, -1, 1).sum() == most  # the control
    for distribution in (True, "approximate"):
        assert statistics(values, None, distribution=distribution).histogram.sum() == 10_000


def test_histc_stops_counting_at_two_to_the_24th() -> None:
    count = 2**24 + 1000
    values = torch.zeros(count)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert torch.histc(values, 3, -1, 1).max() == 2**24  # the control
    finally:
        torch.set_num_threads(threads)
    found = statistics(values, None, distribution="approximate")
    assert found.histogram.max() == count and found.zeros == 1


def test_half_precision_overflows_and_cancels() -> None:
    values = torch.full((1, 1, 100, 100), 300.0, dtype=torch.float16)
    values[..., ::2] = 301
    assert torch.isinf(values.sum()) and torch.isinf(values.square().mean())  # the control
    found = statistics(values, 1)
    assert (found.mean, found.std) == (300.5, 0.5)
    near = (100 + torch.tensor([-0.25, 0.25])).to(torch.bfloat16)
    assert near.std() == 0 == statistics(near, None).std  # bfloat16 itself holds no more: that is the value
    with pytest.raises(TypeError, match="BFloat16"):
        near.numpy()


def test_variance_in_one_pass_cancels_in_float32() -> None:
    torch.manual_seed(0)
    values = 1e4 + torch.randn(100_000) * 1e-2
    naive = (values.square().mean() - values.mean().square()).item()
    true = values.double().var(correction=0).item()
    assert abs(naive - true) > true  # the control
    assert statistics(values, None).std ** 2 == pytest.approx(true, rel=1e-6)


def test_integers_booleans_and_single_values_have_numbers() -> None:
    for values in (torch.tensor([1, 2, 4]), torch.tensor([True, False])):
        with pytest.raises(RuntimeError, match="could not infer output dtype"):
            values.mean()
        assert statistics(values, None).mean == values.double().mean().item()
    with pytest.warns(UserWarning, match="degrees of freedom"):
        assert torch.tensor([2.0]).std().isnan()
    assert statistics(torch.tensor([2.0]), None).std == 0


def test_a_dead_channel_is_seen_per_channel_and_not_in_the_layers_maximum() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True)).eval()
    with torch.no_grad():
        model[0].weight[5].zero_()
        model[0].bias[5] = -1
    with torch.no_grad(), capture(model, ":ReLU") as seen:
        model(torch.randn(4, 3, 16, 16))
    numbers = statistics(seen["1"].value, 1)
    assert numbers.max > 1  # the control: the layer as a whole is alive
    assert np.flatnonzero(numbers.channels["max"] == 0).tolist() == [5] and numbers.channels["zeros"][5] == 1


class Wrong:
    """The article's store: one dictionary behind a lock, and hooks that see everybody's forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.lock, self.seen = threading.Lock(), []
        self.handles = [module.register_forward_hook(self.look) for module in model.children()]

    def look(self, module: nn.Module, args: object, output: Tensor) -> None:
        with self.lock:
            self.seen.append(output.detach().clone())


def test_a_lock_around_the_store_does_not_keep_threads_apart() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).eval()
    other = threading.Thread(target=lambda: model(torch.full((1, 4), 9.0)))
    shared = Wrong(model)
    with torch.no_grad(), capture(model, ["0", "1"]) as seen:
        other.start()
        other.join()
        model(torch.ones(1, 4))
    for handle in shared.handles:
        handle.remove()
    assert len(shared.seen) == 4  # the control: two of them are another request's
    assert [record.layer for record in seen] == ["0", "1"]
    assert torch.equal(seen["0"].value, model[0](torch.ones(1, 4)))


def test_gradients_of_several_threads_on_one_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    pictures = [torch.randn(1, 1, 8, 8) for _ in range(4)]

    def look(picture: Tensor, target: int) -> Tensor:
        with capture(model, "0", gradients=True) as seen:
            logits = model(picture)
        seen.differentiate(logits[0, target % 3])
        found = seen["0"].gradient
        assert found is not None
        return found

    expected = [look(picture, index) for index, picture in enumerate(pictures)]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(15):
            if not torch.equal(look(pictures[index], index), expected[index]):
                wrong.append(index)

    with assert_untouched(model):
        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)
    assert all(parameter.grad is None for parameter in model.parameters())


class Scores(nn.Module):
    """A normalisation and a head; after training mode its running means have moved."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x))


@pytest.mark.parametrize("training", [False, True])
def test_two_sets_hooked_on_one_module_differ_by_nothing(training: bool) -> None:
    """The article's three comparisons register both sides' hooks first, so the second pass overwrites the first's."""
    torch.manual_seed(0)
    model, first, second = Scores().train(training), torch.randn(256, 4), torch.randn(256, 4) + 5
    sides: list[dict[str, Tensor]] = [{}, {}]
    handles = [
        model.norm.register_forward_hook(lambda m, a, o, side=side: side.update(norm=o.detach())) for side in sides
    ]
    copy = Scores().train(training)
    copy.load_state_dict(model.state_dict())
    model(first), model(second)
    for handle in handles:
        handle.remove()
    assert (sides[0]["norm"].mean(0) - sides[1]["norm"].mean(0)).abs().max() == 0  # the control: N(0, 1) and N(5, 1)
    # the last of the three runs in training mode, and has moved the running means
    assert torch.equal(model.norm.running_mean, copy.norm.running_mean) is not training

    watched = [Diagnostics(copy, "norm"), Diagnostics(copy, "norm")]
    with assert_untouched(copy):
        for diagnostics, inputs in zip(watched, (first, second), strict=True):
            diagnostics.run(inputs)
    (shift,) = watched[0].compare(watched[1])
    # by hand: in eval mode BatchNorm leaves values as they are, up to its epsilon
    pooled = ((first.double().var(0, correction=0) + second.double().var(0, correction=0)) / 2).sqrt()
    expected = (second.double().mean(0) - first.double().mean(0)) / pooled
    assert expected.min() > 4
    np.testing.assert_allclose(shift.channel_difference, expected, rtol=1e-5)
