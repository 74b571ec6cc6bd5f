"""Grad-CAM by four libraries at the same layers, and how far each is from the formula on the zero-leaf gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from bench import conditions
from bench.options import Options, say
from bench.report import Table
from hooks.attribution import grad_cam
from hooks.layers import describe
from hooks.results import GradCam

TARGET = 285
SIDE = 128


@dataclass(frozen=True)
class Place:
    """A layer of a torchvision model.

    Attributes:
        call: which of its calls is explained, the last one. remark: what makes it a trap; "" for none.
    """

    model: str
    layer: str
    call: int = 0
    remark: str = ""


PLACES = (
    Place("resnet18", "layer3"),
    Place("resnet18", "layer4"),
    Place("alexnet", "features.12"),
    Place("alexnet", "features.10", remark="an in-place ReLU is next"),
    Place("resnet18", "layer4.1.bn1", remark="an in-place ReLU is next"),
    Place("resnet18", "layer3.1.bn2", remark="`out += identity` is next"),
    Place("resnet18", "layer4.1.relu", 1, remark="called twice"),
)


def run(options: Options) -> Table:
    """Compare; `options` change nothing, for a comparison is done once."""
    rows = []
    for place in PLACES:
        say(f"peers: {place.model}.{place.layer}")
        torch.manual_seed(0)
        model = torchvision.models.get_model(place.model, weights=None).eval()
        picture = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        true = reference(model, place, picture)
        found = [_apart(true, make(model, place, picture)) for make in (ours, by_captum, by_grad_cam, by_torchcam)]
        rows.append([f"{place.model} {place.layer}" + (f" ({place.remark})" if place.remark else ""), *found])
    notes = [
        f"Random weights, noise of {SIDE} × {SIDE}, class {TARGET}, maps before any resizing; torchcam's, which has no",
        "negative values, is compared with the positive part.",
        conditions.sentence(["torch", "torchvision", "captum", "grad-cam", "torchcam"]),
    ]
    return Table("peers", ["layer", "Hookscope", "captum", "grad-cam", "torchcam"], rows, notes)


def reference(model: nn.Module, place: Place, picture: Tensor) -> np.ndarray:
    """Each channel weighted by its mean gradient with respect to zeros that are added to the layer's output."""
    outputs: list[Tensor] = []
    zeros: list[Tensor] = []

    def add(module: nn.Module, args: object, output: Tensor) -> Tensor:
        outputs.append(output.detach().clone())
        zeros.append(torch.zeros_like(output, requires_grad=True))
        return output + zeros[-1]

    handle = model.get_submodule(place.layer).register_forward_hook(add)
    score = model(picture)[0, TARGET]
    handle.remove()
    (slopes,) = torch.autograd.grad(score, zeros[place.call])
    return (slopes.mean((2, 3), keepdim=True) * outputs[place.call]).sum(1)[0].numpy()


def ours(model: nn.Module, place: Place, picture: Tensor) -> np.ndarray:
    found: list[GradCam] = []
    grad_cam(model, picture, [(place.layer, place.call)], TARGET, describe(model, picture), found.append)
    return found[0].values


def by_captum(model: nn.Module, place: Place, picture: Tensor) -> np.ndarray:
    from captum.attr import LayerGradCam

    found = LayerGradCam(model, model.get_submodule(place.layer)).attribute(picture, target=TARGET)
    return found[0, 0].detach().numpy()


def by_grad_cam(model: nn.Module, place: Place, picture: Tensor) -> np.ndarray:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    kept: list[np.ndarray] = []

    class Kept(GradCAM):
        def get_cam_image(self, *args: Any, **kwargs: Any) -> np.ndarray:
            kept.append(super().get_cam_image(*args, **kwargs))  # before it is scaled and resized
            return kept[-1]

    with Kept(model, [model.get_submodule(place.layer)]) as explain:
        explain(picture.clone(), targets=[ClassifierOutputTarget(TARGET)])
    return kept[0][0]


def by_torchcam(model: nn.Module, place: Place, picture: Tensor) -> np.ndarray:
    from torchcam.methods import GradCAM

    with GradCAM(model, model.get_submodule(place.layer)) as explain:
        scores = model(picture.clone().requires_grad_())
        return explain(TARGET, scores, normalized=False)[0][0].detach().numpy()


def _apart(true: np.ndarray, found: np.ndarray) -> str:
    """The largest difference in units of the largest true value, e.g. "3e-07"; bold where it is more than rounding."""
    if found.min() >= 0 > true.min():
        true = true.clip(min=0)
    scale = np.abs(true).max() or 1.0
    apart = float(np.abs(found - true).max() / scale)
    if not apart:
        return "0"
    return f"{apart:.0e}" if apart < 1e-4 else f"**{apart:.2g}**"
