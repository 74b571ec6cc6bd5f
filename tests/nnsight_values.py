"""What nnsight says of restoring, muting and scaling in three architectures, stored for `tests/test_nnsight.py`.

    python -m venv /tmp/nnsight && /tmp/nnsight/bin/pip install nnsight==0.8.1 torch torchvision
    python tests/nnsight_values.py

nnsight (MIT, https://nnsight.net) changes values by its own interventions and knows nothing of us. It wants another
version of several packages, so it is no dependency of the tests; it runs in float64, the tests in float32. The weights
and the pictures are drawn here, so that they hang on torch's random numbers alone and not on how anybody initialises.
"""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

VALUES = Path(__file__).with_suffix(".json")
STRONGEST = 5
# among them branches of residual blocks, concatenations, tokens
LAYERS: dict[str, tuple[str, ...]] = {
    "resnet18": ("bn1", "layer1.0.conv2", "layer2.0.downsample.0", "layer3.1", "layer4.0.bn1"),
    "densenet121": (
        "features.denseblock1.denselayer2.conv2",
        "features.transition1",
        "features.denseblock3.denselayer5",
        "features.denseblock4.denselayer16.norm1",
    ),
    "swin_t": ("features.0.2", "features.1.0.mlp.3", "features.3.1.norm1", "features.5.2.attn"),
}


def made(name: str) -> nn.Module:
    """A model of ten classes whose every value is drawn from one generator of its own."""
    net: nn.Module = getattr(models, name)(num_classes=10).eval()
    own = torch.Generator().manual_seed(sum(map(ord, name)))
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if not value.is_floating_point():
                continue
            drawn = torch.randn(value.shape, generator=own)
            if key.endswith("running_var"):
                value.copy_(1 + 0.2 * drawn.abs())
            elif value.ndim < 2:
                value.copy_(0.1 * drawn + (1 if key.endswith("weight") else 0))
            else:
                value.copy_(drawn * (2.5 / value[0].numel()) ** 0.5)
    return net


def pictures() -> tuple[Tensor, Tensor]:
    """A and B."""
    own = torch.Generator().manual_seed(2)
    one = torch.randn(1, 3, 64, 64, generator=own)
    return one, one.flip(3) * torch.tensor([1.5, -0.5, 0.2]).reshape(1, 3, 1, 1)


def channel_axis(name: str) -> int:
    """Where the channels of `LAYERS` are: behind its first layer torchvision's Swin holds them last."""
    return 3 if name == "swin_t" else 1


def measure(name: str) -> dict[str, Any]:
    """By nnsight: m of each layer and of its `STRONGEST` channels, and A's logits with these muted and doubled."""
    from nnsight import NNsight

    net = made(name).double()
    a, b = (each.double() for each in pictures())
    traced = NNsight(net)
    axis = channel_axis(name)

    def value_of(picture: Tensor, layer: str) -> Tensor:
        with torch.no_grad(), traced.trace(picture):
            at = reduce(getattr, layer.split("."), traced)
            found = at.output.clone().save()  # a ReLU behind it may write in place
        return found

    def logits(picture: Tensor, layer: str, value: Any, channels: list[int] | None = None) -> Tensor:
        with torch.no_grad(), traced.trace(picture):
            at = reduce(getattr, layer.split("."), traced)
            changed = at.output.clone().movedim(axis, 0)
            if channels is None:
                changed.copy_(value.movedim(axis, 0))
            elif isinstance(value, float):
                changed[channels] *= value
            else:
                changed[channels] = value.movedim(axis, 0)[channels]
            at.output = changed.movedim(0, axis)
            found = traced.output.save()
        return found[0]

    plain = [net(each)[0].detach() for each in (a, b)]
    apart = plain[0] - plain[1]
    target, target_b = int(apart.argmax()), int(apart.argmin())  # so that M_A - M_B is no small number

    def contrast(answer: Tensor) -> float:
        return float(answer[target] - answer[target_b])

    of_a, of_b = map(contrast, plain)
    layers = {}
    for layer in LAYERS[name]:
        value = value_of(a, layer)
        differs = (value - value_of(b, layer)).square().movedim(axis, 0).flatten(1).sum(1)
        channels = differs.argsort(descending=True)[:STRONGEST].tolist()
        whole, some = ((contrast(logits(b, layer, value, part)) - of_b) / (of_a - of_b) for part in (None, channels))
        muted, doubled = (logits(a, layer, factor, channels).tolist() for factor in (0.0, 2.0))
        layers[layer] = {"channels": channels, "whole": whole, "some": some, "muted": muted, "doubled": doubled}
    return {"target": target, "target_b": target_b, "of_a": of_a, "of_b": of_b, "layers": layers}


if __name__ == "__main__":
    import nnsight

    measured = {each: measure(each) for each in LAYERS}
    stored = {"nnsight": nnsight.__version__, "torch": torch.__version__, "models": measured}
    VALUES.write_text(json.dumps(stored) + "\n")
    for name, found in measured.items():
        for layer, values in found["layers"].items():
            print(name, layer, values["whole"], values["some"])
