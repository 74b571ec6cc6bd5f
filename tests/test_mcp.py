"""`hookscope mcp`: a real client of the official package over stdio, in front of a real page in its own process."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from checkout import ENVIRON, ROOT
from mcp import Client as McpClient
from mcp.client.stdio import StdioServerParameters
from PIL import Image
from served import Application

from hookscope.dashboard.asking.layer_keys import MAX_KEY_LENGTH
from hookscope.dashboard.mcp import tools as table
from hookscope.dashboard.mcp.client import Answer, Client, NotAnswered
from hookscope.dashboard.mcp.command import main
from hookscope.dashboard.mcp.server import _DATA, called, listed, of_tool
from hookscope.dashboard.web.api.answers import MOST_BYTES
from hookscope.dashboard.web.api.asking import TOO_MANY
from hookscope.dashboard.web.api.checks import MOST_FINDINGS, MOST_ROWS
from hookscope.dashboard.web.api.layers import MOST_CHANNELS, RANKS
from hookscope.dashboard.web.api.looking import PREPARATIONS
from hookscope.dashboard.web.api.manual import ROUTES
from hookscope.dashboard.web.api.models import MOST_LAYERS, MOST_MODELS
from hookscope.dashboard.web.api.predictions import MOST_CLASSES
from hookscope.dashboard.web.api.sets import MOST_LAYERS as MOST_OF_SET
from hookscope.hooks.methods import MAPS

T = TypeVar("T")
TOKEN = "a-token-of-the-operators"
TOOLS = {
    "manual": "",
    "models": "models",
    "model": "model",
    "layers": "layers",
    "top_classes": "top",
    "layer_numbers": "layer",
    "findings": "findings",
    "comparison": "comparison",
    "feature_map": "map.json",
    "class_map": "cam.json",
    "sets": "sets",
    "set_summary": "set",
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page that asks for a token."""
    started = Application(
        tmp_path_factory.mktemp("cache"), "--token", TOKEN, "--model", "small=tests.brought_models:yes_or_no"
    )
    yield started.url.partition("?")[0]
    started.stop()


def in_a_loop(asked: Coroutine[Any, Any, T]) -> T:
    """What a coroutine answers; in a thread of its own, since a browser test before leaves its loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asked).result()


def talk(url: str, *calls: tuple[str, dict[str, Any]], token: str = TOKEN) -> list[Any]:
    """What the tools answer, called one after the other; the first is the list of tools."""

    async def run() -> list[Any]:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "hookscope", "mcp", "--url", url],
            env={**ENVIRON, "HOOKSCOPE_TOKEN": token},
            cwd=ROOT,
        )
        async with McpClient(server) as client:
            found: list[Any] = [(await client.list_tools()).tools]
            for name, given in calls:
                found.append(await client.call_tool(name, given))
            return found

    return in_a_loop(run())


NOWHERE = Client("http://127.0.0.1:1/")


def asked(url: str, name: str, **arguments: Any) -> Any:
    """What a tool answers, without a process of its own."""
    return in_a_loop(called(Client(url, TOKEN), name, arguments))


def refused(result: Any) -> Any:
    """What a refusal says: one sentence, and that it is data."""
    assert result.is_error and len(result.content) == 1
    told = json.loads(result.content[0].text)
    assert told["note"] == _DATA and re.fullmatch(r"[A-Z].*[.?]", told["error"]) and "pydantic" not in told["error"]
    return told


def data(result: Any) -> Any:
    assert not result.is_error, result.content
    told = json.loads(result.content[0].text)
    assert told["note"] == _DATA and told.keys() == {"note", "data"}
    return told["data"]


def test_a_client_asks_a_running_page(page: str) -> None:
    tools, manual, models, top, numbers, picture, wrong = talk(
        page,
        ("manual", {}),
        ("models", {}),
        ("top_classes", {"k": 2}),
        ("layer_numbers", {"layer": "conv", "channels": "0..2"}),
        ("feature_map", {"layer": "conv", "channel": "5"}),
        ("layer_numbers", {"layer": "conw"}),
    )
    assert {tool.name for tool in tools} == set(TOOLS)
    written = json.dumps(data(manual))
    assert not re.search(r"api/v1|GET|POST|header|slot", written), "a client of tools has no addresses"
    assert data(manual)["prepare"] == PREPARATIONS
    assert set(data(manual)["costs"]) == set(TOOLS)
    assert data(manual)["loop"] and data(models)["models"][0]["model"] == "small"
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {TOKEN}"

    def over_http(path: str) -> Any:
        return session.get(f"{page}api/v1/{path}", timeout=60).json()

    assert data(top) == over_http("top?input=sample-coffee&k=2")
    assert data(numbers)["numbers"] == over_http("layer?input=sample-coffee&layer=conv")["numbers"]
    text, image = picture.content
    assert json.loads(text.text)["data"]["channel"] == "5" and image.mime_type == "image/png"
    png = session.get(f"{page}api/v1/map.png?input=sample-coffee&layer=conv&channel=5&pixels=320", timeout=60)
    assert base64.b64decode(image.data) == png.content and Image.open(io.BytesIO(png.content)).width >= 300
    assert "The tool layers lists the names." in wrong.content[0].text and "api/v1" not in wrong.content[0].text
    assert data(top)["weights"] and data(top)["random"] is None and data(top)["model"] == "small", (
        "a factory's model: nobody said what its weights are"
    )
    assert "no layer of that name" in refused(wrong)["error"] and "conv" in refused(wrong)["near"]


def test_the_tools_tell_their_budgets() -> None:
    tools = {tool.name: tool.description for tool in listed()}
    rows = {"layers": MOST_LAYERS, "findings": MOST_FINDINGS, "comparison": MOST_ROWS, "set_summary": MOST_OF_SET}
    for name, most in rows.items():
        assert f"rows at once, up to {most} and {MOST_BYTES:,}" in " ".join(str(tools[name]).split()), name
    assert f"1 to {MOST_CLASSES}" in str(tools["top_classes"]) and f"{MOST_CHANNELS} at once" in str(
        tools["layer_numbers"]
    )
    assert f"{MOST_MODELS} at once" in str(tools["models"])


def test_a_wrong_token_is_a_sentence(page: str) -> None:
    _, answer = talk(page, ("models", {}), token="wrong")
    assert answer.is_error and "Authorization header" in refused(answer)["error"]


def test_no_tool_takes_a_path_and_each_tells_what_it_costs() -> None:
    tools = listed()
    routes = {each.path: each for each in ROUTES}
    assert {tool.name for tool in tools} == set(TOOLS)
    for tool in tools:
        given = set(tool.input_schema["properties"])
        assert given <= set(routes[TOOLS[tool.name]].parameters)
        assert {*routes[TOOLS[tool.name]].parameters} - given <= {"wait", "slot", "pixels", "scale", "colours", "over"}
        assert not given & {"path", "file", "url", "folder", "command", "code"}
        assert tool.annotations is not None and tool.annotations.read_only_hint
        assert any(word in tool.description for word in ("Costs nothing", "run", "Dozens")), tool.name


# --- arguments


@pytest.mark.parametrize("name", [*TOOLS])
@pytest.mark.parametrize("wrong", ["class_index", "prepared", "path", "Layer", ""])
def test_what_a_tool_does_not_take_is_refused_with_what_it_does(name: str, wrong: str) -> None:
    tool = next(each for each in listed() if each.name == name)
    assert tool.input_schema["additionalProperties"] is False
    told = refused(in_a_loop(called(NOWHERE, name, {"layer": "conv", "set": "x", wrong: 1})))
    takes = told["error"].partition("This tool takes ")[2].rstrip(".")
    assert takes == (", ".join(tool.input_schema["properties"]) or "none") and wrong in told["asked"]
    if name == "class_map" and wrong == "class_index":
        assert "class" in told["near"]


def test_what_can_be_chosen_is_what_the_page_has() -> None:
    given = {tool.name: tool.input_schema["properties"] for tool in listed()}
    assert given["layer_numbers"]["rank"]["enum"] == [*RANKS] and given["class_map"]["method"]["enum"] == [*MAPS]
    assert given["comparison"]["usual"]["enum"] == ["yes", "no"]
    assert all(each["description"] for takes in given.values() for each in takes.values())


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("layer_numbers", {}, "layer is missing: a layer as layers writes it"),
        ("layer_numbers", {"layer": None}, "layer is missing"),
        ("set_summary", {}, "set is missing"),
        ("layer_numbers", {"layer": ["conv"]}, "layer is one text or number"),
        ("class_map", {"layer": "conv", "class": {"index": 1}}, "class is one text or number"),
        ("top_classes", {"captions": ["a cat", "a dog"]}, "a line each"),
        ("layer_numbers", {"layer": "x" * (MAX_KEY_LENGTH + 1)}, "longer than"),
        ("no_such", {"layer": "conv"}, "no such tool"),
        ("models", {}, "page does not answer"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(name: str, given: dict[str, Any], words: str) -> None:
    assert words in refused(in_a_loop(called(NOWHERE, name, given)))["error"]


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("top_classes", {"k": "five"}, "The argument k is a whole number from 1 to 100."),
        ("top_classes", {"k": 2.5}, "The argument k is a whole number"),
        ("top_classes", {"k": True}, "The argument k is a whole number"),
        ("top_classes", {"k": -1}, "The argument k is a whole number"),
        ("feature_map", {"layer": "conv", "channel": "three"}, "The argument channel is the index of a channel"),
        ("feature_map", {"layer": "conv", "channel": 1.5}, "The argument channel is the index of a channel"),
        ("class_map", {"layer": "conv", "class": "cat"}, "The argument class is a whole number"),
        ("class_map", {"layer": "conv", "method": "cam"}, "The argument method is one of gradcam"),
        ("layer_numbers", {"layer": "conv", "channels": 3}, "The argument channels is two whole numbers"),
        ("layer_numbers", {"layer": ""}, "The argument layer is empty"),
        ("layer_numbers", {"layer": "\ud800"}, "no layer of that name"),
        ("layer_numbers", {"layer": "conv:0", "call": 1}, "and the argument call another"),
        ("comparison", {"usual": False}, "The argument usual is one of yes, no"),
        ("comparison", {"b": "sample-coffee"}, "nothing is apart"),
    ],
)
def test_what_the_page_refuses_is_a_sentence_about_arguments(
    page: str, name: str, given: dict[str, Any], words: str
) -> None:
    assert words in refused(asked(page, name, **given))["error"]


def test_numbers_and_texts_are_read_alike(page: str) -> None:
    def one(name: str, **given: Any) -> Any:
        return data(asked(page, name, layer="conv", **given))

    assert one("feature_map", channel=3) == one("feature_map", channel="3") == one("feature_map", channel=3.0)
    assert one("feature_map", channel=None)["channel"] == "mean"
    assert one("class_map", **{"class": 0}) == one("class_map", **{"class": "0"})
    assert one("class_map", **{"class": 0})["class"] == 0
    beyond = refused(asked(page, "class_map", layer="conv", **{"class": 282}))
    assert "no class 282" in beyond["error"], "it is not left out"
    assert data(asked(page, "top_classes", k="2")) == data(asked(page, "top_classes", k=2, prepare=None))
    wrong = refused(asked(page, "top_classes", prepare="rgb2bgr"))
    assert wrong["words"] == PREPARATIONS and wrong["asked"] == "rgb2bgr"


# --- answers


def test_a_list_goes_on_by_the_tool_and_the_arguments_that_next_has(page: str) -> None:
    seen: list[str] = []
    name, given = "layers", {"limit": 2, "match": ""}
    while True:
        told = data(asked(page, name, **given))
        assert len(told["layers"]) <= 2
        seen += [row["layer"] for row in told["layers"]]
        if told["next"] is None:
            break
        assert told["next"].keys() == {"tool", "arguments"}
        name, given = told["next"]["tool"], told["next"]["arguments"]
    assert seen == [row["layer"] for row in data(asked(page, "layers"))["layers"]] and len(seen) > 2


def test_what_a_person_does_is_no_address_for_a_program(page: str) -> None:
    told = data(asked(page, "set_summary", set="built-in photographs"))
    assert told["found"] is None and "start" not in told and not re.search(r"POST|GET|address", told["how"])
    address = "/below/api/v1/findings?model=a+b&limit=3&after=3&wait=50"
    rows = {"findings": [{"sentence": "x", "link": "/below/?model=a+b&tab=findings"}], "next": address}
    found = of_tool({"waiting": "Later.", "again": "/below/x", "known": rows}, table.TOOLS["findings"], "http://a:1/b/")
    assert found["known"]["findings"][0]["link"] == "http://a:1/b/?model=a+b&tab=findings"
    going_on = {"tool": "findings", "arguments": {"model": "a b", "limit": 3, "after": 3}}
    assert found["known"]["next"] == going_on and "/below/" not in json.dumps(found)


def test_each_asks_under_a_name_of_its_own() -> None:
    callers = {Client("http://127.0.0.1:1/").caller for _ in range(20)}
    assert len(callers) == 20 and all(len(each) <= 64 for each in callers)


class Full(Client):
    """A page at which too many questions of this caller wait."""

    def get(self, *_: Any) -> Answer:
        return Answer(429, "application/json", json.dumps({"error": TOO_MANY}).encode(), {})


def test_too_many_questions_are_told_without_what_no_tool_has() -> None:
    told = refused(in_a_loop(called(Full("http://127.0.0.1:1/"), "top_classes", {})))
    assert "wait already" in told["error"] and "slot" not in told["error"]


@pytest.mark.parametrize(
    "url", ["", "nothing", "file:///etc/passwd", "ftp://127.0.0.1/", "http://", "http://[::1", "http://a:99999/"]
)
def test_only_the_address_of_a_page_is_taken(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="address of a running page"):
        Client(url)
    assert main(["--url", url], {}) == 2 and "address of a running page" in capsys.readouterr().err


class Liar(BaseHTTPRequestHandler):
    """Something that is no page."""

    asked: tuple[str, ...] = ()

    def do_GET(self) -> None:
        type(self).asked += (self.path,)
        if "layers" in self.path:
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
        else:
            self.send_response(200)
        self.end_headers()
        body = b"[" * 200_000 if "sets" in self.path else b"x" * (9_000_000 if "models" in self.path else 5)
        self.wfile.write(b"" if "layers" in self.path else body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_what_is_no_page_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")  # which is not asked
    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        client = Client(f"http://127.0.0.1:{server.server_port}/under/")
        assert client.get("layers", {}).status == 302  # nobody followed it
        assert Liar.asked[-1] == "/under/api/v1/layers"
        for path in ("sets", "top"):
            with pytest.raises(NotAnswered, match="no page of Hookscope"):
                _ = client.get(path, {}).json
        with pytest.raises(NotAnswered, match="larger than any"):
            client.get("models", {})
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
    with pytest.raises(NotAnswered, match="does not answer"):
        client.get("models", {})


def test_without_the_package_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'mcp' else found(name, *more)\n"
        "from hookscope.__main__ import main\n"
        "sys.argv = ['hookscope', 'mcp', '--url', 'http://127.0.0.1:1/']\n"
        "sys.exit(main())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **ENVIRON},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2 and ran.stderr.strip().endswith("pip install 'hookscope[mcp]'.")
