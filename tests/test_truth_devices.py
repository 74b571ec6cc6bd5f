"""A device without float64: nobody has one here, so a stand-in refuses as it does (docs/truth.md, 6.12)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from no_float64 import MPS, an_mps_device, on_mps
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.datasets.diagnostics import Diagnostics
from hookscope.hooks.datasets.information import information_flow
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.attention import attention_maps
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.looks.gradients import gradients
from hookscope.hooks.looks.inputs import attribute_input
from hookscope.hooks.looks.survey import survey
from hookscope.hooks.methods import INPUTS, MAPS, METRICS
from hookscope.hooks.numbers.reductions import real, statistics


class Attends(nn.Module):
    """A convolution, attention over its positions, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.act(self.conv(x)).flatten(2).transpose(1, 2)[:, None]
        return self.head(functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(2)[:, 0])


def diagnosed(model: nn.Module, picture: Tensor) -> list[float]:
    diagnostics = Diagnostics(model, gradients=True)
    diagnostics.run(picture, 0)
    return [summary.statistics.std for of in ("output", "gradient") for summary in diagnostics.summaries(of)]


def surveyed(model: nn.Module, picture: Tensor) -> list[float]:
    calls = survey(model, picture, describe(model, picture), metrics=METRICS, target=0).calls
    return [number for call in calls for number in (call[name] for name in ("magnitude", "entropy", "gradient"))]


LOOKS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "statistics": lambda model, picture: statistics(picture, 1).channels["std"],
    "diagnostics": diagnosed,
    "gradients": lambda model, picture: [layer.norm for layer in gradients(model, picture, target=0).layers],
    "survey": surveyed,
    "information": lambda model, picture: [
        each.effective_rank for each in information_flow(model, picture, ["conv", "act"])
    ],
    "attention": lambda model, picture: attention_maps(model, picture)[0].entropy,
    **{
        method: lambda model, picture, method=method: layer_map(model, picture, "conv", 0, method).values
        for method in MAPS
    },
    **{
        method: lambda model, picture, method=method: attribute_input(model, picture, method, 0).values
        for method in INPUTS
    },
}


def test_the_stand_in_refuses_what_the_device_refuses() -> None:
    there = on_mps(torch.ones(2, 3))
    assert there.device == MPS and (there * 2).device == MPS and there.cpu().device.type == "cpu"
    for wide in (there.double, lambda: there.to(torch.float64), lambda: there.sum(dtype=torch.float64)):
        with pytest.raises(TypeError, match="float64"):
            wide()


def test_values_come_to_the_cpu_before_they_become_float64() -> None:
    found = real(on_mps(torch.tensor([2**24 + 1])))  # float32 cannot hold it
    assert (found.dtype, found.device.type, found.item()) == (torch.float64, "cpu", 2**24 + 1)


@pytest.mark.parametrize("look", LOOKS)
def test_every_number_is_had_from_a_device_without_float64(look: str) -> None:
    torch.manual_seed(0)
    model, picture = Attends().eval(), torch.randn(1, 3, 8, 8)
    expected = np.asarray(LOOKS[look](model, picture))
    with an_mps_device():
        found = np.asarray(LOOKS[look](model, on_mps(picture)))
    assert expected.size and np.isfinite(expected).any()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
