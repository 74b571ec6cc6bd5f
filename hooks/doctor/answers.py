"""Whether a model's answers and the classes that they are said to be belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from hookscope.hooks.doctor.chances import as_often, at_least, beyond
from hookscope.hooks.doctor.patient import CannotTell, Patient
from hookscope.hooks.results.findings import Bars, Finding, join_names
from hookscope.hooks.results.set_answers import Answers

UNREAD = ("values", "embedding")  # readings under which the numbers are no classes
SUSPICIOUS = 0.05  # the p below which it is said that more pictures are needed
FEW_LABELLED = 8  # pictures with a label, of which fewer say nothing of chance
ENOUGH_LABELLED = 16  # of which fewer are a note
EXPLAINED = 0.5  # share of the pictures, of which an order has to make the first class the label
SURELY_POOR = 0.01  # chance of so many wrong answers, were half of those right that are not by chance
MOST_PRESENT = 300  # classes among which a reordering is searched


def read_answers(patient: Patient) -> Answers:
    """What the model answered to every picture.

    Raises:
        CannotTell: it answers no classes.
    """
    found = patient.seen.answers
    if found is None or found.reads in UNREAD:
        notes = patient.seen.notes
        raise CannotTell(notes[0] if notes else "The model's answer is read as numbers, and not as classes.")
    return found


def label_rows(patient: Patient, answers: Answers) -> np.ndarray:
    """Int64 (row,): the answers whose picture has a label; none where a label, or the names, are of other classes."""
    labels = patient.labels[answers.pictures]
    named = len(patient.known.classes)
    if answers.classes < 2 or named not in (0, answers.classes) or labels.max(initial=-1) >= answers.classes:
        return np.zeros(0, np.int64)
    return np.flatnonzero(labels >= 0)


def by_chance(best: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """How likely as many right answers are where answers and labels know nothing of each other.

    By the binomial test, with the chance that labels and answers drawn as often as these are have in common, and at
    least that of one class of all.

    Arguments:
        best, labels: int (picture,).
    """
    return as_often(int((best == labels).sum()), len(labels), share_by_chance(best, labels, classes))


def share_by_chance(best: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """The share of right answers that labels and answers drawn as often as these are have by chance, 0..1."""
    shared = sum(float((best == label).mean() * (labels == label).mean()) for label in np.unique(labels))
    return max(shared, 1 / classes)


# --- how many


def class_count(patient: Patient) -> Iterator[Finding]:
    """Another number of names, or of labels, than of classes that the model answers.

    Raises:
        CannotTell: there are neither names nor labels, or the model answers no classes.
    """
    names, labels = patient.known.classes, patient.labels[patient.labels >= 0]
    if not names and not len(labels):
        raise CannotTell("Neither class names nor labels are known: give labels, or classes, to have them compared.")
    count = read_answers(patient).classes
    told = [f"{len(names):,} names"] if names else []
    told += [f"labels up to {labels.max()}"] if len(labels) else []
    patient.found["class-count: looked at"] = f"{_classes(count)} of the answer against {' and '.join(told)}."
    said = 2 if count == 1 else count  # one number says yes or no
    if names and len(names) not in (count, said):
        yield _other_names(count, len(names), patient.known.classes)
    if len(labels) and labels.max() >= said:
        yield _labels_beyond(count, said, labels)
    elif len(labels) and names and labels.max() >= max(len(names), 2):
        beyond = int((labels >= len(names)).sum())
        yield _finding(
            f"{beyond} of {len(labels)} labels are no class that has a name: the highest is {labels.max()}, and there "
            f"are {len(names):,} names, from 0 on.",
            "Give the labels by the order of the names, or the names of all classes.",
            Bars(
                "classes", ("highest label + 1", "names"), (float(labels.max() + 1), float(len(names))), bad=0, good=1
            ),
            labels.max() + 1,
            len(names),
        )


def _classes(count: int) -> str:
    return "1 number" if count == 1 else f"{count:,} classes"


def _other_names(count: int, names: int, classes: Sequence[str]) -> Finding:
    first = classes[0].lower()
    if count == names + 1:
        more = " One class more is usually a background class, which comes first."
        advice = 'Put a name for it ("background") in front of the names, or leave the first number out of the answer.'
    elif names == count + 1:
        background = "background" in first or "__" in first
        more = f" The first name is {classes[0]!r}, a background that the answer does not have." if background else ""
        advice = f"Take the name {classes[0]!r} out." if background else "Take out the name that is one too many."
    else:
        more, advice = "", "Give the names of the classes that this model was trained on, one each, in their order."
    return _finding(
        f"The model answers {_classes(count)}, and there are {names:,} class names (there should be as many).{more}",
        advice,
        Bars("classes", ("of the answer", "names"), (float(count), float(names)), bad=1, good=0),
        names,
        count,
    )


def _labels_beyond(count: int, said: int, labels: np.ndarray) -> Finding:
    beyond = int((labels >= said).sum())
    from_one = labels.min() >= 1 and labels.max() == said
    more = " None is 0: they seem to count from 1." if from_one else ""
    return _finding(
        f"{beyond} of {len(labels)} labels are no class of the answer: the highest is {labels.max()}, and the model "
        f"answers {_classes(count)}, from 0 to {said - 1}.{more}",
        "Subtract 1 from every label." if from_one else "Give the labels in the model's own order, from 0 on.",
        Bars("classes", ("highest label + 1", "of the answer"), (float(labels.max() + 1), float(said)), bad=0, good=1),
        labels.max() + 1,
        said,
    )


def _finding(sentence: str, advice: str, evidence: Bars, value: float, limit: float) -> Finding:
    return Finding(
        "class-count",
        "error",
        sentence,
        why="Names and accuracies are of other classes than those that the model means.",
        advice=advice,
        about="answer",
        value=float(value),
        limit=float(limit),
        evidence=evidence,
    )


# --- in which order


@dataclass(frozen=True)
class _Order:
    """A reordering of the classes.

    Attributes:
        words: what it is, after "with". meant: int64 (picture,), the model's class that each label would mean; -1 for
            none. advice: what to do. fitted: whether it was found on these pictures.
    """

    words: str
    meant: np.ndarray
    advice: str
    fitted: bool = False


def label_order(patient: Patient) -> Iterator[Finding]:
    """Labels that agree with the answers significantly better when the classes are reordered.

    Raises:
        CannotTell: there are too few labels, or the model answers no classes.
    """
    if not (patient.labels >= 0).any():
        raise CannotTell(_unlabelled(patient))
    found = read_answers(patient)
    if found.classes < 2:
        raise CannotTell("The model answers one number, whose classes have no order.")
    if not np.isfinite(found.shares[:, 0]).all():
        raise CannotTell("The answers are not finite (NaN or infinity), so that nothing can be told: see non-finite.")
    whole = patient.labels[found.pictures]  # the answers' own leave out what is beyond the classes
    rows = whole >= 0
    labels, best = whole[rows].astype(np.int64), found.best[rows, 0].astype(np.int64)
    present, counts = np.unique(labels, return_counts=True)
    if (counts >= 2).sum() < 2:
        raise CannotTell(
            f"Of {len(present)} labelled classes fewer than two have two pictures or more: give several of each of at "
            "least two classes."
        )
    orders = [*_usual_orders(patient.known.classes, labels, found.classes), *_fitted_order(labels, best)]
    right, limit = best == labels, patient.limit("label-order")
    tested = [(order, *_compared(order.meant == best, right)) for order in orders]
    usual = max(sum(not order.fitted for order in orders), 1)
    corrected = [min(p * (1 if order.fitted else usual), 1.0) for order, p, _ in tested]
    patient.found["label-order: looked at"] = (
        f"The first class is the label of {right.sum()} of {len(labels)} pictures of {len(present)} classes; "
        f"{len(orders)} other orders were tried (limit p {limit:g})."
    )
    chance = _chance_of(patient, found, best, labels)
    told = [each for each, p, _ in tested if p < limit]
    order = max(told, key=lambda each: (_agreeing(each, best), not each.fitted), default=None)  # better one with a name
    # an order that leaves most wrong explains no answers that are chance
    explains = order is not None and (chance is None or _agreeing(order, best) >= EXPLAINED * len(labels))
    if order is not None and explains and min(corrected) < limit:
        yield _reordered(patient, order, best, labels, min(corrected), tested)
    elif chance is not None:
        nearest = max((_agreeing(each, best) for each in orders), default=0)
        yield _at_chance(patient, right, *chance, f"{nearest} in the nearest of {len(orders)} other orders")
    elif tested and min(p for _, p, _ in tested) < SUSPICIOUS:
        order, p, _ = min(tested, key=lambda each: each[1])
        raise CannotTell(
            f"The first class is the label of {right.sum()} of {len(labels)} pictures, and with "
            f"{order.words or 'another order of the classes'} of {_agreeing(order, best)}, which may be chance "
            f"(p {p:.1g}, limit {limit:g}): more labelled pictures would tell."
        )
    elif not right.any() and not any((order.meant == best).any() for order in orders):
        raise CannotTell(
            f"The first class is the label of none of {len(labels)} pictures, in no order that was tried: more "
            "pictures of each class would tell."
        )


def _unlabelled(patient: Patient) -> str:
    folders = cast(list[str], patient.found.get("folders") or [])
    if not folders:
        return "No picture has a label: give labels, several pictures of each of at least two classes."
    named = (
        "and no class of the model is called so" if patient.known.classes else "and the model's classes have no names"
    )
    return (
        f"No picture has a label that is known to be a class: they are said to show {join_names(folders)}, {named}."
        " Name the classes in the model's order, one a line, with --labels FILE."
    )


def _chance_of(patient: Patient, found: Answers, best: np.ndarray, labels: np.ndarray) -> tuple[float, float] | None:
    """Where no more answers are right than by chance, how likely as many are, and the share of right ones that chance
    has; None where more are, where that cannot be told, and where labels or names are of other classes.
    """
    if len(labels) < FEW_LABELLED or not len(label_rows(patient, found)):
        return None
    shared, right = share_by_chance(best, labels, found.classes), int((best == labels).sum())
    p = as_often(right, len(labels), shared)
    # of two classes not even a good model is surely above chance over few pictures: then it has to be surely below good
    wrong = as_often(len(labels) - right, len(labels), (1 - shared) / 2)
    return (p, shared) if p >= patient.limit("label-order", "chance") and wrong < SURELY_POOR else None


def _at_chance(patient: Patient, right: np.ndarray, p: float, shared: float, orders: str) -> Finding:
    limit = patient.limit("label-order", "chance")
    few = len(right) < ENOUGH_LABELLED
    return Finding(
        "label-order",
        "note" if few else "warning",
        f"The first class is the label of {right.sum()} of {len(right)} pictures, no more than by chance "
        f"({shared:.1%} of them; p {p:.2g}, limit {limit:g}), and of {orders} of the classes: no order explains it.",
        why="So few pictures may be chance, too."
        if few
        else "The answers say nothing about these pictures, although the weights are trained.",
        advice="Check that the labels are of this model's classes, how the pictures are prepared (mean, deviation, "
        "size, order of the colours), and that all weights are those of the training.",
        about="answer",
        value=p,
        limit=limit,
        excess=1.0,
        evidence=Bars(
            "share of the pictures whose first class is the label",
            ("found", "by chance"),
            (float(right.mean()), shared),
            bad=0,
        ),
    )


def _agreeing(order: _Order, best: np.ndarray) -> int:
    return int((order.meant == best).sum())


def _compared(one: np.ndarray, other: np.ndarray) -> tuple[float, int]:
    """The chance that as many pictures speak for the first of two orders; and on how many pictures these differ."""
    ahead, behind = int((one & ~other).sum()), int((other & ~one).sum())
    return at_least(ahead, ahead + behind), ahead + behind


def _usual_orders(names: Sequence[str], labels: np.ndarray, classes: int) -> Iterator[_Order]:
    yield _Order("1 subtracted from each label", _within(labels - 1, classes), "Count the labels from 0, not from 1.")
    yield _Order(
        "1 added to each label",
        _within(labels + 1, classes),
        "Add 1 to the labels: the model's first class seems to be a background.",
    )
    shown = list(names) if len(names) == classes else [str(number) for number in range(classes)]
    alphabetical = np.array(sorted(range(classes), key=lambda number: shown[number]))
    natural = np.array(sorted(range(classes), key=lambda number: _natural(shown[number])))
    for words, order in (("alphabetical", alphabetical), ("numeric", natural)):
        if (order == np.arange(classes)).all():
            continue
        inverse = np.argsort(order)
        example = "" if len(names) == classes else ' ("10" before "2")'
        advice = "Sort the class folders, or names, for the labels as they were sorted in training."
        yield _Order(f"the labels in the {words} order of the names{example}", _taken(order, labels), advice)
        yield _Order(f"the model's classes in the {words} order of the names{example}", _taken(inverse, labels), advice)


def _natural(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _within(meant: np.ndarray, classes: int) -> np.ndarray:
    return np.where((meant >= 0) & (meant < classes), meant, -1)


def _taken(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    inside = labels < len(order)
    return np.where(inside, order[np.where(inside, labels, 0)], -1)


def _fitted_order(labels: np.ndarray, best: np.ndarray) -> Iterator[_Order]:
    """The reordering by which labels and answers agree most, for each half of the pictures found on the other half."""
    if len(np.unique(np.concatenate([labels, best]))) > MOST_PRESENT:
        return
    half = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        half[np.flatnonzero(labels == label)[::2]] = True
    meant = labels.copy()
    for one in (half, ~half):
        order = find_order(labels[~one], best[~one])
        meant[one] = [order.get(int(label), int(label)) for label in labels[one]]
    if (meant != labels).any():
        yield _Order("", meant, "Give the labels in the model's own order.", fitted=True)


def find_order(labels: np.ndarray, best: np.ndarray) -> dict[int, int]:
    """The one-to-one reordering of classes by which most pictures agree: label -> answer.

    What no picture speaks for stays as it is. Arguments: int64 (picture,).

    >>> find_order(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1]))
    {0: 1, 1: 0}
    """
    classes = np.unique(np.concatenate([labels, best]))
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (np.searchsorted(classes, labels), np.searchsorted(classes, best)), 1)
    # of what agrees alike, the order that moves less
    chosen = assign(-(counts + 1e-3 * np.eye(len(classes))))
    return {
        int(classes[row]): int(classes[column])
        for row, column in enumerate(chosen)
        if counts[row, column] > 0 or row == column
    }


def assign(costs: np.ndarray) -> np.ndarray:
    """The column of each row for which the sum of the costs is least, each column once.

    By shortest augmenting paths with prices (Kuhn, Naval Research Logistics 1955; Jonker & Volgenant, 1987).

    Arguments:
        costs: float64 (row, column), square.

    >>> assign(np.array([[4.0, 1.0], [2.0, 3.0]]))
    array([1, 0])
    """
    size = len(costs)
    of_column = np.full(size + 1, -1)  # the row that has each column; the last column is where a search starts
    row_prices, column_prices = np.zeros(size), np.zeros(size + 1)
    for row in range(size):
        of_column[size] = row
        at, before = size, np.full(size, size)
        distance, done = np.full(size, np.inf), np.zeros(size + 1, bool)
        while of_column[at] >= 0:
            done[at] = True
            here = of_column[at]
            reduced = costs[here] - row_prices[here] - column_prices[:size]
            nearer = ~done[:size] & (reduced < distance)
            distance[nearer], before[nearer] = reduced[nearer], at
            open_ = np.where(done[:size], np.inf, distance)
            following = int(open_.argmin())
            step = open_[following]
            row_prices[of_column[done]] += step
            column_prices[done] -= step
            distance[~done[:size]] -= step
            at = following
        while at != size:
            of_column[at], at = of_column[before[at]], before[at]
    found = np.empty(size, np.int64)
    found[of_column[:size]] = np.arange(size)
    return found


def _reordered(
    patient: Patient,
    order: _Order,
    best: np.ndarray,
    labels: np.ndarray,
    p: float,
    tested: Sequence[tuple[_Order, float, int]],
) -> Finding:
    limit, names = patient.limit("label-order"), patient.known.classes
    agree, given = _agreeing(order, best), int((best == labels).sum())
    words = order.words or _moved(order, labels, best, names)
    bars = [("as given", given), *((each.words or "as found", _agreeing(each, best)) for each, *_ in tested)]
    return Finding(
        "label-order",
        "error",
        f"The first class is the label of {given} of {len(labels)} pictures, and of {agree} (p {p:.1g}, limit "
        f"{limit:g}) with {words}.",
        why="Accuracy, mistakes and names are told of the wrong classes, although the model may be right.",
        advice=order.advice,
        about="answer",
        value=p,
        limit=limit,
        excess=beyond(p, limit),
        evidence=Bars(
            "pictures whose label is the first class",
            tuple(name for name, _ in bars),
            tuple(float(count) for _, count in bars),
            bad=0,
            good=1 + [each is order for each, *_ in tested].index(True),
        ),
    )


def _moved(order: _Order, labels: np.ndarray, best: np.ndarray, names: Sequence[str]) -> str:
    """Which classes a reordering exchanges, as far as pictures speak for it."""

    def said(number: int) -> str:
        return f"{number} ({names[number]})" if number < len(names) else str(number)

    pairs: dict[int, int] = {}
    for label in np.unique(labels):
        of_label = (labels == label) & (order.meant == best) & (order.meant != labels)
        if of_label.any():
            values, counts = np.unique(order.meant[of_label], return_counts=True)
            pairs[int(label)] = int(values[counts.argmax()])
    swapped = sorted({tuple(sorted((one, other))) for one, other in pairs.items() if pairs.get(other) == one})
    if swapped and 2 * len(swapped) == len(pairs):
        return "classes " + join_names([f"{said(one)} and {said(other)}" for one, other in swapped], 3) + " exchanged"
    return "labels read as other classes: " + join_names([f"{said(a)} as {said(b)}" for a, b in pairs.items()], 4)
