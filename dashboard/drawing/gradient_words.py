"""What is odd about a network's gradients, in few sentences: one for all layers that say the same, and one hint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.hooks.results.anomalies import EXPLODING_NORM, VANISHING_NORM, Anomaly, find_anomalies
from hookscope.hooks.results.looks import Gradients, LayerGradient

HINTS = {
    "not finite": "Look for the first layer whose own values are not finite, in the tree or on its card.",
    "zero": "Usual causes: a ReLU behind the layer that is 0 everywhere for this picture, or a branch that the class "
    "does not depend on.",
    "vanishing": "What usually helps: a path around each block (residual connections), normalisation between layers, "
    "ReLU or GELU in place of sigmoid or tanh, and weights initialised for that activation.",
    "exploding": "What usually helps: normalisation between layers, smaller initial weights, and clipped gradients in "
    "training.",
}
_NORMS = {"vanishing": f"below {VANISHING_NORM:.3g}", "exploding": f"above {EXPLODING_NORM:.3g}"}
_SAYS = {
    "not finite": "The gradient holds NaN or infinite values",
    "zero": "The gradient is exactly 0",
    "vanishing": "The gradient vanishes",
    "exploding": "The gradient explodes",
}


@dataclass(frozen=True)
class Finding:
    """One sentence for a person.

    Attributes:
        details: what it sums up, layer by layer; empty if it is about one layer or is told by two of them.
    """

    sentence: str
    details: tuple[str, ...] = ()


def find_words(found: Gradients) -> tuple[list[Finding], str]:
    """The findings, the ratio along the depth first, and one hint on what usually helps; "" if nothing is odd."""
    anomalies = find_anomalies(found)
    at_layers = [anomaly for anomaly in anomalies if not anomaly.other]
    findings = [Finding(anomaly.sentence) for anomaly in anomalies if anomaly.other]
    norms = {(layer.layer, layer.call): layer for layer in reversed(_outputs(found))}
    for kind in dict.fromkeys(anomaly.kind for anomaly in at_layers):
        same = [anomaly for anomaly in at_layers if anomaly.kind == kind]
        details = tuple(anomaly.sentence for anomaly in same)
        findings.append(Finding(details[0]) if len(same) == 1 else Finding(_summed_up(same, norms), details))
    reasons: dict[str, list[str]] = {}
    for layer in found.layers:
        if layer.reason:
            reasons.setdefault(layer.reason, []).append(layer.layer)
    for reason, names in reasons.items():
        details = tuple(f"{name}: {reason}" for name in names)
        many = f"{len(names)} layers, {_span(names)}: {reason}"
        findings.append(Finding(details[0]) if len(names) == 1 else Finding(many, details))
    return findings, HINTS[anomalies[0].kind] if anomalies else ""


def odd_keys(found: Gradients) -> set[str]:
    """The keys of the calls at which the gradient is not finite, is 0, vanishes or explodes."""
    return {key_of(anomaly.layer, anomaly.call) for anomaly in find_anomalies(found) if not anomaly.other}


def _outputs(found: Gradients) -> list[LayerGradient]:
    return [layer for layer in found.layers if layer.side == "output" and not layer.reason]


def _summed_up(same: Sequence[Anomaly], layers: dict[tuple[str, int], LayerGradient]) -> str:
    kind = same[0].kind
    names = list(dict.fromkeys(anomaly.layer for anomaly in same))
    of = len({name for name, _ in layers})
    if len(names) == 1:
        where = f"at {len(same)} calls of {names[0]}"
    else:
        where = f"at {len(names)} of {of} layers, {_span(names)}"
    if kind not in _NORMS:
        return f"{_SAYS[kind]} {where}."
    norms = [layers[anomaly.layer, anomaly.call].norm for anomaly in same]
    return f"{_SAYS[kind]} {where}: norms from {min(norms):.3g} to {max(norms):.3g}, {_NORMS[kind]}."


def _span(names: Sequence[str]) -> str:
    """Where a list of layers begins and ends, in the order of the forward pass."""
    return f"from {names[0]} to {names[-1]}"
