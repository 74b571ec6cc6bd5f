"""A scene: what a view names is looked up once, and what it does not find it says."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inline_app import InlineApp
from inline_engine import INFO, MODEL, InlineEngine, answer_to
from PIL import Image
from units import unit_of

from hookscope.dashboard.asking.questions import ActivationOf, ClassMap, PredictionOf
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.previews import find
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Gone, Scene
from hookscope.dashboard.page.view import View
from hookscope.hooks.results.looks import Activation, Prediction
from hookscope.hooks.results.targets import OWN, Class


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InlineApp]:
    made = InlineApp(tmp_path_factory.mktemp("scene"), InlineEngine())
    yield made
    made.close()


def scene(app: InlineApp, **view: object) -> Scene:
    shown = View().but(model=MODEL, **view)
    return Scene.build(shown, {MODEL: INFO}, app.service, Gallery("/picture/"), Readings(), 800)


def test_inputs_that_are_there_are_found_and_others_are_missing(app: InlineApp) -> None:
    assert scene(app).inputs == {}
    both = scene(app, a="sample-coffee", b="sample-chelsea").inputs
    assert list(both) == ["a", "b"] and both["a"].name == "coffee.png"
    assert list(scene(app, b="sample-coffee").inputs) == ["b"]
    assert scene(app, a="k" * 22, b="sample-tea").inputs == {}
    assert find(app.inputs, "") is None and find(app.inputs, "nonsense") is None


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("conv", ("conv", 0)),
        ("relu", ("relu", 0)),
        ("relu:1", ("relu", 1)),
        ("(model)", ("", 0)),
        ("relu:2", None),
        ("relu:999999999999999999999", None),
        ("never", None),
        ("gone", None),
        ("", ("", 0)),
        ("conv:", None),
        ("conv:-1", None),
        (":", None),
    ],
)
def test_a_layers_key_leads_to_its_call_or_to_nothing(app: InlineApp, key: str, found: tuple[str, int] | None) -> None:
    call = scene(app).call_of(key)
    if found is None:
        assert call is None
    else:
        assert call is not None and call[0].name == found[0] and call[1] is call[0].calls[found[1]]


def test_units_name_the_pixels_the_call_and_for_grad_cam_the_target(app: InlineApp) -> None:
    both = scene(app, a="sample-coffee", b="sample-chelsea", target=3)
    digests = {side: given.digest for side, given in both.inputs.items()}
    assert both.of_layer(ActivationOf, "relu:1") == {
        side: unit_of(MODEL, digest, "activation", "relu", 1) for side, digest in digests.items()
    }
    assert both.of_layer(ClassMap, "conv", explained=True)["a"] == unit_of(MODEL, digests["a"], "gradcam", "conv", 0, 3)
    assert both.predictions()["a"] == unit_of(MODEL, digests["a"], "prediction")
    assert scene(app, a="sample-coffee").target("a") == OWN
    assert scene(app, a="sample-coffee", target=0).target("a") == Class(0)


def test_the_same_picture_uploaded_twice_is_the_same_question(app: InlineApp) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (1, 2, 3)).save(buffer, "PNG")
    first, second = (app.inputs.receive(io.BytesIO(buffer.getvalue()), None, name) for name in ("a.png", "b.png"))
    assert first.key != second.key
    assert scene(app, a=first.key).unit("a", PredictionOf()) == scene(app, a=second.key).unit("a", PredictionOf())


def test_what_is_kept_is_given_and_what_is_not_is_gone(app: InlineApp) -> None:
    one = scene(app, a="sample-coffee")
    unit = one.unit("a", ActivationOf("conv"))
    with pytest.raises(Gone, match=r"no longer kept\. Choose the layer again"):
        one.kept(unit, Activation)
    app.service._remember(unit.key(INFO.fingerprint), answer_to(unit), 100)
    assert one.kept(unit, Activation).layer == "conv"
    with pytest.raises(Gone):
        one.kept(unit, Prediction)  # another kind than was asked for is as good as gone


def test_what_the_network_saw_is_drawn_from_the_prediction(app: InlineApp) -> None:
    one = scene(app, a="sample-astronaut")
    key = one.seen("a").rsplit("/", 1)[1]
    with pytest.raises(Gone):
        one.gallery.get(key)
    unit = one.unit("a", PredictionOf())
    prediction = answer_to(unit)
    app.service._remember(unit.key(INFO.fingerprint), prediction, 100)
    item = one.gallery.get(key)
    assert item is not None
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(item.data))), prediction.pixels)


def test_pictures_of_another_fingerprint_have_another_address(app: InlineApp) -> None:
    one = scene(app, a="sample-coffee")
    other = replace(one, infos={MODEL: replace(INFO, fingerprint="another")})
    assert one.picture(("x",), lambda: b"") != other.picture(("x",), lambda: b"")
    assert one.file(("x",), lambda: b"", "text/csv", "x.csv") != other.file(("x",), lambda: b"", "text/csv", "x.csv")


def test_a_class_without_a_name_is_called_by_its_number(app: InlineApp) -> None:
    one = scene(app, a="sample-coffee")
    assert [one.class_name("a", index) for index in (0, 2, 4, 999)] == ["cat", "<b>cup</b>", "class 4", "class 999"]


def test_a_scene_of_an_input_that_goes_away_does_not_fail(app: InlineApp, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "PNG")
    given = app.inputs.receive(io.BytesIO(buffer.getvalue()), None, "x.png")
    one = scene(app, a=given.key)
    for path in (app.settings.cache_dir / "inputs").rglob(f"{given.digest}*"):
        path.unlink()
    assert one.inputs["a"].key == given.key
    assert scene(app, a=given.key).inputs == {}
