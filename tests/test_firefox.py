"""The main job in Firefox too: a photograph, its classes, a layer, one channel, the address, a second photograph.

playwright drives only Firefoxes of its own making, so the Firefox that is on the machine is driven by Mozilla's
marionette-driver. What the page shows is read in its "system" sandbox, which no content policy binds.
"""

from __future__ import annotations

import base64
import gc
import io
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from find_firefox import CAN_BE_DRIVEN, find_firefox
from PIL import Image
from served import SAMPLES, Application, until

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import load

if TYPE_CHECKING:
    from marionette_driver.marionette import Marionette

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CAN_BE_DRIVEN, reason="marionette-driver and our psutil exclude each other here"),
]

PREFERENCES = {
    # What would leave this computer ends at a port where nobody listens; our own address is asked directly.
    "network.proxy.type": 1,
    **{f"network.proxy.{kind}": "127.0.0.1" for kind in ("http", "ssl")},
    **{f"network.proxy.{kind}_port": 9 for kind in ("http", "ssl")},
}
CARD = "#cards .card:not([hidden])"


class Firefox:
    """One window of a Firefox, driven as a person does: by what is seen, the mouse and the keys."""

    def __init__(self, driver: Marionette) -> None:
        self.driver = driver

    def visit(self, url: str) -> None:
        """Open a page, and forget the errors of those before."""
        with self.driver.using_context("chrome"):
            self.driver.execute_script("Services.console.reset()")
        self.driver.navigate(url)

    def read(self, script: str, *arguments: Any) -> Any:
        """What a script of ours returns that looks at the page."""
        return self.driver.execute_script(script, script_args=arguments, sandbox="system")

    def count(self, selector: str) -> int:
        return self.read("return document.querySelectorAll(arguments[0]).length", selector)

    def text(self, selector: str) -> str:
        """The text that the first such element shows; empty if there is none, or it is hidden."""
        script = (
            "const found = document.querySelector(arguments[0]); return found?.checkVisibility() && found.innerText"
        )
        return self.read(script, selector) or ""

    def top5(self, side: str) -> dict[str, float]:
        """The classes and shares that an input's box shows; empty while it waits."""
        script = """return [...document.querySelectorAll(`#input-${arguments[0]}-top button.row`)].map((row) =>
          [row.querySelector(".class").textContent, Number(row.querySelector(".mono").textContent)])"""
        return dict(self.read(script, side))

    def click(self, selector: str) -> None:
        """Click an element once it is there and nothing is in its way."""
        self._with(selector, lambda element: element.click())

    def choose_file(self, selector: str, file: Path) -> None:
        """Hand a file to a chooser, as the system's dialog would."""
        self._with(selector, lambda element: element.send_keys(str(file)))

    def _with(self, selector: str, act: Callable[[Any], None]) -> None:
        from marionette_driver import By, errors

        not_yet = (
            errors.NoSuchElementException,
            errors.StaleElementException,
            errors.ElementNotInteractableException,
            errors.ElementClickInterceptedException,
        )

        def done() -> bool:
            try:
                act(self.driver.find_element(By.CSS_SELECTOR, selector))
            except not_yet:
                return False
            return True

        until(done, what=f"for {selector}")

    def point(self, x: float, y: float, click: bool = False) -> None:
        """Move the mouse to a place in the window, and click there if asked to."""
        mouse = self.driver.actions.sequence("pointer", "mouse", {"pointerType": "mouse"})
        mouse.pointer_move(int(x), int(y))
        if click:
            mouse.click()
        mouse.perform()

    def boxes(self, selector: str) -> list[tuple[float, float, float, float]]:
        """Where elements are in the window: left, top, width, height in pixels."""
        script = """return [...document.querySelectorAll(arguments[0])].map((each) => each.getBoundingClientRect())
          .map((box) => [box.x, box.y, box.width, box.height])"""
        return [tuple(box) for box in self.read(script, selector)]

    def colours(self, selector: str) -> list[int]:
        """How many colours each element has on the screen, as far as it is in the window and nothing covers it."""
        shot = Image.open(io.BytesIO(base64.b64decode(self.driver.screenshot(full=False)))).convert("RGB")
        found = []
        for left, top, width, height in self.boxes(selector):
            part = shot.crop((int(left), int(top), int(left + width), min(int(top + height), shot.height)))
            found.append(len(part.getcolors(maxcolors=part.width * part.height)))
        return found

    def problems(self, url: str) -> list[str]:
        """Errors of the page since it was opened: uncaught, of the content policy, console.error, failed requests."""
        said = self.read(
            """return Cc["@mozilla.org/consoleAPI-storage;1"].getService(Ci.nsIConsoleAPIStorage).getEvents()
              .filter((event) => ["error", "assert"].includes(event.level))
              .map((event) => `console.${event.level}: ` + event.arguments.map(String).join(" "))"""
        )
        refused = self.read(
            """return performance.getEntriesByType("resource").filter((entry) => entry.responseStatus >= 400)
              .map((entry) => `${entry.responseStatus}: ${entry.name}`)"""
        )
        with self.driver.using_context("chrome"):
            # The browser's own parts write there too; theirs come from resource: and chrome: addresses.
            raised = self.driver.execute_script(
                """return Services.console.getMessageArray().filter((each) => each instanceof Ci.nsIScriptError)
                  .filter((each) => !(each.flags & Ci.nsIScriptError.warningFlag))
                  .filter((each) => each.sourceName.startsWith(arguments[0]) || /^CSP|^content/.test(each.category))
                  .map((each) => `${each.sourceName}:${each.lineNumber}: ${each.errorMessage}`)""",
                script_args=(url,),
            )
        return [*said, *refused, *raised]


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    started = Application(tmp_path_factory.mktemp("hookscope"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """A Firefox without a screen, with a fresh profile."""
    path = find_firefox()
    if not path:
        pytest.fail("There is no Firefox: run `make test-slow`, which installs one, or set FIREFOX to one's path.")
    folder = tmp_path_factory.mktemp("firefox")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the driver imports what is deprecated, and leaves sockets and files to Python
        from marionette_driver.marionette import Marionette

        driver = Marionette(
            bin=path,
            port=0,
            headless=True,
            startup_timeout=180,
            prefs=PREFERENCES,
            gecko_log=str(folder / "firefox.log"),
            workspace=str(folder),
        )
        try:
            driver.start_session({"strictFileInteractability": False})  # our file choosers are hidden behind a link
            driver.set_window_rect(width=1440, height=900)
            yield Firefox(driver)
        finally:
            driver.cleanup()
            driver.instance = None
            gc.collect()  # here, so that no later test hears of what was left


def test_from_the_first_visit_to_two_photographs_side_by_side(application: Application, firefox: Firefox) -> None:
    firefox.visit(application.url)
    until(lambda: firefox.count("[role=treeitem]"), what="for the tree")
    until(lambda: "Hookscope shows what every layer" in firefox.text("main"), what="for what it is")

    firefox.choose_file("#file-a", SAMPLES / "coffee.png")
    until(lambda: len(firefox.top5("a")) == 5, what="for A's classes")
    assert next(iter(firefox.top5("a"))) == "espresso"
    assert firefox.top5("a")["espresso"] == pytest.approx(0.951, abs=0.005)

    firefox.click('[role=treeitem][data-key="conv_head"]')
    until_a_card_of(firefox, sides=1)
    channel = enlarge_a_channel(firefox)
    expected = output_of("conv_head", "coffee.png")[channel]
    assert f"{expected.min():.4g}" in firefox.text("#detail") and f"{expected.max():.4g}" in firefox.text("#detail")

    address = until(lambda: (url := firefox.driver.get_url()) and f"channel={channel}" in url and url)
    assert re.search(r"[?&]a=[\w-]{20,}&layer=conv_head&detail=conv_head&channel=", address)
    assert not firefox.problems(application.url)

    firefox.driver.refresh()
    until(lambda: f"channel {channel}" in firefox.text("#detail"), what="for the channel after a reload")
    until_a_card_of(firefox, sides=1)
    until(lambda: min(firefox.colours("#detail .heatmaplayer image"), default=0) > 20, what="for its map")
    assert firefox.driver.get_url() == address and "espresso" in firefox.top5("a")

    firefox.click("[data-sample=chelsea][data-side=b]")
    until(lambda: len(firefox.top5("b")) == 5, what="for B's classes")
    assert next(iter(firefox.top5("b"))) == "tiger cat"
    until_a_card_of(firefox, sides=2)
    assert re.search(r"^A\n.*\nB\n.*\nB − A\n\+ A restored in B$", firefox.text(CARD), re.M)
    until(lambda: firefox.count("#detail .heatmaplayer image") == 3, what="for the channel of A, B and B - A")
    until(lambda: min(firefox.colours("#detail .heatmaplayer image")) > 20, what="for its maps")
    assert not firefox.problems(application.url)


def until_a_card_of(firefox: Firefox, sides: int) -> None:
    """Wait until conv_head's wall and Grad-CAM are drawn, for A alone or for A and B with their difference."""
    wall, cam = f"{CARD} .wall .imagelayer image", f"{CARD} .cam .imagelayer image"
    until(lambda: firefox.text(f"{CARD} h2") == "conv_head", what="for the card")
    until(lambda: firefox.count(wall) == 2 * sides - 1, what="for the wall")
    until(lambda: firefox.count(cam) == 2 * sides, what="for Grad-CAM")  # the photograph, and the map over it
    until(lambda: min(firefox.colours(wall)) > 100, what="for the wall's colours")
    until(lambda: min(firefox.colours(cam)) > 1000, what="for the photograph's colours")


def enlarge_a_channel(firefox: Firefox) -> int:
    """Point at a cell of the wall, read which channel it is, click it, and wait for that channel's map."""
    left, top, width, _ = firefox.boxes(f"{CARD} .wall .nsewdrag")[0]
    x, y = left + 0.3 * width, top + 40  # in the second row
    moved = 0

    def hovered() -> Any:
        nonlocal moved
        moved += 1
        firefox.point(x + moved % 2, y)
        time.sleep(0.2)
        return re.match(
            r"channel (\d+)",
            firefox.read("return document.querySelector(arguments[0])?.textContent || ''", f"{CARD} .wall .hoverlayer"),
        )

    channel = int(until(hovered, what="for the cell's numbers under the mouse")[1])
    firefox.point(x, y, click=True)
    until(lambda: f"channel {channel}" in firefox.text("#detail"), what=f"for channel {channel}")
    until(lambda: firefox.count("#detail .heatmaplayer image") == 1, what="for its map")
    until(lambda: min(firefox.colours("#detail .heatmaplayer image")) > 20, what="for its colours")
    return channel


def output_of(layer: str, picture: str) -> np.ndarray:
    """A layer's output by a plain forward hook, in this process: float32 (channel, height, width)."""
    model = load(ModelOptions("embedded"), "cpu")
    found: list[torch.Tensor] = []
    model.module.get_submodule(layer).register_forward_hook(lambda _module, _args, output: found.append(output.clone()))
    with Image.open(SAMPLES / picture) as image, torch.no_grad():
        model.module(model.prepare(image.convert("RGB")).tensor)
    return found[0][0].numpy()


def test_an_error_of_the_page_would_be_seen(application: Application, firefox: Firefox) -> None:
    firefox.visit(application.url)
    until(lambda: firefox.count("[role=treeitem]"), what="for the tree")
    assert not firefox.problems(application.url)
    firefox.read(
        """const page = window.wrappedJSObject;
        page.console.error("a made error");
        page.Promise.reject(new page.Error("a made rejection"));
        const script = document.createElement("script");
        script.textContent = "0";
        document.body.append(script);
        const image = document.createElement("img");
        image.src = "/picture/none";
        document.body.append(image);"""
    )
    for part in ("a made error", "a made rejection", "blocked an inline script", "404: "):
        until(lambda part=part: part in " ".join(firefox.problems(application.url)), what=f"for {part}")
