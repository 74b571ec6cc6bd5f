"""A detector's boxes on the page: the list, the boxes on the picture, and what a click on them explains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from inline_app import InlineApp
from inline_engine import INFO, InlineEngine
from test_panels import Desk, all_drawn

from hookscope.dashboard.asking.questions import box_of, box_target
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.detections import DRAWN, LISTED, NOTHING, draw_boxes
from hookscope.dashboard.panels.toolbar import targets
from hookscope.dashboard.web.ask import explainable
from hookscope.hooks.results.looks import Detections, Prediction

DETECTOR = replace(INFO, kind="detector")
# of the 30 x 20 picture; classes cat, dog, <b>cup</b>, cat; the second cat is better than the first
FOUND = Detections(
    np.array([[3, 2, 9, 12], [0, 0, 30, 20], [15, 10, 30, 20]], np.float32),
    np.array([0, 2, 0]),
    np.array([0.5, 0.9, 0.7], np.float32),
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    app = InlineApp(tmp_path_factory.mktemp("detections"), InlineEngine())
    yield Desk(app)
    app.close()


def prediction(found: Detections) -> Prediction:
    """Of a picture that was padded to 40 x 20."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    return Prediction(np.empty(0, np.float32), pixels, (0.0, 0.0, 40.0, 20.0), detections=found)


def shown(desk: Desk, found: Detections, **view: object) -> dict[str, object]:
    scene = desk.scene(DETECTOR, **view)
    return all_drawn(desk, scene, {scene.unit("a", "prediction"): prediction(found)})


def rows(page: dict[str, object]) -> list[tuple[str, str, str, str]]:
    """(class, score, target, how it looks) of each row."""
    found = []
    for tag, attributes, children in page["input-a-top"]["tree"]:
        if tag == "button":
            texts = [child[2] for child in children]
            looks = attributes["className"].replace(" boxed", "")
            found.append((texts[1][0], texts[3][0], attributes["data-value"], looks))
    return found


def boxes(page: dict[str, object]) -> list[tuple[str, list[float]]]:
    """(how it looks, left, top, width and height in per cent) of each box that is seen on the picture."""
    return [
        (attributes["className"], [float(value.rstrip("%")) for value in attributes["style"].values()])
        for _, attributes, _ in page["input-a-boxes"]["tree"]
        if "unlit" not in attributes["className"]
    ]


def test_boxes_are_listed_best_first_and_drawn_where_they_lie(desk: Desk) -> None:
    page = shown(desk, FOUND)
    # the best box of a class stands for the class, and the other cat for itself
    expected = [("<b>cup</b>", "0.900", "2", "row"), ("cat", "0.700", "0", "row")]
    assert rows(page) == [*expected, ("cat", "0.500", str(box_target(0)), "row")]
    assert boxes(page) == [
        ("detection", [0, 0, 100, 100]),  # a smaller one lies on a larger one, so that each can be clicked
        ("detection", [50, 50, 50, 50]),
        ("detection", [10, 10, 20, 50]),
    ]


def test_a_box_has_one_number_in_its_row_on_the_picture_and_where_it_is_explained(desk: Desk) -> None:
    page = shown(desk, FOUND)
    listed = {each[1]["data-box"]: each for each in page["input-a-top"]["tree"]}
    drawn_ = {each[1]["data-box"]: each for each in page["input-a-boxes"]["tree"]}
    names = {each["value"]: each["label"] for each in targets(DETECTOR)}
    assert list(listed) == ["1", "2", "0"] and listed.keys() == drawn_.keys()
    for number, row in listed.items():
        rectangle = drawn_[number]
        assert row[2][0][2] == rectangle[2][0][2] == [number]
        assert row[1]["title"].startswith(f"Box {number},") and rectangle[1]["title"].startswith(f"Box {number},")
        assert row[1]["data-value"] == rectangle[1]["data-value"]  # a click on either explains it
        assert names[str(box_target(int(number)))] == f"box {number}"


def test_the_networks_view_has_a_border_and_the_boxes_keep_their_place(desk: Desk) -> None:
    assert boxes(shown(desk, FOUND, seen=True))[0] == ("detection", [0, 0, 75, 100])


@pytest.mark.parametrize(("target", "row"), [(0, 1), (2, 0), (box_target(0), 2), (box_target(9), None), (3, None)])
def test_the_chosen_box_is_marked(desk: Desk, target: int, row: int | None) -> None:
    page = shown(desk, FOUND, target=target)
    assert [index for index, each in enumerate(rows(page)) if each[3] == "row chosen"] == ([] if row is None else [row])
    assert len([look for look, _ in boxes(page) if look == "detection chosen"]) == (row is not None)


def test_nothing_found_is_said(desk: Desk) -> None:
    page = shown(desk, Detections(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32)))
    assert NOTHING in json.dumps(page["input-a-top"]["tree"]) and not boxes(page)


def test_many_boxes_are_cut_and_counted(desk: Desk) -> None:
    many = Detections(np.zeros((50, 4), np.float32), np.full(50, 1), np.linspace(1, 0, 50, dtype=np.float32))
    page = shown(desk, many, target=box_target(40))
    assert len(rows(page)) == LISTED and f"and {50 - LISTED} more below these" in json.dumps(page["input-a-top"])
    assert [look for look, _ in boxes(page)].count("detection chosen") == 1  # also drawn where it is not listed
    assert len(boxes(page)) == DRAWN + 1
    assert len(page["input-a-boxes"]["tree"]) == LISTED + 1  # the others wait until their rows are pointed at


def test_an_answer_without_boxes_draws_none(desk: Desk) -> None:
    scene = desk.scene()
    assert draw_boxes(scene, replace(prediction(FOUND), detections=None), (0, 0, 30, 20)) == []


def test_only_boxes_that_were_found_can_be_explained(desk: Desk) -> None:
    def offered(**view: object) -> list[str]:
        return [each["label"] for each in shown(desk, FOUND, **view)[ids.TARGET]["data"]]

    assert offered() == ["best box", "box 0", "box 1", "box 2", "cat (0)", "dog", "<b>cup</b>", "cat (3)"]
    assert "box 7" in offered(target=box_target(7)) and "box 8" not in offered(target=box_target(7))


def test_boxes_as_targets() -> None:
    assert [box_of(box_target(n)) for n in (0, 7)] == [0, 7] and {box_of(n) for n in (None, -2, -1, 0, 5)} == {None}
    view = View(target=box_target(2))
    assert View.from_query(view.to_query()) == view and View.from_dict(view.to_dict()) == view
    assert [View.from_dict({"target": bad}).target for bad in (-1, -2, -(10**9), "box", None)] == [None] * 5
    assert explainable(DETECTOR, box_target(2)) and not explainable(INFO, box_target(2))
    assert explainable(INFO, 3) and explainable(INFO, None) and not explainable(DETECTOR, 4)


def test_the_boxes_can_be_chosen_above_the_cards() -> None:
    coco = replace(DETECTOR, classes=("__background__", "cat", "N/A"))
    labels = {each["value"]: each["label"] for each in targets(coco)}
    assert labels["top"] == "best box" and labels[str(box_target(0))] == "box 0" and labels["1"] == "cat"
    assert not {"0", "2"} & labels.keys() and "box 0" not in {each["label"] for each in targets(INFO)}
