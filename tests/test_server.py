"""The application over HTTP, as the page uses it: from an address to a view, from a view to a stream of figures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inline_app import InlineApp
from inline_engine import INFO, LAYERS, MODEL, InlineEngine
from units import what_of

from hookscope.dashboard.answers import service
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import MAX_LAYERS, MEAN, View


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InlineApp]:
    made = InlineApp(tmp_path_factory.mktemp("server"), InlineEngine(at_once=True))
    yield made
    made.close()


@pytest.fixture
def app(shared: InlineApp) -> InlineApp:
    shared.engine.infos = {MODEL: INFO}
    return shared


def call(app: InlineApp, prop: str, value: Any, **headers: str) -> Any:
    """Call the callback of an input such as "asked.data" as Dash's renderer does."""
    known = app.client.get("/_dash-dependencies").get_json()
    name, what = prop.split(".")
    (output,) = (
        each["output"]
        for each in known
        if each["inputs"] == [{"id": name, "property": what}] and not each["clientside_function"]
    )
    places = [each.rsplit(".", 1) for each in output.strip(".").split("...")]
    outputs = [{"id": name, "property": what} for name, what in places]
    body = {
        "output": output,
        "outputs": outputs if output.startswith("..") else outputs[0],
        "inputs": [{"id": name, "property": what, "value": value}],
        "changedPropIds": [prop],
    }
    return app.client.post("/_dash-update-component", json=body, headers=headers)


def arrive(app: InlineApp, query: str) -> dict[str, Any]:
    found: dict[str, Any] = call(app, "location.search", query).get_json()["response"]
    return found


def asked(
    page: str = "page", number: int = 1, drawn: Any = None, mounted: int = 1, width: int = 900, **view: Any
) -> Any:
    shown = {"model": MODEL, "a": "sample-coffee", **view}
    return {"view": shown, "page": page, "drawn": drawn or {}, "mounted": mounted, "width": width, "number": number}


def ask(app: InlineApp, *, value: Any = None, **more: Any) -> dict[str, Any]:
    """Ask, and give the answer: the stream, the query, and whether the target is unknown."""
    answer = app.client.post("/ask", json=value or asked(**more))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def streamed(app: InlineApp, answered: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of the stream that was answered with."""
    blocks = app.client.get(answered["stream"]).get_data(as_text=True).split("\n\n")
    assert blocks[-2].startswith("event: done")
    return [json.loads(block.split("data: ", 1)[1]) for block in blocks if block.startswith("event: message")]


# --- one side before the other


def test_a_card_shows_its_first_side_while_the_other_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PING_SECONDS", 0.5)
    app = InlineApp(tmp_path, InlineEngine())
    view = {"model": MODEL, "a": "sample-coffee", "b": "sample-rocket", "layers": ["conv"]}
    stream = app.client.post("/ask", json=asked() | {"view": view}).get_json()["stream"]
    updates = app.service.updates(stream.removeprefix("/stream/"), lambda: False)

    def next_card() -> tuple[bool, bool]:
        """Whether the card has a figure, and whether it is whole, when it is next drawn."""
        for item in updates:
            assert item is not None, "it is not drawn"  # a sign of life, because nothing came for so long
            if item != "done" and item[0].name == "card 0":
                return any("figure" in changes for _, changes in item[1]), item[2] is not None
        raise AssertionError("the stream ended")

    assert next_card() == (False, False)
    while what_of(app.engine.work(1)[0]) != "activation":
        pass
    assert next_card() == (True, False)
    app.engine.work()
    assert next_card() == (True, True)
    app.close()


# --- the page itself


def test_the_page_comes_from_this_server_alone(app: InlineApp) -> None:
    answer = app.client.get("/")
    sources = re.findall(r'(?:src|href)="([^"]*)"', answer.text)
    assert len(sources) > 10 and all(source.startswith("/") and not source.startswith("//") for source in sources)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "unsafe-eval" not in policy
    assert re.search(r"script-src 'self' 'sha256-", policy)
    for source in sources:
        if "/assets/" in source:
            with app.client.get(source) as found:
                assert found.status_code == 200, source


def test_the_samples_are_not_served_as_files(app: InlineApp) -> None:
    assert not re.search(r"assets/samples", app.client.get("/").text)


def test_every_id_is_on_the_page_once(app: InlineApp) -> None:
    layout = app.client.get("/_dash-layout").get_json()
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "props" in node and "id" in node["props"]:
                found.append(json.dumps(node["props"]["id"], sort_keys=True))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(layout)
    assert len(found) == len(set(found)) > 30
    wanted = {
        value
        for name, value in vars(ids).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_")
    }
    assert {json.dumps(each) for each in wanted} <= set(found)


def test_two_applications_do_not_share_a_thing(app: InlineApp, tmp_path: Path) -> None:
    other = InlineApp(tmp_path, InlineEngine(at_once=True))
    stream = ask(app, page="x", layers=["conv"])["stream"]
    assert "event: message" not in other.client.get(stream).text
    picture = next(iter(re.findall(r"/picture/\w{40}", json.dumps(streamed(app, {"stream": stream})))))
    assert app.client.get(picture).status_code == 200 and other.client.get(picture).status_code == 404
    other.close()


# --- from an address to a view


def test_an_address_is_read_into_the_view_and_the_controls(app: InlineApp) -> None:
    view = View().but(model=MODEL, a="sample-coffee", layers=("conv",), rank="mean", overlay=True, target=2)
    found = arrive(app, "?" + view.to_query())
    assert View.from_dict(found[ids.VIEW]["data"]) == view
    assert found[ids.MODEL_SELECT]["value"] == MODEL
    assert (found[ids.RANK]["value"], found[ids.OVERLAY]["checked"], found[ids.TARGET]["value"]) == ("mean", True, "2")


@pytest.mark.parametrize(
    "query", ["", None, "?model=os:system", "?share=", "?share=" + "k" * 22, "?" + "&".join(["x=1"] * 999)]
)
def test_an_address_that_says_nothing_opens_the_first_model(app: InlineApp, query: str) -> None:
    assert View.from_dict(arrive(app, query)[ids.VIEW]["data"]) == View(model=MODEL)


def test_a_share_link_opens_the_shared_view(app: InlineApp) -> None:
    view = View(model=MODEL, a="sample-chelsea", layers=("conv", "wide"), detail="wide", channel=7)
    path = app.client.post("/share", json=view.to_dict()).get_json()["path"]
    assert View.from_dict(arrive(app, path.removeprefix("/"))[ids.VIEW]["data"]) == view


def test_a_ready_model_brings_its_tree_and_its_facts(app: InlineApp) -> None:
    found = call(app, "model-ready.data", {"spec": MODEL, "fingerprint": "f"}).get_json()["response"]
    assert len(found[ids.TREE]["nodes"]) >= len(LAYERS)
    assert "1.23 k parameters" in json.dumps(found[ids.MODEL_FACTS]["children"])
    app.engine.infos = {}
    assert call(app, "model-ready.data", {"spec": MODEL, "fingerprint": "f"}).get_json()["response"] == {}


# --- from a view to a stream


def test_a_question_is_answered_with_a_stream_of_everything(app: InlineApp) -> None:
    found = ask(app, page="all", layers=["conv"], detail="conv", channel=1)
    assert re.fullmatch(r"/stream/[A-Za-z0-9_-]{24}", found["stream"])
    assert View.from_query(found["query"]).layers == ("conv",)
    messages = streamed(app, found)
    names = {message["part"] for message in messages}
    card = {"card 0", "card 0 cam", "card 0 table", "card 0 weights", "card 0 set", "card 0 flip"}
    enlarged = {"detail", "detail told", "detail answer", "detail set", "walk"}
    below = {"guide", *card, *enlarged, "attributions", "ladder", "painting", "tree metric"}
    assert names == {"edits", "input a", "input b", "targets", "ranks", "apart", "export"} | below
    (offered,) = (message["updates"][0][1]["data"] for message in messages if message["part"] == "targets")
    assert [each["label"] for each in offered][:2] == ["top class", "cat (0)"]
    last = {message["part"]: message["signature"] for message in messages}
    assert all(last.values())
    again = ask(app, page="all", number=2, drawn=last, layers=["conv"], detail="conv", channel=1)
    assert again["stream"] == ""
    moved = ask(app, page="all", number=3, drawn=last, layers=["conv"], detail="conv", channel=2)
    assert {message["part"] for message in streamed(app, moved)} == {"detail", "export"}


def test_cards_are_added_below_those_that_are_there(app: InlineApp) -> None:
    found = call(app, "more-cards.data", {"first": 1, "last": 3}).get_json()["response"]
    cards = {slot: [each["props"]["id"] for each in told["children"]] for slot, told in found.items()}
    assert cards == {ids.slot(number): [ids.card("card", number)] for number in (1, 2)}
    many = call(app, "more-cards.data", {"first": 0, "last": 10**9}).get_json()["response"]
    assert len(many) == MAX_LAYERS
    enough = ask(app, page="cards", layers=["conv"], mounted=3)
    hidden = [message for message in streamed(app, enough) if message["part"] in ("card 1", "card 2")]
    assert [message["updates"][0][1]["hidden"] for message in hidden] == [True, True]


def test_pages_do_not_see_each_others_streams(app: InlineApp) -> None:
    first = ask(app, page="first", layers=["conv"])
    second = ask(app, page="second", layers=["wide"])
    assert first["stream"] != second["stream"]
    assert "wide" in json.dumps(streamed(app, second)) and "wide" not in json.dumps(streamed(app, first))


def test_a_question_that_was_overtaken_on_its_way_changes_nothing(app: InlineApp) -> None:
    newer = ask(app, page="race", number=9, layers=["conv"])
    older = ask(app, page="race", number=8, layers=["wide"])
    assert older["stream"] == ""
    assert "card 0" in {message["part"] for message in streamed(app, newer)}


def test_pictures_are_shown_and_cards_are_not_while_the_model_loads(app: InlineApp) -> None:
    app.engine.infos = {}
    found = ask(app, page="early", layers=["conv", "wide"], mounted=2, detail="conv")
    messages = {message["part"]: message for message in streamed(app, found)}
    assert "coffee.png" in json.dumps(messages["input a"]) and "being loaded" in json.dumps(messages["guide"])
    assert messages["card 0"]["updates"][0][1]["hidden"] is True
    drawn = {name: message["signature"] for name, message in messages.items()}
    app.engine.infos = {MODEL: INFO}
    late = ask(app, page="early", number=2, drawn=drawn, layers=["conv", "wide"], mounted=2, detail="conv")
    assert {"input a", "guide", "card 0", "card 1", "detail"} <= {m["part"] for m in streamed(app, late)}


@pytest.mark.parametrize(
    "value",
    [
        asked(layers=[f"layer{n}" for n in range(5000)]),
        asked(layers=["conv"] * 50, mounted=10**9),
        asked(mounted=-5),
        asked(width=-1),
        asked(width=10**9),
        asked(detail="conv", channel=10**5, layers=["conv:1", "relu:99", "(model)", "\ud800", "\0"]),
        asked(model="os:system", layers=["conv"]),
        asked(a="../../etc/passwd", b="sample-", target=10**9, rank="x", count=[], table="yes"),
        {**asked(), "view": None},
        {**asked(), "view": [1, 2]},
        asked(drawn={"card 0": 5, "x" * 10_000: None}),
    ],
)
def test_a_hostile_question_is_answered_like_any_other(app: InlineApp, value: Any) -> None:
    found = ask(app, value=value)
    messages = streamed(app, found) if found["stream"] else []
    assert len(messages) < 40 * 3
    assert "drawing them failed" not in json.dumps(messages)


def test_another_sites_page_can_ask_nothing(app: InlineApp) -> None:
    assert app.client.post("/ask", json=asked(), headers={"Origin": "http://evil.example"}).status_code == 403
    assert app.client.post("/ask", json=asked(), headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("value", [None, [], "x", {}, {**asked(), "drawn": 5}, {**asked(), "number": "one"}])
def test_what_is_no_question_is_refused_in_a_sentence(app: InlineApp, value: Any) -> None:
    answer = app.client.post("/ask", json=value)
    assert (answer.status_code, answer.text) == (400, "This is no question that Hookscope knows. Reload the page.\n")


def test_a_target_that_the_model_lacks_is_said_to_the_page(app: InlineApp) -> None:
    found = ask(app, page="target", layers=["conv"], target=len(INFO.classes))
    assert found["changes"] == {"target": ""} and "target" not in found["query"]
    assert ask(app, page="target", number=2, layers=["conv"], target=0)["changes"] == {}


def test_layers_that_another_model_lacks_go_when_it_was_chosen_and_are_told_of_in_a_link(app: InlineApp) -> None:
    layers = ["conv", "gone", "relu:1", "never"]
    told = ask(app, page="lacking", layers=layers, detail="gone")
    assert told["changes"] == {} and "layer=gone" in told["query"]
    chosen = {**asked(page="lacking", number=2, layers=layers, detail="gone"), "moved": True}
    found = app.client.post("/ask", json=chosen).get_json()
    assert found["changes"] == {"layers": ["conv", "relu:1", "never"], "detail": "", "channel": MEAN}
    assert "gone" not in found["query"] and found["models"]


def test_a_model_that_changed_is_drawn_anew(app: InlineApp) -> None:
    first = streamed(app, ask(app, page="change", layers=["conv"]))
    drawn = {message["part"]: message["signature"] for message in first}
    app.engine.infos = {MODEL: replace(INFO, fingerprint="another")}
    second = streamed(app, ask(app, page="change", number=2, drawn=drawn, layers=["conv"]))
    assert {"input a", "card 0", "card 0 cam", "export"} <= {message["part"] for message in second}
