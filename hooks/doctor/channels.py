"""Channels that say nothing, seldom something, always the same, the same as another one, or far too much.

What is natural was measured on 32 photographs or digits: EfficientNet-Lite0, 1 and 2 with their trained weights, and
13 small networks that were trained on digits (with and without BatchNorm; ReLU, ReLU6, SiLU, Hardswish, tanh, GELU).

- Dead: up to 22 % of a stem's channels, 14 % of other convolutions', 31 % of a linear layer's. They lie close below 0:
  the largest value before the activation is at most 2.7 times as far below as the layer's median channel is large
  (root mean square). None is exactly 0 before the activation.
- Constant after an activation, and not because of a channel before: at most 3.1 % of a layer's. No convolution of
  several input channels, linear layer or BatchNorm has weights of a channel that are all 0.
- Alike: |cosine| at most 0.99981, and above 0.999 for 9 % of a stem's channels.
- Largest by median magnitude: at most 14.4 (Lite2's first BatchNorm); of weights 12.3, of a BatchNorm's scale 11.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hookscope.hooks.doctor.alike import alike_rows, alike_values, group_pairs, in_one_direction
from hookscope.hooks.doctor.chain import (
    CONSTANT,
    Chain,
    drawn_of_filters,
    filters,
    has_filters,
    has_scales,
    largest_of,
    row_ratios,
    silence_of,
    weight_rows,
    zero_rows,
)
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.doctor.probe import Fed, Place, at_most
from hookscope.hooks.doctor.variety import ONE_SCENE, between, in_grey
from hookscope.hooks.results.findings import Bars, Curve, Finding, in_digits, join_names
from hookscope.hooks.results.summaries import LayerSummary

MIXED_OF_FEW = 8  # weights of a channel: mixtures of red, green and blue are alike where the pictures' colours are
FEWEST = 4  # channels that a layer has, of which a share says something
LOUDER = 2.0  # times as large as those that speak the usual one is, where many are silent
MANY_SILENT, OF_THOSE = 1 / 3, 0.1  # shares: of silent channels, and of those that speak, which then are the usual ones
VALUES = 32  # of each channel, of which a share of silent ones says something
BOUNDED = {"sigmoid", "hardsigmoid", "tanh", "hardtanh", "softsign"}
OF_ONE_SCENE = 0.75  # of a layer's channels, which parts of one scene may leave silent
SELDOM = 0.05  # of the pictures
SHOWN = 12  # channels that a sentence's evidence shows


@dataclass(frozen=True)
class _Silent:
    """The channels of one activation's call that were silent in every picture.

    Attributes:
        channels: which. among: of how many. depth: float64 (channel,), of all of the layer's: how far below 0 the
            largest value before the activation was, by the root mean square of
            the layer's median channel; NaN where that is not known.
        nothing: those whose values before were exactly 0. source: the layer before.
    """

    place: Place
    channels: np.ndarray
    among: int
    depth: np.ndarray
    nothing: np.ndarray
    source: str
    summary: LayerSummary

    @property
    def values(self) -> float:
        """How many each channel has given: a gate that gives one for each picture is easily silent in 8."""
        return self.summary.statistics.count / self.among


def dead_channels(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`. A warning is what no healthy network has; channels that are merely silent are a note."""
    chain = Chain(patient)
    silent = list(_silent(chain))
    looked = [each for each in chain.summaries.values() if silence_of(each) is not None]
    patient.found["dead-channels: looked at"] = f"{len(looked):,} activations over {patient.pictures} pictures."
    share, depth = (patient.limit("dead-channels", name) for name in ("share", "depth"))
    if between(patient) < ONE_SCENE:  # of which the last layers have little to say
        share = max(share, OF_ONE_SCENE)
    findings, mild = [], []
    for each in silent:
        below = each.channels[np.nan_to_num(each.depth[each.channels]) > depth]
        part = len(each.channels) / each.among
        if part > share and each.among >= FEWEST and each.values >= VALUES:
            findings.append(_dead(each, each.channels, f"limit {share:.0%}", part, share, patient.pictures))
        elif below.size:
            farthest = float(each.depth[below].max())
            reason = f"up to {farthest:.3g} times the usual magnitude below 0 before it, limit {depth:.3g}"
            findings.append(_dead(each, np.union1d(below, each.nothing), reason, farthest, depth, patient.pictures))
        elif each.nothing.size:
            count = len(each.nothing)
            reason = "exactly 0 before it, too, limit 0"
            findings.append(_dead(each, each.nothing, reason, float(count), 0.0, patient.pictures))
        else:
            mild.append(each)
    yield from at_most(findings, "have dead channels")
    if mild:
        yield _merely_silent(mild, patient.pictures)


def _dead(each: _Silent, channels: np.ndarray, reason: str, value: float, limit: float, pictures: int) -> Finding:
    known = np.isfinite(each.depth).any()
    evidence = (
        Curve("largest value before the activation, by the usual magnitude of the layer", (), -each.depth,
              tuple(map(int, channels)), limit=0.0)
        if known
        else Bars("pictures in which channels fired", tuple(map(str, range(min(SHOWN, each.among)))),
                  tuple(map(float, each.summary.fired[:SHOWN])))
    )  # fmt: skip
    before = f" (fed by {each.source})" if each.source else ""
    return Finding(
        "dead-channels",
        "warning",
        f"{len(channels):,} of {each.among:,} channels after {each.place[0]}{before} fired in none of {pictures} "
        f"pictures ({reason}).",
        why="A dead channel costs as much as any other, adds nothing to the answer, and no training revives it.",
        advice=f"Look at the weights and biases of {each.source or 'the layer before'}; prune these channels, or set "
        "them up anew and train on with a smaller learning rate.",
        layer=each.place[0],
        call=each.place[1],
        channels=tuple(map(int, channels)),
        value=value,
        limit=limit,
        excess=max(1.0, value / limit if limit else value),
        evidence=evidence,
        among=each.among,
    )


def _merely_silent(mild: list[_Silent], pictures: int) -> Finding:
    shares = np.array([len(each.channels) / each.among for each in mild])
    worst = mild[int(shares.argmax())]
    count = sum(len(each.channels) for each in mild)
    part = f"{len(worst.channels):,} of {_plural(worst.among, 'channel')}"
    said = f"{_plural(count, 'channel')} after {_plural(len(mild), 'activation')}"
    most = f", the largest share of them after {worst.place[0]} ({part})"
    if len(mild) == 1:
        said, most = f"{part} after {worst.place[0]}", ""
    return Finding(
        "dead-channels",
        "note",
        f"{said} fired in none of {pictures} pictures{most}; trained networks have such ones.",
        why="They may fire on other pictures; those that never do could be pruned.",
        advice="Check with more pictures, and with other ones, before you prune.",
        layer=worst.place[0],
        call=worst.place[1],
        channels=tuple(map(int, worst.channels)),
        value=float(shares.max()),
        evidence=Curve("share of silent channels", tuple(each.place[0] for each in mild), shares),
        among=worst.among,
    )


def rare_channels(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`; after activations that are silent at exactly 0."""
    limit, findings, looked = patient.limit("rare-channels"), [], 0
    for summary in Chain(patient).summaries.values():
        if silence_of(summary) != 0.0 or len(summary.fired) < FEWEST:
            continue
        looked += 1
        fired = summary.fired
        rare = np.flatnonzero((fired > 0) & (fired < SELDOM * summary.inputs))
        part = len(rare) / len(fired)
        if part > limit:
            order = np.sort(fired)[::-1].astype(float)
            findings.append(
                Finding(
                    "rare-channels",
                    "note",
                    f"{len(rare):,} of {len(fired):,} channels after {summary.layer} fired in fewer than 1 of 20 of "
                    f"{summary.inputs} pictures (limit {limit:.0%}).",
                    why="Channels that hardly ever fire are next to dead, or answer to what these pictures lack.",
                    advice="Look at the pictures that they fire on; with pictures of more kinds they may fire more.",
                    layer=summary.layer,
                    call=summary.call,
                    channels=tuple(map(int, rare)),
                    value=part,
                    limit=limit,
                    excess=part / limit if limit else part + 1,
                    evidence=Curve("pictures in which each channel fired, sorted", (), order),
                    among=len(fired),
                )
            )
    patient.found["rare-channels: looked at"] = f"{looked:,} activations over {patient.pictures} pictures."
    yield from at_most(findings, "have channels that hardly ever fire")


def constant_channels(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`; only where they become constant, and not where a constant is handed on."""
    chain, limit, findings, looked = Chain(patient), patient.limit("constant-channels"), [], 0
    for place, summary in chain.summaries.items():
        fed = chain.feeding.get(place)
        if fed is None or not (has_filters(fed, summary) or has_scales(fed, summary) or summary.activation):
            continue
        if summary.type.replace("_", "").lower() in BOUNDED:  # at their ends they are saturated, and told as such
            continue
        looked += 1
        constant = chain.constant[place]
        if not constant.any() or constant.all() or chain.fed_constant(place):
            continue
        follower = chain.follower(place)
        own = list(np.flatnonzero(constant & ~chain.handed_on(place)))
        least, most = (summary.statistics.channels[name] for name in ("min", "max"))
        zeros = zero_rows(fed, summary)
        if follower is not None:  # what is silent after its activation is dead, and told as such
            speaks = largest_of(chain.summaries[follower]) > (silence_of(chain.summaries[follower]) or 0.0)
            if len(speaks) != len(constant):
                continue
            nothing = (least == 0) & (most == 0)
            own = [channel for channel in own if speaks[channel] or (channel in zeros and not nothing[channel])]
        elif (line := silence_of(summary)) is not None:
            own = [channel for channel in own if most[channel] > line]
        sure = [channel for channel in own if channel in zeros]
        part = len(own) / len(constant)
        if not own or not (sure or (part > limit and len(constant) >= FEWEST)):
            continue
        said = f"weights of {len(sure)} are all 0, limit 0" if sure else f"limit {limit:.0%}"
        spread = summary.statistics.channels["std"]
        findings.append(
            Finding(
                "constant-channels",
                "warning",
                f"{len(own):,} of {len(constant):,} channels of {summary.layer} have the same value everywhere in all "
                f"of {summary.inputs} pictures ({said}).",
                why="A constant channel tells nothing of the picture: it is a bias that costs as much as a channel.",
                advice=f"Look at the weights of {summary.layer}; prune these channels, or load them again.",
                layer=summary.layer,
                call=summary.call,
                channels=tuple(map(int, own)),
                value=float(len(sure)) if sure else part,
                limit=0.0 if sure else limit,
                excess=len(sure) + 1.0 if sure else max(1.0, part / limit if limit else part + 1),
                evidence=Curve("standard deviation of each channel", (), spread, tuple(map(int, own))),
                among=len(constant),
                by_weights=bool(sure),
            )
        )
    patient.found["constant-channels: looked at"] = f"{looked:,} layers over {patient.pictures} pictures."
    yield from at_most(findings, "have constant channels")


def duplicate_channels(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`; only of layers with weights, and only where channels become alike."""
    values, grey = drawn_of_filters(patient), in_grey(patient)
    sure, limit = patient.limit("duplicate-channels", "cosine"), patient.limit("duplicate-channels")
    findings, looked = [], 0
    for place, (fed, summary) in filters(patient).items():
        if len(summary.fired) < 2:
            continue
        looked += 1
        taken = values.get(place)
        pairs = None if taken is None or taken.values is None else alike_values(taken.values, sure)
        rows = weight_rows(fed, summary)
        if pairs is None and rows is not None:  # too few values
            pairs = alike_rows(rows)
        elif pairs and rows is not None and rows.shape[1] <= MIXED_OF_FEW and getattr(fed.module, "groups", 1) == 1:
            pairs = [pair for pair in pairs if in_one_direction(rows, pair)]
        of_colours = grey and rows is not None and not fed.sources and rows.shape[1] % 3 == 0
        if pairs and of_colours and rows is not None:
            copies = [pair for pair in pairs if in_one_direction(rows, pair)]
            pairs, of_colours = copies or pairs, not copies  # the others differ by what they make of colours
        groups = group_pairs(pairs or [])
        alike = tuple(sorted(channel for group in groups for channel in group))
        part = len(alike) / len(summary.fired)
        if not alike or part <= limit:
            continue
        named = join_names([" and ".join(map(str, group)) for group in groups])
        lengths = tuple(float(len(group)) for group in groups[:SHOWN])
        findings.append(
            Finding(
                "duplicate-channels",
                "note" if of_colours else "warning",
                f"{len(alike):,} of {len(summary.fired):,} channels of {summary.layer} repeat another one, with a "
                f"|cosine| above {sure:g} ({named})"
                + ("; these pictures have no colour, and the weights differ." if of_colours else "."),
                why="Such channels differ by what they make of colours, and are alike where red, green and blue are."
                if of_colours
                else "A channel that follows from another one by a factor costs as much and tells nothing of its own.",
                advice="Check with pictures in colour before you prune."
                if of_colours
                else f"Look at the weights of {summary.layer}: were some copied? Prune all but one of each group.",
                layer=summary.layer,
                call=summary.call,
                channels=alike,
                value=part,
                limit=limit,
                excess=max(1.0, part / limit if limit else part + 1),
                evidence=Bars(
                    "channels that are alike", tuple(" ".join(map(str, group[:6])) for group in groups[:SHOWN]), lengths
                ),
                among=len(summary.fired),
                by_weights=rows is not None and all(in_one_direction(rows, group[:2]) for group in groups),
            )
        )
    patient.found["duplicate-channels: looked at"] = f"{looked:,} layers with weights, over 8 pictures."
    yield from at_most(findings, "have channels that repeat each other")


def asymmetric_scale(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`; where a transformer's residual stream has channels far above the rest, that is a note."""
    chain, limit, findings, looked = Chain(patient), patient.limit("asymmetric-scale"), [], 0
    above: dict[Place, np.ndarray] = {}
    attends = any("softmax" in layer.name or "attention" in layer.type.lower() for layer in patient.layers)
    for place, summary in chain.summaries.items():
        fed = chain.feeding.get(place)
        if fed is None or len(summary.fired) < 2 * FEWEST:
            continue
        ratios = _above_the_rest(summary)
        above[place] = ratios > limit
        if not _is_scaled(fed, summary):
            continue
        looked += 1
        own = list(map(int, np.flatnonzero(above[place] & ~chain.handed_on(place, above))))
        own.sort(key=lambda channel: -ratios[channel])
        if not own:
            continue
        weights = row_ratios(fed, summary)
        by_weight = weights is not None and bool(weights[own[0]] > limit)
        habit = attends and not (by_weight and has_filters(fed, summary))
        given = above[place] & ~np.isin(np.arange(len(ratios)), own)  # handed on as large: told where they become so
        order = np.argsort(-np.where(given, -np.inf, ratios))[: min(SHOWN, int((~given).sum()))]
        also = (
            f", and its weights {in_digits(weights[own[0]])} times the others'"
            if by_weight and weights is not None
            else ""
        )
        findings.append(
            Finding(
                "asymmetric-scale",
                "note" if habit else "warning",
                f"Channel {own[0]} of {summary.layer} reaches {in_digits(ratios[own[0]])} times the magnitude of the "
                f"layer's median channel{also} (limit {limit:g}).",
                why="Transformers grow such channels; a quantisation per tensor has to leave them out."
                if habit
                else "A quantisation per tensor spends its steps on this channel and rounds all others away.",
                advice="Quantise per channel, or divide the channel's weights here by the factor and multiply the next "
                "layer's by it.",
                layer=summary.layer,
                call=summary.call,
                channels=tuple(sorted(own)),
                value=float(ratios[own[0]]),
                limit=limit,
                excess=max(1.0, float(ratios[own[0]] / limit)),
                evidence=Bars(
                    f"magnitude by the median channel's{_but(int(given.sum()))}",
                    tuple(str(channel) for channel in order),
                    tuple(float(ratios[channel]) for channel in order),
                    bad=int(np.flatnonzero(order == own[0])[0]),
                    limit=limit,
                    logarithmic=True,
                ),
                among=len(ratios),
                by_weights=by_weight,
            )
        )
    patient.found["asymmetric-scale: looked at"] = f"{looked:,} layers over {patient.pictures} pictures."
    yield from at_most(findings, "have channels far above the rest")


def _silent(chain: Chain) -> Iterator[_Silent]:
    """The silent channels of each activation, without those that were handed on as constants or made of them."""
    for place, summary in chain.summaries.items():
        line = silence_of(summary)
        if line is None:
            continue
        count = len(summary.fired)
        quiet = largest_of(summary) <= line
        before = chain.before(place)
        depth, nothing = np.full(count, np.nan), np.zeros(count, bool)
        if before is not None:
            numbers = before.statistics.channels
            varies = numbers["std"] > CONSTANT * largest_of(before)
            size = np.hypot(numbers["mean"], numbers["std"])
            usual = float(np.median(size[varies])) if varies.any() else 0.0
            if (speaks := varies & ~quiet).sum() >= max(FEWEST, OF_THOSE * count) and quiet.mean() > MANY_SILENT:
                usual = min(usual, LOUDER * float(np.median(size[speaks])))  # many silent ones would make a larger one
            if usual > 0 and summary.statistics.count >= VALUES * count:
                depth = -numbers["max"] / usual
            nothing = (numbers["min"] == 0) & (numbers["max"] == 0)
            if line:  # near 0 is silent only where the values before it are negative
                quiet &= (numbers["max"] <= 0) | nothing
            source = before.layer, before.call
            if chain.fed_constant(source):
                continue
            quiet &= ~chain.handed_on(source)
        channels = np.flatnonzero(quiet)
        if channels.size:
            name = "" if before is None else before.layer
            yield _Silent(place, channels, count, depth, channels[nothing[channels]], name, summary)


def _above_the_rest(summary: LayerSummary) -> np.ndarray:
    """Float64 (channel,): how many times a channel is as large as the median one, by its largest magnitude and by its
    deviation, the smaller of the two: a mere offset is no scale.
    """
    found = np.full(len(summary.fired), np.inf)
    for size in (largest_of(summary), summary.statistics.channels["std"]):
        size = np.where(np.isfinite(size), size, 0.0)
        usual = float(np.median(size[size > 0])) if (size > 0).any() else 0.0
        found = np.minimum(found, size / usual if usual else 0.0)
    return found


def _is_scaled(fed: Fed, summary: LayerSummary) -> bool:
    """Whether a call's channels have scales of their own: by weights, or as a sum."""
    return has_filters(fed, summary) or has_scales(fed, summary) or summary.type == "add"


def _but(given: int) -> str:
    return f", without {_plural(given, 'channel')} that the layer before has as large" if given else ""


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
