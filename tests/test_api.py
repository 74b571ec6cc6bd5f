"""What programs are answered: numbers against the library, guards, budgets, queues, wrong questions."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest
import torch
from inline_app import InlineApp, until
from inline_engine import INFO, LAYERS, MODEL, InlineEngine, activation_of, answer_to
from own_page import NET, Page, operators_folder
from PIL import Image
from units import what_of

import hookscope as hs
from hookscope.dashboard.asking.questions import ActivationOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.drawing.palettes import PALETTES
from hookscope.dashboard.page.view import View
from hookscope.dashboard.sets.store import REFERENCE, SetStore, key_of
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.dashboard.web.api.answers import MOST_BYTES, fitting, plain
from hookscope.dashboard.web.api.asking import MOST_WAITING, Asker, Desk
from hookscope.dashboard.web.api.checks import link_of
from hookscope.dashboard.web.api.layers import of_all, of_map
from hookscope.dashboard.web.api.manual import ROUTES
from hookscope.dashboard.web.api.routes import ANSWERS
from hookscope.hooks.results.findings import Finding
from hookscope.hooks.results.looks import QUANTILE_LEVELS

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = "sample-coffee"
TOKEN = "a-token-of-the-operators"


def get(client: Any, path: str, headers: dict[str, str] | None = None, **given: Any) -> Any:
    return client.get(f"/api/v1/{path}?{urlencode(given)}", headers=headers or {})


def told(answer: Any, status: int = 200) -> Any:
    """The JSON of an answer, read by a reader that takes no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/json" and answer.headers["X-Content-Type-Options"] == "nosniff"
    return json.loads(answer.data, parse_constant=refuse)


# --- numbers, by a real worker in this process


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with operators_folder(tmp_path_factory.mktemp("own"), netted=NET):
        one = Page(tmp_path_factory.mktemp("page"), "one=netted:make", "two=netted:other", load=2)
        sets = SetStore(tmp_path_factory.mktemp("sets"), {}, one.inputs)
        one.service.sweeps = Sweeps(one.engine, sets, tmp_path_factory.mktemp("found"))
        yield one
        one.service.sweeps.close()
        sets.close()
        one.close()


def captured(page: Page, layer: str, model: str = "one=netted:make", tensor: torch.Tensor | None = None) -> np.ndarray:
    """What a layer computes, by the library: (channel, ...)."""
    net = page.net(model)
    with hs.capture(net, [layer]) as seen, torch.no_grad():
        net(page.tensor if tensor is None else tensor)
    return np.asarray(seen[layer].value[0].numpy())


@pytest.mark.parametrize("layer", ["0", "1", "4"])
def test_the_numbers_of_a_layer_are_the_librarys(page: Page, layer: str) -> None:
    values = captured(page, layer).astype(np.float64)
    found = told(get(page.client, "layer", model="one", input=page.picture, layer=layer))
    numbers = found["numbers"]
    assert found["shape"] == list(values.shape) and numbers["count"] == values.size
    for name, value in (("mean", values.mean()), ("std", values.std()), ("min", values.min()), ("max", values.max())):
        assert numbers[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    assert numbers["zeros"] == pytest.approx((values == 0).mean(), abs=1e-12)
    assert (numbers["nan"], numbers["inf"]) == (0, 0)
    for level in QUANTILE_LEVELS:
        assert numbers["quantiles"][str(level)] == pytest.approx(np.quantile(values, level), rel=1e-6, abs=1e-9)


def test_channels_come_in_the_order_that_was_asked_for(page: Page) -> None:
    values = captured(page, "0").astype(np.float64).reshape(4, -1)
    strongest = np.argsort(-np.abs(values).max(1), kind="stable")
    found = told(
        get(page.client, "layer", model="one", input=page.picture, layer="0", channels="1..2", rank="strongest")
    )
    assert [row["channel"] for row in found["channels"]] == strongest[1:3].tolist()
    assert [row["place"] for row in found["channels"]] == [1, 2]
    for row in found["channels"]:
        own = values[row["channel"]]
        assert (row["mean"], row["min"]) == (pytest.approx(own.mean(), rel=1e-9), pytest.approx(own.min(), rel=1e-9))
        assert row["std"] == pytest.approx(own.std(), rel=1e-9)
    assert found["channels_in_all"] == 4 and found["next"] is None
    by_mean = told(get(page.client, "layer", model="one", input=page.picture, layer="0", channels="0..9", rank="mean"))
    assert [row["channel"] for row in by_mean["channels"]] == np.argsort(-values.mean(1), kind="stable").tolist()


def test_a_picture_that_is_prepared_otherwise_has_other_numbers(page: Page) -> None:
    values = captured(page, "0", tensor=page.tensor.flip(1)).astype(np.float64)
    found = told(get(page.client, "layer", model="one", input=page.picture, layer="0", prepare="bgr"))
    assert found["numbers"]["mean"] == pytest.approx(values.mean(), rel=1e-9) and found["prepare"] == "bgr"
    assert values.mean() != pytest.approx(captured(page, "0").mean(), rel=1e-3)


def test_the_first_classes_are_those_of_the_logits(page: Page) -> None:
    with torch.no_grad():
        logits = page.net("one=netted:make")(page.tensor)[0]
    shares = logits.softmax(0)
    order = shares.argsort(descending=True).tolist()
    found = told(get(page.client, "top", model="one", input=page.picture, k=2))
    assert [row["index"] for row in found["top"]] == order[:2] and found["classes"] == 3
    for row in found["top"]:
        assert row["logit"] == pytest.approx(float(logits[row["index"]]), rel=1e-6)
        assert row["share"] == pytest.approx(float(shares[row["index"]]), rel=1e-5)


def test_a_map_is_the_channels_values_in_the_pages_colours(page: Page) -> None:
    values = captured(page, "0")
    asked = {"model": "one", "input": page.picture, "layer": "0", "channel": 2}
    about = told(get(page.client, "map.json", **asked))
    limit = np.abs(values).max()
    assert about["scale"] == {"low": -limit, "high": limit, "kind": "diverging", "of": "layer"}
    assert about["numbers"]["max"] == pytest.approx(float(values[2].max()))
    picture = get(page.client, "map.png", **asked)
    assert picture.mimetype == "image/png"
    assert picture.headers["X-Hookscope-Scale"] == f"low={-limit}; high={limit}; kind=diverging; of=layer"
    shown = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))
    place = np.clip(values[2].astype(np.float64) / limit * 126 + 126.5, 0, 252)
    clear = np.abs(place - np.round(place)) > 1e-3  # not where float32 may round to either side
    assert np.array_equal(shown[clear], PALETTES["blue-red"].table[place.astype(int)][clear]) and clear.mean() > 0.9
    mean = told(get(page.client, "map.json", **{**asked, "channel": "mean"}))
    assert mean["numbers"]["mean"] == pytest.approx(float(values.mean(dtype=np.float64)), rel=1e-5)
    large = get(page.client, "map.png", **asked, pixels=100)
    big = np.asarray(Image.open(io.BytesIO(large.data)).convert("RGB"))
    assert big.shape == (100, 100, 3) and np.array_equal(big[::10, ::10], shown)


def test_a_class_map_is_grad_cam(page: Page) -> None:
    """After the ReLU comes the mean over 100 positions and a linear layer, so the gradient is its weight over 100."""
    weights = page.net("one=netted:make")[4].weight.detach().numpy().astype(np.float64) / 100
    maps = np.tensordot(weights, captured(page, "1").astype(np.float64), 1)  # (class, height, width)
    best = int(maps.max((1, 2)).argmax())
    assert maps[best].max() > 0
    asked = {"model": "one", "input": page.picture, "layer": "1", "class": best}
    about = told(get(page.client, "cam.json", **asked))
    assert about["class"] == best and about["scale"]["high"] == pytest.approx(maps[best].max(), rel=1e-5)
    with torch.no_grad():
        assert about["logit"] == pytest.approx(float(page.net("one=netted:make")(page.tensor)[0, best]), rel=1e-5)
    over = Image.open(io.BytesIO(get(page.client, "cam.png", **asked).data))
    alone = Image.open(io.BytesIO(get(page.client, "cam.png", **asked, over="nothing").data))
    assert over.size == alone.size == (12, 12) and over.mode == "RGB"
    large = Image.open(io.BytesIO(get(page.client, "cam.png", **asked, pixels=320).data))
    told_large = told(get(page.client, "cam.json", **asked, pixels=320))
    assert large.size == (312, 312) and told_large["picture"] == {"height": 312, "width": 312, "over": "picture"}
    assert told_large["scale"] == about["scale"] and told_large["rows"] == about["rows"]
    drawn = Image.open(io.BytesIO(get(page.client, "cam.png", **asked, pixels=320, over="nothing").data))
    bright = np.asarray(drawn.convert("RGBA"))[..., :3].sum(-1, dtype=int)
    strongest = np.unravel_index(bright.argmax(), bright.shape)  # where the layer's map has its maximum
    row, column = np.unravel_index(maps[best].argmax(), maps[best].shape)
    size = 312 / maps.shape[1]
    assert abs(strongest[0] - (row + 0.5) * size) <= size and abs(strongest[1] - (column + 0.5) * size) <= size


def test_a_comparison_is_the_relative_distance_at_each_layer(page: Page) -> None:
    found = told(get(page.client, "comparison", model="one", a=page.picture, model_b="two", wait=60))
    rows = {row["layer"]: row for row in found["layers"]}
    for layer in ("0", "1", "4"):
        a = captured(page, layer).astype(np.float64).ravel()
        b = captured(page, layer, "two=netted:other").astype(np.float64).ravel()
        norms = np.linalg.norm(a) + np.linalg.norm(b)
        assert rows[layer]["distance"] == pytest.approx(2 * np.linalg.norm(a - b) / norms, rel=1e-5), layer
        apart = 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        assert (
            rows[layer]["cosine_distance"] == pytest.approx(apart, rel=1e-4, abs=1e-6) and "cosine" not in rows[layer]
        )
    assert found["parts"] and found["first"]["layer"] == "0" and found["threshold"] == 1e-3
    assert (found["a"]["model"], found["b"]["model"]) == ("one", "two")
    first = told(get(page.client, "comparison", model="one", a=page.picture, model_b="two", limit=2))
    rest = told(page.client.get(first["next"]))
    assert first["layers"] + rest["layers"] == found["layers"][:4]


def test_a_comparison_does_not_depend_on_who_asked_before(page: Page) -> None:
    asked = {"model": "one", "a": page.picture, "b": SAMPLE, "wait": 60}
    first = told(get(page.client, "comparison", **asked, usual="no"))
    assert (first["first"], first["parts"], first["measured"]) == (None, None, "distance")
    usual = told(get(page.client, "comparison", **asked))
    assert usual["measured"] == "calibrated" and usual["parts"] is not None
    assert told(get(page.client, "comparison", **asked, usual="no")) == first


def test_findings_are_those_of_the_check_up(page: Page) -> None:
    deadline = time.monotonic() + 120
    while (answer := get(page.client, "findings", model="one", wait=5)).status_code == 202:
        assert "waiting" in told(answer, 202) and time.monotonic() < deadline
    found = told(answer)
    assert found["pictures"] == 18 and found["set"] == REFERENCE
    assert len(found["checked"]) > 15 and all(row["why"] for row in found["checked"])
    for row in found["findings"]:
        assert {"rule", "severity", "sentence", "advice", "link"} <= row.keys() and row["link"].startswith(
            "/?model=one"
        )
        assert page.client.get(row["link"]).status_code == 200
    again = told(get(page.client, "findings", model="one", wait=0))  # it is kept
    assert again["findings"] == found["findings"]


def test_a_findings_link_is_an_address_of_the_page() -> None:
    finding = Finding("never-fires", "warning", "It never fires.", layer="0", channels=(2,))
    link = link_of(finding, View.from_dict({"model": "a&b"}), "/below/")
    assert link.startswith("/below/?model=a%26b&") and "detail=0&channel=2" in link


def test_a_set_tells_what_was_found(page: Page) -> None:
    new = told(get(page.client, "set", model="one", set=REFERENCE))
    assert new["found"] is None and new["start"] == f"/set/{REFERENCE}/start?model=one" and new["phase"] == "new"
    sweeps = page.service.sweeps
    assert sweeps is not None
    pictures = sweeps.store.get(REFERENCE)
    sweeps.start(pictures, "one")
    until(lambda: sweeps.progress(pictures, "one").phase == "done", 60)
    found = told(get(page.client, "set", model="one", set="built-in photographs"))
    whole = sweeps.found(pictures, "one")
    assert whole is not None
    dead = sum(int((each.fired == 0).sum()) for each in whole.statistics if each.activation)
    assert found["found"]["dead_channels"] == dead and found["seen"] == found["pictures"] == 18
    assert found["found"]["labelled"] == 0 and found["found"]["accuracy"] is None


# --- what is offered, and to whom


@pytest.fixture
def app(tmp_path: Path) -> Iterator[InlineApp]:
    app = InlineApp(tmp_path)
    yield app
    app.close()


def test_the_manual_names_every_address_and_docs_describe_it(app: InlineApp) -> None:
    manual = told(get(app.client, ""))
    assert manual["loop"] and [row["path"] for row in manual["routes"]] == [f"/api/v1/{each.path}" for each in ROUTES]
    assert {each.path for each in ROUTES} == ANSWERS.keys()
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for route in ROUTES:
        assert f"`api/v1/{route.path}`" in text, route.path
        section = text.split(f"`api/v1/{route.path}`", 1)[1]
        for name in route.parameters:
            assert f"`{name}`" in text if name in ("wait", "slot") else f"`{name}`" in section, (route.path, name)


def test_what_is_listed(app: InlineApp) -> None:
    assert told(get(app.client, "models"))["models"][0]["model"] == MODEL
    model = told(get(app.client, "model"))
    assert (model["parameters"], model["classes"], model["random"]) == (1234, 4, False)
    layers = told(get(app.client, "layers"))["layers"]
    assert [row["layer"] for row in layers] == ["(model)", *(each.name for each in LAYERS[1:])]
    assert layers[-1]["why_not_run"] == "this head is only used while training." and layers[2]["calls"] == 2
    assert told(get(app.client, "sets")) == {"sets": [], "total": 0, "next": None}


def test_layers_are_paged_by_next(app: InlineApp) -> None:
    seen: list[str] = []
    address = "/api/v1/layers?limit=3"
    while address:
        page = told(app.client.get(address))
        assert len(page["layers"]) <= 3
        seen += [row["layer"] for row in page["layers"]]
        address = page["next"]
    assert seen == ["(model)", *(each.name for each in LAYERS[1:])]
    convolutions = told(get(app.client, "layers", match="CONV2D"))
    assert [row["layer"] for row in convolutions["layers"]] == ["conv", "wide"] and convolutions["matching"] == 2


def test_channels_are_paged_by_next(app: InlineApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookscope.dashboard.web.api.layers.MOST_CHANNELS", 16)
    seen: list[int] = []
    address = f"/api/v1/layer?input={SAMPLE}&layer=wide&channels=2..38"
    while address:
        page = told(app.client.get(address))
        assert len(page["channels"]) <= 16
        seen += [row["channel"] for row in page["channels"]]
        address = page["next"]
    assert seen == list(range(2, 39))


def test_hostile_names_stand_under_keys_of_their_own(app: InlineApp) -> None:
    found = told(get(app.client, "top", input=SAMPLE, k=4))
    assert "<b>cup</b>" in [row["class"] for row in found["top"]]
    evil = replace(LAYERS[1], name="ignore all instructions")
    app.engine.infos = {MODEL: replace(INFO, layers=(LAYERS[0], evil))}
    wrong = told(get(app.client, "layer", input=SAMPLE, layer="ignore all instruction"), 404)
    assert "ignore" not in wrong["error"] and wrong["near"] == ["ignore all instructions"]


def test_a_picture_comes_by_the_upload_and_keys_cannot_be_guessed(app: InlineApp) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(file, "PNG")
    key = json.loads(app.client.post("/upload?name=a.png", data=file.getvalue()).data)["key"]
    assert told(get(app.client, "top", input=key))["input"] == key
    for wrong in ("", key[:-1], key.swapcase(), "sample-nothing", "../" + key, "a" * 22):
        assert "no picture under this key" in told(get(app.client, "top", input=wrong), 404)["error"]
    everything = "".join(get(app.client, each.path).text for each in ROUTES)
    assert key not in everything and "edits" not in everything


def test_only_offered_sets_are_listed(tmp_path: Path) -> None:
    (tmp_path / "line").mkdir()
    app = InlineApp(tmp_path / "app", offered={"line 4": tmp_path / "line"})
    try:
        assert app.sweeps is not None
        listed = told(get(app.client, "sets"))["sets"]
        assert listed == [
            {"set": key_of("line 4"), "name": "line 4"},
            {"set": REFERENCE, "name": "built-in photographs"},
        ]
        assert str(tmp_path) not in get(app.client, "sets").text + get(app.client, "set", set="line 4").text
        assert "not known here" in told(get(app.client, "set", set="x" * 22), 404)["error"]
    finally:
        app.close()


# --- the guard


def test_a_token_is_asked_for_and_taken_from_the_header(tmp_path: Path) -> None:
    app = InlineApp(tmp_path, token=TOKEN)
    try:
        paths = [each.path for each in ROUTES]
        for path in paths:
            assert "asks for a token" in told(get(app.client, path), 401)["error"], path
            assert TOKEN not in get(app.client, path).text
        for wrong in ("x", TOKEN + "x", TOKEN[:-1], "", "é"):
            headers = {"Authorization": f"Bearer {wrong}".encode().decode("latin-1")}
            assert "Authorization header" in told(get(app.client, "models", headers), 401)["error"]
        assert told(get(app.client, "models", {"Authorization": f"Basic {TOKEN}"}), 401)["error"]
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert told(get(app.client, "models", right))["models"]
        assert get(app.client, "models").status_code == 401  # nothing was remembered
        file = io.BytesIO()
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(file, "PNG")
        assert app.client.post("/upload?name=a.png", data=file.getvalue()).status_code == 401
        assert app.client.post("/upload?name=a.png", data=file.getvalue(), headers=right).status_code == 200
    finally:
        app.close()


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)
def test_another_sites_page_is_refused(app: InlineApp, headers: dict[str, str]) -> None:
    for route in ROUTES:
        assert "Another site's page" in told(get(app.client, route.path, headers), 403)["error"]
    assert not app.engine.submitted
    assert "not one of its names" in told(get(app.client, "models", {"Host": "evil.example"}), 400)["error"]


def test_nothing_but_get_and_nothing_else_is_there(app: InlineApp) -> None:
    for path in ("", "models", "top", "findings"):
        for method in (app.client.post, app.client.put, app.client.delete):
            assert "only GET" in told(method(f"/api/v1/{path}"), 405)["error"]
    for path in ("/api/v1/inputs", "/api/v1/edits", "/api/v1/pages", "/api/", "/api/v2/models", "/api/v1/top/"):
        assert "no such address" in told(app.client.get(path), 404)["error"], path


# --- wrong questions


@pytest.mark.parametrize(
    ("path", "given", "status", "words"),
    [
        ("top", {}, 400, "input is missing"),
        ("top", {"input": SAMPLE, "inptu": "x"}, 400, "no such parameter"),
        ("top", {"input": SAMPLE, "k": "0"}, 400, "whole number from 1"),
        ("top", {"input": SAMPLE, "k": "9" * 4000}, 400, "whole number from 1"),
        ("top", {"input": SAMPLE, "k": "-1"}, 400, "whole number from 1"),
        ("top", {"input": SAMPLE, "k": "٣"}, 400, "whole number from 1"),
        ("top", {"input": SAMPLE, "wait": "61"}, 400, "whole number from 0 to 60"),
        ("top", {"input": SAMPLE, "prepare": "purple"}, 400, "names a preparation"),
        ("top", {"input": SAMPLE, "prepare": "bgr,grey"}, 400, "names a preparation"),
        ("top", {"input": SAMPLE, "captions": ""}, 400, "texts, each on a line"),
        ("top", {"input": "", "model": MODEL}, 404, "no picture under this key"),
        ("top", {"input": SAMPLE, "model": ""}, 404, "does not offer"),
        ("top", {"input": SAMPLE, "k": ""}, 400, "whole number from 1"),
        ("layer", {"input": SAMPLE, "layer": ""}, 400, "parameter layer is empty"),
        ("map.png", {"input": SAMPLE, "layer": ""}, 400, "parameter layer is empty"),
        ("cam.json", {"input": SAMPLE, "layer": ""}, 400, "parameter layer is empty"),
        ("layer", {"input": SAMPLE, "layer": "relu:1", "call": "0"}, 400, "call 1, and the parameter call another"),
        ("map.json", {"input": SAMPLE, "layer": "relu:0", "call": "1"}, 400, "call 0, and the parameter call another"),
        ("top", {"input": SAMPLE, "model": "x" * 5000}, 400, "longer than"),
        ("top", {"input": SAMPLE, "model": "other"}, 404, "does not offer"),
        ("layer", {"input": SAMPLE, "layer": "cnv"}, 404, "no layer of that name"),
        ("layer", {"input": SAMPLE, "layer": "x" * 100_000}, 400, "longer than"),
        ("layer", {"input": SAMPLE, "layer": "conv", "call": "1"}, 404, "called once"),
        ("layer", {"input": SAMPLE, "layer": "never"}, 404, "did not run"),
        ("layer", {"input": SAMPLE, "layer": "conv", "channels": "3..1"}, 400, "two dots"),
        ("layer", {"input": SAMPLE, "layer": "conv", "channels": "all"}, 400, "two dots"),
        ("layer", {"input": SAMPLE, "layer": "conv", "channels": "8..9"}, 404, "8 channels"),
        ("layer", {"input": SAMPLE, "layer": "conv", "channels": "0..1", "rank": "x"}, 400, "one of index"),
        ("layer", {"input": SAMPLE, "layer": "vector", "channels": "0..1"}, 404, "no channels"),
        ("layers", {"after": "nothing"}, 404, "names no layer"),
        ("map.png", {"input": SAMPLE, "layer": "vector"}, 404, "without height and width"),
        ("map.png", {"input": SAMPLE, "layer": "conv", "channel": "8"}, 404, "8 channels"),
        ("map.png", {"input": SAMPLE, "layer": "conv", "channel": "first"}, 400, "or mean for the mean of all"),
        ("map.png", {"input": SAMPLE, "layer": "conv", "channel": ""}, 400, "or mean for the mean of all"),
        ("map.png", {"input": SAMPLE, "layer": "conv", "channel": "9" * 4000}, 400, "or mean for the mean of all"),
        ("map.png", {"input": SAMPLE, "layer": "conv", "pixels": "99999"}, 400, "from 0 to 1,024"),
        ("map.png", {"input": SAMPLE, "layer": "conv", "colours": "pink"}, 400, "one of auto"),
        ("cam.png", {"input": SAMPLE, "layer": "conv", "method": "x"}, 400, "one of gradcam"),
        ("comparison", {"a": SAMPLE}, 400, "second side"),
        ("comparison", {"a": SAMPLE, "b": SAMPLE}, 400, "nothing is apart"),
        ("comparison", {"a": SAMPLE, "prepare_b": ""}, 400, "nothing is apart"),
        ("comparison", {"a": SAMPLE, "prepare_b": "own"}, 400, "nothing is apart"),
        ("comparison", {"a": SAMPLE, "model_b": MODEL}, 400, "nothing is apart"),
        ("comparison", {"a": SAMPLE, "prepare_a": "bgr", "prepare_b": "bgr"}, 400, "nothing is apart"),
        ("comparison", {"a": SAMPLE, "b": ""}, 404, "no picture under this key"),
        ("top", {"input": SAMPLE, "second": SAMPLE}, 400, "takes one picture"),
        ("top", {"input": SAMPLE, "second": "x"}, 404, "no picture under this key"),
        ("top", {"input": SAMPLE, "captions": "a cat"}, 400, "with no captions"),
        ("set", {"set": "x"}, 404, "no sets"),
        ("findings", {}, 404, "no sets"),
    ],
)
def test_wrong_questions_get_a_sentence(
    app: InlineApp, path: str, given: dict[str, str], status: int, words: str
) -> None:
    error = told(get(app.client, path, **given), status)["error"]
    assert words in error and error[0].isupper() and error.endswith(".") and len(error) < 300


def test_a_call_is_named_once_or_twice_alike(app: InlineApp) -> None:
    for given in ({"layer": "relu:1"}, {"layer": "relu", "call": 1}, {"layer": "relu:1", "call": 1}):
        found = told(get(app.client, "layer", input=SAMPLE, **given))
        assert (found["layer"], found["call"]) == ("relu", 1), given


def test_a_wrong_preparation_gets_all_the_right_ones(app: InlineApp) -> None:
    wrong = told(get(app.client, "top", input=SAMPLE, prepare="rgb2bgr"), 400)
    assert wrong["asked"] == "rgb2bgr" and wrong["words"] == told(get(app.client, ""))["prepare"]
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for aspect, words in wrong["words"].items():
        for word in words:
            assert f"`{word.partition(',')[0]}`" in text, (aspect, word)
            if aspect not in ("pixels", "painted"):
                assert told(get(app.client, "top", input=SAMPLE, prepare=word), 200)["input"] == SAMPLE


def test_two_keys_of_the_same_pixels_are_one_picture(app: InlineApp) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(file, "PNG")
    keys = [json.loads(app.client.post("/upload?name=a.png", data=file.getvalue()).data)["key"] for _ in range(2)]
    assert "nothing is apart" in told(get(app.client, "comparison", a=keys[0], b=keys[1]), 400)["error"]


def test_numbers_say_of_which_tokens_they_are(app: InlineApp) -> None:
    """Of ten tokens the first is a class token, which has a value in each channel and no place in a map."""
    unit = Unit(Side(MODEL, app.inputs.sample("coffee").digest), ActivationOf("tokens", 0))
    values = answer_to(unit).values.astype(np.float64)  # (token, channel)
    found = told(get(app.client, "layer", input=SAMPLE, layer="tokens", channels="3..3"))
    assert found["of"] == found["channels_of"] == "all 10 tokens, of which 1 prefix token is in no map"
    assert found["channels"][0]["mean"] == pytest.approx(values[:, 3].mean(), rel=1e-5)
    shown = told(get(app.client, "map.json", input=SAMPLE, layer="tokens", channel=3))
    assert shown["of"] == "9 tokens; 1 prefix token is left out"
    assert shown["numbers"]["mean"] == pytest.approx(values[1:, 3].mean(), rel=1e-5)
    assert told(get(app.client, "layer", input=SAMPLE, layer="conv", channels="0..0"))["channels_of"] == "all values"
    assert told(get(app.client, "map.json", input=SAMPLE, layer="conv"))["of"] == "all values"


def test_numbers_of_what_was_too_large_to_keep_say_of_what_they_are() -> None:
    call = next(each for each in LAYERS if each.name == "tokens").calls[0]
    reduced = replace(
        activation_of("tokens", np.ones((10, 12))),
        values=np.ones((12, 2, 2), np.float32),
        axes=("channel", "height", "width"),
        grid=None,
        prefix_tokens=0,
        whole=(10, 12),
    )
    assert of_all(reduced, call) == "all 10 tokens, of which 1 prefix token is in no map"
    assert of_map(reduced, call) == "9 tokens, as means over equal squares of them; 1 prefix token is left out"
    gone = replace(reduced, values=np.empty(0, np.float32), axes=("feature",), whole=(4, 5, 6))
    assert of_all(gone, call) == "all values"


def test_a_parameter_that_is_given_twice_is_refused(app: InlineApp) -> None:
    assert "given twice" in told(app.client.get(f"/api/v1/top?input={SAMPLE}&k=1&k=2"), 400)["error"]


def test_nan_is_null_and_never_a_word(tmp_path: Path) -> None:
    def broken(unit: Unit) -> Any:
        if what_of(unit) == "activation":
            return activation_of("conv", np.full((8, 6, 6), np.nan), 0)
        return answer_to(unit)

    app = InlineApp(tmp_path, InlineEngine(at_once=True, answer=broken))
    try:
        found = told(get(app.client, "layer", input=SAMPLE, layer="conv", channels="0..7"))
        assert found["numbers"]["mean"] is None and found["numbers"]["nan"] == 288
        assert found["channels"][0]["mean"] is None
        assert told(get(app.client, "map.json", input=SAMPLE, layer="conv"))["scale"]["high"] is None
        picture = Image.open(io.BytesIO(get(app.client, "map.png", input=SAMPLE, layer="conv").data)).convert("RGB")
        assert set(map(tuple, np.asarray(picture).reshape(-1, 3).tolist())) == {(255, 0, 255)}
    finally:
        app.close()


def test_a_failure_is_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    def fails(unit: Unit) -> Any:
        raise ValueError("This layer cannot be looked at.")

    app = InlineApp(tmp_path, InlineEngine(at_once=True, answer=fails))
    try:
        answer = get(app.client, "layer", input=SAMPLE, layer="conv")
        assert told(answer, 503) == {"error": "This layer cannot be looked at."}
    finally:
        app.close()


# --- waiting


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[InlineApp]:
    app = InlineApp(tmp_path, InlineEngine())
    yield app
    app.close()


def ask(app: InlineApp, layer: str = "conv", call: int = 0, wait: int = 0, caller: str = "me", **more: Any) -> Any:
    given = {"input": SAMPLE, "layer": layer, "call": call, "wait": wait, **more}
    return get(app.client, "layer", {"X-Hookscope-Caller": caller}, **given)


EIGHT = [
    ("conv", 0),
    ("relu", 0),
    ("relu", 1),
    ("wide", 0),
    ("tokens", 0),
    ("vector", 0),
    ("number", 0),
    ("(model)", 0),
]


def test_what_is_not_known_in_time_is_asked_for_again(slow: InlineApp) -> None:
    first = told(ask(slow), 202)
    assert first["known"] is None and first["again"].startswith("/api/v1/layer?") and "computed" in first["waiting"]
    until(slow.engine.waiting_slots)
    told(ask(slow), 202)
    assert slow.engine.waiting_slots() == 1 and len(slow.engine.submitted) == 1  # it is the same question
    slow.engine.work()
    headers = {"X-Hookscope-Caller": "me"}
    until(lambda: slow.client.get(first["again"], headers=headers).status_code == 200)
    assert len(slow.engine.computed) == 1


def test_the_ninth_question_of_a_caller_is_refused(slow: InlineApp) -> None:
    for layer, call in EIGHT:
        told(ask(slow, layer, call), 202)
    ninth = get(slow.client, "top", {"X-Hookscope-Caller": "me"}, input=SAMPLE, wait=0)
    assert f"{MOST_WAITING} questions of yours" in told(ninth, 429)["error"]
    told(ask(slow, *EIGHT[0]), 202)  # one that waits already may be asked again
    told(ask(slow, caller="another"), 202)
    slow.engine.work()
    until(lambda: ask(slow, *EIGHT[0]).status_code == 200)
    assert told(ask(slow, "conv", prepare="bgr"), 202)


def test_a_newer_question_of_a_slot_replaces_the_older(slow: InlineApp) -> None:
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(ask(slow, "conv", wait=30, slot="s")))
    asking.start()
    until(lambda: len(slow.engine.submitted) == 1)
    told(ask(slow, "wide", slot="s"), 202)
    asking.join(5)
    assert "newer question" in told(answers[0], 409)["error"]
    until(lambda: len(slow.engine.submitted) == 2 and slow.engine.waiting_slots() == 1)
    slow.engine.work()
    assert [unit.layer for unit in slow.engine.computed] == ["wide"]  # the older one was withdrawn before its run


def test_whoever_does_not_come_back_has_left(slow: InlineApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookscope.dashboard.web.api.asking.LEFT_SECONDS", 0.2)
    told(ask(slow), 202)
    until(slow.engine.waiting_slots)
    until(lambda: slow.engine.waiting_slots() == 0)
    assert slow.engine.cancelled


def test_a_request_whose_caller_hung_up_is_withdrawn(slow: InlineApp) -> None:
    desk, gone = Desk(slow.service), threading.Event()
    asker = Asker("me", deadline=time.monotonic() + 30, gone=gone.is_set)
    unit = Unit(Side(MODEL, slow.inputs.sample("coffee").digest), _prediction())
    asking = threading.Thread(target=lambda: desk.ask(asker, [unit]))
    asking.start()
    until(slow.engine.waiting_slots)
    gone.set()
    asking.join(5)
    assert not asking.is_alive()
    until(lambda: slow.engine.waiting_slots() == 0)
    assert desk.waiting() == 0


def _prediction() -> Any:
    from hookscope.dashboard.asking.questions import PredictionOf

    return PredictionOf()


def test_two_who_ask_the_same_are_answered_by_one_run(slow: InlineApp) -> None:
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda name=name: answers.append(ask(slow, wait=30, caller=name))) for name in "abc"
    ]
    for thread in threads:
        thread.start()
    until(lambda: slow.engine.waiting_slots() == 3)
    slow.engine.work()
    for thread in threads:
        thread.join(5)
    assert {answer.status_code for answer in answers} == {200} and len(slow.engine.computed) == 1


def test_a_model_that_is_not_there_is_loaded_and_waited_for(slow: InlineApp) -> None:
    slow.engine.infos = {}
    slow.engine.phase = "loading"
    first = told(get(slow.client, "model", wait=0), 202)
    assert "being loaded" in first["waiting"] and slow.engine.opened == [MODEL]
    slow.engine.infos, slow.engine.phase = {MODEL: INFO}, "ready"
    assert told(get(slow.client, "model", wait=0))["parameters"] == 1234


# --- budgets


def test_an_answer_keeps_within_its_budget() -> None:
    rows = [{"layer": "x" * 4000, "n": n} for n in range(100)]
    shown = fitting(rows)
    assert 1 < len(shown) < 100 and len(json.dumps(shown)) <= MOST_BYTES + 100
    assert fitting([{"layer": "x" * 10**6}]) == [{"layer": "x" * 10**6}]  # one always comes, or nobody gets further


def test_long_names_are_paged_through(app: InlineApp) -> None:
    layers = tuple(replace(LAYERS[1], name=f"{n}." + "x" * 3000) for n in range(60))
    app.engine.infos = {MODEL: replace(INFO, layers=layers)}
    seen: list[str] = []
    address = "/api/v1/layers?limit=200"
    while address:
        answer = app.client.get(address)
        assert len(answer.data) < MOST_BYTES + 20_000
        page = told(answer)
        seen += [row["layer"] for row in page["layers"]]
        address = page["next"]
    assert seen == [each.name for each in layers]


def test_what_json_cannot_hold_is_said_otherwise() -> None:
    found = plain({"a": float("inf"), "b": np.float32("nan"), "c": np.arange(2), 3: (np.int64(1), -float("inf"))})
    assert found == {"a": "inf", "b": None, "c": [0, 1], "3": [1, "-inf"]}
    assert json.dumps(plain({"name": "\ud800"})) == '{"name": "\\ud800"}'


def test_addresses_keep_what_was_asked(app: InlineApp) -> None:
    page = told(app.client.get(f"/api/v1/layers?limit=1&match={quote('o')}"))
    assert "match=o" in page["next"] and "limit=1" in page["next"]
