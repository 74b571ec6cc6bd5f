"""A hostile file, a hostile model, a hostile neighbour: nothing of theirs runs in the page, and nobody reads another's.

The model's layers, classes, title and errors, and the picture's name, are HTML that would run a script. Every panel is
opened with the content policy, which would report an attempt, and without it, so that an attempt would succeed.
"""

from __future__ import annotations

import io
import json
import re
import socket
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil
import pytest
import requests
from inline_app import Connection
from PIL import Image
from playwright.sync_api import Browser, Locator, Page
from served import SAMPLES, Application, images, plot_of, until
from tempo import limit

from bench.client import Busy, Client

NASTY = "<img src=x onerror=ran()><b onmouseover=ran()>x</b>"
WORD = "onerror=ran()"
ZOO = f"""
    import torch
    from torch import nn

    NASTY = {NASTY!r}

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            if float(x[0, 0, 0, 0]) == 1.0:
                raise ValueError(NASTY)
            return self.conv(x)

    Part.__name__ = Part.__qualname__ = NASTY

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("first " + NASTY, Part())
            self.add_module("second " + NASTY, Part())
            self.add_module("never " + NASTY, nn.Identity())
            self.head = nn.Linear(3, 3)

        def forward(self, x):
            for name in ("first ", "second "):
                x = getattr(self, name + NASTY)(x)
            return self.head(x.mean((2, 3)))

    def net():
        classes = [f"{{n}} {{NASTY}}" for n in range(3)]
        texts = dict(title=NASTY, licence=NASTY, weights=NASTY)
        return Net(), dict(input_size=16, mean=(0, 0, 0), std=(1, 1, 1), classes=classes, **texts)

    def fails():
        raise RuntimeError(NASTY)
"""
LISTEN = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => {
      window.violations.push(event.violatedDirective + ": " + (event.sample || event.blockedURI));
    });
    window.ran = () => { window.somethingRan = true; };
"""


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "hostile.py").write_text(textwrap.dedent(ZOO))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        started = Application(folder / "cache", "--model", "hostile:net", "--model", "hostile:fails")
    until(lambda: state(started)["phase"] == "ready", 120, "for the model")
    yield started
    started.stop()


def state(application: Application, model: str = "hostile:net") -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{application.url}state?model={model}", timeout=10).json()
    return found


def upload(application: Application, colour: tuple[int, int, int]) -> str:
    """A picture whose file name is HTML; red makes the model fail."""
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(buffer, "PNG")
    address = f"{application.url}upload?name={quote(NASTY + '.png')}"
    return str(requests.post(address, data=buffer.getvalue(), timeout=30).json()["key"])


@pytest.fixture(
    params=[pytest.param(False, marks=pytest.mark.slow), True], ids=["with the policy", "without the policy"]
)
def hostile_page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    made = browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=request.param, accept_downloads=True)
    made.add_init_script(LISTEN)
    yield made.new_page()
    made.close()


def nothing_ran(page: Page) -> None:
    assert page.evaluate("window.violations") == []
    assert page.evaluate("window.somethingRan") is None
    assert page.locator("img[src=x], [onerror], [onmouseover]").count() == 0


def shown(page: Page) -> int:
    """How often the text stands on the page, as text."""
    return page.locator("body").inner_text().count(WORD)


def hover_everything(page: Page, selector: str) -> None:
    """Move over every element that can be seen, so that what waits for the mouse shows itself."""
    found: Locator = page.locator(selector)
    for number in range(min(found.count(), 40)):
        box = found.nth(number).bounding_box() if found.nth(number).is_visible() else None
        if box and box["width"] and box["height"]:
            for across in (0.3, 0.7):
                page.mouse.move(box["x"] + across * box["width"], box["y"] + 0.5 * box["height"])
                page.wait_for_timeout(30)


@pytest.mark.browser
def test_html_in_names_never_runs_in_any_panel(application: Application, hostile_page: Page, tmp_path: Path) -> None:
    page = hostile_page
    first, second = upload(application, (10, 200, 90)), upload(application, (20, 40, 250))
    page.goto(f"{application.url}?a={first}&b={second}&count=all")
    page.wait_for_selector("[role=treeitem]", timeout=60_000)
    page.locator(".hs-fold-all").click()
    rows = page.locator("[role=treeitem]")
    until(lambda: rows.count() >= 6)
    page.locator("[role=treeitem]", has_text="first").first.click()
    until(lambda: images(page, "wall") == 3, what="for the first card")
    for text in ("second", "head"):
        page.locator("[role=treeitem]", has_text=text).first.click(modifiers=["Control"])
    until(lambda: images(page, "wall", 1) == 3 and images(page, "cam", 1) >= 2, what="for the second card")
    assert shown(page) > 10
    nothing_ran(page)
    hover_everything(page, "[role=treeitem], .card:not([hidden]) .nsewdrag, button.row, .file-name, .badge")
    page.evaluate("window.hookscope.choose({table: true, overlay: true, rank: 'difference'})")
    until(lambda: page.locator(".ag-row").count() > 2, what="for the table")
    page.locator(".card:not([hidden]) .wall .nsewdrag").first.click(position={"x": 20, "y": 20})
    until(lambda: page.locator("#detail").is_visible() and shown(page), what="for the enlarged channel")
    until(lambda: page.locator("#detail .js-plotly-plot .nsewdrag").count(), what="for its figure")
    hover_everything(page, "#detail .nsewdrag, .ag-header-cell, .ag-row")
    page.keyboard.press("ArrowRight")
    nothing_ran(page)
    page.evaluate("window.hookscope.choose({attributions: true, metric: 'gradient', maps: 'layercam', detail: ''})")
    until(lambda: page.locator("#attributions .heat").count() >= 6, what="for three attributions of two pictures")
    until(lambda: "bars from" in page.locator("#metric-text").inner_text(), what="for the tree's bars")
    hover_everything(page, "#attributions .heat, #metric-text, [role=treeitem]")
    page.evaluate("window.hookscope.choose({tab: 'gradients'})")
    until(lambda: plot_of(page, "#gradients"), what="for the gradients")
    hover_everything(page, "#gradients .nsewdrag, #gradients-text")
    nothing_ran(page)
    page.evaluate("window.hookscope.choose({tab: 'layers', attributions: false, metric: 'none'})")
    until(lambda: page.locator(".card:not([hidden])").count() >= 2, what="for the cards")
    page.locator("#target").click()
    until(lambda: page.get_by_role("option").count() >= 4, what="for the classes")
    hover_everything(page, "[role=option]")
    page.keyboard.press("Escape")
    page.locator("#model-select").click()
    until(lambda: page.get_by_role("option", name="fails").count(), what="for the models")
    page.keyboard.press("Escape")
    page.locator("details.save summary").first.click()
    page.locator("#theme").click()
    page.locator("#share").click()
    until(lambda: page.locator("#share-link input").count(), what="for the link")
    nothing_ran(page)

    # what goes wrong says so in the model's own words
    page.evaluate("(key) => window.hookscope.choose({b: key})", upload(application, (255, 0, 0)))
    until(lambda: page.locator(".error", has_text=WORD).count() >= 2, what="for the errors")
    hover_everything(page, ".error")
    nothing_ran(page)
    address = page.locator("#export-view[href]").get_attribute("href")
    export = tmp_path / "view.html"
    export.write_bytes(requests.get(application.url.rstrip("/") + str(address), timeout=60).content)
    assert WORD.encode() in export.read_bytes()
    page.goto(f"{application.url}?model=hostile:fails")
    until(lambda: WORD in page.locator("#banner").inner_text(), 60, "for the reason why the model does not load")
    nothing_ran(page)
    page.goto(f"{application.url}?model={quote(NASTY)}")
    until(lambda: WORD in page.locator("#notice").inner_text(), what="for the notice")
    nothing_ran(page)
    offline = page.context.browser.new_page()  # type: ignore[union-attr]
    offline.add_init_script(LISTEN)
    offline.goto(export.as_uri())
    until(lambda: offline.locator(".imagelayer image").count(), what="for the exported pictures")
    hover_everything(offline, ".nsewdrag, .badge, .error")
    nothing_ran(offline)
    offline.close()
    # the control: had it been put on the page as HTML, we would have noticed
    page.evaluate("(html) => document.body.insertAdjacentHTML('beforeend', html)", NASTY)
    until(lambda: page.evaluate("window.violations.length || window.somethingRan"), 5, "for the control")


@pytest.mark.browser
def test_no_panel_of_an_ordinary_model_violates_the_policy_and_eval_is_refused(
    application: Application, page: Page, watch: Any
) -> None:
    page.add_init_script(LISTEN)
    answer = page.goto(f"{application.url}?a=sample-coffee")
    assert answer is not None and "unsafe-eval" not in answer.headers["content-security-policy"]
    page.wait_for_selector("[role=treeitem]", timeout=60_000)
    nothing_ran(page)
    watch.expect("Content Security Policy")
    watch.expect("unsafe-eval")
    script = "() => { const made = document.createElement('script'); made.textContent = 'window.ran()';"
    page.evaluate(script + " document.head.append(made); }")
    page.evaluate("() => { try { setTimeout('window.ran()', 0); } catch (error) {} }")
    until(lambda: len(page.evaluate("window.violations")) >= 2, 5, "for the policy to report both")
    assert page.evaluate("window.somethingRan") is None  # the control: the listener hears, and the policy holds


# --- nobody reads another's


def test_nobody_gets_at_another_sessions_pictures_results_or_stream(application: Application) -> None:
    mine, other = Client(application.url, "hostile:net"), Client(application.url, "hostile:net")
    key = json.loads(
        requests.post(
            f"{application.url}upload?name=x.png", data=(SAMPLES / "rocket.jpg").read_bytes(), timeout=30
        ).text
    )["key"]
    stream = mine.ask(a=key, layers=["head"])
    # an own page with another's name for its stream, with the page's token unknown
    for wrong in (stream[:-1] + ("A" if stream[-1] != "A" else "B"), "stream/" + other.page, "stream/" + mine.page):
        assert list(other.messages(wrong)) == []
    for action in ("cancel", "leave"):
        for guess in (other.page, "0" * 32, mine.page[:-1], stream.rsplit("/", 1)[1], key):
            assert requests.post(f"{application.url}{action}/{guess}", timeout=10).status_code == 204
    messages = list(mine.messages(stream))  # it was neither read, nor ended, nor withdrawn
    last = {message["part"]: json.dumps(message["updates"]) for message in messages}
    assert "Stopped before" not in json.dumps(last) and WORD in last["input a"]
    # once read, its name is worth nothing, to anybody
    assert list(other.messages(stream)) == []
    pictures = set(re.findall(r"/picture/([0-9a-f]{40})", json.dumps(last)))
    assert pictures
    for name in pictures:
        assert requests.get(f"{application.url}picture/{name}", timeout=30).status_code == 200
        for guess in (name[:-1], name[::-1], name.upper(), "0" * 40):
            assert guess == name or requests.get(f"{application.url}picture/{guess}", timeout=30).status_code == 404
    # an input's key, almost right, is no input
    view = {
        part: text
        for message in other.messages(other.ask(a=key[:-1] + "-", layers=["head"]))
        for part, text in [(message["part"], json.dumps(message["updates"]))]
    }
    assert not re.search(r"/picture/", view["input a"]) and WORD not in view["input a"]


def test_a_page_that_takes_anothers_place_gets_nothing_of_it(application: Application) -> None:
    """A page's token is its own secret; who has it can end that page's stream, and reads only what it asked itself."""
    mine = Client(application.url, "hostile:net")
    stream = mine.ask(a=upload(application, (1, 2, 3)), layers=["head"])
    thief = mine.another()
    thief.page, thief.number = mine.page, mine.number
    assert not [
        message
        for message in thief.messages(thief.ask(a="", layers=["head"]))
        if WORD in json.dumps(message) and message["part"] == "input a"
    ]
    assert list(mine.messages(stream)) == []


# --- strangers


def test_the_network_gets_in_with_the_token_only_and_other_sites_not_at_all(tmp_path: Path) -> None:
    application = Application(tmp_path / "token", "--host", "0.0.0.0")
    try:
        plain, _, token = application.url.partition("?token=")
        assert len(token) >= 22
        listening = psutil.Process(application.process.pid).net_connections("inet")
        assert "0.0.0.0" in {each.laddr.ip for each in listening if each.status == psutil.CONN_LISTEN}
        for path in ("", "_dash-layout", "state?model=embedded", "stream/x", "picture/x", "assets/stream.js", "upload"):
            assert requests.get(plain + path, timeout=10).status_code == 401, path
        assert requests.post(plain + "upload?name=x", data=b"x", timeout=10).status_code == 401
        visitor = requests.Session()
        welcome = visitor.get(application.url, timeout=10)
        assert welcome.status_code == 200 and [each.status_code for each in welcome.history] == [303]
        assert "token" not in welcome.url
        assert visitor.get(plain + "state?model=embedded", timeout=10).status_code == 200  # the cookie is enough
        for headers, status in (
            ({"Host": "evil.example:8050"}, 400),
            ({"Origin": "http://evil.example"}, 403),
            ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ):
            assert visitor.get(plain, headers=headers, timeout=10).status_code == status
    finally:
        application.stop()


def test_behind_a_proxy_that_checks_who_comes_no_token_is_asked_for(tmp_path: Path) -> None:
    application = Application(tmp_path / "proxy", "--host", "0.0.0.0", "--behind-auth-proxy", "--url-prefix", "/look/")
    try:
        assert "token" not in application.url
        assert requests.get(application.url, timeout=10).status_code == 200
        assert requests.get(application.url, headers={"Host": "evil.example"}, timeout=10).status_code == 400
    finally:
        application.stop()


# --- the silent and the slow


def answered(client: Client) -> bool:
    """Whether a question was answered; a page, too, asks once more where it hears that the server is busy."""
    try:
        return bool(list(client.messages(client.ask(a="sample-chelsea", layers=["head"]))))
    except Busy:
        return False


def test_half_sent_requests_and_open_streams_do_not_block_anybody(application: Application) -> None:
    port = urlsplit(application.url).port
    assert port is not None
    halves = [
        Connection(port, "/upload?name=x", "POST", headers=f"Content-Length: {10_000 + n}\r\n") for n in range(120)
    ]
    heads = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(120)]
    for head in heads:
        head.sendall(b"GET / HTTP/1.1\r\nHost: 127")
    first = Client(application.url, "hostile:net")
    pages = [first.another() for _ in range(60)]
    streams = [
        Connection(port, page.ask(a="sample-coffee", layers=["head"]), headers="Accept: text/event-stream\r\n")
        for page in pages
    ]
    try:
        begun = time.monotonic()
        assert requests.get(f"{application.url}healthz", timeout=20).text == "ok\n"
        until(lambda: answered(first), what="for an answer")
        took = time.monotonic() - begun
        print(f"served after {took:.2f} s beside 240 half-sent requests and {len(streams)} streams")
        assert took < limit(5)
    finally:
        for each in (*halves, *heads, *streams):
            each.close()
