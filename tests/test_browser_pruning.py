"""What could go, in a browser: from the tab to the list for Torch-Pruning, exported, and with a killed worker."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from digits_models import digits
from playwright.sync_api import Browser, Page, expect
from pruned_models import COUNT, DEAD, write_models
from served import Application, export, open_page, plot_of, until
from torch import nn

import hookscope as hs
from hookscope.hooks.results.importance import PruneCurve

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("pruned"))


@pytest.fixture(scope="module")
def application(folder: Path) -> Iterator[Application]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        offered = ["--images", f"line 4={folder / 'set'}"]
        for name in ("planted", "slow"):
            offered += ["--model", f"{name}=pruned_net:{name}"]
        offered += ["--factory-arg", "slow:seconds=0.05"]
        started = Application(folder / "cache", *offered)
        yield started
        started.stop()


@pytest.fixture(scope="module")
def net(folder: Path) -> nn.Module:
    """The network in this process: the oracle."""
    names: dict[str, Any] = {"__file__": str(folder / "digits_net.py")}
    exec(compile((folder / "digits_net.py").read_text(), "digits_net", "exec"), names)
    found: nn.Module = names["plain"]()
    for each in DEAD:
        found.conv2.weight.data[each], found.conv2.bias.data[each] = 0, 0  # type: ignore[index, union-attr]
    return found


@pytest.fixture(scope="module")
def expected(net: nn.Module) -> PruneCurve:
    """What the library measures of the layer, of as many channels as the page says."""
    pictures, classes = digits()
    batch = pictures[:COUNT], classes[:COUNT]
    return hs.prune_curve(net, [batch], "conv2", shares=[count / 16 for count in range(1, 16)], random_orders=0)


def go(page: Page, application: Application, model: str = "planted") -> None:
    """Go to the page of what could go, of the set in a model."""
    open_page(page, f"{application.url}?model={model}&tab=pictures")
    page.click(".set-choice button:has-text('line 4')")
    page.click("#set-pages button:has-text('What could go')")
    expect(page.locator("#set-going-layers tbody tr")).to_have_count(3)


def download(page: Page, text: str, within: str = "#set-going") -> str:
    """A file that the page offers."""
    with page.expect_download() as saving:
        page.locator(within).get_by_text(text, exact=True).click()
    return Path(saving.value.path()).read_text()


def test_from_the_tab_to_the_list_for_torch_pruning(page: Page, application: Application, expected: PruneCurve) -> None:
    go(page, application)
    expect(page.locator("#set-going")).to_contain_text("Choose a layer, in the tree or in the table below.")
    page.click("#set-going-layers tbody tr:has-text('conv2') button")
    expect(page.locator("#set-going h2")).to_have_text("What of conv2 could go")
    expect(page.locator("#set-going")).to_contain_text("with each would go 217 parameters and 13.8 k multiply-adds")
    button = page.locator("#set-going button.primary")
    expect(button).to_have_text(f"Measure conv2 over {COUNT + 1} pictures")
    button.focus()
    page.keyboard.press("Enter")

    count = expected.removable(0.01).count
    assert count >= len(DEAD)
    sentence = page.locator(".going-sentence")
    expect(sentence).to_contain_text("At ≤ 1 % disagreement: conv2 ")
    expect(page.locator("#set-going")).to_contain_text(f"Over {COUNT} of {COUNT + 1} pictures")
    shown = re.search(r"conv2 (\d+) of 16 channels, (\S+) parameters", sentence.inner_text())
    assert shown is not None
    measured = {
        int(row["channels removed"]): row for row in csv.DictReader(io.StringIO(download(page, "curve as CSV")))
    }
    assert int(shown[1]) == max(each for each in measured if each <= count)
    for number, row in measured.items():
        assert float(row["disagreement"]) == pytest.approx(1 - expected.agreement[number], abs=1e-5)
        assert float(row["accuracy"]) == pytest.approx(expected.accuracy[number], abs=1e-5)
        assert float(row["least in random orders"] or 0) <= float(row["most in random orders"] or 0)
    accuracy = [f"{100 * expected.accuracy[each]:.1f} %" for each in (0, int(shown[1]))]
    expect(page.locator("#set-going")).to_contain_text(f"Accuracy {accuracy[0]} with all, {accuracy[1]} without them.")

    chosen = json.loads(download(page, "indices for Torch-Pruning"))
    assert chosen.keys() == {"conv2"} and set(DEAD) <= set(chosen["conv2"]) and len(chosen["conv2"]) == int(shown[1])
    channels = list(csv.DictReader(io.StringIO(download(page, "channels as CSV"))))
    assert {int(row["channel"]) for row in channels[:3]} == set(DEAD)
    assert sorted(int(row["channel"]) for row in channels if row["goes"] == "yes") == chosen["conv2"]
    # the band's two edges, the accuracy, the curve
    until(lambda: (figure := plot_of(page, "#set-going-curve")) and len(figure["data"]) == 4)

    # by its address, at once: nothing is measured again
    page.reload()
    expect(page.locator(".going-sentence")).to_contain_text(f"conv2 {shown[1]} of 16 channels", timeout=60_000)
    page.click("#set-going button:has-text('≤ 5 %')")
    expect(page.locator(".going-sentence")).to_contain_text("At ≤ 5 % disagreement")
    expect(page.locator("#set-going-channels tbody tr")).to_have_count(12)
    page.click("#set-going-channels button:has-text('more')")
    expect(page.locator("#set-going-channels tbody tr")).to_have_count(4)

    # and to what a channel looks for, and back
    page.locator("#set-going-channels tbody button").first.click()
    expect(page.locator("#set-pages button[aria-pressed=true]")).to_have_text("Mistakes and channels")
    expect(page.locator("#set-channels h2")).to_contain_text("conv2")
    page.go_back()
    expect(page.locator(".going-sentence")).to_contain_text("At ≤ 5 %")


def test_every_layer_is_measured_and_the_page_can_be_exported(
    browser: Browser, page: Page, application: Application, tmp_path: Path
) -> None:
    go(page, application)
    page.click("#set-going-layers button:has-text('Measure every layer (3)')")
    layers = page.locator("#set-going-layers")
    expect(layers).to_contain_text("3 of 3 layers", timeout=60_000)
    rows = list(csv.DictReader(io.StringIO(download(page, "CSV", "#set-going-layers"))))
    assert [row["layer"] for row in rows] == ["conv3", "conv2", "conv1"] and all(row["exact"] == "True" for row in rows)
    found = json.loads(download(page, "indices for Torch-Pruning", "#set-going-layers"))
    assert {layer: len(each) for layer, each in found.items()} == {row["layer"]: int(row["removable"]) for row in rows}
    best = max(rows, key=lambda row: int(row["parameters"]))
    expect(layers).to_contain_text(f"Most goes at {best['layer']}: {best['removable']} of")

    layers.locator("tbody tr:has-text('conv3') button").click()  # its curve is known by now, without random orders
    expect(page.locator("#set-going h2")).to_have_text("What of conv3 could go")
    expect(page.locator("#set-going button:has-text('with random orders beside it')")).to_be_visible()
    said = page.locator(".going-sentence").inner_text()
    export(page, tmp_path / "page.html")
    context = browser.new_context(offline=True)
    offline = context.new_page()
    offline.goto((tmp_path / "page.html").as_uri())
    expect(offline.locator(".going-sentence")).to_have_text(said)
    expect(offline.locator(".classes.going").last).to_contain_text("conv1")
    until(lambda: offline.locator(".js-plotly-plot .scatterlayer .trace").count() >= 2)
    context.close()


@pytest.mark.slow  # for the seconds in which the worker starts again
def test_a_killed_worker_says_so_and_goes_on_when_it_is_asked_again(
    page: Page, application: Application, folder: Path
) -> None:
    go(page, application, "slow")
    page.click("#set-going-layers button:has-text('Measure every layer (3)')")
    layers = page.locator("#set-going-layers")
    expect(layers).to_contain_text("1 of 3 layers", timeout=60_000)
    expect(layers.locator("tr.so-far")).to_contain_text("conv2")
    os.kill(int((folder / "slow.pid").read_text()), signal.SIGKILL)
    expect(layers).to_contain_text("was killed (SIGKILL)", timeout=60_000)
    expect(layers).to_contain_text("1 of 3 layers")  # which is kept
    layers.locator("button:has-text('Try again')").click()
    expect(layers).to_contain_text("3 of 3 layers", timeout=90_000)
