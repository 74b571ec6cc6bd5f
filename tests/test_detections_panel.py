"""A detector's boxes on the page: the list, the boxes on the picture, and what a click on them explains."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from inline_app import InlineApp
from inline_engine import DETECTOR, INFO, InlineEngine
from PIL import Image
from test_panels import Desk, all_drawn
from units import box

from hookscope.dashboard.asking.questions import ClassMap, PredictionOf
from hookscope.dashboard.drawing.box_pictures import keypoints_svg, mask_png
from hookscope.dashboard.exports.answer_files import boxes_csv
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.detections import DRAWN, LISTED, NOTHING, NOTHING_RAW, draw_boxes
from hookscope.dashboard.panels.toolbar import targets
from hookscope.dashboard.web.ask import explainable
from hookscope.hooks.results.looks import Detections, GradCam, Keypoints, Masks, Prediction
from hookscope.hooks.results.outputs import Found, Output, Reading
from hookscope.hooks.results.targets import OWN, Box, Class

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
    return Prediction(None, pixels, (0.0, 0.0, 40.0, 20.0), detections=found)


def shown(desk: Desk, found: Detections, **view: object) -> dict[str, object]:
    scene = desk.scene(DETECTOR, **view)
    return all_drawn(desk, scene, {scene.unit("a", PredictionOf()): prediction(found)})


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
    assert rows(page) == [*expected, ("cat", "0.500", box(0), "row")]
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
        assert names[box(int(number))] == f"box {number}"


def test_the_networks_view_has_a_border_and_the_boxes_keep_their_place(desk: Desk) -> None:
    assert boxes(shown(desk, FOUND, seen=True))[0] == ("detection", [0, 0, 75, 100])


@pytest.mark.parametrize(("target", "row"), [(0, 1), (2, 0), (box(0), 2), (box(9), None), (3, None)])
def test_the_chosen_box_is_marked(desk: Desk, target: int | str, row: int | None) -> None:
    page = shown(desk, FOUND, target=target)
    assert [index for index, each in enumerate(rows(page)) if each[3] == "row chosen"] == ([] if row is None else [row])
    assert len([look for look, _ in boxes(page) if look == "detection chosen"]) == (row is not None)


def test_nothing_found_is_said(desk: Desk) -> None:
    page = shown(desk, Detections(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32)))
    assert NOTHING in json.dumps(page["input-a-top"]["tree"]) and not boxes(page)


def test_many_boxes_are_cut_and_counted(desk: Desk) -> None:
    many = Detections(np.zeros((50, 4), np.float32), np.full(50, 1), np.linspace(1, 0, 50, dtype=np.float32))
    page = shown(desk, many, target=box(40))
    assert len(rows(page)) == LISTED and f"and {50 - LISTED} more below these" in json.dumps(page["input-a-top"])
    assert [look for look, _ in boxes(page)].count("detection chosen") == 1  # also drawn where it is not listed
    assert len(boxes(page)) == DRAWN + 1
    assert len(page["input-a-boxes"]["tree"]) == LISTED + 1  # the others wait until their rows are pointed at


def test_an_answer_without_boxes_draws_none(desk: Desk) -> None:
    scene = desk.scene()
    assert draw_boxes(scene, "a", replace(prediction(FOUND), detections=None), (0, 0, 30, 20)) == []


def test_only_boxes_that_were_found_can_be_explained(desk: Desk) -> None:
    def offered(**view: object) -> list[str]:
        return [each["label"] for each in shown(desk, FOUND, **view)[ids.TARGET]["data"]]

    assert offered() == ["best box", "box 0", "box 1", "box 2", "cat (0)", "dog", "<b>cup</b>", "cat (3)"]
    assert "box 7" in offered(target=box(7)) and "box 8" not in offered(target=box(7))
    assert offered(target="box:1:top")[1] == "box 1, its top side"


def test_of_the_chosen_box_the_score_or_a_side_is_explained(desk: Desk) -> None:
    page = json.dumps(shown(desk, FOUND, target="box:1:top")["input-a-top"]["tree"])
    for part in ("left", "top", "right", "bottom"):
        assert f"box:1:{part}" in page
    assert page.count("chip chosen") == 1 and "Explain where its top side lies." in page
    assert "box-parts" not in json.dumps(shown(desk, FOUND)["input-a-top"]["tree"])


def test_boxes_as_targets() -> None:
    view = View(target=Box(2))
    assert View.from_query(view.to_query()) == view and View.from_dict(view.to_dict()) == view
    assert [View.from_dict({"target": bad}).target for bad in (-1, -2, -(10**9), "box", None)] == [OWN] * 5
    assert explainable(DETECTOR, Box(2)) and not explainable(INFO, Box(2))
    assert explainable(INFO, Class(3)) and explainable(INFO, OWN) and not explainable(DETECTOR, Class(4))


def test_the_boxes_can_be_chosen_above_the_cards() -> None:
    coco = replace(DETECTOR, classes=("__background__", "cat", "N/A"))
    labels = {each["value"]: each["label"] for each in targets(coco)}
    assert labels["top"] == "best box" and labels[box(0)] == "box 0" and labels["1"] == "cat"
    assert not {"0", "2"} & labels.keys() and "box 0" not in {each["label"] for each in targets(INFO)}


# --- masks and keypoints

MASKED = replace(
    FOUND,
    masks=Masks(
        np.full((3, 8, 1), 0xF0, np.uint8),
        np.array([[3, 2, 9, 12], [0, 0, 30, 20], [0, 0, 0, 0]], np.float32),
        np.array([1234.4, 600, 0], np.float32),
    ),
)
POINTED = replace(
    FOUND,
    keypoints=Keypoints(np.tile(np.linspace(1, 19, 17, dtype=np.float32)[:, None], (3, 1, 2)), np.full((3, 17), 2.5)),
)


def laid(page: dict[str, object]) -> list[tuple[str, str]]:
    """(box, how it looks) of each picture that lies over the input."""
    return [(each[1]["data-box"], each[1]["className"]) for each in page["input-a-boxes"]["tree"] if each[0] == "img"]


def test_masks_are_drawn_under_their_boxes_and_their_areas_listed(desk: Desk) -> None:
    page = shown(desk, MASKED)
    tree = page["input-a-boxes"]["tree"]
    assert laid(page) == [("1", "laid"), ("0", "laid")]  # the larger below, and none of an empty one
    assert [each[0] for each in tree] == ["img", "img", "button", "button", "button"]
    assert tree[1][1]["style"] == {"left": "10.00%", "top": "10.00%", "width": "20.00%", "height": "50.00%"}
    text = json.dumps(page["input-a-top"]["tree"])
    assert "mask 1,234 px" in text and "mask 0 px" in text and "keypoint" not in text


def test_the_picture_of_a_mask_is_its_own(desk: Desk) -> None:
    mask = np.zeros((8, 8), bool)
    mask[1:6, 2:7] = True
    pixels = np.asarray(Image.open(io.BytesIO(mask_png(mask, "#4dabf7"))))
    assert pixels.shape == (8, 8, 4) and np.array_equal(pixels[..., 3] > 0, mask)
    assert (pixels[mask][:, :3] == (0x4D, 0xAB, 0xF7)).all()
    outline = pixels[..., 3] == 255
    assert outline[1, 2:7].all() and outline[1:6, 2].all() and not outline[2:5, 3:6].any()
    scene = desk.scene(DETECTOR)
    shown(desk, MASKED)
    address = [each[1]["src"] for each in shown(desk, MASKED)["input-a-boxes"]["tree"] if each[0] == "img"]
    assert len(set(address)) == 2 and scene.picture(("mask", scene.unit("a", PredictionOf()), 1), bytes) in address


def test_seventeen_keypoints_are_joined_and_named_and_others_are_dots(desk: Desk) -> None:
    page = shown(desk, POINTED, target="box:0:keypoint:9")
    assert len(laid(page)) == 3
    text = json.dumps(page["input-a-top"]["tree"])
    assert "17 keypoints, scores 2.5 to 2.5" in text and "9 left wrist " in text and "box:0:keypoint:16" in text
    assert text.count("chip chosen") == 1 and "Explained is keypoint 9 of box 0: its score" in text
    assert "box 0, its keypoint 9" in json.dumps(page[ids.TARGET])
    assert keypoints_svg(np.zeros((17, 2)), "#4dabf7").count(b"<path") == 2 * (19 + 17)
    few = keypoints_svg(np.array([[0.25, 0.5], [np.nan, 1]]), "#4dabf7", marked=0).decode()
    assert few.count("<path") == 2 * 2 + 2 and "M25.00 50.00L25.00 50.00" in few
    five = replace(FOUND, keypoints=Keypoints(np.zeros((3, 5, 2), np.float32), np.full((3, 5), np.nan)))
    text = json.dumps(shown(desk, five, target=box(0))["input-a-top"]["tree"])
    assert "5 keypoints" in text and "scores" not in text and "wrist" not in text


def test_a_mask_is_a_target_where_there_is_one(desk: Desk) -> None:
    page = json.dumps(shown(desk, MASKED, target="box:1:mask")["input-a-top"]["tree"])
    assert "Explained is mask of box 1: the mean of its logits over the positions inside it" in page
    assert "box:1:mask" not in json.dumps(shown(desk, FOUND, target=box(1)))


@pytest.mark.parametrize(
    ("target", "name", "called"),
    [
        ("box:1:mask", "mask of box 1 (dog)", "mask"),
        ("box:1:keypoint:5", "keypoint 5 of box 1 (dog)", "keypoint 5"),
        ("box:1:left", "left side of box 1 (dog)", "left side"),
        (box(1), "score of box 1 (dog)", "score"),
        (1, "dog", "score"),
    ],
)
def test_what_is_explained_is_named_on_its_map(desk: Desk, target: str | int, name: str, called: str) -> None:
    scene = desk.scene(DETECTOR, layers=["conv"], target=target)
    cam = GradCam("conv", 0, 1, 2.5, np.ones((6, 6), np.float32), 1.0, "gradcam")
    answers = {scene.unit("a", PredictionOf()): prediction(FOUND)}
    answers |= {scene.unit("a", ClassMap("conv", 0, "gradcam", scene.target("a"))): cam}
    text = json.dumps(all_drawn(desk, scene, answers)["card-cam-text 0"]["tree"])
    assert f'"{name}"' in text and f"{called.capitalize()}." in text


RAW_DETECTOR = replace(
    INFO,
    outputs=(Output("0", (1, 8, 1344), "raw boxes", per_cell=1), Output("1", (1, 8, 32, 32), "pixels")),
    answer=Found(Reading("0", "yolov8"), "by its 1 × 8 × 1344 numbers", True),
)


def test_raw_boxes_are_listed_and_their_reading_is_assumed_in_sight(desk: Desk) -> None:
    scene = desk.scene(RAW_DETECTOR)
    page = all_drawn(desk, scene, {scene.unit("a", PredictionOf()): prediction(FOUND)})
    assert [row[0] for row in rows(page)] == ["<b>cup</b>", "cat", "cat"]
    text = json.dumps(page["input-a-reading"]["tree"])
    assert "badge note" in text and "by its 1" in text
    for way in ("values:0", "yolov5:0"):
        assert way in text
    assert "softmax" not in text and text.count("chip chosen") == 2  # the output and how it is read
    empty = Detections(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))
    page = all_drawn(desk, scene, {scene.unit("a", PredictionOf()): prediction(empty)})
    assert NOTHING_RAW in json.dumps(page["input-a-top"]["tree"]) and "0.25" in NOTHING_RAW


def test_raw_boxes_can_be_read_otherwise_and_back(desk: Desk) -> None:
    scene = desk.scene(RAW_DETECTOR, reading="values:0")
    note = "Its layers can be looked at. Wrap it:\nclass Boxes:\n    pass"
    plain = Prediction(None, np.zeros((8, 8, 3), np.uint8), (0, 0, 30, 20), note=note)
    page = all_drawn(desk, scene, {scene.unit("a", PredictionOf()): plain})
    text = json.dumps(page["input-a-reading"]["tree"])
    assert '"data-value": "{\\"reading\\": \\"\\"}"' in text and text.count("chip chosen") == 2
    assert page["input-a-top"]["tree"][1] == ["div", {"className": "sentence code"}, ["class Boxes:\n    pass"]]
    scene = desk.scene(RAW_DETECTOR, reading="yolov5:0")
    assert scene.form("a") == "boxes" and scene.classes("a") == ("class 0", "class 1", "class 2")
    page = all_drawn(desk, scene, {scene.unit("a", PredictionOf()): prediction(FOUND)})
    assert "Listed are, of the boxes with a score of at least 0.25" in json.dumps(page["input-a-reading"]["tree"])


def test_what_boxes_have_beside_a_score_is_saved_with_them() -> None:
    def columns(found: Detections) -> dict[str, tuple[str, ...]]:
        head, *lines = csv.reader(io.StringIO(boxes_csv(found, str)))
        return dict(zip(head, zip(*lines, strict=True), strict=True))

    of_masks, of_points = columns(MASKED), columns(POINTED)
    assert of_masks["box"] == ("1", "2", "0") and of_masks["class"] == ("2", "0", "0")
    assert [float(each) for each in of_masks["mask area (px)"]] == [600, 0, np.float32(1234.4)]
    assert of_points["keypoint 9 left wrist x (px)"] == ("11.125",) * 3 and len(of_points) == 8 + 3 * 17
    assert of_points["keypoint 16 right ankle score"] == ("2.5",) * 3 and "mask area (px)" not in of_points
