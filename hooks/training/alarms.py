"""Tells what is wrong with a training once, and again only after it was over: the rules of `training.rules`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from hookscope.hooks.results.anomalies import say_lessened
from hookscope.hooks.results.feeds import Alarm
from hookscope.hooks.training.rules import TRAINING_RULES

IN_A_ROW = 3  # looks
PICTURES = 8  # over those, at least
CLEAN = 2  # looks without it, after which an alarm is over
NAMED = 100  # layers that an alarm lists
USUAL = 20  # looks over which the median is taken
FEW = 5  # looks, of fewer the largest is taken


@dataclass
class Evidence:
    """What one look found, as the rules are given it.

    Attributes:
        step, loss: of the look. first: whether nothing was trained before it. classes: how many the model answers, 0
            where the loss is no cross-entropy.
        not_finite: (layer, sentence, advice) of what made values that are not finite; its victims are not there.
        matrices: layers with weights of two axes or more. gradients: by layer (norm, root mean square, zeros, values
            that are not finite). underflow: by layer the share at float16's end; only where that was computed with.
        fired: of each activation function (in how many pictures each channel fired, of how many).
        ratios: of updates, by layer. at_rate_0: whether every learning rate was 0 in an update.
        unchanged: weights that did not change in the update; None if there was none.
        scaled: whether there is a scaler, which leaves out a step whose gradients are not finite.
    """

    step: int
    loss: float = math.nan
    first: bool = False
    classes: int = 0
    not_finite: tuple[tuple[str, str, str], ...] = ()
    matrices: tuple[str, ...] = ()
    gradients: Mapping[str, tuple[float, float, float, int]] = field(default_factory=dict)
    underflow: Mapping[str, float] = field(default_factory=dict)
    fired: Mapping[str, tuple[np.ndarray, int]] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)
    unchanged: tuple[str, ...] | None = None
    at_rate_0: bool = False
    scaled: bool = False


@dataclass(frozen=True)
class _Hit:
    """A rule's limit was passed at a layer: by how much, as a factor, and how to say it.

    `key` is what makes it the same from look to look: the layer by default.
    """

    layer: str
    sentence: str
    value: float = math.nan
    limit: float = math.nan
    excess: float = 1.0
    advice: str = ""
    key: str = ""


class Alarms:
    """Goes through the rules at each look.

    Arguments:
        off: names of rules that are not told.
    """

    def __init__(self, off: Collection[str] = ()) -> None:
        self.off = set(off)
        # by rule and key: the layer that was told, and in how many looks it was not there by now
        self._on: dict[str, dict[str, tuple[str, int]]] = {}
        self._fired: dict[str, deque[tuple[np.ndarray, int]]] = {}
        self._unchanged: dict[str, int] = {}
        self._small: dict[str, int] = {}  # in how many looks in a row a layer's update was too small
        self._norms: deque[float] = deque(maxlen=USUAL)
        self._first_losses: list[float] = []
        self._exploded = False
        self._lost: set[str] = set()  # layers that get next to no gradient
        self._at_rate_0 = 0
        self._broken = 0
        self._rules: Mapping[str, Callable[[Evidence], Iterator[_Hit]]] = {
            "non-finite": self._not_finite,
            "exploding-gradients": self._exploding,
            "vanishing-gradients": self._vanishing,
            "dead-channels": self._dead,
            "update-ratio": self._ratio,
            "initial-loss": self._initial,
            "unchanged": self._same,
            "underflow": self._underflow,
        }

    def examine(self, found: Evidence) -> tuple[tuple[Alarm, ...], tuple[tuple[str, str], ...]]:
        """What began at this look, and (rule, layer) of what is over."""
        began, over = [], []
        for name, examine in self._rules.items():
            hits = {hit.key or hit.layer: hit for hit in examine(found)}
            known = self._on.setdefault(name, {})
            fresh = [hit for key, hit in hits.items() if key not in known]
            for key, (layer, clean) in list(known.items()):
                known[key] = layer, 0 if key in hits else clean + 1
                if known[key][1] >= CLEAN:
                    del known[key]
                    over.append((name, layer))
            known.update({(hit.key or hit.layer): (hit.layer, 0) for hit in fresh})
            if fresh and name not in self.off:
                began.append(_alarm(name, fresh, found.step))
        return tuple(began), tuple(each for each in over if each[0] not in self.off)

    # --- the rules

    def _not_finite(self, found: Evidence) -> Iterator[_Hit]:
        for layer, sentence, advice in found.not_finite:
            yield _Hit(layer, sentence, 1.0, 0.0, advice=advice)

    def _vanishing(self, found: Evidence) -> Iterator[_Hit]:
        names, values = self._along(found)
        if self._exploded:  # however much the gradients of the layers differ, they are too large
            return
        if len(names) < 2 or not np.isfinite(values).all() or not values[-1, 0]:
            return
        limits = TRAINING_RULES["vanishing-gradients"].limits
        reach = np.maximum.accumulate(values, axis=0)  # the most that any layer up to here has
        first, last = values[0], values[-1]
        far = reach[:, 0] < limits["ratio"] * last[0]
        small = (reach[:, 1] < limits["mean"]) & (last[1] >= limits["mean"])
        lost = far | small
        if not lost[0]:
            return
        behind = int(np.flatnonzero(lost)[-1])
        in_order = list(found.gradients)
        self._lost = set(in_order[: in_order.index(names[behind]) + 1])
        by_ratio = bool(far[0])
        line = f"limit {limits['ratio']:g} of that"
        if not by_ratio:
            line = f"root mean square {first[1]:.2g}, limit {limits['mean']:g}"
        lessened = say_lessened(names[0], float(first[0]), names[-1], float(last[0]), line)
        yield _Hit(
            names[behind],
            f"The norm of the gradient {lessened}; {behind + 1:,} of {len(names):,} layers with weights get next to "
            f"none, the last of them {names[behind]}.",
            float(first[0] / last[0]) if by_ratio else float(first[1]),
            limits["ratio"] if by_ratio else limits["mean"],
            key="along",
        )

    def _exploding(self, found: Evidence) -> Iterator[_Hit]:
        limit = TRAINING_RULES["exploding-gradients"].limits["ratio"]
        self._exploded = False
        broken = [layer for layer, values in found.gradients.items() if values[3]]
        self._broken = self._broken + 1 if broken else 0
        if broken and (not found.scaled or self._broken >= IN_A_ROW) and not found.not_finite:
            more = f" and {len(broken) - 1:,} other layers" if len(broken) > 1 else ""
            often = f" in {self._broken} looks in a row, whatever the scale" if found.scaled else ""
            yield _Hit(
                broken[-1],
                f"The gradient is not finite at {broken[-1]}{more}, although the activations are{often} (limit 0).",
                float(len(broken)),
                0.0,
                key="broken",
                advice="Look at what follows this layer: a root or a logarithm of 0, or a division, has no gradient "
                "there.",
            )
        if broken:
            return
        names, values = self._along(found)
        if len(names) > 1 and values[-1, 0] > 0 and values[0, 0] > limit * values[-1, 0]:
            path = np.maximum.accumulate(values[::-1, 0])[::-1]
            rises = path[:-1] / np.maximum(path[1:], 1e-300)
            steepest = int(rises.argmax())
            yield _Hit(
                names[steepest],
                f"The gradient is {values[0, 0] / values[-1, 0]:.2g} times as large at {names[0]} as at {names[-1]} "
                f"(limit {limit:g}); it grows most at {names[steepest]}, by {rises[steepest]:.3g}.",
                float(values[0, 0] / values[-1, 0]),
                limit,
                key="along",
            )
        whole = math.sqrt(math.fsum(each[0] ** 2 for each in found.gradients.values()))
        few = len(self._norms) < FEW
        usual = max(self._norms, default=0.0) if few else float(np.median(self._norms))
        start = max((each for each in self._first_losses if math.isfinite(each)), default=0.0)
        self._exploded = (0 < usual < whole / limit) or (0 < start < found.loss / limit)
        if 0 < usual < whole / limit:
            what = "what it was before" if few else f"its median over the last {len(self._norms)} looks"
            yield _Hit(
                "",
                f"The norm of all gradients is {whole:.3g}, {whole / usual:.2g} times {what} (limit {limit:g}).",
                whole / usual,
                limit,
                key="in time",
            )
        elif 0 < start < found.loss / limit:
            yield _Hit(
                "",
                f"The loss is {found.loss:.3g}, {found.loss / start:.2g} times what it was at the first looks (limit "
                f"{limit:g}).",
                found.loss / start,
                limit,
                key="in time",
            )
        if found.gradients:
            self._norms.append(whole)
        if len(self._first_losses) < IN_A_ROW and not self._exploded:
            self._first_losses.append(found.loss)

    def _dead(self, found: Evidence) -> Iterator[_Hit]:
        limit = TRAINING_RULES["dead-channels"].limits["share"]
        for layer, new in found.fired.items():
            kept = self._fired.setdefault(layer, deque(maxlen=IN_A_ROW))
            if kept and kept[0][0].shape != new[0].shape:
                kept.clear()
            kept.append(new)
            inputs = sum(each[1] for each in kept)
            if len(kept) < IN_A_ROW or inputs < PICTURES:
                continue
            dead, channels = int((np.sum([each[0] for each in kept], axis=0) == 0).sum()), len(new[0])
            if channels and dead / channels >= limit:
                yield _Hit(
                    layer,
                    f"{dead:,} of {channels:,} channels of {layer} fired in none of the {inputs:,} pictures of the "
                    f"last {IN_A_ROW} looks (limit {limit:.0%}).",
                    dead / channels,
                    limit,
                    dead / channels / limit,
                )

    def _ratio(self, found: Evidence) -> Iterator[_Hit]:
        limits = TRAINING_RULES["update-ratio"].limits
        small = [layer for layer, ratio in found.ratios.items() if 0 < ratio < limits["least"]]
        if found.ratios:  # a schedule that begins at 0 begins with such a step
            self._small = {layer: self._small.get(layer, 0) + 1 for layer in small}
        for layer, ratio in found.ratios.items():
            if ratio > limits["largest"]:
                yield _Hit(
                    layer,
                    f"The update of {layer or 'the model'} is {ratio:.2g} times as large as its weights (limit "
                    f"{limits['largest']:g}).",
                    ratio,
                    limits["largest"],
                    ratio / limits["largest"],
                )
            elif self._small.get(layer, 0) >= IN_A_ROW and layer not in self._without_gradient():
                yield _Hit(
                    layer,
                    f"The update of {layer or 'the model'} is {ratio:.2g} of its weights, and as small in the "
                    f"{IN_A_ROW - 1} looks before (limit {limits['least']:g}).",
                    ratio,
                    limits["least"],
                    limits["least"] / ratio,
                )

    def _initial(self, found: Evidence) -> Iterator[_Hit]:
        limit = TRAINING_RULES["initial-loss"].limits["ratio"]
        if not found.first or found.classes < 2 or not math.isfinite(found.loss):
            return
        chance = math.log(found.classes)
        if found.loss > limit * chance:
            yield _Hit(
                "",
                f"The loss begins at {found.loss:.3g}, {found.loss / chance:.2g} times that of chance among "
                f"{found.classes:,} classes ({chance:.3g}; limit {limit:g} times).",
                found.loss / chance,
                limit,
            )

    def _same(self, found: Evidence) -> Iterator[_Hit]:
        self._at_rate_0 = self._at_rate_0 + 1 if found.at_rate_0 else 0
        if self._at_rate_0 >= IN_A_ROW:
            yield _Hit(
                "",
                f"Every learning rate was 0 in {self._at_rate_0:,} updates that were looked at, so nothing changes "
                f"(limit {IN_A_ROW}).",
                float(self._at_rate_0),
                float(IN_A_ROW),
                key="at rate 0",
                advice="Look at the optimiser's learning rate, and at what the schedule makes of it.",
            )
        if found.at_rate_0:
            return
        if found.unchanged is None:
            yield from (self._stays(name, count) for name, count in self._unchanged.items() if count >= IN_A_ROW)
            return
        lost = self._without_gradient()
        wanted = [name for name in found.unchanged if name.rpartition(".")[0] not in lost]
        self._unchanged = {name: self._unchanged.get(name, 0) + 1 for name in wanted}
        yield from (self._stays(name, count) for name, count in self._unchanged.items() if count >= IN_A_ROW)

    @staticmethod
    def _stays(name: str, count: int) -> _Hit:
        return _Hit(
            name,
            f"{name} wants a gradient and has not changed in {count:,} updates that were looked at (limit {IN_A_ROW}).",
            float(count),
            float(IN_A_ROW),
        )

    def _underflow(self, found: Evidence) -> Iterator[_Hit]:
        limit = TRAINING_RULES["underflow"].limits["share"]
        if not found.underflow:
            return
        later = False  # whether a layer behind this one has a gradient
        hits = []
        for layer in reversed(list(found.gradients)):
            _, _, zeros, broken = found.gradients[layer]
            share = found.underflow.get(layer, math.nan)
            if zeros >= 1 and later and not broken and layer in found.underflow:
                hits.append(
                    _Hit(layer, f"The gradient of {layer} underflows: all of it is 0 in float16.", 1.0, limit, 10)
                )
            elif share > limit:
                hits.append(
                    _Hit(
                        layer,
                        f"The gradient of {layer} underflows: {share:.0%} of what is left of it is at the end of "
                        f"float16's range (limit {limit:.0%}), and {zeros:.0%} is 0.",
                        share,
                        limit,
                        share / limit,
                    )
                )
            later = later or zeros < 1
        yield from reversed(hits)

    def _without_gradient(self) -> set[str]:
        """The layers of which it is told that they get next to no gradient, so that their updates are small, too."""
        return self._lost if self._on.get("vanishing-gradients") else set()

    @staticmethod
    def _along(found: Evidence) -> tuple[list[str], np.ndarray]:
        """Layers with weights in their order, and float64 (layer, 2): norm and root mean square of their gradients."""
        names = [layer for layer in found.matrices if layer in found.gradients]
        return names, np.array([found.gradients[layer][:2] for layer in names], np.float64).reshape(-1, 2)


def _alarm(name: str, hits: list[_Hit], step: int) -> Alarm:
    """One alarm of what a rule found at several layers: the worst is named."""
    rule, worst = TRAINING_RULES[name], max(hits, key=lambda hit: hit.excess)
    others = [hit.layer for hit in hits if hit is not worst]
    sentence = worst.sentence
    if others:
        listed = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        sentence += f" So it is at {len(others):,} other{'s' if len(others) > 1 else ''}: {listed}."
    return Alarm(
        name,
        rule.severity,
        worst.layer,
        sentence,
        rule.why,
        worst.advice or rule.advice,
        tuple([worst.layer, *others][:NAMED]),
        worst.value,
        worst.limit,
        step,
    )
