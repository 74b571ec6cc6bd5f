"""What a person works from over a set: which pictures are shown, what is taken for what, two models against each other,
two sets told apart, what a detector's pyramid sees of small objects. Each number against an oracle.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from digits_models import bordered, digits, write_module
from inline_engine import INFO
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor, nn

import hookscope as hs
from hookscope.dashboard.exports import set_tables
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.pictures import (
    agreement,
    choosing,
    confusion,
    galleries,
    head,
    levels,
    mistakes,
    versus,
)
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.dashboard.sets import labels
from hookscope.dashboard.sets.agreeing import agree
from hookscope.dashboard.sets.alike import cosines, features_of
from hookscope.dashboard.sets.members import Member, PictureSet
from hookscope.dashboard.sets.sweeps import Progress
from hookscope.hooks.errors import HooksError, LayerNotExecuted
from hookscope.hooks.results import pyramid
from hookscope.hooks.results.gaps import describe_gap, gaps_between
from hookscope.hooks.results.levels import LevelStrength, describe_levels
from hookscope.hooks.results.outputs import Reading
from hookscope.hooks.results.receptive import ReceptiveField
from hookscope.hooks.results.set_answers import Answers, Frames
from hookscope.hooks.results.sweeps import Firing, LayerFeatures, Sweep, SweepNow, read_sweep
from hookscope.hooks.results.telling import FEWEST, fit_logistic, tell_apart

NAMES = ("cat", "dog", "=bird", "crane", "crane", "tiger cat, Felis")

PER_PICTURE = ("pictures", "labels", "best", "shares", "of_label", "energy")


def answers_of(labels: np.ndarray, best: np.ndarray, seed: int = 0) -> Answers:
    """Answers with these first classes, and shares drawn at random."""
    rng = np.random.default_rng(seed)
    count = len(labels)
    first = rng.uniform(0.4, 1, count).astype(np.float32)
    second = (rng.uniform(0, 1, count) * np.minimum(first, 1 - first)).astype(np.float32)
    shares = np.stack([first, second], 1)
    both = np.stack([best, (best + 1) % (best.max() + 2)], 1).astype(np.int32)
    energy = rng.normal(0, 5, count).astype(np.float32)
    return Answers("softmax", int(best.max()) + 1, np.arange(count), labels, both, shares, first, energy)


def looked_at(
    answers: Answers | None,
    groups: list[str],
    names: tuple[str, ...] = NAMES,
    found: Sweep | None = None,
    model: str = "toy",
    files: list[str] | None = None,
    **view: Any,
) -> Looked:
    """A set in a model, as the page's parts are given it."""
    files = files or [f"IMG_{number:03}.png" for number in range(len(groups))]
    members = tuple(Member(name, group) for name, group in zip(files, groups, strict=True))
    pictures = PictureSet("set-1", "line 4", "v1", members)
    info = replace(INFO, classes=names, given_classes=names, title=model)
    scene = Scene(
        View().but(model=model, set_a="set-1", tab="pictures", **view),
        {model: info},
        {},
        SimpleNamespace(sweeps=SimpleNamespace(store=None)),  # type: ignore[arg-type]
        Gallery("/picture/"),
        Readings(),
        offered=(f"{model}=embedded", "other=embedded"),
    )
    now = None if answers is None else SweepNow(len(groups), replace(answers, labels=-np.ones_like(answers.labels)), ())
    progress = Progress("done", "", len(groups), len(groups), len(groups), now=now)
    classes = labels.match(pictures.groups, names)
    return Looked(scene, pictures, model, progress, found, classes, names)


@pytest.fixture(scope="module")
def mixed() -> tuple[Answers, list[str]]:
    """120 pictures of six classes, one of which has no label; a third is answered wrongly."""
    rng = np.random.default_rng(1)
    wanted = rng.integers(0, len(NAMES), 120)
    best = np.where(rng.uniform(size=120) < 0.35, rng.integers(0, len(NAMES), 120), wanted)
    groups = ["" if number % 10 == 0 else str(label) for number, label in enumerate(wanted)]
    known = np.array([int(group) if group else -1 for group in groups])
    return answers_of(known, best), groups


def set_of(component: Any) -> Iterator[Any]:
    """Every element below one."""
    for each in component if isinstance(component, list) else [component]:
        if each is None or isinstance(each, str):
            continue
        yield each
        yield from set_of(getattr(each, "children", None))


def text_of(component: Any) -> str:
    if component is None:
        return ""
    if isinstance(component, list):
        return "".join(map(text_of, component))
    return component if isinstance(component, str) else text_of(getattr(component, "children", None))


def buttons(component: Any, action: str = "set") -> list[tuple[str, dict[str, Any]]]:
    """What stands on each button below an element, and what it changes."""
    found = [each.to_plotly_json()["props"] for each in set_of(component) if each._type == "Button"]
    return [
        (text_of(each.get("children")), json.loads(each["data-value"])) for each in found if each["data-do"] == action
    ]


# --- what is taken for what


def test_the_table_of_pairs_is_scikit_learns_confusion_matrix(mixed: tuple[Answers, list[str]]) -> None:
    answers, _ = mixed
    rows = list(csv.reader(io.StringIO(set_tables.confusion_csv(answers, NAMES))))
    assert rows[0] == ["label", "answer", "pictures", "label number", "answer number"]
    found = np.zeros((len(NAMES), len(NAMES)), int)
    for label, answer, count, one, other in rows[1:]:
        found[int(one), int(other)] = int(count)
        assert label.lstrip("'") == NAMES[int(one)] and answer.lstrip("'") == NAMES[int(other)]
        assert not label.startswith("=") and int(count) > 0
    known = answers.labels >= 0
    expected = confusion_matrix(answers.labels[known], answers.best[known, 0], labels=range(len(NAMES)))
    np.testing.assert_array_equal(found, expected)


def test_each_cell_of_the_matrix_shows_its_pictures(mixed: tuple[Answers, list[str]]) -> None:
    answers, groups = mixed
    looked = looked_at(answers, groups)
    cells = buttons(confusion.matrix(looked))
    known = answers.labels >= 0
    expected = confusion_matrix(answers.labels[known], answers.best[known, 0], labels=range(len(NAMES)))
    assert len(cells) == np.count_nonzero(expected)
    for text, change in cells:
        label, answer = change["of_label"], change["of_answer"]
        assert int(text) == expected[label, answer]
        chosen = choosing.choose(looked_at(answers, groups, **change), answers, None)
        wanted = np.flatnonzero((answers.labels == label) & (answers.best[:, 0] == answer))
        assert sorted(chosen.numbers) == wanted.tolist()


def test_of_many_classes_the_most_frequent_pairs_are_listed() -> None:
    rng = np.random.default_rng(2)
    names = tuple(f"kind {index}" for index in range(30))
    wanted = rng.integers(0, 30, 2000)
    best = np.where(rng.uniform(size=2000) < 0.3, rng.integers(0, 30, 2000), wanted)
    best[(wanted == 7)] = 8
    answers = answers_of(wanted, best)
    found = confusion.matrix(looked_at(answers, [f"kind {index}" for index in wanted], names))
    assert not [each for each in set_of(found) if each._type == "Table"]
    expected = confusion_matrix(wanted, best)
    np.fill_diagonal(expected, 0)
    pairs = buttons(found)
    counts = [expected[change["of_label"], change["of_answer"]] for _, change in pairs]
    assert counts == sorted(expected.ravel(), reverse=True)[: confusion.PAIRS]
    assert pairs[0][0] == "kind 7 taken for kind 8"
    assert f"and {np.count_nonzero(expected) - confusion.PAIRS:,} pairs more" in text_of(found)


def test_classes_are_sorted_by_mistakes_by_accuracy_and_by_name() -> None:
    rng = np.random.default_rng(3)
    names = tuple(f"kind {index:02}" for index in rng.permutation(20))
    wanted = rng.integers(0, 20, 900)
    best = np.where(rng.uniform(size=900) < wanted / 30, rng.integers(0, 20, 900), wanted)
    answers, groups = answers_of(wanted, best), [names[index] for index in wanted]
    wrong = {names[i]: int(((wanted == i) & (best != i)).sum()) for i in range(20)}
    share = {names[i]: float((best[wanted == i] == i).mean()) for i in range(20)}

    def listed(**view: Any) -> list[str]:
        found = confusion.classes(looked_at(answers, groups, names, **view))
        return [text for text, change in buttons(found) if "of_class" in change and "of_label" not in change]

    assert len(listed()) == confusion.LISTED and "and 8 more" in text_of(
        confusion.classes(looked_at(answers, groups, names))
    )
    by_wrong = listed(all_classes=True)
    assert sorted(by_wrong) == sorted(names) and [wrong[each] for each in by_wrong] == sorted(
        wrong.values(), reverse=True
    )
    by_share = [share[each] for each in listed(all_classes=True, classes_by="accuracy")]
    assert by_share == sorted(share.values())
    assert listed(all_classes=True, classes_by="name") == sorted(names)


# --- which pictures


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("img_00", [f"IMG_00{number}.png" for number in range(10)]),
        ("IMG_1?7", ["IMG_107.png", "IMG_117.png"]),
        ("*9.PNG", [f"IMG_{number:03}.png" for number in range(9, 120, 10)]),
        ("[0]", []),
        ("nothing", []),
    ],
)
def test_pictures_are_found_by_a_part_of_their_name(
    mixed: tuple[Answers, list[str]], pattern: str, expected: list[str]
) -> None:
    answers, groups = mixed
    looked = looked_at(answers, groups, shown="all", named=pattern)
    chosen = choosing.choose(looked, answers, None)
    assert [looked.pictures.members[number].name for number in chosen.numbers] == expected
    if not expected:
        assert choosing.none_such(looked, chosen) == f"No picture's name contains “{pattern}”."
        assert f"No picture's name contains “{pattern}”." in text_of(mistakes.pictures(looked))


def test_filters_hold_together_and_each_is_taken_back(mixed: tuple[Answers, list[str]]) -> None:
    answers, groups = mixed
    looked = looked_at(answers, groups, named="_0", of_class=3, of_answer=3)
    chosen = choosing.choose(looked, answers, None)
    best, wrong = answers.best[:, 0], (answers.labels >= 0) & (answers.best[:, 0] != answers.labels)
    kept = wrong & (np.arange(120) < 100) & (best == 3)
    assert sorted(chosen.numbers) == np.flatnonzero(kept).tolist() and kept.any()
    assert (np.diff(answers.shares[chosen.numbers, 0]) <= 0).all()  # the most confident first
    right = answers.right & (np.arange(120) < 100) & (best == 3)
    assert sorted(chosen.rest) == np.flatnonzero(right).tolist()
    back = buttons(choosing.chips(looked, chosen, "other"))
    assert [text for text, _ in back] == ["crane ×", "taken for crane ×", "name: _0 ×"]
    view = looked.scene.view
    for _, change in back:
        view = view.but(**change)
    assert view == View().but(model="toy", set_a="set-1", tab="pictures")
    nothing = looked_at(answers, groups, named="_0", of_label=1, of_answer=1)
    assert "No picture is all of this at once" in text_of(mistakes.pictures(nothing))


def test_without_labels_the_least_sure_the_least_confident_and_the_most_energy_come_first() -> None:
    answers = answers_of(np.full(60, -1), np.random.default_rng(4).integers(0, 4, 60))
    groups = [""] * 60

    def order(name: str) -> np.ndarray:
        return choosing.choose(looked_at(answers, groups, shown=name), answers, None).numbers

    margin = answers.shares[:, 0] - answers.shares[:, 1]
    np.testing.assert_array_equal(order("unsure"), np.argsort(margin, kind="stable"))
    np.testing.assert_array_equal(order("mistakes"), order("unsure"))  # there are none without labels
    np.testing.assert_array_equal(order("doubtful"), np.argsort(answers.shares[:, 0], kind="stable"))
    np.testing.assert_array_equal(order("energy"), np.argsort(-answers.energy, kind="stable"))
    np.testing.assert_array_equal(order("all"), np.arange(60))
    first = int(order("energy")[0])
    assert f"energy {answers.energy[first]:.2f}" in text_of(
        mistakes.pictures(looked_at(answers, groups, shown="energy"))
    )
    found = confusion.classes(looked_at(answers, groups))
    counts = np.bincount(answers.best[:, 0])
    rows = [text_of(each) for each in set_of(found) if each._type == "Tr"][1:]
    order_of = np.argsort(-counts, kind="stable")
    means = [answers.shares[answers.best[:, 0] == index, 0].mean() for index in order_of]
    assert rows == [f"{NAMES[i]}{counts[i]}{mean:.2f}" for i, mean in zip(order_of, means, strict=True)]
    assert not confusion.matrix(looked_at(answers, groups))


def test_a_text_that_is_no_name_is_left_out_of_the_view() -> None:
    for text in ("a\nb", "x" * 81, "\ud800", 5.0, ["a"]):
        assert View.from_dict({"named": text}).of(choosing.Choosing).named == ""
    assert View.from_query(View().but(named="ä *?&=").to_query()).of(choosing.Choosing).named == "ä *?&="


# --- two models


def by_hand(first: Answers, second: Answers, to_first: list[int]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {kind: set() for kind in ("right", "this", "other", "wrong", "otherwise")}
    for number in range(len(first.pictures)):
        label, best, other = first.labels[number], first.best[number, 0], to_first[second.best[number, 0]]
        if best != other:
            found["otherwise"].add(number)
        if label >= 0:
            kind = {(1, 1): "right", (0, 1): "this", (1, 0): "other", (0, 0): "wrong"}
            found[kind[int(best == label), int(other == label)]].add(number)
    return found


def test_two_models_are_compared_by_the_names_of_their_classes(mixed: tuple[Answers, list[str]]) -> None:
    names = ("cat", "dog", "bird", "cow", "crane", "ape")
    first, _ = mixed
    order = [4, 2, 0, 5, 1, 3]  # where the second model has each class of its own in the first one's list
    theirs = tuple(names[index].upper() for index in order)
    rng = np.random.default_rng(5)
    best = np.array([order.index(index) for index in first.best[:, 0]])
    best = np.where(rng.uniform(size=120) < 0.4, rng.integers(0, 6, 120), best)
    wanted = np.array([order.index(label) if label >= 0 else -1 for label in first.labels])
    best = np.where((rng.uniform(size=120) < 0.3) & (wanted >= 0), wanted, best)
    second = answers_of(wanted, best, 6)
    found = agree(first, second, (names, theirs), (True, True))
    assert found.by == "names" and found.otherwise is not None
    for kind, expected in by_hand(first, second, order).items():
        assert set(found.of(kind).tolist()) == expected and expected


def test_without_names_they_are_compared_by_number_and_else_not_at_all(mixed: tuple[Answers, list[str]]) -> None:
    first, _ = mixed
    made_up = tuple(f"class {index}" for index in range(len(NAMES)))
    second = answers_of(np.full(120, -1), np.roll(first.best[:, 0], 1), 7)
    found = agree(first, second, (NAMES, made_up), (True, False))
    assert found.by == "numbers"
    for kind, expected in by_hand(first, second, list(range(len(NAMES)))).items():
        assert set(found.of(kind).tolist()) == expected
    few = agree(first, second, (NAMES, made_up[:3]), (True, False))
    assert few.by == "" and few.otherwise is None and not len(few.of("otherwise")) and not few.judged.any()
    other = agree(first, second, (NAMES, ("rose", "tulip", "oak", "elm", "ash", "fir")), (True, True))
    assert other.by == "" and not other.judged.any()
    some = replace(second, **{name: getattr(second, name)[::2] for name in ("pictures", "labels", "best", "shares")})
    assert agree(first, some, (NAMES, NAMES), (True, True)).pictures.tolist() == list(range(0, 120, 2))


def test_the_four_counts_are_shown_and_each_chooses_its_pictures(
    mixed: tuple[Answers, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, groups = mixed
    second = answers_of(first.labels, np.roll(first.best[:, 0], 2), 8)
    other = looked_at(second, groups, model="other")
    monkeypatch.setattr(agreement, "look_at", lambda scene, key, side: other)
    found = agreement.compared(looked_at(first, groups, model_b="other"))
    expected = by_hand(first, second, list(range(len(NAMES))))
    told = {change["agreement"]: text for text, change in buttons(found) if change.get("agreement")}
    assert told == {
        **{kind: str(len(expected[kind])) for kind in ("right", "this", "other", "wrong")},
        "otherwise": f"{len(expected['otherwise'])} of 120",
    }
    for _, change in buttons(found):
        if not change.get("agreement"):
            continue
        looked = looked_at(first, groups, model_b="other", **change)
        chosen = choosing.choose(looked, first, agreement.between(looked, other))
        wanted = expected[change["agreement"]]
        assert set(chosen.numbers.tolist()) == wanted
    assert "12 pictures are not counted" in text_of(found)  # which have no label


def test_a_second_model_is_offered_and_taken_back(mixed: tuple[Answers, list[str]]) -> None:
    answers, groups = mixed
    offered = buttons(agreement.compared(looked_at(answers, groups)))
    assert [(text, change["model_b"]) for text, change in offered] == [("other", "other")]
    alone = looked_at(answers, groups)
    alone = replace(alone, scene=replace(alone.scene, offered=("toy=embedded",)))
    assert agreement.compared(alone) == []
    waiting = looked_at(answers, groups, model_b="other")
    assert "The model is being loaded" in text_of(agreement.compared(replace(waiting, scene=_with_store(waiting))))
    assert buttons(agreement.compared(replace(waiting, scene=_with_store(waiting))))[0][1]["model_b"] == "toy"


def test_a_click_opens_the_picture_in_both_models_where_a_second_one_is_chosen(
    mixed: tuple[Answers, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, groups = mixed
    looked = looked_at(answers, groups, model_b="other", agreement="this")
    theirs = answers_of(answers.labels, np.roll(answers.best[:, 0], 1), 8)
    monkeypatch.setattr(agreement, "second", lambda looked: looked_at(theirs, groups, model="other"))
    shown = mistakes.pictures(looked)
    opened = [change for _, change in buttons(shown, "open-member")]
    assert (
        opened and {each["model"] for each in opened} == {"toy"} and {each["model_b"] for each in opened} == {"other"}
    )
    assert all("beside" not in each for each in opened)
    turned = replace(looked, model="other", scene=replace(looked.scene, view=looked.scene.view.but(side="b")))
    assert agreement.second_model(turned) == "toy"  # of the model that the header is about the other one is the second
    monkeypatch.setattr(agreement, "second", lambda looked: None)
    shown = mistakes.pictures(looked_at(answers, groups))
    assert all("model_b" not in change for _, change in buttons(shown, "open-member"))
    assert "as B the right one of its class" in text_of(shown)


def _with_store(looked: Looked) -> Scene:
    store = SimpleNamespace(get=lambda key: looked.pictures)
    return replace(looked.scene, service=SimpleNamespace(sweeps=SimpleNamespace(store=store)))  # type: ignore[arg-type]


# --- alike


def test_pictures_are_ordered_by_the_cosine_of_their_features(mixed: tuple[Answers, list[str]]) -> None:
    answers, groups = mixed
    values = np.random.default_rng(9).normal(size=(120, 7)).astype(np.float32)
    values[5] = 0
    features = LayerFeatures("pool", 0, 0, np.arange(120), values)
    found = Sweep(np.arange(120), features=(features,))
    expected = cosine_similarity(values)
    np.testing.assert_allclose(cosines(features, values[3]), expected[3], atol=1e-6)
    chosen = choosing.choose(looked_at(answers, groups, found=found, shown="alike", alike=3), answers, None)
    assert chosen.order == "alike" and chosen.numbers[0] == 3
    np.testing.assert_allclose(expected[3, chosen.numbers], np.sort(expected[3])[::-1], atol=1e-6)
    assert chosen.values[17] == pytest.approx(expected[3, 17], abs=1e-6)
    shown = mistakes.pictures(looked_at(answers, groups, found=found, shown="alike", alike=3))
    opened = [change for _, change in buttons(shown, "open-member")]
    assert opened[0]["number"] == 3 and "beside" not in opened[0]
    assert (opened[1]["number"], opened[1]["beside"]) == (3, int(chosen.numbers[1]))
    given = choosing.choose(looked_at(answers, groups, found=found, shown="alike"), answers, None, values[8])
    assert given.order != "alike"  # nothing stands in A
    assert features_of(None) is None


class Tower(nn.Module):
    """A model whose answer is a place among others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 12)

    def forward(self, pictures: Tensor) -> Tensor:
        return nn.functional.normalize(self.head(self.conv(pictures).relu().mean((2, 3))), dim=1)


def test_a_model_of_embeddings_has_vectors_and_no_classes() -> None:
    torch.manual_seed(0)
    net, pictures = Tower().eval(), torch.rand(9, 3, 8, 8)
    with hs.looking(reading=Reading(reads="embedding")):
        found = hs.sweep(net, pictures.split(4), [hs.answers(), hs.features("conv"), hs.vectors()])
    assert found.answers is None and found.notes == (
        "The model answers an embedding: a place among other pictures', and no classes.",
    )
    features = features_of(found)
    assert features is not None and features.layer == "" and found.features[0].layer == "conv"
    with torch.no_grad():
        np.testing.assert_allclose(features.values, net(pictures).numpy(), atol=1e-6)
    np.testing.assert_allclose(cosines(features, features.values[2]), cosine_similarity(features.values)[2], atol=1e-6)
    parts = [hs.sweep(net, [part], [hs.vectors()], first=at) for part, at in ((pictures[:4], 0), (pictures[4:], 4))]
    np.testing.assert_allclose((parts[1] + parts[0]).features[0].values, features.values, atol=1e-6)
    with pytest.raises(HooksError, match="a map of each picture and no vector"):
        hs.sweep(nn.Conv2d(3, 2, 3), [pictures], [hs.vectors()])


def test_the_page_of_an_embedding_shows_its_pictures_by_name() -> None:
    features = LayerFeatures("", 0, 0, np.arange(3), np.eye(3, dtype=np.float32))
    found = Sweep(np.arange(3), features=(features,))
    looked = looked_at(None, ["", "", ""], (), found, files=["b.png", "c.png", "a.png"])
    shown = mistakes.pictures(looked)
    assert [change["number"] for _, change in buttons(shown, "open-member")] == [2, 0, 1]
    assert [change["alike"] for text, change in buttons(shown) if text == "alike"] == [2, 0, 1]
    assert text_of(shown).startswith("3 pictures") and confusion.classes(looked) == []


# --- what is said of a set


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (
            ["cat", "dog", "doog"],
            "1 of 3 folders is not the name, the number or the WordNet id of a class of this model: "
            "doog (did you mean dog?). The picture in it is not counted as right or wrong.",
        ),
        (
            ["tiger cat", "little dog", "little dog", "oak"],
            "2 of 3 folders are not the name, the number or the WordNet id of a class of this model: little dog (did "
            "you mean dog?), oak. The 3 pictures in them are not counted as right or wrong.",
        ),
        (
            ["oak", ""],
            "Its folder is not the name, the number or the WordNet id of a class of this model: oak. The picture "
            "in it is not counted as right or wrong.",
        ),
        (
            ["oak", "elm"],
            "No folder is the name, the number or the WordNet id of a class of this model: oak, elm. The 2 "
            "pictures in them are not counted as right or wrong.",
        ),
        (["cat", "crane"], ""),
    ],
)
def test_folders_that_are_no_class_are_told_with_what_may_be_meant(groups: list[str], sentence: str) -> None:
    answers = answers_of(np.full(len(groups), -1), np.zeros(len(groups), int))
    said = text_of(head.state(looked_at(answers, groups)))
    assert sentence in said and ("folder" in said.lower()) == bool(sentence)


def test_what_cannot_be_read_is_not_counted_as_looked_at(mixed: tuple[Answers, list[str]]) -> None:
    answers, groups = mixed
    some = replace(answers, **{name: getattr(answers, name)[:118] for name in PER_PICTURE})
    looked = looked_at(some, groups)
    assert looked.progress.now is not None
    unread = ((118, "This picture is damaged."), (119, "It is too large."))
    firing = (Firing("relu", 0, 8, 2, 1, True), Firing("conv", 0, 8, 3, 0, False))
    progress = replace(looked.progress, now=replace(looked.progress.now, unread=unread, firing=firing))
    pictures = replace(
        looked.pictures,
        members=tuple(replace(each, within=f"a/{each.name}") for each in looked.pictures.members),
        refused=(("a/link.png", "It is a link, and links are not followed."),),
    )
    looked = replace(looked, progress=progress, pictures=pictures)
    said = text_of(head.state(looked))
    assert "118 of 120" in said and "2 could not be read · 1 more not used" in said
    assert "a/IMG_118.png This picture is damaged." in said and "3 files are not used" in said
    assert "After activation functions, over 118 pictures." in text_of(galleries.silent(looked))
    assert text_of(galleries.silent(looked)).endswith("afterneverin under 1 %ofrelu218")
    rows = list(csv.DictReader(io.StringIO(set_tables.answers_csv(pictures, looked.answers, NAMES, unread))))
    assert [row["picture"] for row in rows[:118]] == [f"a/IMG_{number:03}.png" for number in range(118)]
    assert [(row["picture"], row["answer"], row["why it has no answer"]) for row in rows[118:]] == [
        ("a/IMG_118.png", "", "This picture is damaged."),
        ("a/IMG_119.png", "", "It is too large."),
        ("a/link.png", "", "It is a link, and links are not followed."),
    ]
    assert all(not row["why it has no answer"] for row in rows[:118])


def test_of_a_hundred_pictures_none_fires_in_under_a_hundredth_and_all_layers_can_be_unfolded() -> None:
    answers = answers_of(np.full(100, -1), np.zeros(100, int))
    looked = looked_at(answers, [""] * 100)
    assert looked.progress.now is not None
    firing = tuple(Firing(f"relu{index}", 0, 100, 40 - index, 0, True) for index in range(20))
    now = replace(looked.progress.now, firing=(*firing, Firing("last", 0, 9, 0, 0, True)))
    found = galleries.silent(replace(looked, progress=replace(looked.progress, now=now)))
    assert "under 1 %" not in text_of(found) and f"and {20 - galleries.LISTED} layers more" in text_of(found)
    assert [text for text, _ in buttons(found)] == [f"relu{index}" for index in range(20)]  # the folded ones, too
    (folded,) = [each for each in set_of(found) if each._type == "Details"]
    assert len(buttons(folded)) == 20 - galleries.LISTED
    assert all(
        each.to_plotly_json()["props"]["data-scroll"] == "set-channels"
        for each in set_of(found)
        if each._type == "Button"
    )


def test_without_labels_it_is_said_what_mistakes_need(mixed: tuple[Answers, list[str]]) -> None:
    answers = answers_of(np.full(4, -1), np.zeros(4, int))
    assert "bring them in folders by class, or with a labels.csv" in text_of(
        mistakes.pictures(looked_at(answers, [""] * 4))
    )
    assert "labels.csv" not in text_of(mistakes.pictures(looked_at(*mixed)))


def test_another_set_begins_with_its_mistakes() -> None:
    view = View().but(model="toy", set_a="set-1", shown="all", of_class=3, named="x", from_picture=24)
    assert view.but(set_a="set-2", **choosing.NOTHING_CHOSEN) == View().but(model="toy", set_a="set-2")


def test_two_sets_with_labels_say_how_often_each_is_right(mixed: tuple[Answers, list[str]]) -> None:
    answers, groups = mixed
    looked, other = looked_at(answers, groups), looked_at(answers_of(answers.labels, answers.labels.clip(0)), groups)
    other = replace(other, pictures=replace(other.pictures, name="line 5"))
    known = answers.labels >= 0
    right = int((answers.best[known, 0] == answers.labels[known]).sum())
    assert text_of(versus.accuracies(looked, other)) == (
        f"Answered rightly: {right / 108:.1%} of line 4 ({right} of 108), 100.0% of line 5 (108 of 108)."
    )
    assert versus.accuracies(looked, looked_at(answers, [""] * 120)) == []


# --- tables


def test_a_channel_that_never_fires_has_no_pictures_and_is_listed() -> None:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight[[1, 4]], net[0].bias[[1, 4]] = 0.0, -1.0
        net[2].weight[:], net[2].bias[:] = net[2].weight.abs(), 0.5  # all of which fire
    found = hs.sweep(net, torch.rand(20, 3, 9, 9).split(6), [hs.top(), hs.statistics()])
    rows = list(csv.DictReader(io.StringIO(set_tables.silent_csv(found.statistics))))
    assert [(row["layer"], row["channels"], row["never"], row["pictures"]) for row in rows] == [("1", "6", "2", "20")]
    assert rows[0]["channels that never fire"] == "1 4"
    looked = looked_at(answers_of(np.full(20, -1), np.zeros(20, int)), [""] * 20, found=found, layers=["1"])
    shown = galleries.channels(looked, None, "")
    cells = [each for each in set_of(shown) if getattr(each, "className", "") == "gallery"]
    assert [len(buttons(cell, "open-member")) for cell in cells] == [9, 0, 9, 9, 0, 9]
    assert all(galleries.DEAD in text_of(cells[channel]) for channel in (1, 4))
    assert "2 channels never fire: 1, 4." in text_of(shown)
    top, fired = found.top("1"), found.summary("1").fired
    table = list(csv.DictReader(io.StringIO(set_tables.galleries_csv(looked.pictures, top, None, None, fired))))
    assert [row for row in table if row["channel"] in "14" and row["picture"]] == []
    assert [row["channel"] for row in table if row["kind"] == set_tables.NEVER] == ["1", "4"]
    assert "never fire" not in text_of(galleries.channels(replace(looked, scene=_at(looked, "3")), None, ""))


def _at(looked: Looked, layer: str) -> Scene:
    return replace(looked.scene, view=looked.scene.view.but(layers=[layer]))


def test_the_table_of_galleries_holds_every_crop() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = hs.sweep(net, torch.rand(20, 3, 16, 16).split(6), [hs.top("0", count=5)])
    top = found.top("0")
    pictures = looked_at(None, [""] * 20).pictures
    rows = np.stack([np.arange(7) * 2, np.arange(7) * 2 + 3], 1)
    field = ReceptiveField("0", 0, (16, 16), rows, rows, True, False)
    frames = Frames(np.arange(20), np.tile(np.array([0.25, 0, 0.75, 1], np.float32), (20, 1)))
    table = list(csv.DictReader(io.StringIO(set_tables.galleries_csv(pictures, top, frames, field))))
    strongest = [row for row in table if row["kind"] == "strongest" and row["channel"] == "2"]
    assert [int(row["number"]) for row in strongest] == top.strongest(2).pictures.tolist()
    assert [row["picture"] for row in strongest] == [f"IMG_{int(row['number']):03}.png" for row in strongest]
    np.testing.assert_allclose([float(row["value"]) for row in strongest], top.strongest(2).values, rtol=1e-5)
    for row in table:
        place = int(row["row"]), int(row["column"])
        assert float(row["top"]) == pytest.approx(2 * place[0] / 16, abs=1e-5)
        assert float(row["bottom"]) == pytest.approx((2 * place[0] + 3) / 16, abs=1e-5)
        assert float(row["left"]) == pytest.approx(0.25 + 0.5 * 2 * place[1] / 16, abs=1e-5)
        assert float(row["right"]) == pytest.approx(0.25 + 0.5 * (2 * place[1] + 3) / 16, abs=1e-5)
    assert {row["kind"] for row in table} == {"strongest", "by mean", "median", "random"}
    assert {row["rank"] for row in strongest} == set("12345")
    unknown = list(csv.DictReader(io.StringIO(set_tables.galleries_csv(pictures, top, frames, None))))
    assert all(row["row"] and not row["left"] for row in unknown)


def test_the_tables_of_answers_and_gaps_hold_the_numbers(mixed: tuple[Answers, list[str]]) -> None:
    answers, groups = mixed
    pictures = looked_at(answers, groups).pictures
    rows = list(csv.DictReader(io.StringIO(set_tables.answers_csv(pictures, answers, NAMES))))
    for number, row in enumerate(rows):
        assert row["picture"] == f"IMG_{number:03}.png" and row["label"] == groups[number]
        assert row["answer"].lstrip("'") == NAMES[answers.best[number, 0]]
        assert float(row["margin"]) == pytest.approx(answers.margin[number], rel=1e-4)
        assert float(row["energy"]) == pytest.approx(answers.energy[number], rel=1e-4)
    rng = np.random.default_rng(10)
    gaps = gaps_between(*(Sweep(np.arange(n), sample=sample(rng, n, shift)) for n, shift in ((30, 0.0), (20, 1.0))))
    table = list(csv.DictReader(io.StringIO(set_tables.gaps_csv(gaps))))
    assert [row["layer"] for row in table] == ["one", "two"]
    for row, gap in zip(table, gaps, strict=True):
        assert float(row["effect"]) == pytest.approx(gap.effect, rel=1e-5)
        assert float(row["mmd2"]) == pytest.approx(gap.mmd, rel=1e-5) and float(row["p"]) == gap.p
        assert (int(row["pictures"]), int(row["pictures of the other"])) == (30, 20)
        assert float(row["its frechet distance"]) == pytest.approx(gap.channels.max(), rel=1e-5)


# --- two sets told apart


def sample(rng: np.random.Generator, count: int, shift: float) -> tuple[LayerFeatures, ...]:
    """Two layers' features of drawn pictures: the second tells the sets apart, the first does not."""
    numbers = rng.permutation(500)[:count]
    one = rng.normal(size=(count, 12))
    two = rng.normal(size=(count, 300)) + shift * (np.arange(300) < 9)
    return tuple(
        LayerFeatures(name, 0, 128, numbers, values.astype(np.float32)) for name, values in (("one", one), ("two", two))
    )


@pytest.mark.parametrize(
    ("counts", "channels", "shift"), [((60, 40), 5, 0.5), ((128, 20), 300, 0.3), ((20, 20), 3, 9.0)]
)
def test_the_regression_is_scikit_learns(counts: tuple[int, int], channels: int, shift: float) -> None:
    rng = np.random.default_rng(11)
    is_second = np.repeat([False, True], counts)
    values = rng.normal(size=(sum(counts), channels)) + shift * is_second[:, None]
    values[:, 1] = values[:, 0]  # channels that say the same, and one that says nothing
    values[:, 2] = 0
    weights, offset = fit_logistic(values, is_second)
    expected = LogisticRegression(class_weight="balanced", tol=1e-10, max_iter=10_000, solver="newton-cg")
    expected.fit(values, is_second)
    np.testing.assert_allclose(weights, expected.coef_[0], atol=1e-5)
    assert offset == pytest.approx(expected.intercept_[0], abs=1e-5)


def test_two_sets_are_told_apart_by_pictures_that_no_regression_has_seen() -> None:
    rng = np.random.default_rng(12)
    first, second = (Sweep(np.arange(500), sample=sample(rng, n, shift)) for n, shift in ((100, 0.0), (60, 1.5)))
    found = tell_apart(first, second, "two")
    values = np.concatenate([each.sample[1].values for each in (first, second)]).astype(np.float64)
    is_second = np.repeat([False, True], [100, 60])
    fold = np.concatenate([np.arange(100) % 5, np.arange(60) % 5])
    expected = np.zeros(160)
    for number in range(5):
        seen = values[fold != number]
        scale = seen.mean(0), seen.std(0)
        judge = LogisticRegression(class_weight="balanced", tol=1e-10, max_iter=10_000, solver="newton-cg")
        judge.fit((seen - scale[0]) / scale[1], is_second[fold != number])
        expected[fold == number] = judge.decision_function((values[fold == number] - scale[0]) / scale[1])
    np.testing.assert_allclose(np.concatenate([found.first_scores, found.second_scores]), expected, atol=1e-4)
    wrong = (expected > 0) != is_second
    error = (wrong[:100].mean() + wrong[100:].mean()) / 2
    assert found.error == pytest.approx(error) and found.distance == pytest.approx(2 * (1 - 2 * error))
    assert (found.right, found.total) == (int((~wrong).sum()), 160) and found.distance > 1.5
    surest, other = found.surest(4)
    assert surest.tolist() == first.sample[1].pictures[np.argsort(expected[:100])[:4]].tolist()
    assert other.tolist() == second.sample[1].pictures[np.argsort(-expected[100:])[:4]].tolist()
    chance = [tell_apart(first, second, "one").distance]
    for seed in range(5):
        one, two = (Sweep(np.arange(9), sample=sample(np.random.default_rng(seed + at), 60, 0.0)) for at in (0, 50))
        chance.append(tell_apart(one, two, "one").distance)
    assert abs(np.mean(chance)) < 0.35 and max(chance) < 0.8


def test_two_sets_that_cannot_be_told_apart_say_so() -> None:
    rng = np.random.default_rng(13)
    first, second = (Sweep(np.arange(500), sample=sample(rng, n, 0.0)) for n in (40, FEWEST - 1))
    with pytest.raises(HooksError, match=f"has 9 pictures, and with fewer than {FEWEST}"):
        tell_apart(first, second, "one")
    with pytest.raises(LayerNotExecuted, match="no drawn pictures of layer 'three'"):
        tell_apart(first, first, "three")
    wider = replace(first, sample=tuple(replace(each, values=each.values[:, :3]) for each in first.sample))
    with pytest.raises(HooksError, match="has 12 and 3 channels in the two sweeps"):
        tell_apart(first, wider, "one")


# --- planted: every wrong picture has a grey border


def test_a_border_on_every_wrong_picture_is_found_at_the_first_layers(tmp_path_factory: pytest.TempPathFactory) -> None:
    net = write_module(tmp_path_factory.mktemp("digits"))["plain"]()
    pictures, classes = digits()
    framed = torch.stack([bordered(each) for each in pictures[:300]])
    with torch.no_grad():
        wrong = net(framed).argmax(1) != classes[:300]
        right = net(pictures[:300]).argmax(1) == classes[:300]
    assert wrong.sum() > 40
    shown = torch.where(wrong[:, None, None, None], framed, pictures[:300])[wrong | right]
    known, planted = classes[:300][wrong | right], wrong[wrong | right].numpy()
    wanted = [hs.statistics(), hs.gap(), hs.answers()]
    whole = hs.sweep(net, zip(shown.split(32), known.split(32), strict=True), wanted)
    assert whole.answers is not None
    groups = [str(int(each)) for each in known]
    names = tuple("0123456789")
    looked = looked_at(whole.answers, groups, names, whole)
    chosen = choosing.choose(looked, looked.answers, None)
    assert sorted(chosen.numbers) == np.flatnonzero(planted).tolist()  # the mistakes stand together
    assert sorted(chosen.rest) == np.flatnonzero(~planted).tolist()
    button = versus.against_others(looked, chosen)
    assert button is not None and text_of(button) == (
        "mistakes against the right ones (looks through 299 pictures again)"
    )
    (asked,) = [change for _, change in buttons(button, "versus")]
    sides = [sorted(side["numbers"]) for side in asked["sides"]]
    assert sides == [np.flatnonzero(planted).tolist(), np.flatnonzero(~planted).tolist()]
    two = [hs.sweep(net, shown[side].split(32), [hs.gap()]) for side in sides]
    gaps = hs.gap(*two)
    said = describe_gap(gaps)
    assert (
        said.startswith("The gap is there from")
        and "colour, brightness or sharpness differ, or the sets show other" in said
    )
    assert tell_apart(*two, "relu1").distance > 1.8
    halves = [hs.sweep(net, shown[~planted][half::2].split(32), [hs.gap()]) for half in (0, 1)]
    assert describe_gap(hs.gap(*halves)) == "No layer tells these two sets apart by more than chance."  # the control


def test_too_few_mistakes_are_not_held_against_the_rest(mixed: tuple[Answers, list[str]]) -> None:
    answers, groups = mixed
    looked = looked_at(answers, groups, of_label=1, of_answer=3)
    chosen = choosing.choose(looked, answers, None)
    few = replace(chosen, numbers=np.arange(3), rest=np.arange(20))
    button = versus.against_others(looked, few)
    assert button is not None and button.disabled and "fewer than 8" in button.title
    assert versus.against_others(looked, replace(few, rest=np.zeros(0, np.int64))) is None
    many = replace(chosen, numbers=np.arange(3000), rest=np.arange(3000, 3020))
    ((_, asked),) = buttons(versus.against_others(looked, many), "versus")
    assert [len(side["numbers"]) for side in asked["sides"]] == [versus.MOST, 20]


# --- the levels of a detector's pyramid


class Pyramid(nn.Module):
    """Two levels, and boxes that are where they are said to be."""

    def __init__(self) -> None:
        super().__init__()
        self.neck = nn.ModuleList([nn.AvgPool2d(8), nn.AvgPool2d(16)])
        self.found: list[Tensor] = []

    def forward(self, pictures: Tensor) -> list[dict[str, Tensor]]:
        levels = {str(index): level(pictures) for index, level in enumerate(self.neck)}
        boxes = self.found.pop(0)
        assert levels["1"].shape[0] == 1
        return [
            {"boxes": boxes, "labels": torch.ones(len(boxes)).long(), "scores": torch.linspace(0.9, 0.3, len(boxes))}
        ]


def inside_over_outside(values: np.ndarray, box: list[float], stride: float) -> float:
    inside = np.zeros(values.shape, bool)
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            y, x = (row + 0.5) * stride, (column + 0.5) * stride
            inside[row, column] = box[1] <= y < box[3] and box[0] <= x < box[2]
    return float(values[inside].mean() / values[~inside].mean())


def test_the_strength_of_each_level_is_the_sum_by_hand(tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(2)
    net, pictures = Pyramid(), torch.randn(3, 3, 128, 160)
    boxes = [
        torch.tensor([[8.0, 8.0, 32.0, 32.0], [0.0, 0.0, 48.0, 64.0]]),  # small and middle
        torch.tensor([[16.0, 16.0, 144.0, 128.0]]),  # large
        torch.tensor([[100.0, 100.0, 130.0, 120.0], [0, 0, 160, 128.0], [8, 8, 40, 40]]),  # the last has score 0.3
    ]
    net.found = [boxes[0], *[each.clone() for each in boxes]]  # the first is asked for when the model is described
    found = hs.sweep(net, pictures.split(1), [hs.levels(["neck.0", "neck.1"], least_score=0.5)])
    for level, stride in zip(found.levels, (8, 16), strict=True):
        total, count = np.zeros(3), np.zeros(3)
        for index, each in enumerate(boxes):
            pooled = nn.functional.avg_pool2d(pictures[index : index + 1], stride)[0].abs().mean(0).double().numpy()
            scores = torch.linspace(0.9, 0.3, len(each))
            for box, score in zip(each.tolist(), scores, strict=True):
                area = (box[2] - box[0]) * (box[3] - box[1])
                size = 0 if area < 32**2 else 2 if area > 96**2 else 1
                whole = box == [0, 0, 160, 128]  # nothing lies outside of it
                if score >= 0.5 and not whole:
                    total[size] += inside_over_outside(pooled, box, stride)
                    count[size] += 1
        assert level.stride == stride and level.boxes.tolist() == count.tolist() == [2, 0, 1]
        np.testing.assert_allclose(level.total, total, rtol=1e-6)
        np.testing.assert_allclose(level.contrast[[0, 2]], (total / np.maximum(count, 1))[[0, 2]], rtol=1e-6)
        assert np.isnan(level.contrast[1])
    assert found.levels[0].taken.tolist() == [2, 0, 2]  # all of them: 224 pixels would be the fourth level
    assert found.levels[1].taken.tolist() == [0, 0, 0]
    net.found = [boxes[0], *boxes[:1], boxes[0], *boxes[1:]]
    parts = [
        hs.sweep(net, part.split(1), [hs.levels("neck.*", least_score=0.5)], first=at)
        for part, at in ((pictures[:1], 0), (pictures[1:], 1))
    ]
    path = tmp_path_factory.mktemp("levels") / "all.sweep"
    (parts[1] + parts[0]).save(path)
    for one, other in zip(read_sweep(path).levels, found.levels, strict=True):
        assert (one.layer, one.boxes.tolist()) == (other.layer, other.boxes.tolist())
        np.testing.assert_allclose(one.total, other.total)


def test_boxes_lie_where_the_detector_itself_has_resized_the_picture() -> None:
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(3)
    net = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        box_score_thresh=0.0,
        box_detections_per_img=12,
        rpn_post_nms_top_n_test=40,
    ).eval()
    pictures = torch.rand(2, 3, 150, 210)
    blocks = "backbone.fpn.layer_blocks.?"
    wanted = [hs.levels(blocks, least_score=0.0), hs.statistics("backbone.*"), hs.answers(), hs.gap("rpn.*")]
    found = hs.sweep(net, [pictures], wanted)
    assert found.answers is None and found.notes == ("The model answers boxes, and no class of the whole picture.",)
    first = next(each for each in found.levels if each.layer.endswith("0"))
    expected = np.zeros(3)
    for picture in pictures:
        with hs.capture(net, ["backbone.fpn.layer_blocks.0"]) as seen, torch.no_grad():
            (out,) = net([picture])
        values = seen["backbone.fpn.layer_blocks.0"].value[0].abs().mean(0).double().numpy()
        transformed, _ = net.transform([picture])
        (resized,), padded = transformed.image_sizes, transformed.tensors.shape[-2:]
        for left, top, right, bottom in out["boxes"].double().tolist():
            box = [left * resized[1] / 210, top * resized[0] / 150, right * resized[1] / 210, bottom * resized[0] / 150]
            area = (right - left) * (bottom - top)
            size = 0 if area < 32**2 else 2 if area > 96**2 else 1
            contrast = pyramid.rung_of(values, box, (padded[0], padded[1])).contrast
            expected[size] += 0 if np.isnan(contrast) else contrast
    np.testing.assert_allclose(first.total, expected, rtol=1e-4)
    assert first.boxes.sum() > 10 and first.stride == 32


def test_it_is_said_which_level_answers_weakly_to_small_objects() -> None:
    def level(stride: float, *contrast: float, boxes: int = 40) -> LevelStrength:
        counts = np.full(3, boxes)
        return LevelStrength(f"neck.{stride}", 0, stride, counts, np.array(contrast) * boxes, counts)

    found = (level(8, 1.9, 1.4, 1.0), level(32, 1.02, 1.6, 3.0))
    assert describe_levels(found) == (
        "Against what is around them objects stand out most: small ones at stride 8 (× 1.90), middle ones at stride 32 "
        "(× 1.60), large ones at stride 32 (× 3.00). Stride 32 answers weakly to small ones."
    )
    assert "No level answers to small objects" in describe_levels((level(8, 1.05, 2, 2), level(16, 1.0, 2, 2)))
    assert "Too few objects" in describe_levels((level(8, 1.5, 2, 2, boxes=2),))
    looked = looked_at(None, [""], (), Sweep(np.arange(1), levels=found))
    shown = levels.strengths(looked)
    cells = [each.children for each in set_of(shown) if each._type == "Td" and "× " in text_of(each)]
    assert cells == ["× 1.90", "× 1.40", "× 1.00", "× 1.02", "× 1.60", "× 3.00"]
    assert "small (40)" in text_of(shown) and levels.strengths(looked_at(None, [""])) == []


def test_a_box_is_taken_from_the_nearest_level_of_a_pyramid_that_leaves_some_out() -> None:
    assert pyramid.assigned((0, 0, 500, 500), (8.0, 32.0)) == 1
    assert pyramid.assigned((0, 0, 120, 120), (8.0, 32.0)) == 0
