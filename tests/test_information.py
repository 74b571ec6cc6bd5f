"""Entropy and width by hand, and a bottleneck that was planted."""

import math

import numpy as np
import pytest
import torch
from helpers import assert_untouched, fixed
from torch import nn

from hookscope.hooks.datasets.information import information_flow, widths
from hookscope.hooks.errors import LayerNotFound
from hookscope.hooks.results.information import bottlenecks
from hookscope.hooks.results.summaries import LayerInformation


def test_widths_by_hand():
    # four samples of two channels that vary alike and independently: eigenvalues 1 : 1
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert widths(square) == pytest.approx((2, 2))
    # standard deviations 1 and 3, eigenvalues 1 : 9
    shares = (0.1, 0.9)
    rank = math.exp(-sum(share * math.log(share) for share in shares))
    assert widths(square * torch.tensor([1.0, 3.0])) == pytest.approx((rank, 1 / (0.01 + 0.81)))
    # a copy of a channel is no direction of its own
    assert widths(square[:, [0, 0, 0]]) == pytest.approx((1, 1))
    # neither the mean nor the scale matters
    assert widths(square * 1e-30 + 0) == pytest.approx((2, 2))
    assert widths(square * 1e30) == pytest.approx((2, 2))
    assert widths(square.double() + 1e3) == pytest.approx((2, 2))


def test_widths_agree_with_numpys_covariance_also_with_more_channels_than_samples():
    torch.manual_seed(0)
    for shape in ((50, 6), (6, 50)):
        samples = torch.randn(shape) * torch.rand(shape[1])
        values = np.linalg.eigvalsh(np.cov(samples.double().numpy().T))
        shares = values[values > 1e-12] / values[values > 1e-12].sum()
        expected = (np.exp(-(shares * np.log(shares)).sum()), values.sum() ** 2 / (values**2).sum())
        assert widths(samples) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "samples", [torch.zeros(0, 3), torch.ones(1, 3), torch.ones(5, 3), torch.ones(5, 0), torch.full((3, 2), math.nan)]
)
def test_what_does_not_vary_has_no_width(samples):
    assert all(math.isnan(number) for number in widths(samples))


def squeezed() -> nn.Sequential:
    """Four channels, pressed through one and spread out over four again."""
    identity = torch.eye(4).tolist()
    return nn.Sequential(
        fixed(nn.Conv2d(4, 4, 1, bias=False), identity),
        fixed(nn.Conv2d(4, 1, 1, bias=False), [1.0, 1.0, 1.0, 1.0]),
        fixed(nn.Conv2d(1, 4, 1, bias=False), [1.0, 1.0, 1.0, 1.0]),
        nn.Flatten(),
    ).eval()


def test_a_planted_bottleneck_shows_in_the_widths():
    torch.manual_seed(0)
    model = squeezed()
    image = torch.randn(2, 4, 16, 16)
    with assert_untouched(model):
        flow = information_flow(model, image)
    assert [(step.layer, step.channels, step.samples) for step in flow[:3]] == [
        ("0", 4, 512),
        ("1", 1, 512),
        ("2", 4, 512),
    ]
    assert flow[0].effective_rank > 3.9
    assert flow[1].effective_rank == flow[2].effective_rank == pytest.approx(1)
    assert flow[2].participation_ratio == pytest.approx(1)
    # what was lost does not come back: the copies after it are no wider, so the squeeze is an end and no bottleneck
    assert not bottlenecks(flow[:3])


def step(layer: str, rank: float) -> LayerInformation:
    return LayerInformation(layer, 0, "Conv2d", 5.0, 64, 100, rank, rank)


def test_bottlenecks_are_narrower_than_before_and_after():
    flow = [step(name, rank) for name, rank in zip("abcdefgh", [3, 40, 10, 8, 12, math.nan, 60, 2], strict=True)]
    (found,) = bottlenecks(flow)  # c, d and e are narrow; a begins and h ends narrow
    assert (found.layer, found.effective_rank, found.narrowing) == ("d", 8, 5)
    assert not bottlenecks(flow, factor=6)
    assert [
        each.layer for each in bottlenecks([step("a", 9), step("b", 2), step("c", 8), step("d", 1), step("e", 9)])
    ] == [
        "b",
        "d",
    ]
    assert not bottlenecks([])


def test_entropy_of_the_values_by_hand():
    model = nn.Sequential(nn.Identity(), nn.ReLU()).eval()
    image = torch.tensor([[[[-1.0, 1.0], [2.0, 3.0]]]])
    flow = information_flow(model, image)
    assert [each.entropy for each in flow] == [2.0, 2.0]
    flow = information_flow(model, torch.tensor([[[[-1.0, -2.0], [0.0, 3.0]]]]))
    assert flow[1].entropy == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    assert information_flow(model, torch.ones(1, 1, 2, 2))[0].entropy == 0


def test_layers_can_be_chosen_containers_included():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.Flatten()).eval()
    flow = information_flow(model, torch.randn(1, 3, 4, 4), ["0", "0.1"])
    assert [each.layer for each in flow] == ["0.1", "0"]
    with pytest.raises(LayerNotFound):
        information_flow(model, torch.randn(1, 3, 4, 4), "nothing")
