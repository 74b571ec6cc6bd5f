"""The outliers of a set on the server: what is held against what, and when, and what the page and its table say."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask
import numpy as np
import pytest
import torch
from digits_models import digits, write_module
from inline_engine import INFO
from served import until
from sklearn.neighbors import NearestNeighbors
from tempo import limit
from torch import nn

import hookscope as hs
from hookscope.dashboard.exports.outlier_table import HEADER, outliers_csv
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.pictures import outliers
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.dashboard.panels.pictures.spread import BINS, spread
from hookscope.dashboard.sets.later import Later
from hookscope.dashboard.sets.members import Member, PictureSet, SetMissing
from hookscope.dashboard.sets.outlying import Outlying, outliers_of
from hookscope.dashboard.sets.sweeps import Progress
from hookscope.dashboard.web import set_tables
from hookscope.hooks.results.baselines import baseline_of
from hookscope.hooks.results.sweeps import Sweep, SweepNow

COUNT, ODD = 60, 17  # pictures of the set, and which of them is noise
MODEL = "digits"


def set_of(key: str, count: int, folder: str = "") -> PictureSet:
    members = tuple(Member(f"={n:03}.png", "7", Path(folder or key, f"{n:03}.png")) for n in range(count))
    return PictureSet(key, f"line {key}", f"version of {key}", members)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sweep]:
    """What was found of a set with a picture of noise, of one without, and of the half of the first that has none."""
    net: nn.Module = write_module(tmp_path_factory.mktemp("digits"))["plain"]()
    pictures, _ = digits()
    pictures = pictures[np.random.default_rng(0).permutation(len(pictures))]
    odd = pictures[:COUNT].clone()
    odd[ODD] = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sets = {"odd": odd, "usual": pictures[COUNT : 2 * COUNT], "half": pictures[30:COUNT]}
    return {
        name: hs.sweep(net, given.split(20), [hs.profiles(), hs.features("relu3"), hs.answers()])
        for name, given in sets.items()
    }


class Written:
    """What a server has of some sweeps."""

    def __init__(self, **found: Sweep | None) -> None:
        self.of = found
        self.phase = "done"
        self.large, self.later = Later(), Later()
        self.store = SimpleNamespace(get=self.get)
        self.sets = {name: set_of(name, 60) for name in ("odd", "usual", "half")}

    def get(self, key: str) -> PictureSet:
        if key not in self.sets:
            raise SetMissing("This set is not known here, or no more. Choose another one.")
        return self.sets[key]

    def found(self, pictures: PictureSet, model: str) -> Sweep | None:
        return self.of.get(pictures.key)

    def written(self, pictures: PictureSet, model: str) -> Hashable:
        found = self.of.get(pictures.key)
        return None if found is None else (pictures.key, len(found.pictures))

    def progress(self, pictures: PictureSet, model: str) -> Progress:
        found, total = self.of.get(pictures.key), len(pictures.members)
        seen = 0 if found is None else len(found.pictures)
        now = None if found is None else SweepNow(seen, found.answers, ())
        phase: Any = self.phase if seen else "new"
        return Progress(phase, "", seen, total, seen, now=now)


def asked(sweeps: Written, name: str = "odd", against: str = "", patience: float | None = None) -> Any:
    sets = sweeps.sets
    wait = limit(20.0) if patience is None else patience
    return outliers_of(sweeps, sets[name], sets[against or name], MODEL, wait)  # type: ignore[arg-type]


# --- what is computed


def test_a_set_is_held_against_itself_and_the_planted_picture_leads(swept: dict[str, Sweep]) -> None:
    found = asked(Written(odd=swept["odd"]))
    assert isinstance(found, Outlying) and (found.usual, found.k, found.shared) == (COUNT, 4, 0)
    expected = baseline_of(swept["odd"]).leave_one_out()
    np.testing.assert_array_equal(found.scores.beyond, expected.beyond)
    features = swept["odd"].features[0].values.astype(float)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    near = NearestNeighbors(n_neighbors=4).fit(features).kneighbors()[0][:, 3]
    np.testing.assert_allclose(found.scores.distance, near, atol=1e-6)
    for name in ("neighbours", "layers"):
        standing = found.scores.of(name)
        assert standing is not None and standing.values.argmax() == ODD and standing.below[ODD] == 1
        assert standing.p[ODD] == 1 / COUNT
    assert found.scores.layers[found.scores.first(ODD)] == ("conv1", 0)


def test_against_another_set_it_is_the_librarys_score(swept: dict[str, Sweep]) -> None:
    found = asked(Written(**swept), "odd", "usual")
    expected = baseline_of(swept["usual"]).score_sweep(swept["odd"])
    np.testing.assert_array_equal(found.scores.distance, expected.distance)
    np.testing.assert_array_equal(found.scores.beyond, expected.beyond)
    assert found.shared == 0 and found.scores.layers_p[ODD] == 1 / (COUNT + 1)


def test_a_picture_that_is_in_both_sets_is_held_against_the_rest(swept: dict[str, Sweep]) -> None:
    sweeps = Written(**swept)
    sweeps.sets["half"] = PictureSet("half", "half", "v", sweeps.sets["odd"].members[30:])  # the same files
    found = asked(sweeps, "half", "odd")
    assert found.shared == 30 and found.scores.inside.all()
    own = baseline_of(swept["odd"]).leave_one_out(unusual=0)
    np.testing.assert_array_equal(found.scores.distance, own.distance[30:])


def test_layers_that_only_one_of_them_has_are_left_out(swept: dict[str, Sweep]) -> None:
    less = replace(swept["usual"], profiles=swept["usual"].profiles[::2])
    found = asked(Written(odd=swept["odd"], usual=less), "odd", "usual")
    assert found.layers == (len(less.profiles), len(swept["odd"].profiles))
    assert list(found.scores.layers) == [(each.layer, each.call) for each in less.profiles]
    none = replace(less, profiles=tuple(replace(each, layer="other") for each in less.profiles))
    said = asked(Written(odd=swept["odd"], usual=none), "odd", "usual")
    assert said.startswith("The two sets have no layer in common whose numbers were kept.")


def test_what_cannot_be_said_is_a_sentence(swept: dict[str, Sweep]) -> None:
    assert asked(Written()) == "This set has not been looked through in this model yet."
    few = replace(swept["odd"], pictures=np.arange(5), profiles=(), features=(), answers=None)
    assert "kept no numbers of each picture" in asked(Written(odd=few))
    cut = tuple(replace(each, pictures=np.arange(5), values=each.values[:5]) for each in swept["odd"].profiles)
    assert asked(Written(odd=replace(few, profiles=cut))).startswith("A baseline of 5 pictures says nothing")


def seen(whole: Sweep, count: int) -> Sweep:
    """What is known of a sweep under way."""
    numbers = np.arange(count)
    assert whole.answers is not None
    columns = ("pictures", "labels", "best", "shares", "of_label", "energy")
    return Sweep(
        numbers,
        profiles=tuple(replace(each, pictures=numbers, values=each.values[:count]) for each in whole.profiles),
        features=tuple(replace(each, pictures=numbers, values=each.values[:count]) for each in whole.features),
        answers=replace(whole.answers, **{name: getattr(whole.answers, name)[:count] for name in columns}),
    )


def test_while_a_set_is_looked_through_it_is_done_anew_when_much_more_is_known(swept: dict[str, Sweep]) -> None:
    sweeps = Written(odd=seen(swept["odd"], 30))
    sweeps.phase = "running"
    first = asked(sweeps)
    assert first.usual == 30
    sweeps.of["odd"] = seen(swept["odd"], 32)
    assert asked(sweeps) is first  # not worth it
    sweeps.of["odd"] = seen(swept["odd"], 45)
    assert asked(sweeps, patience=0.0) is first  # what was known before, while that is computed
    until(lambda: asked(sweeps, patience=0.0) is not first, limit(20.0))
    assert asked(sweeps).usual == 45
    sweeps.phase = "done"
    sweeps.of["odd"] = seen(swept["odd"], 46)
    assert asked(sweeps).usual == 46  # at the end it is of all


# --- the page


def looked_at(sweeps: Written, name: str = "odd", **view: Any) -> Looked:
    """A set in a model, as the page's parts are given it."""
    pictures = sweeps.sets[name]
    info = replace(INFO, classes=tuple("0123456789"), title="digits")
    scene = Scene(
        View().but(model=MODEL, set_a=name, tab="pictures", set_page="outliers", **view),
        {MODEL: info},
        {},
        SimpleNamespace(sweeps=sweeps, state=lambda model: SimpleNamespace(info=info)),  # type: ignore[arg-type]
        Gallery("/picture/"),
        Readings(),
    )
    progress = sweeps.progress(pictures, MODEL)
    return Looked(scene, pictures, MODEL, progress, sweeps.found(pictures, MODEL), {"7": 7}, tuple("0123456789"))


def elements(component: Any) -> Iterator[Any]:
    for each in component if isinstance(component, list | tuple) else [component]:
        if each is not None and not isinstance(each, str):
            yield each
            yield from elements(getattr(each, "children", None))


def text_of(component: Any) -> str:
    if isinstance(component, list | tuple):
        return "".join(map(text_of, component))
    return component if isinstance(component, str) else text_of(getattr(component, "children", None) or "")


def drawn(looked: Looked) -> tuple[Any, Any]:
    """The pictures and the depths, as soon as they are there."""

    def draw() -> tuple[Any, Any] | None:
        against = outliers._against(looked)
        assert isinstance(against, Looked)
        found = outliers._pages(looked, against)
        return None if "computing" in text_of(found[0]) else found

    return until(draw, limit(20.0))


def cells_of(component: Any) -> list[dict[str, Any]]:
    """The pictures' buttons."""
    props = [each.to_plotly_json()["props"] for each in elements(component) if each._type == "Button"]
    return [each for each in props if each.get("data-do") == "open-member"]


def test_the_pictures_stand_by_their_score_with_the_layer_that_makes_them_outliers(swept: dict[str, Sweep]) -> None:
    sweeps = Written(**swept)
    scores = baseline_of(swept["odd"]).leave_one_out()
    answers = swept["odd"].answers
    assert answers is not None and scores.distance is not None and scores.energy is not None
    for by, values in (("neighbours", scores.distance), ("energy", scores.energy), ("layers", scores.furthest)):
        found, _ = drawn(looked_at(sweeps, outliers_by=by))
        cells = cells_of(found)
        assert len(cells) == outliers.PER_PAGE
        numbers = [json.loads(each["data-value"])["number"] for each in cells]
        assert numbers == np.argsort(-values, kind="stable")[: outliers.PER_PAGE].tolist()
        for number, cell in zip(numbers, cells, strict=True):
            said = text_of(cell["children"])
            assert f"{answers.best[number, 0]} {answers.shares[number, 0]:.2f}" in said
            assert f"{values[number]:.3g}, beyond " in said and f"ahead by {answers.margin[number]:.2f}" in said
            first = scores.first(number)
            assert ("from " in said) == (first is not None)
            index = scores.worst(number) if first is None else first
            assert json.loads(cell["data-value"])["layers"] == [scores.layers[index][0]]
            assert f"energy {scores.energy[number]:.3g}" in cell["title"] and cell["title"].startswith(f"={number:03}")
        if by != "energy":
            assert numbers[0] == ODD and "beyond all" in text_of(cells[0]["children"])
            assert "from conv1: standard deviation lower than in all 59" in text_of(cells[0]["children"])
        assert "one picture in twenty" in text_of(found) and "“unlike the baseline”, and not “wrong”" in text_of(found)
    second, _ = drawn(looked_at(sweeps, from_outlier=30))
    assert len(cells_of(second)) == outliers.PER_PAGE and "25 to 48 of 60" in text_of(second)
    past, _ = drawn(looked_at(sweeps, from_outlier=999))
    assert len(cells_of(past)) == COUNT - 2 * outliers.PER_PAGE


def test_against_another_set_it_says_how_many_more_than_by_chance(swept: dict[str, Sweep]) -> None:
    sweeps = Written(**swept)
    looked = looked_at(sweeps, set_b="usual")
    found, begin = drawn(looked)
    p = baseline_of(swept["usual"]).score_sweep(swept["odd"]).distance_p
    assert p is not None
    assert (
        f"{(p <= 0.05).sum()} of 60 are beyond 95\N{NO-BREAK SPACE}% of the baseline, where about 3 would be"
        in text_of(found)
    )
    assert "60 pictures against 60 of line usual" in text_of(found)
    assert "neighbour number 4" in text_of(found)
    firsts = baseline_of(swept["usual"]).score_sweep(swept["odd"]).firsts()
    assert f"Of {(firsts >= 0).sum()} pictures that are further" in text_of(begin)
    bars = [each for each in elements(begin) if each._type == "Button"]
    assert len(bars) == len(swept["odd"].profiles) and json.loads(bars[0].to_plotly_json()["props"]["data-value"]) == {
        "layers": ["conv1"]
    }


def test_what_is_not_there_yet_is_said(swept: dict[str, Sweep]) -> None:
    sweeps = Written(odd=swept["odd"])
    found, _ = outliers._pages(looked_at(sweeps), looked_at(sweeps, "usual"))
    assert "held against those of line usual, which has to be looked through first" in text_of(found)
    assert "Look through it" in text_of(found)
    assert "once the set has been looked through" in text_of(
        outliers._pages(looked_at(Written()), looked_at(sweeps))[0]
    )
    assert "not known here" in str(outliers._against(looked_at(sweeps, set_b="gone")))
    begun = Written(odd=seen(swept["odd"], 5))
    begun.phase = "running"
    found, _ = outliers._pages(looked_at(begun), looked_at(begun))
    assert "They come when 8 pictures have been looked at." in text_of(found)
    small = Written(odd=seen(swept["odd"], 12))
    found, begin = drawn(looked_at(small))
    assert "Of 12 pictures no smaller probability than 0.08 can be told, so none is called an outlier" in text_of(found)
    assert begin == [] and "no layer stands out" in text_of(found)
    bare = Written(odd=replace(swept["odd"], features=(), answers=None))
    looked = looked_at(bare, outliers_by="energy")
    found, _ = drawn(replace(looked, progress=replace(looked.progress, now=None)))
    assert "furthest" in text_of(cells_of(found)[0]["children"])  # the one score that there is


def test_scores_spread_over_equal_bins_or_equal_ratios() -> None:
    values = np.random.default_rng(0).normal(5, 1, 500)
    found = spread([("one", "own", values), ("other", "usual", np.append(values + 1, np.inf))])
    bins = [each for each in elements(found) if getattr(each, "className", "") == "score-bin"]
    both = np.concatenate([values, values + 1])
    counts = np.histogram(values, np.linspace(both.min(), both.max(), BINS + 1))[0]
    heights = [float(each.children[0].style["height"].rstrip("%")) for each in bins]
    assert len(bins) == BINS and np.corrcoef(counts, heights)[0, 1] > 0.9999
    wide = spread([("one", "own", np.geomspace(1, 1000, 37 * 36))])
    heights = [
        float(each.children[0].style["height"].rstrip("%"))
        for each in elements(wide)
        if getattr(each, "className", "") == "score-bin"
    ]
    assert max(heights) - min(heights) < 3 and "equal ratios" in text_of(wide)
    assert spread([("one", "own", np.ones(4))]) is spread([("one", "own", np.array([np.nan]))]) is None


# --- the table


def test_the_table_has_every_picture_with_its_scores_and_layers(swept: dict[str, Sweep]) -> None:
    scores = baseline_of(swept["usual"]).score_sweep(swept["odd"])
    answers = swept["odd"].answers
    assert answers is not None and scores.distance is not None and scores.distance_p is not None
    text = outliers_csv(set_of("odd", COUNT), scores, answers, [f"-{n}" for n in range(10)], "line usual")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == HEADER and len(rows) == COUNT
    numbers = [int(row["number"]) for row in rows]
    assert numbers == np.argsort(-scores.distance, kind="stable").tolist() and numbers[0] == ODD
    for number, row in zip(numbers, rows, strict=True):
        assert row["picture"] == f"'={number:03}.png" and row["answer"] == f"'-{answers.best[number, 0]}"
        assert float(row["distance"]) == pytest.approx(scores.distance[number], rel=1e-5)
        assert float(row["its p"]) == pytest.approx(scores.distance_p[number], rel=1e-5)
        assert float(row["p of the furthest"]) == pytest.approx(scores.layers_p[number], rel=1e-5)
        first, worst = scores.first(number), scores.worst(number)
        assert worst is not None and row["layer furthest"] == scores.layers[worst][0]
        assert row["first layer"] == ("" if first is None else scores.layers[first][0])
        assert row["how"] == ("" if first is None else scores.describe(number, first)) and not row["in the baseline"]
    bare = baseline_of(replace(swept["odd"], features=(), answers=None)).leave_one_out()
    (first_row, *_) = csv.DictReader(
        io.StringIO(outliers_csv(set_of("odd", COUNT), bare, None, [], "the other pictures"))
    )
    assert first_row["number"] == str(ODD) and first_row["distance"] == first_row["energy"] == first_row["answer"] == ""
    assert first_row["in the baseline"] == "yes"


def test_the_table_is_served_and_says_why_it_is_not_there(swept: dict[str, Sweep]) -> None:
    sweeps, server = Written(**swept), flask.Flask("test")
    service = SimpleNamespace(state=lambda model: SimpleNamespace(info=INFO))

    def answered(key: str, act: Any) -> flask.Response:
        try:
            response: flask.Response = act(sweeps, sweeps.get(key), MODEL)
        except SetMissing as missing:
            return flask.Response(str(missing), 404)
        return response

    set_tables.register(server, "/", service, answered)  # type: ignore[arg-type]
    client = server.test_client()
    for query, usual in (("", "odd"), ("?against=usual", "usual")):
        answer = client.get(f"/set/odd/outliers.csv{query}")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert answer.status_code == 200 and len(rows) == COUNT and int(rows[0]["number"]) == ODD
        assert (rows[0]["in the baseline"] == "yes") == (usual == "odd")
        assert {row["against"] for row in rows} == {"the other pictures" if usual == "odd" else "line usual"}
    assert client.get("/set/odd/outliers.csv?against=gone").status_code == 404
    sweeps.of["odd"] = None
    answer = client.get("/set/odd/outliers.csv")
    assert answer.status_code == 404 and "has not been looked through" in answer.text
