"""Every rule by which a training's alarms are told: the check-up's own names and words where it has the same one.

A rule is a row; `alarms` examines. docs/feed.md holds the table. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hookscope.hooks.errors import HooksError
from hookscope.hooks.methods import Rows
from hookscope.hooks.results.findings import Severity
from hookscope.hooks.rules import DEBUGGER, RULES


@dataclass(frozen=True)
class TrainingRule:
    """One rule.

    Attributes:
        name: by which it is silenced. title: for people. severity: how bad what it finds is.
        formula: what is computed, at a step that is looked at. source: whose threshold it is.
        limits: where lines are drawn; the first is meant where only the rule is named.
        why: why it matters. advice: what to do.
    """

    name: str
    title: str
    severity: Severity
    formula: str
    source: str
    limits: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    advice: str = ""


def _as_in_a_check_up(name: str, formula: str, limits: Mapping[str, float], why: str, advice: str) -> TrainingRule:
    same = RULES[name]
    return TrainingRule(name, same.title, same.severity, formula, same.source, limits, why, advice)


TRAINING_RULES: Rows[TrainingRule] = Rows(
    _as_in_a_check_up(
        "non-finite",
        "a NaN or an infinite value in an activation, in a weight or in the loss; of activations the call whose inputs "
        "are all finite and whose output is not, found by running the step's batch once more",
        {"count": 0.0},
        "One such value makes every weight that its gradient reaches NaN in the next update.",
        "Look at this line: a division by 0, a root or a logarithm of 0, an overflow in float16. Add a small number, "
        "clamp what goes in, or compute it in float32.",
    ),
    _as_in_a_check_up(
        "vanishing-gradients",
        "at layers with weights, in their order: the norm of the gradient of the weights at the first by that at the "
        "last; or its root mean square at the first, where the last one's is above the limit. A layer has none where "
        "none before it has any",
        {"ratio": 1e-4, "mean": 1e-7},
        "Layers without a gradient do not learn.",
        "Look at activations that are silent or saturated, and at weights near 0; normalise, or add a connection "
        "around them.",
    ),
    _as_in_a_check_up(
        "exploding-gradients",
        "as vanishing-gradients, the other way round; or the norm of all gradients by its median over the last 20 "
        "looks (of fewer than 5 the largest); or the loss by the largest of the first 3 looks; or a gradient that is "
        "not finite, with a scaler in 3 looks in a row",
        {"ratio": 1e3},
        "A step of training throws the weights far off.",
        "Clip gradients, take a smaller learning rate or warm it up, and look at the weights of the layer at which it "
        "grows.",
    ),
    _as_in_a_check_up(
        "dead-channels",
        "share of the channels after an activation function that were 0 in every picture of the last 3 looks, 8 "
        "pictures at least",
        {"share": 0.5},
        "A channel that fires for nothing gets no gradient either, so it mostly stays dead.",
        "Take a smaller learning rate, look at the bias before it, or use an activation with a slope below 0.",
    ),
    TrainingRule(
        "update-ratio",
        "updates out of proportion to the weights",
        "warning",
        "norm of the update by the norm of the weights, of a layer's own weights together; too small in 3 looks in a "
        "row",
        DEBUGGER,
        {"largest": 10.0, "least": 1e-8},
        "Updates that are larger than the weights throw away what was learnt; updates near 0 learn nothing.",
        "Look at the learning rate of this layer's group; usual are ratios about 1e-3.",
    ),
    TrainingRule(
        "initial-loss",
        "the loss begins far above chance",
        "warning",
        "the cross-entropy of the first step by the logarithm of the number of classes",
        "ours; chance has log(classes)",
        {"ratio": 2.0},
        "The first steps then only shrink the answers, and may throw the weights far off.",
        "Make the last layer's weights smaller at the start, and check how the pictures are prepared.",
    ),
    TrainingRule(
        "unchanged",
        "weights that do not change",
        "warning",
        "a weight that wants a gradient and is the same, bit by bit, before and after 3 looked-at updates in a row; or "
        "every learning rate is 0 in them",
        DEBUGGER,
        {"looks": 3.0},
        "It is part of the model and does not learn.",
        "See whether the optimiser has it, whether its learning rate is 0, and whether the loss depends on it. Freeze "
        "it by requires_grad_(False) if that is meant.",
    ),
    TrainingRule(
        "underflow",
        "the gradient underflows under float16",
        "warning",
        "share of the gradient's values that are not 0 and, multiplied by the scale, within two steps of float16's "
        "smallest (1.2e-7); or a gradient that is 0 everywhere although a later layer has one",
        "range of IEEE 754 binary16",
        {"share": 0.1},
        "What is smaller has become 0, so the layer learns from a part of its gradient.",
        "Raise the scale (torch.amp.GradScaler), train this layer in float32, or use bfloat16.",
    ),
)


def silenced(alarms: bool | Mapping[str, str]) -> set[str]:
    """The rules that are not told.

    Arguments:
        alarms: whether any is told; or by rule "on" or "off".

    Raises:
        HooksError: there is no such rule, or it is neither.
    """
    if isinstance(alarms, bool):
        return set() if alarms else set(TRAINING_RULES)
    for rule, how in alarms.items():
        if rule not in TRAINING_RULES:
            raise HooksError(f"There is no alarm {rule!r}; there are {', '.join(TRAINING_RULES)}.")
        if how not in ("on", "off"):
            raise HooksError(f"The alarm {rule!r} can be 'on' or 'off', and not {how!r}.")
    return {rule for rule, how in alarms.items() if how == "off"}
