"""Maps by four libraries at the same layers, and how far each is from the formula on the zero-leaf gradient.

Grad-CAM is compared as it is; Grad-CAM++ and LayerCAM after ReLU and scaled to 0..1, as the other libraries give them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from bench import conditions
from bench.options import Options, say
from bench.report import Table
from hookscope.hooks.looks.cam import layer_map

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


NAMES = {"gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "layercam": "LayerCAM"}
Maker = Callable[[str, nn.Module, Place, Tensor], np.ndarray | None]


def run(options: Options) -> Table:
    """Compare; `options` change nothing, for a comparison is done once."""
    rows = []
    for method, name in NAMES.items():
        for place in PLACES:
            say(f"peers: {name} of {place.model}.{place.layer}")
            torch.manual_seed(0)
            model = torchvision.models.get_model(place.model, weights=None).eval()
            picture = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
            true = reference(method, model, place, picture)
            found = [_column(method, true, make(method, model, place, picture)) for make in MAKERS]
            remark = f" ({place.remark})" if place.remark else ""
            rows.append([f"{name}, {place.model} {place.layer}{remark}", *found])
    notes = [
        f"Random weights, noise of {SIDE} × {SIDE}, class {TARGET}, maps before any resizing. Of Grad-CAM, torchcam's,",
        "which has no negative values, is compared with the positive part; the other two are compared after ReLU and",
        "scaled to 0 … 1. grad-cam adds 1e-6 to the denominator of Grad-CAM++, which is the square of the gradient and",
        "smaller than that here; torchcam divides a copy that it throws away; captum has neither.",
        conditions.sentence(["torch", "torchvision", "captum", "grad-cam", "torchcam"]),
    ]
    return Table("peers", ["map", "Hookscope", "captum", "grad-cam", "torchcam"], rows, notes)


def reference(method: str, model: nn.Module, place: Place, picture: Tensor) -> np.ndarray:
    """The paper's formula, in float64, on the gradient with respect to zeros that are added to the layer's output."""
    outputs: list[Tensor] = []
    zeros: list[Tensor] = []

    def add(module: nn.Module, args: object, output: Tensor) -> Tensor:
        outputs.append(output.detach().clone())
        zeros.append(torch.zeros_like(output, requires_grad=True))
        return output + zeros[-1]

    handle = model.get_submodule(place.layer).register_forward_hook(add)
    score = model(picture)[0, TARGET]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, zeros[place.call])
    slopes, values = gradient[0].double(), outputs[place.call][0].double()  # (channel, height, width)
    if method == "gradcam":
        weights = slopes.mean((1, 2), keepdim=True)
    elif method == "layercam":
        weights = slopes.relu()
    else:
        # g² / (2 g² + g³ sum(A)) is 1 / (2 + g sum(A)) wherever g is not 0, and only g > 0 counts
        alpha = 1 / (2 + slopes * values.sum((1, 2), keepdim=True))
        weights = (alpha * slopes.relu()).sum((1, 2), keepdim=True)
    return (weights * values).sum(0).numpy()


def ours(method: str, model: nn.Module, place: Place, picture: Tensor) -> np.ndarray:
    return layer_map(model, picture, place.layer, TARGET, method, call=place.call).values


def by_captum(method: str, model: nn.Module, place: Place, picture: Tensor) -> np.ndarray | None:
    from captum.attr import LayerGradCam

    if method != "gradcam":
        return None
    found = LayerGradCam(model, model.get_submodule(place.layer)).attribute(picture, target=TARGET)
    return found[0, 0].detach().numpy()


def by_grad_cam(method: str, model: nn.Module, place: Place, picture: Tensor) -> np.ndarray:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    kinds = {"gradcam": "GradCAM", "gradcam++": "GradCAMPlusPlus", "layercam": "LayerCAM"}
    kept: list[np.ndarray] = []

    class Kept(getattr(pytorch_grad_cam, kinds[method])):  # type: ignore[misc]
        def get_cam_image(self, *args: Any, **kwargs: Any) -> np.ndarray:
            kept.append(super().get_cam_image(*args, **kwargs))  # before it is scaled and resized
            return kept[-1]

    with Kept(model, [model.get_submodule(place.layer)]) as explain:
        explain(picture.clone(), targets=[ClassifierOutputTarget(TARGET)])
    return kept[0][0]


def by_torchcam(method: str, model: nn.Module, place: Place, picture: Tensor) -> np.ndarray:
    from torchcam import methods

    kinds = {"gradcam": "GradCAM", "gradcam++": "GradCAMpp", "layercam": "LayerCAM"}
    with getattr(methods, kinds[method])(model, model.get_submodule(place.layer)) as explain:
        scores = model(picture.clone().requires_grad_())
        return explain(TARGET, scores, normalized=False)[0][0].detach().numpy()


MAKERS: tuple[Maker, ...] = (ours, by_captum, by_grad_cam, by_torchcam)


def _column(method: str, true: np.ndarray, found: np.ndarray | None) -> str:
    if found is None:
        return "–"
    return _apart(true, found) if method == "gradcam" else _apart(scaled(true), scaled(found))


def scaled(values: np.ndarray) -> np.ndarray:
    """After ReLU, 0..1 from the least to the largest value."""
    positive = values.astype(np.float64).clip(0)
    spread = positive.max() - positive.min()
    return (positive - positive.min()) / (spread or 1.0)


def _apart(true: np.ndarray, found: np.ndarray) -> str:
    """The largest difference in units of the largest true value, e.g. "3e-07"; bold where it is more than rounding."""
    if found.min() >= 0 > true.min():
        true = true.clip(min=0)
    scale = np.abs(true).max() or 1.0
    apart = float(np.abs(found - true).max() / scale)
    if not apart:
        return "0"
    return f"{apart:.0e}" if apart < 1e-4 else f"**{apart:.2g}**"
