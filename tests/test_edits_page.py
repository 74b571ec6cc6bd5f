"""Edits on the page: what a view, a unit and a worker make of them, and that one person's never changes another's."""

from __future__ import annotations

import base64
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inline_app import until
from own_page import NET, Page, opened, operators_folder, texts
from torch import nn

import hookscope as hs
from hookscope.dashboard.asking.edits import LONGEST, MOST, read_edits, words_of, write_edits
from hookscope.dashboard.asking.questions import (
    ActivationOf,
    ClassMap,
    EffectsOf,
    InputMap,
    PredictionOf,
    RestoredPartsOf,
    Unit,
    WeightsOf,
)
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.page.view import View
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.codec import decode
from hookscope.hooks.results.edits import Level, Scale
from hookscope.hooks.results.effects import Effects
from hookscope.hooks.results.looks import Activation, GradCam, InputAttribution, Prediction
from hookscope.hooks.results.restoring import RestoredParts
from hookscope.hooks.results.targets import Class
from hookscope.hooks.results.typed import plain, read

MODELS = ("edited_net:make", "other=edited_net:other")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The operator's current directory."""
    with operators_folder(tmp_path_factory.mktemp("edits"), edited_net=NET) as path:
        yield path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(tmp_path_factory.mktemp("page"), *MODELS) as made:
        yield made


LONG: dict[type, tuple[type, str]] = {  # questions of many passes: the answer's kind, and what of it is compared
    ClassMap: (GradCam, "values"),
    InputMap: (InputAttribution, "values"),
    EffectsOf: (Effects, "measured"),
    RestoredPartsOf: (RestoredParts, "exact"),
}


def side(page: Page, text: str = "") -> Side:
    return Side(page.models[0], page.inputs.get(page.picture).digest, edits=read_edits(text))


def shares(page: Page, text: str = "") -> list[float]:
    """The oracle: the probabilities of the network run here, under the library's own edits."""
    net = page.net(page.models[0])
    with hs.edit(net, read_edits(text)), torch.no_grad():
        return net(page.tensor)[0].softmax(0).tolist()


# --- texts and keys


def test_edits_are_a_short_text_that_is_read_back() -> None:
    edits = (Scale("a.b", 5, 0.0, 0), Level("odd~name%7E", None, 2), Scale("layer1.0/add@2", None, 1.05, 0))
    assert write_edits(edits) == "a.b~5~0~odd%7Ename%257E:2~~mean~layer1.0/add@2~~1.05"
    assert read_edits(write_edits(edits)) == edits
    view = View().but(edits_b=write_edits(edits))
    assert View.from_query(view.to_query()) == view
    assert words_of(edits * 2).startswith(
        "a.b channel 5 muted, odd~name%7E:2 set to its channels' means, layer1.0/add@2"
    )
    for nonsense in (
        "x",
        "x~y",
        "x~1~nan",
        "x~1~inf",
        "x~-1~0",
        "~1~0",
        "x~1~1e9",
        "x~1~1",
        "x~²~0",
        7,
        None,
        "x~1~1.00001",
    ):
        assert read_edits(nonsense) == (), nonsense
    assert len(read_edits("~".join(["x~1~0"] * 10_000))) == 401


def test_as_many_as_the_page_makes_fit_into_an_address() -> None:
    text = "~".join(f"blocks.{number % 7}.{number % 3}.conv_pw~{number}~0.35" for number in range(MOST))[:700]
    view = View().but(a="A" * 64, b="B" * 64, edits_a=text, edits_b=text, model="m" * 40, layers=["blocks.4.0"])
    assert len(view.to_query()) < 2_000


def test_the_ten_strongest_of_a_layer_fit_whatever_its_name() -> None:
    edits = tuple(Scale("a" * 600, channel, 0.0, 0) for channel in range(90_000, 90_010))
    text = write_edits(edits)
    assert len(text) <= LONGEST and read_edits(text) == edits and write_edits(read_edits(text)) == text
    mixed = (*edits[:6], Level("b", 3, 0), *edits[6:], Scale("b", None, 0.5, 1))
    assert read_edits(write_edits(mixed)) == mixed
    assert read_edits("x~1~0~~2~0~~~1.5") == (Scale("x", 1, 0.0, 0), Scale("x", 2, 0.0, 0), Scale("x", None, 1.5, 0))


def test_edits_are_in_a_units_key_and_without_them_it_is_what_it_was() -> None:
    about = Side("embedded", "d" * 64)
    unit = Unit(about, PredictionOf())
    assert unit.key("fingerprint") == Unit(Side("embedded", "d" * 64, edits=()), PredictionOf()).key("fingerprint")
    keys = {Unit(Side("embedded", "d" * 64, edits=read_edits(t)), PredictionOf()).key("fingerprint") for t in TEXTS}
    assert len(keys) == len(TEXTS) and unit.key("fingerprint") in keys
    edited = Unit(Side("embedded", "d" * 64, edits=read_edits("x~~mean~y~3~0.5")), PredictionOf())
    assert read(Unit, plain(edited)) == edited


TEXTS = ("", "0~1~0", "0~2~0", "0~1~2", "0~~0", "0~1~mean", "0~1~0~1~1~0", "1~1~0~0~1~0")


# --- answers


@pytest.mark.parametrize("text", TEXTS)
def test_a_side_is_answered_under_its_edits(page: Page, text: str) -> None:
    answered = page.answer(Unit(side(page, text), PredictionOf()), Prediction)
    assert answered.scores is not None
    np.testing.assert_allclose(answered.scores.shares, shares(page, text), atol=1e-5)
    net = page.net(page.models[0])
    with hs.edit(net, read_edits(text)), hs.capture(net, ["1"]) as seen, torch.no_grad():
        net(page.tensor)
    shown = page.answer(Unit(side(page, text), ActivationOf("1")), Activation)
    np.testing.assert_allclose(shown.values, seen["1"].value[0], atol=1e-5)


def test_the_bar_lists_what_is_changed_and_takes_it_back(page: Page) -> None:
    shown = page.shows(edits_a="0~1~0~0~~1.5", layers=["0"], detail="0", channel=1)
    assert not shown["edits"]["hidden"] and "edits_a=0~1~0~0~~1.5" in page.query
    bar = str(shown["edits"]["tree"])
    assert "0 channel 1" in bar and " muted " in bar and " × 1.5 " in bar and "undo all" in bar
    assert '{"edits_a": "0~~1.5"}' in bar and '{"edits_a": "0~1~0"}' in bar and "A plain, B the same with edits" in bar
    for place in ("input-a-caption", "card-head 0", "detail-notes"):
        assert "edited" in texts(shown[place]), place
    assert "A, edited" in str(shown["detail-figure"]["figure"])
    before, after = (shares(page, text) for text in ("", "0~1~0~0~~1.5"))
    first = int(np.argmax(before))
    assert f"{before[first]:.3f} → {after[first]:.3f}" in texts(shown["detail-answer"])
    plain_page = page.shows(layers=["0"], detail="0", channel=1)
    assert plain_page["edits"]["hidden"] and "edited" not in texts(plain_page["card-head 0"])


def test_a_plain_and_b_the_same_with_edits(page: Page) -> None:
    shown = page.shows(b=page.picture, edits_b="0~1~0")
    assert "the same" in texts(shown["edits"]) and "A plain" not in texts(shown["edits"])
    assert texts(shown["input-a-top"]) != texts(shown["input-b-top"])
    assert "edited" in texts(shown["input-b-caption"]) and "edited" not in texts(shown["input-a-caption"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0~4~0", "Layer '0' has 4 channels, counted from 0, so there is no channel 4."),
        ("5~~0", "Sequential has no layer '5'."),
        ("0:1~1~0", "is called once in a forward pass, so there is no call 2"),
        ("3~1~mean", "has no positions over which a channel's mean could be taken"),
        ("~".join(["0~1~0"] * 400), f"These are 400 edits, and the page makes at most {MOST} of a side."),
    ],
)
def test_what_cannot_be_edited_is_a_sentence_in_the_answers_place_and_the_other_side_stays(
    page: Page, text: str, sentence: str
) -> None:
    shown = page.shows(b=page.picture, edits_b=text, layers=["0"])
    assert sentence in texts(shown["input-b-top"])
    assert shown["input-a-top"] == page.shows()["input-a-top"]
    assert "undo all" in texts(shown["edits"])
    assert not live_hooks()


def test_a_card_whose_edit_cannot_be_made_keeps_no_room_for_numbers(page: Page) -> None:
    def looks(text: str) -> str:
        return str(page.shows(edits_a=text, layers=["0"])["card-card 0"]["className"])

    assert looks("5~~0") == "panel card refused" and looks("0~1~0") == "panel card"


def test_weights_are_those_of_the_model_whatever_is_edited(page: Page) -> None:
    shown = page.shows(edits_a="0~1~0", layers=["0"], weights=True)
    plain_page = page.shows(layers=["0"], weights=True)
    assert shown["card-weights-histogram 0"] == plain_page["card-weights-histogram 0"]
    assert Unit(side(page), WeightsOf("0")).row.runs_model is False


# --- a slider that is dragged


def tried(page: Page, trying: str, **chosen: Any) -> list[dict[str, Any]]:
    """What a page is told while a slider is dragged."""
    page._number += 1
    question = {
        "view": View(model=page.models[0], a=page.picture).to_dict() | chosen,
        "page": "p",
        "number": page._number,
        "drawn": {},
        "mounted": 2,
        "width": 700,
        "trying": trying,
    }
    return list(page.messages(page.client.post("/ask", json=question).get_json()["stream"]))


def test_the_map_that_is_painted_over_is_the_edited_channel(page: Page) -> None:
    net = page.net(page.models[0])
    with hs.edit(net, read_edits("0~2~0.35")), hs.capture(net, ["0"]) as seen, torch.no_grad():
        net(page.tensor)
        net(page.tensor)
    expected = seen["0", 1].value[0, 2].numpy()
    messages = tried(page, "moves", edits_a="0~2~0.35", layers=["0"], detail="0", channel=2)
    updates = dict(next(message["updates"] for message in messages if message["part"] == "detail"))
    (packed,) = updates["detail-figure"]["tried"]["maps"]
    values = np.frombuffer(base64.b64decode(packed["values"]), "<f4").reshape(packed["size"])
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert f"{expected.max():.3g}"[:4] in texts(updates["detail-numbers"])


def test_the_run_of_a_dragged_slider_begins_at_its_layer(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the second value, which takes a plain run; another layer or picture is run whole again."""
    runs: list[int] = []
    real = nn.Conv2d._conv_forward

    def counted(self: nn.Conv2d, *given: Any) -> torch.Tensor:
        runs.append(1)
        return real(self, *given)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", counted)

    def predicted(text: str) -> int:
        runs.clear()
        answered = page.answer(Unit(side(page, text), PredictionOf()), Prediction)
        made = len(runs)
        np.testing.assert_allclose(answered.scores.shares, shares(page, text), atol=1e-6)
        return made

    assert [predicted(f"1~2~{gain}") for gain in ("0.9", "0.85", "0.8", "0.75")] == [1, 1, 0, 0]
    runs.clear()
    shown = page.answer(Unit(side(page, "1~2~0.75"), ActivationOf("1")), Activation)
    assert not runs
    page.answer(Unit(side(page, "1~2~0.75"), ActivationOf("0")), Activation)  # which lies before
    assert len(runs) == 1
    with torch.no_grad():
        expected = page.net(page.models[0])[:2](page.tensor)[0] * torch.tensor([1, 1, 0.75, 1])[:, None, None]
    np.testing.assert_allclose(shown.values, expected, atol=1e-6)
    assert [predicted(text) for text in ("3~2~0.75", "1~2~0.5")] == [1, 1]


def test_while_a_slider_is_dragged_the_answer_and_the_map_come_and_nothing_is_kept(page: Page) -> None:
    def drag(gain: str, trying: str = "moves", **more: str) -> tuple[set[str], str]:
        messages = tried(page, trying, edits_a=f"0~2~{gain}", layers=["0"], detail="0", channel=2, **more)
        return {message["part"] for message in messages}, str(messages)

    _, told = drag("0.3", rank="effect")  # which would be measured anew at every step
    assert "detail-told" not in told and '"walk"' not in told
    before = page.cache.size_bytes()
    for gain in ("0.05", "0.1", "0.15", "1.95"):
        parts, told = drag(gain)
        assert {"input a", "detail", "detail answer"} <= parts and not any(name.startswith("card") for name in parts)
        assert f"{max(shares(page, f'0~2~{gain}')):.3f}" in told
    parts, told = drag("1.95", "rests")  # held still, what takes longer comes too
    assert {"input a", "card 0 cam"} <= parts and "'images'" in told and "card 0" not in parts
    after = page.cache.size_bytes()
    assert after == before
    released = Unit(side(page, "0~2~1.95"), PredictionOf())
    key = released.key(page.engine.info(page.models[0]).fingerprint)
    assert page.service._find(released) is None and page.cache.get(key) is None
    page.shows(edits_a="0~2~1.95")
    until(lambda: page.cache.get(key) is not None)


# --- many at once


def test_twenty_people_half_of_whom_edit_get_what_each_gets_alone(page: Page) -> None:
    """Some drag a slider, and some ask questions of many passes, in whose middle the others' are answered."""
    people = [(TEXTS[1 + number % 7] if number % 2 else "", number % 5 == 0) for number in range(20)]
    plain = side(page)
    wrong: list[str] = []
    long: dict[Unit, list[Any]] = {}

    def answered(number: int, units: list[Unit]) -> list[Any]:
        page.engine.submit(f"editor {number}", units, page.inputs.pixels)
        events: list[Any] = []
        until(
            lambda: (
                events.extend(page.engine.events(f"editor {number}", len(events), 0.2)[0])
                or (events and events[-1].kind == "end")
            ),
            60,
        )
        answers = [event for event in events if event.kind == "done"]
        if len(answers) != len(units):
            wrong.append(f"{people[number]}: {[(event.kind, event.sentence) for event in events]}")
        return answers

    def person(number: int) -> None:
        text, is_patient = people[number]
        if number % 2:  # the slider is dragged to where it stays: what is not waited for is replaced
            for step in range(8):
                dragged = side(page, f"0~{number % 4}~{1.9 - step / 10}")
                page.engine.submit(f"editor {number}, {step}", [Unit(dragged, PredictionOf())], page.inputs.pixels)
                time.sleep(0.002 * (number % 3))
                page.engine.cancel(f"editor {number}, {step}")
        about = side(page, text)
        patient = [
            Unit(about, ClassMap("0", method="scorecam")),
            Unit(about, InputMap("occlusion")),
            Unit(about, EffectsOf("0", target=Class(1))),
            Unit(plain, RestoredPartsOf(about, "0", "channels", Class(0), Class(1))),
        ]
        if not text:
            patient.pop()  # of two sides that are one nothing comes back
        units = [Unit(about, PredictionOf()), Unit(about, ActivationOf("4")), *(patient if is_patient else [])]
        random.Random(number).shuffle(units)
        expected = shares(page, text)
        for event in answered(number, units):
            if isinstance(event.unit.question, PredictionOf):
                found = decode(event.data, Prediction).scores.shares
            elif isinstance(event.unit.question, ActivationOf):
                found = torch.from_numpy(decode(event.data, Activation).values.copy()).softmax(-1).numpy()
            else:
                long.setdefault(event.unit, []).append(event.data)
                continue
            if not np.allclose(found.reshape(-1), expected, atol=1e-4):
                wrong.append(f"{people[number]}: {event.unit.question} {found} {expected}")

    threads = [threading.Thread(target=person, args=(number,)) for number in range(len(people))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for unit, answers in long.items():
        kind, field = LONG[type(unit.question)]
        again = getattr(page.answer(unit, kind), field)
        assert np.isfinite(again).all()
        for data in answers:
            np.testing.assert_allclose(getattr(decode(data, kind), field), again, atol=1e-5)
    assert {type(unit.question) for unit in long} == set(LONG) and len({unit.side.edits for unit in long}) > 1
    for unit in long:
        if isinstance(unit.question, EffectsOf):
            net = page.net(page.models[0])
            with hs.edit(net, unit.side.edits):
                by_hand = hs.effects(net, page.tensor, "0", 1).measured
            np.testing.assert_allclose(page.answer(unit, Effects).measured, by_hand, atol=1e-5)
    assert not live_hooks()
