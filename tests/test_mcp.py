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

from hookscope.dashboard.mcp.client import Client, NotAnswered
from hookscope.dashboard.mcp.command import main
from hookscope.dashboard.mcp.server import _DATA, make_server
from hookscope.dashboard.web.api.answers import MOST_BYTES
from hookscope.dashboard.web.api.checks import MOST_FINDINGS, MOST_ROWS
from hookscope.dashboard.web.api.layers import MOST_CHANNELS
from hookscope.dashboard.web.api.manual import ROUTES
from hookscope.dashboard.web.api.models import MOST_LAYERS, MOST_MODELS
from hookscope.dashboard.web.api.predictions import MOST_CLASSES
from hookscope.dashboard.web.api.sets import MOST_LAYERS as MOST_OF_SET

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
    asked = json.dumps(data(manual))
    assert not re.search(r"api/v1|GET|POST|header", asked), "a client of tools has no addresses"
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
    assert wrong.is_error and "no layer of that name" in wrong.content[0].text and "conv" in wrong.content[0].text


def test_the_tools_tell_their_budgets() -> None:
    tools = {tool.name: tool.description for tool in in_a_loop(make_server(Client("http://127.0.0.1:1/")).list_tools())}
    rows = {"layers": MOST_LAYERS, "findings": MOST_FINDINGS, "comparison": MOST_ROWS, "set_summary": MOST_OF_SET}
    for name, most in rows.items():
        assert f"rows at once, up to {most} and {MOST_BYTES:,}" in " ".join(str(tools[name]).split()), name
    assert f"1 to {MOST_CLASSES}" in str(tools["top_classes"]) and f"{MOST_CHANNELS} at once" in str(
        tools["layer_numbers"]
    )
    assert f"{MOST_MODELS} at once" in str(tools["models"])


def test_a_wrong_token_is_a_sentence(page: str) -> None:
    _, refused = talk(page, ("models", {}), token="wrong")
    assert refused.is_error and "Authorization header" in refused.content[0].text


def test_no_tool_takes_a_path_and_each_tells_what_it_costs() -> None:
    tools = in_a_loop(make_server(Client("http://127.0.0.1:1/")).list_tools())
    routes = {each.path: each for each in ROUTES}
    assert {tool.name for tool in tools} == set(TOOLS)
    for tool in tools:
        given = set(tool.input_schema["properties"])
        assert {"class" if name == "class_index" else name for name in given} <= set(
            routes[TOOLS[tool.name]].parameters
        )
        assert not given & {"path", "file", "url", "folder", "command", "code"}
        assert tool.annotations is not None and tool.annotations.read_only_hint
        assert any(word in tool.description for word in ("Costs nothing", "run", "Dozens")), tool.name


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
