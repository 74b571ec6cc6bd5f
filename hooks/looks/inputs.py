"""How much each pixel of what the network saw matters for one class: saliency, integrated gradients, occlusion.

All three are captum's; this module is the only one that imports it. `methods.INPUTS` offers them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError
from hookscope.hooks.looks.batching import ALONE, baseline_of, scores_of_each
from hookscope.hooks.looks.outputs import answer
from hookscope.hooks.looks.targets import Score, Target, per_image, score_of
from hookscope.hooks.methods import INPUTS, function_at
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.looking import Steps
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.looks import InputAttribution

WINDOW = 8  # windows side by side across the shorter side


@dataclass(frozen=True)
class Sampling:
    """How finely the methods that run the model many times sample the input.

    Attributes:
        steps: of integrated gradients.
        window, stride: of occlusion, in pixels; an eighth of the shorter side, and half a window, if not given.
        batch: pictures per forward pass.
    """

    steps: int = 50
    window: int | None = None
    stride: int | None = None
    batch: int = 8


def attribute_input(
    model: nn.Module,
    inputs: Any,
    method: str,
    target: Target = None,
    sampling: Sampling | None = None,
) -> InputAttribution:
    """One map over the input for one class.

    Arguments:
        inputs: one picture, float32 (1, channel, height, width); it is copied. The baseline is zeros.
        method: "saliency": the largest absolute gradient of the logit over the channels. "integrated gradients": its
            integral along the straight line from the baseline, times the way, summed over the channels; all pixels
            together give the difference of the two logits. "occlusion": how much the logit falls when a window around
            the pixel is set to the baseline, averaged over the windows that hold the pixel.
        target: a class, a mask, one of these against another, or None for the model's own first class; see
            `looks.targets`. Saliency also takes a box or a callable; the others change the picture, and so cannot.
        sampling: how finely the others sample.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> attribute_input(net, torch.ones(1, 3, 8, 8), "occlusion", 2, Sampling(window=4)).values.shape
    (8, 8)

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        HooksError: captum is not installed. ModelNotSupported: the input is not one picture.
        TargetNotFound: there is no such class in the output. NoGradient: the model builds no graph.
        ValueError: there is no such method.
    """
    row = INPUTS.find(method)
    began = time.perf_counter()
    picture = arguments.picture(inputs)
    given_sampling = sampling or Sampling()
    window = given_sampling.window or max(min(picture.shape[2:]) // WINDOW, 1)
    sampling = replace(given_sampling, window=window, stride=given_sampling.stride or max(window // 2, 1))
    with inspecting(model, gradients=row.differentiates) as inner:
        (given,) = nested.private((picture,), requires_grad=True)
        with cancelling():
            score = score_of(answer(inner, given), target, differentiable=row.differentiates)
        baseline, together = math.nan, True
        if row.baseline:
            score = per_image(score, row.title.capitalize())
            baseline, together = baseline_of(inner, score, picture)
            sampling = sampling if together else replace(sampling, batch=1)
        asked = Asked(inner, score, picture, given, baseline, sampling, Steps(1))
        values, note = function_at(row.runs)(asked)
    note = note if together else f"{note} {ALONE}"
    milliseconds = (time.perf_counter() - began) * 1000
    about = (method, score.index, score.value, values.astype(np.float32), baseline, note)
    return InputAttribution(*about, milliseconds, score.against)


@dataclass
class Asked:
    """What a method of `methods.INPUTS` is given.

    Attributes:
        model: under hooks, in evaluation mode. score: what is explained.
        picture: float32 (1, channel, height, width). given: the copy that the model ran on for `score`.
        baseline: the score of a picture of zeros, NaN where the method has none.
        sampling: with all of its fields. steps: counts the pictures that the model was given.
    """

    model: nn.Module
    score: Score
    picture: Tensor
    given: Tensor
    baseline: float
    sampling: Sampling
    steps: Steps

    def __call__(self, pictures: Tensor) -> Tensor:
        """As captum calls a model: pictures in, one number per picture out."""
        with cancelling():  # and not between two passes, where others may run the model
            numbers = scores_of_each(self.model, self.score, pictures)
        self.steps.count(len(pictures))
        return numbers


def saliency(asked: Asked) -> tuple[np.ndarray, str]:
    """Simonyan et al., "Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps",
    ICLR workshop 2014."""
    if asked.score.of_each is None:  # a box: captum would ask for it a second time
        (gradient,) = torch.autograd.grad(asked.score.tensor, asked.given, materialize_grads=True)
        return _numpy(gradient[0].abs().amax(0)), ""
    found = _captum().Saliency(asked).attribute(asked.picture.clone().requires_grad_(), abs=True)
    return _numpy(found[0].amax(0)), ""


def integrated_gradients(asked: Asked) -> tuple[np.ndarray, str]:
    """Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017."""
    steps = asked.sampling.steps
    asked.steps.total = steps
    found = (
        _captum()
        .IntegratedGradients(asked)
        .attribute(
            asked.picture.clone().requires_grad_(), baselines=0, n_steps=steps, internal_batch_size=asked.sampling.batch
        )
    )
    values = _numpy(found[0].sum(0))
    gap = float(values.sum()) - (asked.score.value - asked.baseline)
    return values, f"{steps} steps; the sum misses the difference of the logits by {gap:.2g}."


def occlusion(asked: Asked) -> tuple[np.ndarray, str]:
    """Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014."""
    window, stride = asked.sampling.window or 1, asked.sampling.stride or 1
    channels, height, width = asked.picture.shape[1:]
    places = [math.ceil((length - min(window, length)) / stride) + 1 for length in (height, width)]
    asked.steps.total = 1 + places[0] * places[1]  # the picture itself, and one per window
    found = (
        _captum()
        .Occlusion(asked)
        .attribute(
            asked.picture.clone(),
            sliding_window_shapes=(channels, min(window, height), min(window, width)),
            strides=(channels, stride, stride),
            baselines=0,
            perturbations_per_eval=asked.sampling.batch,
        )
    )
    # the window spans all channels, so they are the same
    return _numpy(found[0].mean(0)), f"Windows of {window} × {window} pixels, {stride} apart."


def _captum() -> Any:
    # here and not above: it takes seconds, and `pip install` of the library alone does not bring it
    try:
        import captum.attr
    except ImportError as error:
        raise HooksError("Attributions of the input need captum: pip install captum.") from error
    return captum.attr


def _numpy(tensor: Tensor) -> np.ndarray:
    values: np.ndarray = tensor.detach().cpu().double().numpy()  # in this order: Apple's GPU has no float64
    return values
