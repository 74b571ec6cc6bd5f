"""Values that are not finite, at the ends of what an activation gives, or near the ends of what a number can hold.

Measured where nothing is wrong: of what a ReLU6 of EfficientNet-Lite0, 1 and 2 lets through, at most 14 % lies at 6; of
what tanh, sigmoid and gates are given in five small trained networks, at most 1 % lies beyond the limits. The largest
magnitude in EfficientNet-Lite0 to 2 is 148, far below the 16,376 at which float16 has a factor of 4 left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.doctor.chain import Chain, largest_of
from hookscope.hooks.doctor.held import count_in_weight, far_too_large, held_by, name_trail
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.doctor.probe import Place, at_most
from hookscope.hooks.doctor.producers import Producer, tracking
from hookscope.hooks.passes import nested
from hookscope.hooks.results.findings import Bars, Curve, Finding, Severity, Trail, in_digits, join_names
from hookscope.hooks.results.sketches import limits as limits_of
from hookscope.hooks.results.summaries import LayerSummary

# --- values that are not finite


def non_finite(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`. What does not reach the answer is a note; a sum that overflows is more: it is cut off."""
    given = [torch.isfinite(batch.flatten(1)).all(1) for batch in patient.batches]
    broken = np.flatnonzero(~torch.cat(given).numpy())
    patient.found["non-finite: looked at"] = f"Every layer, operation and weight, over {patient.pictures} pictures."
    if broken.size:
        yield _of_input(patient, broken)
    batches = [batch[good] for batch, good in zip(patient.batches, given, strict=True)]
    weights = _broken_weights(patient)
    if not broken.size and not weights and _all_finite(patient):
        return
    producers, left, failure = _producers(patient, [batch for batch in batches if len(batch)])
    told = 0
    for each in producers:
        if each.reached or failure is not None:
            told += 1
            yield _produced(patient, each, "error")
        elif each.nan:
            yield _produced(patient, each, "note")
    for each in producers if not told else []:
        if not each.nan and (each.overflows or each.divides):
            yield _produced(patient, each, "warning" if each.overflows else "note")
    owners = {f"{each.owner}.{each.weight}".strip(".") for each in producers}
    for name, nan, inf in weights:
        if name not in owners and (nan or isinstance(patient.inner.get_parameter(name), Tensor)):
            yield _idle_weight(name, nan, inf)
    if not told and failure is not None:
        raise failure
    if not told and left:
        yield _unseen(patient)


def _all_finite(patient: Patient) -> bool:
    try:
        seen = patient.seen
    except Exception:  # of the model's own code, which may be because of such values
        return False
    answers = seen.answers
    if answers is not None and not np.isfinite(answers.shares[:, 0]).all():
        return False
    return not any(each.statistics.nan or each.statistics.inf for each in seen.statistics)


def _producers(patient: Patient, batches: list[Tensor]) -> tuple[list[Producer], bool, Exception | None]:
    """Those of all pictures; whether something else reaches the answer; what the model raised, if it did."""
    producers: dict[tuple[str, int], Producer] = {}
    first, left = 0, False
    for inner, pictures in patient.runs(batches):
        with tracking(inner, first, len(pictures), producers) as tracker:
            try:
                output = inner(nested.private(pictures, requires_grad=False))
            except Exception as error:
                return list(producers.values()), left, error
        left = tracker.end(output) or left
        first += len(pictures)
    return list(producers.values()), left, None


def _produced(patient: Patient, each: Producer, severity: Severity) -> Finding:
    lines, marked = each.trail
    held = " and ".join(
        f"{count:,} {what}" for count, what in ((each.nan, "NaN"), (each.inf, "infinite values")) if count
    )
    pictures = sorted(each.pictures)
    over = f" in {len(pictures):,} of {patient.pictures} pictures" if pictures else ""
    if each.weight == "?":
        cause = "it is given a constant that is not finite"
    elif each.weight:
        owner = f"{each.owner}'s" if each.owner and each.owner != each.layer else "its"
        cause = f"{owner} {each.weight} holds {count_in_weight(patient, each)}"
    else:
        cause = "all that it is given is finite"
    advice = (
        "Load the weights again, from a step of the training before the loss became NaN."
        if each.weight
        else f"Look at what {each.layer} is given: a logarithm or root of a negative number, a division by 0, an "
        "overflow, or a softmax of nothing but -inf."
    )
    own = None if each.weight else held_by(patient, each.layer)
    if own is not None:
        cause, advice = own
    return Finding(
        "non-finite",
        severity,
        f"{each.layer} makes {held}{over} (limit 0), and {cause}"
        + ("." if severity == "error" else "; the answer is finite."),
        why="Whatever is computed from such a value is none either, up to the answer."
        if severity == "error"
        else "They are cut off later, and the answer is made of what is left."
        if severity == "warning"
        else "They are removed later, but a gradient through them would still be NaN.",
        advice=advice,
        layer=each.layer,
        call=each.call,
        value=float(each.nan + each.inf),
        limit=0.0,
        excess=float(max(1, each.nan + each.inf)),
        evidence=Trail(name_trail(each.looked, patient.pictures), lines, (marked,)),
        picture=pictures[0] if pictures else -1,
    )


def _broken_weights(patient: Patient) -> list[tuple[str, int, int]]:
    found = []
    for name, tensor in patient.inner.named_parameters():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            found.append((name, int(tensor.isnan().sum()), int(tensor.isinf().sum())))
    return found


def _idle_weight(name: str, nan: int, inf: int) -> Finding:
    return Finding(
        "non-finite",
        "note",
        f"{name} holds {nan:,} NaN and {inf:,} infinite values (limit 0), and nothing that was computed here shows it.",
        why="Other inputs, or training, will meet these weights.",
        advice="Load the weights again.",
        layer=name.rpartition(".")[0],
        about="layer" if "." in name else "model",
        value=float(nan + inf),
        limit=0.0,
        excess=float(nan + inf),
    )


def _of_input(patient: Patient, broken: np.ndarray) -> Finding:
    count = sum(int((~batch.isfinite()).sum()) for batch in patient.batches)
    return Finding(
        "non-finite",
        "error",
        f"{len(broken):,} of {patient.pictures} pictures hold {count:,} values that are NaN or infinite before the "
        "model sees them (limit 0).",
        why="No answer to such a picture can be trusted.",
        advice="Look at how pictures are prepared: at a division by a deviation of 0, or at damaged files.",
        about="input",
        value=float(count),
        limit=0.0,
        excess=float(count),
        picture=int(broken[0]),
        evidence=Bars(
            "values that are not finite",
            tuple(str(number) for number in broken[:12]),
            tuple(
                float(row)
                for row in torch.cat([(~batch.isfinite()).flatten(1).sum(1) for batch in patient.batches])[
                    broken[:12]
                ].tolist()
            ),
        ),
    )


def _unseen(patient: Patient) -> Finding:
    first = next((each for each in patient.seen.statistics if each.statistics.nan or each.statistics.inf), None)
    at = f"{first.layer} is the first layer that gives any" if first else "no layer gives any"
    return Finding(
        "non-finite",
        "error",
        f"The answer holds values that are NaN or infinite (limit 0), and {at}; which call makes them could not be "
        "seen.",
        why="Such an answer says nothing.",
        advice="Look at the code before that layer, and at functions that are compiled.",
        layer=first.layer if first else "",
        about="layer" if first else "answer",
        limit=0.0,
    )


# --- activations at their ends

SIGMOIDS = {"sigmoid": (-23.0, 17.0), "tanh": (-9.5, 9.5), "softsign": (-1e3, 1e3)}  # what they are given
HARD = {"hardsigmoid": (0.0, 1.0), "hardtanh": (-1.0, 1.0)}  # what they give, at both ends
UPPER = {"relu6": 6.0}  # what they give, at the upper end, of what is above 0


def saturated(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`."""
    chain, limit, findings, looked = Chain(patient), patient.limit("saturated"), [], 0
    for place, summary in chain.summaries.items():
        kind = summary.type.replace("_", "").lower()
        found = _at_ends(chain, place, summary, kind)
        if found is None:
            continue
        looked += 1
        share, said = found
        if share > limit:
            findings.append(_saturated(summary, share, limit, said))
    patient.found["saturated: looked at"] = f"{looked:,} bounded activations over {patient.pictures} pictures."
    yield from at_most(findings, "are at their ends")


def _at_ends(chain: Chain, place: Place, summary: LayerSummary, kind: str) -> tuple[float, str] | None:
    """The share of a call's values at its ends, and what that means, for a sentence; None if it has no ends."""
    if kind in SIGMOIDS:
        least, most = SIGMOIDS[kind]
        before = chain.before(place)
        if before is not None:
            return _outside(before, least, most), f"are given less than {least:g} or more than {most:g}"
        low, high = (0.0, 1.0) if kind == "sigmoid" else (-1.0, 1.0)
        ends = summary.statistics.channels
        pinned = (ends["min"] >= high - 1e-6) | (ends["max"] <= low + 1e-6)
        return float(pinned.mean()), f"are {low:g} or {high:g}"
    if kind in HARD:
        module = chain.feeding[place].module if place in chain.feeding else None
        low, high = (getattr(module, name, end) for name, end in zip(("min_val", "max_val"), HARD[kind], strict=True))
        return _outside(summary, low, high, inclusive=True), f"are {low:g} or {high:g}"
    if kind in UPPER:
        above = _outside(summary, -np.inf, UPPER[kind], inclusive=True)
        counts = summary.sketch.counts
        fires = float(counts[summary.sketch.keys != 0].sum() / max(1, counts.sum()))  # of the same values
        return (above / fires if fires > 0 else 0.0), f"that are not 0 are {UPPER[kind]:g}"
    return None


def _outside(summary: LayerSummary, least: float, most: float, *, inclusive: bool = False) -> float:
    """The share of the values outside, by their sketch: to 1/64 of the limits.

    Arguments:
        inclusive: count those at the limits themselves, too, which are known to be the extremes.
    """
    low, high = limits_of(summary.sketch.keys)
    counts = summary.sketch.counts
    if not counts.sum():
        return 0.0
    if inclusive:  # no value lies beyond: those in the limits' own bins are at the ends, or next to them
        beyond = (low <= least) | (high > most)
        if least == 0:
            beyond |= summary.sketch.keys == 0
    else:
        beyond = (high < least) | (low > most)
    return float(counts[beyond].sum() / counts.sum())


def _saturated(summary: LayerSummary, share: float, limit: float, said: str) -> Finding:
    low, high = limits_of(summary.sketch.keys)
    order = np.argsort(-summary.sketch.counts)[:12]
    order = order[np.argsort(low[order])]
    counts = summary.sketch.counts / max(1, int(summary.sketch.counts.sum()))
    return Finding(
        "saturated",
        "warning",
        f"{share:.0%} of the values of {summary.layer} {said} (limit {limit:.0%}).",
        why="At its ends an activation answers alike to different inputs, and lets no gradient through.",
        advice=f"Look at the scale of what {summary.layer} is given: at the weights before it, and at how the pictures "
        "are prepared.",
        layer=summary.layer,
        call=summary.call,
        value=share,
        limit=limit,
        excess=max(1.0, share / limit) if limit else share + 1,
        evidence=Bars(
            "share of the values in the fullest bins",
            tuple(f"{(low[index] + high[index]) / 2:.3g}" for index in order),
            tuple(float(counts[index]) for index in order),
        ),
    )


# --- the ends of float16 and bfloat16

MATTERS = 1024  # times the smallest number with all digits: beside larger values nobody misses a small one's digits


def precision(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`; float32 models get a note that says whether float16 would do."""
    headroom, underflow = (patient.limit("precision", name) for name in ("headroom", "underflow"))
    chain = Chain(patient)
    kinds = {layer.name: layer.calls[0].dtype for layer in patient.layers if layer.calls}
    short = {kind for kind in kinds.values() if kind in ("float16", "bfloat16")}
    weights = [(name, tensor) for name, tensor in patient.inner.named_parameters() if tensor.is_floating_point()]
    short |= {_kind(tensor) for _, tensor in weights} & {"float16", "bfloat16"}
    patient.found["precision: looked at"] = (
        f"{len(chain.summaries):,} layers and {len(weights):,} weights, in {' and '.join(sorted(short)) or 'float32'}."
    )
    if short:
        yield from at_most(list(_near_the_ends(chain, kinds, headroom, underflow)), "come near the ends")
        yield from _weights_near(weights, headroom)
        return
    thrown_off = far_too_large(patient, weights, torch.finfo(torch.float16).max / headroom)
    if thrown_off is not None:
        yield thrown_off
    yield from _would_overflow(chain, weights, headroom)


def _near_the_ends(chain: Chain, kinds: dict[str, str], headroom: float, underflow: float) -> Iterator[Finding]:
    handed: set[Place] = set()
    small_ones: set[Place] = set()
    for place, summary in chain.summaries.items():
        kind = kinds.get(summary.layer, "float32")
        if kind not in ("float16", "bfloat16"):
            continue
        ends = torch.finfo(getattr(torch, kind))
        sizes = largest_of(summary)
        largest = float(np.nanmax(sizes)) if np.isfinite(sizes).any() else 0.0
        line = ends.max / headroom
        if largest > line:
            handed.add(place)
            if any(source in handed for source in chain.sources(place)):
                continue
            channels = np.flatnonzero(np.nan_to_num(sizes) > line)
            yield _overflow(summary, largest, line, ends.max / largest, kind, channels)
            continue
        low, high = limits_of(summary.sketch.keys)
        nonzero = (summary.sketch.keys != 0) & (np.maximum(np.abs(low), np.abs(high)) > 0)
        small = nonzero & (np.maximum(np.abs(low), np.abs(high)) < float(ends.tiny))
        total = int(summary.sketch.counts[nonzero].sum())
        share = float(summary.sketch.counts[small].sum() / total) if total else 0.0
        if share > underflow and largest < MATTERS * float(ends.tiny):
            small_ones.add(place)
            if any(source in small_ones for source in chain.sources(place)):
                continue
            yield Finding(
                "precision",
                "warning",
                f"{share:.0%} of the values of {summary.layer} that are not 0 are below {float(ends.tiny):.2g}, where "
                f"{kind} loses digits (limit {underflow:.0%}).",
                why="Such values keep a few bits only, and the next smaller ones become 0.",
                advice=f"Keep {summary.layer} in float32, or scale what it gives.",
                layer=summary.layer,
                call=summary.call,
                value=share,
                limit=underflow,
                excess=max(1.0, share / underflow) if underflow else share + 1,
            )


def _overflow(
    summary: LayerSummary, largest: float, line: float, room: float, kind: str, channels: np.ndarray
) -> Finding:
    sizes = largest_of(summary)
    return Finding(
        "precision",
        "warning",
        f"{summary.layer} reaches {in_digits(largest)}: a factor of {room:.2g} below the largest number of {kind} "
        f"(limit {in_digits(line)}).",
        why="A picture that is a little brighter makes it infinite, and the answer NaN.",
        advice=f"Keep {summary.layer} in float32 or bfloat16, or scale the weights before it down.",
        layer=summary.layer,
        call=summary.call,
        channels=tuple(map(int, channels)),
        value=largest,
        limit=line,
        excess=max(1.0, largest / line),
        evidence=Curve(
            "largest magnitude of each channel", (), sizes, tuple(map(int, channels)), limit=line, logarithmic=True
        ),
        among=len(sizes),
    )


def _weights_near(weights: Sequence[tuple[str, Tensor]], headroom: float) -> Iterator[Finding]:
    for name, tensor in weights:
        if _kind(tensor) not in ("float16", "bfloat16"):
            continue
        finite = tensor.detach()[tensor.isfinite()].abs()
        line = torch.finfo(tensor.dtype).max / headroom
        if finite.numel() and float(finite.max()) > line:
            largest = float(finite.max())
            yield Finding(
                "precision",
                "warning",
                f"{name} holds a weight of {in_digits(largest)}, near the largest number of {_kind(tensor)} "
                f"(limit {in_digits(line)}).",
                why="What is multiplied by it overflows.",
                advice="Keep this layer in float32.",
                layer=name.rpartition(".")[0],
                about="layer" if "." in name else "model",
                value=largest,
                limit=line,
                excess=max(1.0, largest / line),
                by_weights=True,
            )


def _would_overflow(chain: Chain, weights: Sequence[tuple[str, Tensor]], headroom: float) -> Iterator[Finding]:
    line = torch.finfo(torch.float16).max / headroom
    above = []
    for summary in chain.summaries.values():
        sizes = largest_of(summary)
        if np.isfinite(sizes).any() and float(np.nanmax(sizes)) > line:
            above.append((summary, float(np.nanmax(sizes))))
    large = [name for name, tensor in weights if tensor.numel() and float(tensor.detach().abs().amax()) > line]
    if above:
        summary, largest = above[0]
        names = tuple(each.layer for each, _ in above)
        yield Finding(
            "precision",
            "note",
            f"{join_names(names)} reach{'es' if len(names) == 1 else ''} up to "
            f"{in_digits(max(size for _, size in above))}, and float16 ends at 65,504 (limit {line:,.0f}).",
            why="In float16 these layers would be near overflow, or beyond it.",
            advice="Run the model in bfloat16 or float32, or keep these layers in float32.",
            layer=summary.layer,
            call=summary.call,
            value=largest,
            limit=line,
            excess=max(1.0, largest / line),
            evidence=Curve(
                "largest magnitude of each layer",
                tuple(each.layer for each in chain.summaries.values()),
                np.array([float(np.nanmax(np.append(largest_of(each), 0.0))) for each in chain.summaries.values()]),
                limit=line,
                logarithmic=True,
            ),
        )
    elif large:
        yield Finding(
            "precision",
            "note",
            f"{join_names(large)} hold weights above {line:,.0f}, and float16 ends at 65,504.",
            why="In float16 they would be near overflow.",
            advice="Run the model in bfloat16 or float32.",
            layer=large[0].rpartition(".")[0],
            about="layer" if "." in large[0] else "model",
            limit=line,
        )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
