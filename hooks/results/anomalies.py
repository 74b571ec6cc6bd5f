"""Where a gradient vanishes, explodes or is no number: named by layer, with a sentence for each; without torch.

for anomaly in find_anomalies(gradients(model, image)):
    print(anomaly.sentence)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hookscope.hooks.results.looks import Gradients, LayerGradient

VANISHING_NORM = 1e-6
EXPLODING_NORM = 1e4
VANISHING_RATIO = 1e-4
EXPLODING_RATIO = 1e4
LEAST = 1e-45  # below the smallest number of float32
ALL_BUT = 0.5  # of the whole loss, by magnitudes: what takes more takes most of it
FAR = 3.0  # times the median step's magnitudes, beyond which a step stands out


@dataclass(frozen=True)
class Anomaly:
    """Something about a gradient that a person should know.

    Attributes:
        kind: "not finite", "zero", "vanishing" or "exploding".
        layer, call: where; of a ratio between two layers the one nearest to the input.
        other: of such a ratio the layer nearest to the output; "" if it is about one layer.
        sentence: what was found, with the numbers.
    """

    kind: Literal["not finite", "zero", "vanishing", "exploding"]
    layer: str
    call: int
    sentence: str
    other: str = ""


def find_anomalies(
    found: Gradients,
    *,
    vanishing_norm: float = VANISHING_NORM,
    exploding_norm: float = EXPLODING_NORM,
    vanishing_ratio: float = VANISHING_RATIO,
    exploding_ratio: float = EXPLODING_RATIO,
) -> list[Anomaly]:
    """Gradients that are not finite, vanish or explode, in the order of the forward pass, each as a sentence.

    Everything is told by norms. A mean says nothing: a gradient whose values cancel has mean 0 at any size.

    Arguments:
        found: from `gradients`; gradients at layers' outputs are looked at.
        vanishing_norm, exploding_norm: a layer whose L2 norm is below, or above, is named.
        vanishing_ratio, exploding_ratio: bounds for the norm at the first layer divided by that at the last one; a
            ratio outside is one sentence of its own, at the front.
    """
    layers = [layer for layer in found.layers if layer.side == "output" and not layer.reason]
    anomalies = _ratio(layers, vanishing_ratio, exploding_ratio)
    for layer in layers:
        title = repr(layer.layer) + (f", call {layer.call + 1}" if layer.call else "")
        if layer.nan or layer.inf:
            sentence = f"The gradient at {title} holds {layer.nan:,} NaN and {layer.inf:,} infinite values."
            anomalies.append(Anomaly("not finite", layer.layer, layer.call, sentence))
        if layer.norm == 0:
            sentence = f"The gradient at {title} is exactly 0: what the layer computes does not matter to the target."
            anomalies.append(Anomaly("zero", layer.layer, layer.call, sentence))
        elif layer.norm < vanishing_norm:
            sentence = f"The gradient vanishes at {title}: its norm is {layer.norm:.3g}, below {vanishing_norm:.3g}."
            anomalies.append(Anomaly("vanishing", layer.layer, layer.call, sentence))
        elif layer.norm > exploding_norm:
            sentence = f"The gradient explodes at {title}: its norm is {layer.norm:.3g}, above {exploding_norm:.3g}."
            anomalies.append(Anomaly("exploding", layer.layer, layer.call, sentence))
    return anomalies


def _ratio(layers: list[LayerGradient], low: float, high: float) -> list[Anomaly]:
    usable = [layer for layer in layers if layer.norm > 0 and not layer.nan and not layer.inf]
    if len(usable) < 2:
        return []
    first, last = usable[0], usable[-1]
    ratio = first.norm / last.norm
    if low <= ratio <= high:
        return []
    kind: Literal["vanishing", "exploding"] = "vanishing" if ratio < low else "exploding"
    verb = "vanishes" if ratio < low else "explodes"
    sentence = (
        f"The gradient {verb} on its way back: its norm is {last.norm:.3g} at {last.layer!r} and {first.norm:.3g} at "
        f"{first.layer!r}, a ratio of {ratio:.2g}."
    )
    return [Anomaly(kind, first.layer, first.call, sentence, last.layer)]


def find_loss(norms: Sequence[float] | np.ndarray) -> tuple[int, float]:
    """Where a gradient is lost on its way back.

    Arguments:
        norms: float (layer,), of the gradient at each layer, in the order of the forward pass; finite, at least two.

    Returns:
        The first of the two layers between which most is lost, and NaN where this step stands out; where every layer
        takes about as much, by what factor the median step lessens it.

    >>> find_loss([1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
    (0, 10.0)
    >>> find_loss([1e-6, 2e-6, 4e-6, 0.5, 1])
    (2, nan)
    """
    reach = np.maximum.accumulate(np.asarray(norms, np.float64))  # the most that any layer up to here has
    steps = np.diff(np.log10(np.maximum(reach, LEAST)))
    step = int(steps.argmax())
    if not steps[step] > 0:
        return step, math.nan
    usual = float(np.median(steps[steps > 0]))
    if steps[step] >= ALL_BUT * float(steps.sum()) or steps[step] > FAR * usual:
        return step, math.nan
    return step, round(float(10**usual), 6)


def say_lessened(first: str, norm: float, last: str, most: float, limits: str) -> str:
    """What became of a gradient between two layers, as the end of a sentence.

    Arguments:
        norm, most: at the layers `first` and `last`, of which the latter is above 0. limits: said of the former.

    >>> say_lessened("stem", 0.0, "head", 0.9, "limit 0.0001 of that")
    'is exactly 0 at stem, and 0.9 at head (limit 0.0001 of that)'
    >>> say_lessened("stem", 3e-6, "head", 0.3, "limit 0.0001 of that")
    'is 3e-06 at stem, and 0.3 at head: 1e-05 times as large (limit 0.0001 of that)'
    """
    if norm == 0:
        return f"is exactly 0 at {first}, and {most:.2g} at {last} ({limits})"
    times = f": {norm / most:.2g} times as large" if most else ""
    return f"is {norm:.2g} at {first}, and {most:.2g} at {last}{times} ({limits})"
