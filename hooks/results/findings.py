"""What a check-up of a model finds: findings with evidence, and what was checked; nothing here imports torch.

found = hs.check(model, pictures)
found.worst.sentence, found.worst.layer
found.exceeds("warning")                   # whether a check in CI fails
json.dumps(found.as_json())
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Severity = Literal["error", "warning", "note"]
Status = Literal["ok", "found", "skipped"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # the worst first
VERSION = 1  # of what `as_json` writes
FAILED = "It failed: "  # how the reason begins of a rule that came to no end
Place = Literal["layer", "model", "answer", "input"]


@dataclass(frozen=True)
class Bars:
    """Numbers beside each other.

    Attributes:
        title: what they are, with the unit. names, values: of each.
        bad, good: which of them is what was found, and which would be right; -1 for none.
        limit: where the rule draws the line; NaN for none. logarithmic: whether they differ by magnitudes.
    """

    title: str
    names: tuple[str, ...]
    values: tuple[float, ...]
    bad: int = -1
    good: int = -1
    limit: float = math.nan
    logarithmic: bool = False


@dataclass(frozen=True)
class Trail:
    """Lines in the order in which layers ran, of which some are marked.

    Attributes:
        title: what is said of each. lines: (layer, what is said of it). marked: which of them are what was found.
    """

    title: str
    lines: tuple[tuple[str, str], ...]
    marked: tuple[int, ...] = ()


@dataclass(frozen=True)
class Maps:
    """Maps of some channels, or pictures of weights, beside each other.

    Attributes:
        title: what they show, and of which picture. captions: one for each.
        values: float32 (map, height, width). marked: which of them are what was found.
    """

    title: str
    captions: tuple[str, ...]
    values: np.ndarray
    marked: tuple[int, ...] = ()


@dataclass(frozen=True)
class Curve:
    """One number for each of many, in their order: layers along the depth, or sorted channels.

    Attributes:
        title: what it is, with the unit. names: of each; () where they have none. values: float64 (place,).
        marked: places that are what was found. limit, logarithmic: as `Bars` has them.
    """

    title: str
    names: tuple[str, ...]
    values: np.ndarray
    marked: tuple[int, ...] = ()
    limit: float = math.nan
    logarithmic: bool = False


Evidence = Bars | Trail | Maps | Curve


@dataclass(frozen=True)
class Finding:
    """Something about a model, or about how it is used, that a person should know.

    Attributes:
        rule: which rule found it, a name of `rules.RULES`. severity: how bad it is.
        sentence: what was found, with the number and its limit. why: why it matters. advice: what to do.
        layer, call: where; "" where it is about the model, its answer or its input as a whole, as `about` says.
            An operation is named as in `layers.describe`.
        channels: which of the layer's; () where it is about the whole layer.
        value, limit: the number, and where the rule draws the line; NaN for none. excess: how far beyond the line it
            is, as a factor of at least 1, by which findings of one severity are sorted.
        evidence: a small figure from real values; None where the sentence says all.
        rank: how the layer's channels are best ordered to see it, as the page calls it; "" as they are.
        preparation: the pictures as they should be prepared, as the page writes it; "" where that is not the matter.
        picture: the number of the picture that shows it best, in the set; -1 for any.
        among: of how many channels; 0 where it is not about channels.
        by_weights: whether the weights alone show it, whatever the pictures and the layers before it are.
    """

    rule: str
    severity: Severity
    sentence: str
    why: str = ""
    advice: str = ""
    layer: str = ""
    call: int = 0
    channels: tuple[int, ...] = ()
    value: float = math.nan
    limit: float = math.nan
    excess: float = 1.0
    evidence: Evidence | None = None
    about: Place = "layer"
    rank: str = ""
    preparation: str = ""
    picture: int = -1
    among: int = 0
    by_weights: bool = False

    @property
    def order(self) -> tuple[float, ...]:
        """Worse findings have a lower one."""
        return SEVERITIES.index(self.severity), -self.excess

    def as_json(self, link: str = "") -> dict[str, Any]:
        """What `CheckUp.as_json` has of it; a number that is not finite is a text ("inf"), one that is not known null.

        Arguments:
            link: a query string that opens a page exactly there.
        """
        return {
            "rule": self.rule,
            "severity": self.severity,
            "layer": self.layer or None,
            "channels": list(self.channels),
            "sentence": self.sentence,
            "value": _number(self.value),
            "limit": _number(self.limit),
            "advice": self.advice,
            "link": link,
        }


@dataclass(frozen=True)
class Checked:
    """What became of one rule.

    Attributes:
        rule: its name. status: "ok", "found", or "skipped" where it could not be checked or was not to be.
        why: what was looked at, or why it could not be checked, as a sentence.
    """

    rule: str
    status: Status
    why: str

    @property
    def failed(self) -> bool:
        """Whether the rule, or the model under it, came to no end: that is no rule that found nothing."""
        return self.status == "skipped" and self.why.startswith(FAILED)


@dataclass(frozen=True)
class CheckUp:
    """Everything that a check-up has found.

    Attributes:
        model: what it is called. pictures: over how many.
        findings: the worst first. checked: of every rule, in the rules' order, what became of it.
        seconds: how long it took. notes: what else is to be said, as sentences.
    """

    model: str
    pictures: int
    findings: tuple[Finding, ...] = ()
    checked: tuple[Checked, ...] = ()
    seconds: float = math.nan
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> Finding | None:
        """The first finding; None if there is none."""
        return self.findings[0] if self.findings else None

    def of(self, rule: str) -> tuple[Finding, ...]:
        """What one rule has found."""
        return tuple(each for each in self.findings if each.rule == rule)

    @property
    def failed(self) -> tuple[Checked, ...]:
        """The rules that came to no end."""
        return tuple(each for each in self.checked if each.failed)

    def exceeds(self, severity: Severity = "warning") -> bool:
        """Whether there is a finding of this severity or a worse one."""
        line = SEVERITIES.index(severity)
        return any(SEVERITIES.index(each.severity) <= line for each in self.findings)

    def as_json(self, links: Sequence[str] | None = None) -> dict[str, Any]:
        """What `hookscope check --json` writes.

        Arguments:
            links: one for each finding; see `Finding.as_json`.
        """
        found = list(zip(self.findings, links or [""] * len(self.findings), strict=True))
        return {
            "hookscope": VERSION,
            "model": self.model,
            "pictures": self.pictures,
            "findings": [each.as_json(link) for each, link in found],
            "checked": [{"rule": each.rule, "status": each.status, "why": each.why} for each in self.checked],
        }

    def __str__(self) -> str:
        counts = ", ".join(
            f"{count} {severity}{'s' if count > 1 else ''}"
            for severity in SEVERITIES
            if (count := sum(each.severity == severity for each in self.findings))
        )
        pictures = f"{self.pictures} picture{'' if self.pictures == 1 else 's'}"
        lines = [f"{self.model}, {pictures}: {counts or 'nothing found'}."]
        lines += [f"{each.severity}: {each.rule}: {each.sentence}" for each in self.findings]
        return "\n".join(lines)


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first; those that are as bad stay in the order in which they came."""
    return tuple(sorted(findings, key=lambda each: each.order))


@dataclass(frozen=True)
class CheckUpNow:
    """What is told of a check-up under way.

    Attributes:
        findings, checked: so far, as `CheckUp` has them. doing: the rule that is at work, or what is being done.
    """

    findings: tuple[Finding, ...]
    checked: tuple[Checked, ...] = ()
    doing: str = ""


def in_digits(number: float) -> str:
    """A number with 3 digits, or with separators where it has few thousands.

    >>> in_digits(138.4), in_digits(65504), in_digits(141749629), in_digits(0.0123456)
    ('138', '65,504', '1.42e+08', '0.0123')
    """
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e6 else f"{number:.3g}"


def join_names(names: Sequence[str], most: int = 4) -> str:
    """Names for a sentence: "a, b, c and 12 more".

    >>> join_names(["a", "b"]), join_names(list("abcdef"), 3)
    ('a, b', 'a, b, c and 3 more')
    """
    rest = len(names) - most
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:most])} and {rest:,} more"


def _number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else str(float(value))


@dataclass(frozen=True)
class Known:
    """What whoever loaded a model knows of it, beside what it holds; everything may be left out.

    Attributes:
        title: what it is called.
        random: whether all its weights are random; None where nobody knows, and then they are looked at.
        random_part: the layer that was left random because the file's is of another shape.
        missing: the model's weights that the file lacked; unexpected: those of the file that the model lacks.
        classes: the names of its answer's classes, in their order; () where nobody gave any.
        training: modules that were handed over in training mode although the model was not.
        mean, std: of each channel, by which pixels of 0..1 became what the model is given; () where nobody knows.
        assumed: which parts of how pictures are prepared nobody told ("size", "mean", "std", "order", ...).
        own: how the model's own weights say that pictures are prepared, as the page writes a preparation, where the
            operator has told another way; "" else.
        size: (height, width) of what its weights were trained at; (0, 0) where nobody knows.
        unused: modules of which it is known why they do not run (a branch for training), each with its reason.
    """

    title: str = ""
    random: bool | None = None
    random_part: str = ""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    assumed: tuple[str, ...] = ()
    own: str = ""
    size: tuple[int, int] = (0, 0)
    unused: tuple[tuple[str, str], ...] = field(default=())


KNOW_NOTHING = Known()
