"""The rules about a model's classes: how many there are, and in which order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import doctor_models as dm
import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from hookscope.hooks.doctor.answers import assign, class_count, find_order, label_order
from hookscope.hooks.doctor.check import check
from hookscope.hooks.doctor.patient import CannotTell, Patient, read_patient
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.findings import Finding, Known
from hookscope.hooks.results.outputs import Reading

NAMES = [f"digit {number}" for number in range(10)]


class Says(nn.Module):
    """Answers the class that is written into the first pixel, as a number of so many classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.weight = classes, nn.Parameter(torch.ones(1))

    def forward(self, pictures: Tensor) -> Tensor:
        return 9.0 * nn.functional.one_hot(pictures[:, 0, 0, 0].long(), self.classes).float() * self.weight


def saying(answers: Sequence[int]) -> Tensor:
    pictures = torch.rand(len(answers), 3, 4, 4)
    pictures[:, 0, 0, 0] = torch.tensor(answers).float()
    return pictures


def found_by(
    rule: Callable[[Patient], Iterator[Finding]],
    model: nn.Module,
    pictures: Tensor,
    labels: object = None,
    **known: object,
) -> list[Finding]:
    return list(rule(read_patient(model, pictures, labels=labels, known=Known(**known))))  # type: ignore[arg-type]


# --- how many


def test_as_many_names_as_classes_is_fine_and_others_are_not() -> None:
    digits = dm.trained("bn")
    few = digits.pictures[:8]
    assert not found_by(class_count, digits.model, few, digits.labels[:8].numpy(), classes=tuple(NAMES))
    (more,) = found_by(class_count, digits.model, few, classes=("background", *NAMES))
    assert more.severity == "error" and more.about == "answer" and "'background'" in more.sentence and more.value == 11
    (less,) = found_by(class_count, digits.model, few, classes=tuple(NAMES[:9]))
    assert "10 classes" in less.sentence and "9 class names" in less.sentence and "comes first" in less.sentence
    (other,) = found_by(class_count, digits.model, few, classes=tuple("abc"))
    assert "background" not in other.sentence


def test_labels_that_are_no_class_are_a_finding_and_no_end_of_the_check_up() -> None:
    digits = dm.trained("bn")
    (finding,) = found_by(class_count, digits.model, digits.pictures[:40], digits.labels[:40].numpy() + 1)
    assert "count from 1" in finding.sentence and finding.advice == "Subtract 1 from every label."
    (finding,) = found_by(class_count, digits.model, digits.pictures[:3], [0, 70, -1])
    assert "1 of 2 labels" in finding.sentence and finding.value == 71 and finding.limit == 10
    (finding,) = found_by(class_count, digits.model, digits.pictures[:2], [0, 9], classes=tuple(NAMES))[:1] or [None]
    assert finding is None
    report = check(digits.model, digits.pictures[:8], labels=[70] * 8)
    assert report.of("class-count")


def test_one_number_with_two_names_is_yes_and_no() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 1), nn.Sigmoid())
    pictures = torch.rand(8, 3, 4, 4)
    assert not found_by(class_count, model, pictures, [0, 1] * 4, classes=("no", "yes"))
    assert found_by(class_count, model, pictures, classes=("a", "b", "c"))
    assert found_by(class_count, model, pictures, [0, 2] * 4)


def test_what_answers_no_classes_or_has_nothing_to_compare_says_so() -> None:
    digits = dm.trained("bn")
    with pytest.raises(CannotTell, match="Neither class names nor labels"):
        found_by(class_count, digits.model, digits.pictures[:2])
    for reads, words in (("embedding", "an embedding"), ("values", "read as numbers")):
        for rule in (class_count, label_order):
            with looking(reading=Reading(reads=reads)), pytest.raises(CannotTell, match=words):
                found_by(rule, digits.model, digits.pictures[:8], [1] * 8, classes=tuple(NAMES))


# --- in which order


def test_assigning_is_as_good_as_scipy_says() -> None:
    values = np.random.default_rng(0)
    for number in range(300):
        size = int(values.integers(1, 14))
        costs = values.integers(0, 5, (size, size)).astype(float) if number % 2 else values.normal(size=(size, size))
        mine, (rows, columns) = assign(costs), linear_sum_assignment(costs)
        assert sorted(mine) == list(range(size))
        assert costs[np.arange(size), mine].sum() == pytest.approx(costs[rows, columns].sum())


def test_an_order_keeps_what_nothing_speaks_against() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    assert find_order(labels, labels) == {0: 0, 1: 1, 2: 2}
    assert find_order(labels, np.array([0, 0, 2, 2, 1, 1])) == {0: 0, 1: 2, 2: 1}


def test_right_labels_are_left_alone_even_of_a_poor_model() -> None:
    digits = dm.trained("bn")
    for kind in ("bn", "plain", "vit"):
        found = dm.trained(kind)
        assert not found_by(label_order, found.model, found.pictures[:100], found.labels[:100].numpy())
    draws, orders, warned = np.random.default_rng(1), 0, 0
    for _ in range(150):  # a model at chance: no order is better but by chance, which is 1 of 1,000
        answers, labels = draws.integers(0, 4, (2, 40))
        with contextlib.suppress(CannotTell):
            severities = [each.severity for each in found_by(label_order, Says(4), saying(answers.tolist()), labels)]
            orders, warned = orders + ("error" in severities), warned + ("warning" in severities)
    assert orders <= 1 and warned >= 135  # 5 % of them are above the limit
    assert digits.accuracy > 0.9


def test_two_exchanged_classes_are_named() -> None:
    digits = dm.trained("bn")
    labels = digits.labels[:200].numpy().copy()
    of_3, of_5 = labels == 3, labels == 5
    labels[of_3], labels[of_5] = 5, 3
    (finding,) = found_by(label_order, digits.model, digits.pictures[:200], labels, classes=tuple(NAMES))
    assert "classes 3 (digit 3) and 5 (digit 5) exchanged" in finding.sentence
    assert finding.severity == "error" and finding.value < 1e-6


def test_labels_from_1_and_behind_a_background_are_named() -> None:
    answers = [0, 1, 2, 3, 4, 5] * 3
    (finding,) = found_by(label_order, Says(7), saying(answers), np.array(answers) + 1)
    assert "1 subtracted" in finding.sentence and "from 0" in finding.advice
    (finding,) = found_by(label_order, Says(7), saying((np.array(answers) + 1).tolist()), np.array(answers))
    assert "1 added" in finding.sentence and "background" in finding.advice


def test_folders_in_alphabetical_order_are_named() -> None:
    alphabetical = sorted(range(12), key=str)  # of folders named "0" to "11"
    classes = [0, 1, 2, 5, 9, 10, 11] * 3
    labels = [alphabetical.index(each) for each in classes]
    (finding,) = found_by(label_order, Says(12), saying(classes), np.array(labels))
    assert "alphabetical order" in finding.sentence and "Sort" in finding.advice


def test_any_reordering_is_found_where_there_are_pictures_enough() -> None:
    order = np.random.default_rng(3).permutation(8)
    classes = list(range(8)) * 6
    (finding,) = found_by(label_order, Says(8), saying(classes), order[classes])
    assert f"of {len(classes)} (p" in finding.sentence


def test_too_few_labels_are_said() -> None:
    with pytest.raises(CannotTell, match="No picture has a label"):
        found_by(label_order, Says(4), saying([0] * 8))
    with pytest.raises(CannotTell, match="fewer than two"):
        found_by(label_order, Says(4), saying([0] * 8), np.zeros(8, int))
    with pytest.raises(CannotTell, match="may be chance"):
        found_by(label_order, Says(4), saying([0, 1] * 3), np.array([1, 2] * 3))
