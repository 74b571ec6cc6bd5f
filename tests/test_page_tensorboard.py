"""What is shown, written for TensorBoard from the page: where, what, and what a browser cannot do with it."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline_app import InlineApp
from inline_engine import MODEL, InlineEngine, answer_to
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from units import unit_of

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.exports import tensorboard
from hookscope.dashboard.exports.tensorboard import NotWritten, write
from hookscope.dashboard.page.view import View
from hookscope.hooks.datasets.tensorboard import levels, scale, tag
from hookscope.hooks.results.maps import maps
from hookscope.hooks.results.targets import Class


@pytest.fixture
def app(tmp_path: Path) -> Iterator[InlineApp]:
    made = InlineApp(tmp_path / "cache", InlineEngine(at_once=True), tensorboard_dir=tmp_path / "boards")
    yield made
    made.close()


def shown(app: InlineApp, **view: Any) -> View:
    """A view of two pictures, which the page has asked for already."""
    keys = []
    for colour in ((1, 2, 3), (200, 2, 3)):
        buffer = io.BytesIO()
        Image.new("RGB", (30, 20), colour).save(buffer, "PNG")
        keys.append(app.inputs.receive(io.BytesIO(buffer.getvalue()), None, "picture.png").key)
    return View().but(**{"model": MODEL, "a": keys[0], "b": keys[1], "layers": ("conv", "relu:1", "vector"), **view})


def compute(app: InlineApp, view: View) -> dict[tuple[str, str], Any]:
    """Put the answers where the page's own questions would have put them."""
    found = {}
    for side in ("a", "b"):
        for layer, call in (("conv", 0), ("relu", 1), ("vector", 0)):
            digest = app.inputs.get(getattr(view, side)).digest
            unit = unit_of(MODEL, digest, "activation", layer, call)
            found[side, layer] = answer_to(unit)
            app.service._remember(app.service._key(unit), found[side, layer], 0)
    return found


def test_the_button_is_there_only_where_an_operator_named_a_folder(app: InlineApp, tmp_path: Path) -> None:
    assert b"TensorBoard" in app.client.get("/_dash-layout").data
    plain = InlineApp(tmp_path / "plain")
    assert b"TensorBoard" not in plain.client.get("/_dash-layout").data
    assert plain.client.post("/tensorboard", json={}).status_code in (404, 405)
    plain.close()


def test_maps_histograms_and_numbers_are_written_below_the_folder(app: InlineApp, tmp_path: Path) -> None:
    view = shown(app)
    values = compute(app, view)
    answer = app.client.post("/tensorboard", json={**view.to_dict(), "folder": "/etc", "tensorboard_dir": "/etc"})
    assert answer.status_code == 200, answer.text
    (run,) = (tmp_path / "boards").iterdir()
    assert answer.text.startswith(f"Written to {run}.") and run.name.endswith("Toy--net")
    for side in ("A", "B"):
        board = EventAccumulator(str(run / side), {"histograms": 0, "images": 0, "scalars": 0}).Reload()
        for name, layer in (("conv", "conv"), ("relu call 2", "relu"), ("vector", "vector")):
            activation = values[side.lower(), layer]
            assert board.Scalars(f"output mean/{name}")[0].value == np.float32(activation.statistics.mean)
            found = board.Histograms(f"output/{name}")[0].histogram_value
            assert found.bucket == [0, *activation.statistics.histogram.tolist()]
        picture = Image.open(io.BytesIO(board.Images("mean map/conv")[0].encoded_image_string))
        mean = maps(values[side.lower(), "conv"]).mean(0, dtype=np.float64)
        assert np.array_equal(np.asarray(picture)[..., 0], levels(mean, *scale(mean)))
        assert "maps/vector" not in board.Tags()["images"]


def test_what_is_not_computed_yet_is_left_out_and_said(app: InlineApp, tmp_path: Path) -> None:
    view = shown(app)
    compute(app, view)
    more = View.from_dict({**view.to_dict(), "layers": ["conv", "wide"], "b": ""})
    assert "1 of 2 were not computed yet" in write(more, app.service, tmp_path / "boards")
    with pytest.raises(NotWritten, match="computed yet"):
        write(View.from_dict({**view.to_dict(), "layers": ["wide"]}), app.service, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("layers", [("conv",), ()])
def test_gradients_are_written_where_they_were_computed_for_the_class(
    app: InlineApp, tmp_path: Path, layers: tuple[str, ...]
) -> None:
    view = replace(shown(app), layers=layers, target=Class(2))
    values = compute(app, view)
    unit = unit_of(MODEL, app.inputs.get(view.a).digest, "gradients", target=2)
    other = unit_of(MODEL, app.inputs.get(view.b).digest, "gradients", target=1)  # of another class than the shown one
    found = answer_to(unit)
    for each in (unit, other):
        app.service._remember(app.service._key(each), answer_to(each), 0)
    write(view, app.service, tmp_path / "boards")
    (run,) = (tmp_path / "boards").iterdir()
    board = EventAccumulator(str(run / "A"), {"scalars": 0, "tensors": 0}).Reload()
    norms = {
        name: board.Scalars(name)[0].value for name in board.Tags()["scalars"] if name.startswith("gradient norm/")
    }
    assert norms == {
        f"gradient norm/{tag(each.layer, each.call)}": np.float32(each.norm) for each in found.layers if not each.reason
    }
    assert len(norms) > 2 and (run / "B").exists() == bool(layers)
    if layers:
        assert board.Scalars("output mean/conv")[0].value == np.float32(values["a", "conv"].statistics.mean)
        tags = EventAccumulator(str(run / "B"), {"scalars": 0}).Reload().Tags()["scalars"]
        assert not [name for name in tags if name.startswith("gradient")]


@pytest.mark.parametrize("body", [None, [], {}, {"model": "nothing", "layers": ["conv"], "a": "../../etc"}])
def test_a_view_that_shows_nothing_writes_nothing(app: InlineApp, tmp_path: Path, body: Any) -> None:
    answer = app.client.post("/tensorboard", json=body)
    assert answer.status_code == 409 and "Choose a picture and a layer first" in answer.text
    assert not (tmp_path / "boards").exists()


def test_another_site_cannot_have_it_written(app: InlineApp) -> None:
    answer = app.client.post("/tensorboard", json={}, headers={"Origin": "https://example.org"})
    assert answer.status_code == 403


def test_a_folder_that_cannot_be_written_to_is_a_sentence(app: InlineApp, tmp_path: Path) -> None:
    view = shown(app)
    compute(app, view)
    (tmp_path / "boards").write_text("a file in the folder's place")
    answer = app.client.post("/tensorboard", json=view.to_dict())
    assert answer.status_code == 409 and "cannot be written to" in answer.text


def test_one_writes_at_a_time_and_two_runs_never_share_a_folder(
    app: InlineApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(view: View, service: Service, folder: Path) -> str:
        begun.set()
        assert go_on.wait(10)
        return "Written."

    monkeypatch.setattr(tensorboard, "write", slow)
    answers: list[int] = []
    first = threading.Thread(target=lambda: answers.append(app.client.post("/tensorboard", json={}).status_code))
    first.start()
    assert begun.wait(10)
    assert app.dash.server.test_client().post("/tensorboard", json={}).status_code == 429
    go_on.set()
    first.join(10)
    assert answers == [200]
    long = tensorboard._new_folder(tmp_path, "\u5199" * 100_000)  # three bytes each, of 255 that a name may have
    assert long.is_dir() and len(long.name) < 80
    folders = {tensorboard._new_folder(tmp_path / "runs", "same") for _ in range(3)}
    assert len(folders) == 3


def test_a_process_that_fails_says_why(app: InlineApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = shown(app)
    compute(app, view)
    monkeypatch.setattr(
        tensorboard, "COMMAND", (*tensorboard.COMMAND[:2], "-c", "raise SystemExit('the disk is full')")
    )
    with pytest.raises(NotWritten, match="the disk is full"):
        write(view, app.service, tmp_path / "boards")
