"""A set's map and its variety on the server: which pictures are laid out, what is kept, and the tables of both."""

from __future__ import annotations

import csv
import io
import math
import threading
import time
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from sklearn.decomposition import PCA
from tempo import limit

from hookscope.dashboard.components.markup import to_markup
from hookscope.dashboard.drawing.plane_figure import COLOURS, OTHER, WRONG, plane_figure
from hookscope.dashboard.exports.set_maps import information_csv, plane_csv
from hookscope.dashboard.panels.pictures import embedding as panel
from hookscope.dashboard.sets import embeddings
from hookscope.dashboard.sets.embeddings import NO_CHANNELS, Plane, lay_out, plane_of
from hookscope.dashboard.sets.later import FAULT, Later
from hookscope.dashboard.sets.members import Member, PictureSet
from hookscope.dashboard.sets.variety import Variety, variety_of
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.embedding import neighbouring
from hookscope.hooks.results.information import SetInformation, information_over
from hookscope.hooks.results.set_answers import Answers
from hookscope.hooks.results.sweeps import LayerFeatures, Sweep, drawn_at

COUNT = 300
PICTURES = PictureSet("key", "mine", "0" * 64, tuple(Member(f"{n}.png", "cat", Path(f"{n}.png")) for n in range(COUNT)))


def features(layer: str, size: int, channels: int = 12, seed: int = 0) -> LayerFeatures:
    numbers = np.arange(COUNT)
    if size:
        numbers = numbers[np.argsort(drawn_at(numbers))[:size]]
    values = np.random.default_rng(seed).standard_normal((COUNT, channels)).astype(np.float32)[numbers]
    return LayerFeatures(layer, 0, size, numbers, values)


def swept() -> Sweep:
    return Sweep(
        np.arange(COUNT),
        same=(("block", 0, "conv2", 0),),
        sample=(features("conv1", 40, seed=1), features("conv2", 40, seed=2), features("fc", 40, seed=3)),
        places=(features("conv1", 40, seed=4),),
        features=(features("block", 0, seed=5),),
    )


class Written:
    """What a server has of one sweep."""

    def __init__(self, found: Sweep | None) -> None:
        self._found = found
        self.at = 0
        self.later = Later()

    def written(self, pictures: PictureSet, model: str) -> Hashable:
        return self.at if self._found is not None else None

    def found(self, pictures: PictureSet, model: str) -> Sweep | None:
        return self._found


def plane(sweeps: Written, key: str = "", method: Any = "pca") -> Plane:
    found = plane_of(sweeps, PICTURES, "net", key, method, limit(20.0))  # type: ignore[arg-type]
    assert isinstance(found, Plane)
    return found


# --- what is computed beside the requests


def test_it_is_computed_once_and_whoever_asks_again_has_it() -> None:
    later, begun, going = Later(), [], threading.Event()

    def compute() -> int:
        begun.append(1)
        going.wait(10)
        return 7

    assert later.get("a", compute) is None and later.get("a", compute, 0.05) is None
    going.set()
    assert later.get("a", compute, limit(5.0)) == 7 == later.get("a", compute) and len(begun) == 1


def test_what_is_too_much_at_once_is_begun_when_somebody_asks_again() -> None:
    later, going = Later(at_once=1), threading.Event()
    assert later.get("a", lambda: going.wait(10)) is None
    assert later.get("b", lambda: 8, 0.3) is None  # not begun
    going.set()
    assert later.get("a", lambda: False, limit(5.0)) is True
    deadline = time.monotonic() + limit(5.0)
    while (found := later.get("b", lambda: 8, 0.1)) is None and time.monotonic() < deadline:
        pass
    assert found == 8


def test_what_cannot_be_had_is_a_sentence_and_frees_its_place() -> None:
    def refuse() -> int:
        raise HooksError("There are too few.")

    def fail() -> int:
        raise ZeroDivisionError

    later = Later(at_once=1)
    assert later.get("a", refuse, limit(5.0)) == "There are too few."
    assert later.get("b", fail, limit(5.0)) == FAULT
    assert later.get("c", lambda: 3, limit(5.0)) == 3


def test_others_are_answered_while_neighbours_are_found() -> None:
    """openTSNE lets go of the interpreter: no other thread of the server waits for long."""
    values = np.random.default_rng(0).standard_normal((400, 64)).astype(np.float32)
    neighbouring(values[:60], 5, 0)  # imported
    waited, done = [], threading.Event()

    def beat() -> None:
        before = time.perf_counter()
        while not done.wait(0.002):
            now = time.perf_counter()
            waited.append(now - before)
            before = now

    beating = threading.Thread(target=beat)
    beating.start()
    neighbouring(values, 30, 0)
    done.set()
    beating.join()
    assert len(waited) > 50 and max(waited) < limit(0.25)


# --- the map


def test_all_pictures_are_laid_out_where_their_features_are_kept_and_else_those_that_were_drawn() -> None:
    found, sweeps = swept(), Written(swept())
    before = plane(sweeps)
    assert (before.layer, len(before.pictures), before.drawn) == ("block", COUNT, False)
    expected = PCA(2, svd_solver="full").fit_transform(found.features[0].values.astype(np.float64))
    np.testing.assert_allclose(np.abs(before.embedding.points), np.abs(expected), rtol=1e-3, atol=1e-4)
    other = plane(sweeps, "conv1")
    assert (len(other.pictures), other.drawn, other.seen) == (40, True, COUNT)
    rows = np.argsort(found.sample[0].pictures)  # by number, each point with its picture's features
    np.testing.assert_array_equal(other.pictures, found.sample[0].pictures[rows])
    oracle = PCA(2, svd_solver="full").fit_transform(found.sample[0].values[rows].astype(np.float64))
    np.testing.assert_allclose(np.abs(other.embedding.points), np.abs(oracle), rtol=1e-3, atol=1e-4)
    same = plane(sweeps, "conv2")  # which another call has returned too, of which all are kept
    assert (same.layer, len(same.pictures)) == ("block", COUNT)
    about = (sweeps, PICTURES, "net", "relu9", "pca", 5.0)
    assert plane_of(*about) == NO_CHANNELS  # type: ignore[arg-type]


def test_no_more_points_than_can_be_seen_are_laid_out_drawn_as_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embeddings.MOST, "pca", 50)
    found = plane(Written(swept()))
    drawn = np.sort(np.argsort(drawn_at(np.arange(COUNT)))[:50])
    np.testing.assert_array_equal(found.pictures, drawn)
    assert found.drawn and found.seen == COUNT


def test_pictures_that_are_not_finite_are_left_out_and_counted() -> None:
    broken = features("block", 0)
    broken.values[[3, 8]] = -np.inf
    found = lay_out(broken, COUNT, "pca", "key")
    assert found.left_out == 2 and not found.drawn and not {3, 8} & set(found.pictures.tolist())
    assert np.isfinite(found.embedding.points).all() and len(found.embedding.points) == COUNT - 2


def test_it_is_kept_until_more_is_written_down() -> None:
    sweeps = Written(swept())
    first = plane(sweeps)
    assert plane(sweeps) is first and plane(sweeps, "block") is first and plane(sweeps, "conv1") is not first
    near = plane(sweeps, "", "tsne")
    assert near.embedding.method == "tsne" and near is not first and repr(near) != repr(first)
    sweeps.at = 1
    again = plane(sweeps)
    assert again is not first and repr(again) != repr(first)


def test_a_set_that_was_not_looked_through_has_none() -> None:
    for asked in (
        plane_of(Written(None), PICTURES, "net", "", "pca", 1.0),
        variety_of(Written(None), PICTURES, "n", 1.0),
    ):  # type: ignore[arg-type]
        assert asked == "This set has not been looked through in this model yet."
    few = replace(features("block", 0), pictures=np.arange(2), values=np.ones((2, 3), np.float32))
    said = plane_of(Written(Sweep(np.arange(2), features=(few,))), PICTURES, "net", "", "pca", limit(5.0))  # type: ignore[arg-type]
    assert isinstance(said, str) and "at least 3 pictures" in said


def test_variety_is_the_librarys() -> None:
    told = variety_of(Written(swept()), PICTURES, "net", limit(5.0))  # type: ignore[arg-type]
    assert isinstance(told, Variety) and len(told.flow) == 1
    (expected,) = information_over(swept())
    assert told.flow[0].effective_rank == expected.effective_rank and told.flow[0].pictures == 40
    assert variety_of(Written(replace(swept(), places=())), PICTURES, "net", limit(5.0)).startswith(  # type: ignore[arg-type,union-attr]
        "This sweep has kept no places"
    )


def test_without_opentsne_its_button_is_grey_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    (with_it,) = to_markup(panel._methods("tsne"))
    assert [button[1].get("disabled") for button in with_it[2]] == [None, None]
    assert [button[1]["aria-pressed"] for button in with_it[2]] == ["false", "true"]
    monkeypatch.setattr(panel, "tsne_is_there", lambda: False)
    (without,) = to_markup(panel._methods("pca"))
    assert [button[1].get("disabled") for button in without[2]] == [None, True]
    assert "pip install 'hookscope[tsne]'" in without[2][1][1]["title"]


def test_the_commonest_classes_have_colours_the_rest_is_grey() -> None:
    classes = np.repeat(np.arange(-1, 14), [50, *range(1, 15)])  # class 13 has most pictures, 50 are of none
    found = panel._coloured(classes)
    assert list(found) == list(range(13, 3, -1)) and list(found.values()) == list(COLOURS)
    assert len({*COLOURS, OTHER, WRONG}) == 12


def test_the_figure_rings_mistakes_keeps_the_scale_and_reads_no_name_as_markup() -> None:
    wrong = np.array([False, True])
    said = [(4, "<b>a</b>.png", ""), (9, "b & c.png", "answered cat (0.50)")]
    figure = plane_figure(np.eye(2), [OTHER, "#123456"], wrong, said, meta={"set": "k"}, key="k").to_plotly_json()
    (trace,) = figure["data"]
    assert trace["marker"]["line"] == {"color": WRONG, "width": [0, 2]} and trace["marker"]["color"] == [
        OTHER,
        "#123456",
    ]
    assert [each[:2] for each in trace["customdata"]] == [[4, "&lt;b>a&lt;/b>.png"], [9, "b &amp; c.png"]]
    go.Figure(data=figure["data"], layout=figure["layout"])  # Plotly knows all of it
    assert figure["layout"]["yaxis"]["scaleanchor"] == "x" and figure["layout"]["dragmode"] == "lasso"


# --- the tables


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_maps_table_has_a_row_for_each_point() -> None:
    found = plane(Written(swept()))
    numbers = np.arange(COUNT - 1)  # of the last one there is no answer
    best = np.stack([numbers % 2, 1 - numbers % 2], 1).astype(np.int32)
    nothing = np.zeros(COUNT - 1, np.float32)
    answers = Answers("softmax", 2, numbers, np.zeros(COUNT - 1, np.int64), best, best * 1.0, nothing, nothing)
    members = (Member("=cmd().png", "cat"), *PICTURES.members[1:])
    rows = rows_of(plane_csv(replace(PICTURES, members=members), found, answers, ("cat", "dog")))
    assert len(rows) == COUNT and rows[0]["picture"] == "'=cmd().png"
    assert [row["answer"] for row in rows[:3]] == ["cat", "dog", "cat"] and [row["wrong"] for row in rows[:2]] == [
        "0",
        "1",
    ]
    assert rows[-1]["answer"] == rows[-1]["wrong"] == "" and rows[-1]["label"] == "cat"
    points = np.array([[float(row["first axis"]), float(row["second axis"])] for row in rows])
    np.testing.assert_allclose(points, found.embedding.points, rtol=1e-5)
    assert len(rows_of(plane_csv(PICTURES, found, None, ()))) == COUNT


def test_the_table_of_variety_has_a_row_for_each_layer() -> None:
    flow = [
        SetInformation("a", 1, "Conv2d", 3.5, 64, 60, 12.25, 80.5),
        SetInformation("b", 0, "", math.nan, 2, 60, math.nan, math.nan),
    ]
    first, second = rows_of(information_csv(flow))
    assert list(first.values()) == ["a", "1", "Conv2d", "64", "60", "3.5", "12.25", "59", "80.5"]
    assert first["entropy (bits)"] == "3.5" and first["effective rank"] == "12.25" and first["at most"] == "59"
    assert second["effective rank"] == second["entropy (bits)"] == "" and second["at most"] == "2"
