"""Whether a model sees red as blue: told from its answers in both orders, or not told.

What BatchNorms store is of no use: over photographs red and blue have nearly the same mean and deviation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.doctor import ways
from hookscope.hooks.doctor.answers import read_answers
from hookscope.hooks.doctor.by_labels import answers_to, need_finite, of_these
from hookscope.hooks.doctor.chances import at_least, beyond, flipped
from hookscope.hooks.doctor.patient import CannotTell, Patient
from hookscope.hooks.doctor.ways import Way
from hookscope.hooks.results.findings import Bars, Finding
from hookscope.hooks.results.set_answers import Answers

LEAST_COLOURED = 8  # pictures in colour that are needed
MOST_COLOURED = 16  # that are looked at where there are no labels
COLOURED = 0.01  # of black to white, by which red and blue of a picture in colour differ on average
SURE = 0.5  # the median share that a trained classifier's first class has in the right order
UNLABELLED_P = 0.1  # of the limit p: confidence is worth less than labels, and pictures of one hue are alike
TRUSTED = 0.5  # share of the labels that the first class has to be in the right order
TINY = 1e-12  # share below which shares are alike
SHARES = ("softmax", "probabilities", "sigmoid")  # readings under which numbers are shares
ORDERS = ("as given", "red and blue exchanged")


def colour_order(patient: Patient) -> Iterator[Finding]:
    """Red and blue exchanged, told from the answers alone: what a BatchNorm stores is the same in both orders.

    Raises:
        CannotTell: the model takes no colours, or its answers in both orders do not differ enough.
    """
    if patient.found.get("preprocessing: other values"):
        raise CannotTell(
            "The pictures' values are off, and so are the answers in either order: see preprocessing first."
        )
    batch = patient.batches[0]
    if batch.shape[1] != 3:
        raise CannotTell(f"The pictures have {_counted(batch.shape[1])}, and no order of red, green and blue.")
    answers = read_answers(patient)
    way = ways.recognise(patient.batches, ways.told(patient.known.mean, patient.known.std, 3))
    coloured = _coloured(patient, way)
    labelled = coloured[answers.labels[coloured] >= 0]  # those that are no class of the answer are left out
    by_label = len(labelled) >= LEAST_COLOURED
    chosen = labelled if by_label else coloured[:MOST_COLOURED]
    if len(chosen) < LEAST_COLOURED:
        raise CannotTell(
            f"Of {patient.pictures} pictures {len(coloured)} are in colour, and at least {LEAST_COLOURED} are needed."
        )
    text, exchanged = _exchanged_colours(patient, way, chosen)
    other = answers_to(patient, exchanged, patient.labels[chosen])
    need_finite(answers, chosen)
    need_finite(other, np.arange(len(chosen)))
    if by_label:
        yield from _by_labels(patient, answers, other, chosen, text)
    else:
        yield from _by_confidence(patient, answers, other, chosen, text)


def _counted(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"


def _coloured(patient: Patient, way: Way | None) -> np.ndarray:
    """Int64 (picture,): the numbers of those whose red and blue differ."""
    found = []
    for batch in patient.batches:
        pixels = way.pixels(batch) if way is not None else batch
        span = 1.0 if way is not None else max(float(pixels.max() - pixels.min()), 1e-9)
        found.append(((pixels[:, 0] - pixels[:, 2]).abs().double().mean((1, 2)) > COLOURED * span).cpu().numpy())
    return np.flatnonzero(np.concatenate(found))


def _exchanged_colours(patient: Patient, way: Way | None, chosen: np.ndarray) -> tuple[str, list[Tensor]]:
    """What the page calls the other order, and those of the pictures in it."""
    if patient.otherwise is not None:
        for text in ("bgr", "rgb"):
            batches = list(patient.otherwise(text))
            same = all(torch.equal(one.cpu(), other.cpu()) for one, other in zip(batches, patient.batches, strict=True))
            if not same:
                return text, of_these(batches, chosen)
    own = of_these(patient.batches, chosen)
    if way is None:
        return "bgr", [batch.flip(1) for batch in own]
    return "bgr", [way.prepare(way.pixels(batch).flip(1)) for batch in own]


def _by_labels(patient: Patient, given: Answers, other: Answers, chosen: np.ndarray, text: str) -> Iterator[Finding]:
    right, would = given.right[chosen], other.right
    ahead, behind = int((would & ~right).sum()), int((right & ~would).sum())
    gain = _gain(given.of_label[chosen], other.of_label) if given.reads in SHARES else np.zeros(0)
    chances = [at_least(ahead, ahead + behind), *([flipped(gain)] if len(gain) else [])]
    p, factor = min(min(chances) * len(chances), 1.0), float(np.exp(gain.mean())) if len(gain) else float("nan")
    limit = patient.limit("colour-order")
    if p < limit and would.mean() < TRUSTED:  # of other labels, or of pictures that are off in another way, too
        p = 1.0
    shares = f", and the label's share is {factor:.2g} times as large" if len(gain) else ""
    numbers = f"{right.sum()} of {len(chosen)} pictures as given, and {would.sum()} with red and blue exchanged{shares}"
    if p < limit and would.sum() >= right.sum() and not factor < patient.limit("colour-order", "factor"):
        yield _other_order(
            f"The first class is the label of {numbers} (p {p:.1g}, limit {limit:g}).",
            Bars("pictures whose first class is the label", ORDERS, (float(right.sum()), float(would.sum())), 0, 1),
            p,
            limit,
            text,
        )
        return
    back = [at_least(behind, ahead + behind), *([flipped(-gain)] if len(gain) else [])]
    if min(back) * len(back) < limit:
        patient.found["colour-order: looked at"] = f"The first class is the label of {numbers}."
        return
    raise CannotTell(f"The order of the colours cannot be told: the first class is the label of {numbers}.")


def _by_confidence(
    patient: Patient, given: Answers, other: Answers, chosen: np.ndarray, text: str
) -> Iterator[Finding]:
    if given.reads not in SHARES:
        raise CannotTell("The order of the colours cannot be told without labels: the answers have no shares.")
    one, two = given.shares[chosen, 0], other.shares[:, 0]
    gain = _gain(one, two)
    p, factor = flipped(gain), float(np.exp(gain.mean()))
    limit, large = UNLABELLED_P * patient.limit("colour-order"), patient.limit("colour-order", "factor")
    numbers = (
        f"{len(chosen)} pictures in colour the first class's share is {one.mean():.0%} as given and {two.mean():.0%} "
        f"with red and blue exchanged, {factor:.2g} times as large by the picture"
    )
    if p < limit and factor >= large and np.median(two) >= SURE:
        yield _other_order(
            f"Over {numbers} (p {p:.1g}, limit {limit:g}).",
            Bars("share of the first class", ORDERS, (float(one.mean()), float(two.mean())), 0, 1),
            p,
            limit,
            text,
        )
    elif flipped(-gain) < limit and factor <= 1 / large and np.median(one) >= SURE:
        patient.found["colour-order: looked at"] = f"Over {numbers}."
    else:
        raise CannotTell(f"The order of the colours cannot be told without labels: over {numbers}.")


def _gain(given: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Float64 (picture,): the logarithm of by how many times a share is larger in the other order."""
    return np.asarray(np.log(np.maximum(other, TINY).astype(np.float64)) - np.log(np.maximum(given, TINY)))


def _other_order(sentence: str, evidence: Bars, p: float, limit: float, text: str) -> Finding:
    return Finding(
        "colour-order",
        "error",
        sentence,
        why="The model sees other colours than in training: what is told by colour is told wrongly.",
        advice="Exchange red and blue: `--channel-order "
        f"{text}`, or in Python `images = images.flip(1)`; OpenCV reads blue first.",
        about="input",
        value=p,
        limit=limit,
        excess=beyond(p, limit),
        evidence=evidence,
        preparation=text,
    )
