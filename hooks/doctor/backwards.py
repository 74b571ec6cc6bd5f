"""Whether the gradient of the first class reaches the first layers, at a size that training can use.

Norms at the layers with weights, over 4 pictures. A branch may have a small gradient by design (a layer scale of 1e-6
in ConvNeXt, a last BatchNorm at 0 in a residual branch: both among tests/healthy_models.py), so a layer has none only
where none of the layers before it has any either. Measured on 32 healthy models, trained and random, first layer by
last one: 0.0029 (AlexNet as torchvision makes it) to 52 (ResNet-50 with random weights), trained ones 0.067 to 6.5;
the root mean square at the first layer is at least 6.7e-6. Twenty sigmoids in a row make 1e-20 and less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.doctor.patient import CannotTell, Patient
from hookscope.hooks.doctor.probe import names_of, some_pictures
from hookscope.hooks.errors import HooksError, NoGradient, TargetNotFound
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.looks.gradients import layers_with_weights
from hookscope.hooks.looks.outputs import answer, choose
from hookscope.hooks.looks.targets import score_of
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.anomalies import find_loss, say_lessened
from hookscope.hooks.results.findings import Curve, Finding

PICTURES = 4
UNREACHED = "backwards: unreached"  # under which the layers are kept that the gradient does not reach, in their order
LARGE = 1e4  # of the norm at the last layer: a score that is multiplied by as much is no usual one


@dataclass(frozen=True)
class _Gradient:
    """The gradient at the output of one call of a layer.

    Attributes:
        layer, call: where. norm: its L2 norm, for one picture; NaN where it is not finite. rms: by the root of how many
            values it has. reason: why there is none, as a sentence; else "".
    """

    layer: str
    call: int
    norm: float
    rms: float
    reason: str = ""


def vanishing(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`."""
    found = _gradients(patient)
    usable = [each for each in found if not each.reason]
    patient.found.pop(UNREACHED, None)
    patient.found["vanishing-gradients: looked at"] = f"{len(found):,} layers with weights, over {PICTURES} pictures."
    stopped = _stopped(found)
    if stopped is not None:
        yield _stop(found, *stopped)
        return
    if len(usable) < 2 or not all(math.isfinite(each.norm) for each in usable):
        return
    if patient.modules.get(usable[-1].layer) is not None and _is_zero(patient.modules[usable[-1].layer]):
        raise CannotTell(
            f"All weights of {usable[-1].layer} are 0, as some models start, so no gradient passes it. Train it first."
        )
    mean, ratio = (patient.limit("vanishing-gradients", name) for name in ("mean", "ratio"))
    last = usable[-1].norm
    reach = np.maximum.accumulate([each.norm for each in usable])  # the most that any layer up to here has
    size = np.maximum.accumulate([each.rms for each in usable])
    lost = (reach < ratio * last) | (size < mean)
    if not lost[0]:
        return
    behind = int(np.flatnonzero(lost)[-1])  # the last layer at which nothing arrives
    patient.found[UNREACHED] = tuple(each.layer for each in usable[: behind + 1])
    first, counted = usable[0], behind + 1
    factor = math.nan
    if behind == len(usable) - 1:  # what the model makes of its last layer takes it all
        behind -= 1
    else:
        step, factor = find_loss(reach)
        behind = behind if math.isfinite(factor) else step
    by_mean = not reach[0] < ratio * last
    limits = f"root mean square {first.rms:.2g}, limit {mean:g}" if by_mean else f"limit {ratio:g} of that"
    lessened = say_lessened(first.layer, first.norm, usable[-1].layer, last, limits)
    if math.isfinite(factor):
        place = usable[behind].layer, usable[behind].call
        said = (
            f"from layer to layer it loses about a factor of {factor:.2g} (median of {len(usable) - 1:,} steps), and "
            "nowhere far more"
        )
        advice = (
            "Look at what every layer loses: at activations that let little through, as sigmoid does (a quarter at "
            "most), and at small weights; use ReLU or GELU, normalise between the layers, or add connections around "
            "them."
        )
    else:
        place = _where(patient, usable, behind)
        said = f"it is lost at {place[0]}"
        advice = (
            f"Look at {place[0]}: at activations that are silent or saturated, and at weights near 0; normalise, or "
            "add a connection around it."
        )
    yield Finding(
        "vanishing-gradients",
        "warning",
        f"The norm of the first class's gradient {lessened}; {said}. At {counted:,} of {len(usable):,} layers with "
        f"weights it is below {ratio:g} of the one at {usable[-1].layer}, or the root mean square below {mean:g}.",
        why="Layers without a gradient do not learn, and nothing that is explained by gradients can be seen there.",
        advice=advice,
        layer=place[0],
        call=place[1],
        value=first.rms if by_mean else first.norm / last,
        limit=mean if by_mean else ratio,
        excess=_excess(mean, first.rms) if by_mean else _excess(ratio * last, first.norm),
        evidence=_curve(usable, range(counted)),
    )


def exploding(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`."""
    found = _gradients(patient)
    usable = [each for each in found if not each.reason]
    patient.found["exploding-gradients: looked at"] = f"{len(found):,} layers with weights, over {PICTURES} pictures."
    broken = [each for each in usable if not math.isfinite(each.norm)]
    if broken:
        if patient.seen.answers is not None and not np.isfinite(patient.seen.answers.shares).all():
            raise CannotTell("The model's answer is not finite, so its gradient is not either; see non-finite.")
        last = broken[-1]
        yield Finding(
            "exploding-gradients",
            "warning",
            f"The gradient of the first class is not finite at {last.layer} and {len(broken) - 1:,} other layers, "
            "although the answer is (limit 0).",
            why="One such gradient makes every weight that it reaches NaN in the next step of a training.",
            advice="Look at what follows this layer: a root or a logarithm of 0, or a division, has no gradient there.",
            layer=last.layer,
            call=last.call,
            value=float(len(broken)),
            limit=0.0,
            excess=len(broken) + 1.0,
            evidence=_curve(usable, [index for index, each in enumerate(usable) if each in broken]),
        )
        return
    if len(usable) < 2:
        return
    limit, last_norm = patient.limit("exploding-gradients"), usable[-1].norm
    base = last_norm if last_norm <= LARGE else 1.0
    norms = np.array([each.norm for each in usable])
    if base <= 0 or norms[0] <= limit * base:
        return
    path = np.maximum.accumulate(norms[::-1])[::-1]  # the most that any layer from here on has: a branch may have less
    rises = path[:-1] / np.maximum(path[1:], 1e-300)
    steepest = int(rises.argmax()) if last_norm <= LARGE else len(usable) - 2
    culprit = _where(patient, usable, steepest, grows=True)
    yield Finding(
        "exploding-gradients",
        "warning",
        f"The gradient of the first class is {norms[0] / base:.2g} times as large at {usable[0].layer} as at "
        f"{usable[-1].layer} (limit {limit:g}); it grows most at {culprit[0]}, by {rises[steepest]:.3g}.",
        why="A step of training throws the first layers' weights far off.",
        advice=f"Look at {culprit[0]}: at its weights and how they were made; normalise, or clip gradients.",
        layer=culprit[0],
        call=culprit[1],
        value=float(norms[0] / base),
        limit=limit,
        excess=_excess(float(norms[0]), limit * base),
        evidence=_curve(usable, (steepest, steepest + 1)),
    )


# --- what is measured


def _gradients(patient: Patient) -> list[_Gradient]:
    """At every layer with weights, in execution order; found once.

    Raises:
        CannotTell: the model has no class to differentiate, or builds no graph.
    """
    kept = patient.found.get("backwards: gradients")
    if kept is None:
        try:
            kept = measured(patient, layers_with_weights(patient.inner))
        except (NoGradient, TargetNotFound) as error:
            kept = CannotTell(f"There is no gradient to look at. {error}")
        except HooksError as error:
            kept = CannotTell(str(error))
        except RuntimeError as error:
            kept = CannotTell(f"The model's backward pass failed: {error}")
        patient.found["backwards: gradients"] = kept
    if isinstance(kept, CannotTell):
        raise kept
    assert isinstance(kept, list)
    return kept


def measured(patient: Patient, names: Sequence[str]) -> list[_Gradient]:
    """The gradient of the first class at these layers and operations, over a few pictures."""
    sums: dict[tuple[str, int], list[float]] = {}
    reasons: dict[tuple[str, int], str] = {}
    count = 0
    for batch in _batches(patient):
        count += len(batch)
        with inspecting(patient.model, gradients=True) as inner:
            with capture(inner, list(names), gradients=True) as seen:
                output = answer(inner, *nested.private((batch.to(patient.device),), requires_grad=True))
            seen.differentiate(_score(output, len(batch)))
            for record in seen:
                place = record.layer, record.call
                if record.gradient is None:
                    reasons[place] = record.reason_no_gradient or "It has none."
                    sums.setdefault(place, [0.0, 1.0])
                    continue
                known = sums.setdefault(place, [0.0, record.gradient.numel() / len(batch)])
                known[0] += float(torch.linalg.vector_norm(record.gradient, dtype=torch.float64)) ** 2
        patient.step()
    found = []
    for place, (squares, values) in sums.items():
        norm = math.sqrt(squares / count) if math.isfinite(squares) else math.nan
        found.append(_Gradient(*place, norm, norm / math.sqrt(max(values, 1)), reasons.get(place, "")))
    return found


def _batches(patient: Patient) -> list[Tensor]:
    """A few pictures; one by one where the model answers something else than classes."""
    some = list(some_pictures(patient, PICTURES))
    answers = patient.seen.answers
    return [batch[i : i + 1] for batch in some for i in range(len(batch))] if answers is None else some


def _score(output: object, pictures: int) -> Tensor:
    """One number: of every picture the logit of its own first class."""
    try:
        logits = choose(output, pictures).logits  # type: ignore[arg-type]
    except TargetNotFound:
        if pictures > 1:
            raise
        return score_of(output, None).tensor
    best = logits.amax(1)
    return best.flatten(1).mean(1).sum() if best.ndim > 1 else best.sum()


# --- where


def _stopped(found: Sequence[_Gradient]) -> tuple[int, _Gradient] | None:
    """How many layers, the first ones, have no gradient at all, and the first that has one; None if none or all."""
    with_one = [index for index, each in enumerate(found) if not each.reason]
    if not with_one or with_one[0] == 0:
        return None
    return with_one[0], found[with_one[0]]


def _stop(found: Sequence[_Gradient], count: int, after: _Gradient) -> Finding:
    last = found[count - 1]
    return Finding(
        "vanishing-gradients",
        "warning",
        f"The gradient stops behind {last.layer}: it and {count - 1:,} layers before it get none (limit 0), and "
        f"{after.layer} is the first that does.",
        why="Layers that get no gradient do not learn, and cannot be explained by gradients.",
        advice=f"Look between {last.layer} and {after.layer} for `detach`, `torch.no_grad`, `.data`, or a function "
        "that has no gradient (argmax, rounding).",
        layer=last.layer,
        call=last.call,
        value=float(count),
        limit=0.0,
        excess=count + 1.0,
        evidence=_curve(found, range(count)),
    )


def _where(patient: Patient, usable: Sequence[_Gradient], behind: int, *, grows: bool = False) -> tuple[str, int]:
    """Which layer or operation between two layers with weights takes the gradient, or lets it grow most.

    Arguments:
        behind: the place of the first of the two.
    """
    ends = [(each.layer, each.call) for each in usable[behind : behind + 2]]
    try:
        fine = [each for each in measured(patient, names_of(patient)) if not each.reason]
    except (HooksError, RuntimeError):
        fine = []
    places = [(each.layer, each.call) for each in fine]
    if not all(end in places for end in ends) or places.index(ends[0]) >= places.index(ends[1]):
        return ends[1]
    part = fine[places.index(ends[0]) : places.index(ends[1]) + 1]
    steps = np.diff(np.log([max(each.norm, 1e-300) for each in part]))
    steepest = int(np.argmin(steps) if grows else np.argmax(steps))
    return part[steepest + 1].layer, part[steepest + 1].call


def _is_zero(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and not bool(weight.detach().any())


def _curve(found: Sequence[_Gradient], marked: Sequence[int] | range) -> Curve:
    norms = np.array([each.norm for each in found])
    names = tuple(each.layer for each in found)
    return Curve("norm of the gradient at each layer", names, norms, tuple(marked), logarithmic=True)


def _excess(larger: float, smaller: float) -> float:
    return max(1.0, min(larger / smaller, 1e30)) if smaller > 0 else 1e30
