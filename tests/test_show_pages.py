"""The live pages that `Shown.open` starts: how long they live, what they leave behind, and which models they take."""

from __future__ import annotations

import contextvars
import copy
import gc
import io
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import torch
from checkout import ENVIRON
from helpers import assert_untouched
from served import until
from torch import Tensor, nn

import hookscope as hs
from hookscope.dashboard.notebook import pages
from hookscope.dashboard.notebook.walls import NotShown


@pytest.fixture(autouse=True)
def no_page_stays() -> Iterator[None]:
    yield
    pages.close_all()


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


def picture(*shape: int) -> Tensor:
    return torch.rand(shape or (3, 9, 12), generator=torch.Generator().manual_seed(1))


def opened(model: nn.Module, image: Tensor, layer: str = "0", port: int = 0, **given: Any) -> str:
    """As a cell's last line has it: nobody keeps the view."""
    return hs.show(model, image, [layer], **given).open(browser=False, port=port)


def asked(url: str, what: str, **parameters: Any) -> dict[str, Any]:
    """What the page at this address answers to programs about its picture."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    given = {"input": query["a"], "wait": 60} | ({"prepare": query["prepare_a"]} if "prepare_a" in query else {})
    request = urllib.request.Request(
        f"http://{parts.netloc}/api/v1/{what}?{urlencode(given | parameters)}",
        headers={"Authorization": f"Bearer {query['token']}"},
    )
    with urllib.request.urlopen(request, timeout=90) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def is_there(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{urlsplit(url).netloc}/healthz", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


THREADS = ("hookscope", "worker", "mailbox", "compiling", "waitress")


def taken() -> tuple[int, int]:
    """How many threads and open files this process has."""
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


# --- how long it lives


def test_a_page_lives_on_when_nobody_keeps_its_view_and_gives_all_back_when_it_is_closed() -> None:
    hs.show(small(), picture(), ["0"]).open(browser=False)
    pages.close_all()  # which has imported what is imported once
    until(lambda: not any(each.name.startswith(THREADS) for each in threading.enumerate()), 20)
    before = taken()
    model = small()
    url = opened(model, picture())
    gc.collect()
    assert is_there(url)
    mean = float(model[0](picture()[None]).detach().mean())
    assert asked(url, "layer", layer="0")["numbers"]["mean"] == pytest.approx(mean, abs=1e-6)
    hs.show(model, picture(), ["0"]).close()  # another view, of the same model
    assert not is_there(url)
    until(lambda: taken() <= before, 20, "for the threads and files of the page")
    known = weakref.ref(model)
    del model
    until(lambda: gc.collect() >= 0 and known() is None, 20, "for the model")


def test_a_cell_that_is_run_again_leads_to_the_same_page() -> None:
    model = small()
    first = opened(model, picture())
    threads = threading.active_count()
    urls = [opened(model, picture() * share, layer="1") for share in (0.9, 0.8, 0.7)]
    assert {urlsplit(url).netloc for url in (first, *urls)} == {urlsplit(first).netloc}
    assert threading.active_count() <= threads + 2  # a request may be under way
    for share, url in zip((0.9, 0.8, 0.7), urls, strict=True):
        mean = float(model[:2]((picture() * share)[None]).detach().mean())
        assert asked(url, "layer", layer="1")["numbers"]["mean"] == pytest.approx(mean, abs=1e-6)
    assert is_there(first) and parse_qs(urlsplit(urls[0]).query)["layer"] == ["1"]


@pytest.mark.parametrize(
    "change",
    [
        {"image": picture(3, 12, 12)},
        {"mean": 0.5, "std": 0.5},
        {"classes": ["a", "b", "c"]},
    ],
)
def test_a_view_that_prepares_pictures_otherwise_takes_the_place_of_the_page(change: dict[str, Any]) -> None:
    model = small()
    given: dict[str, Any] = {"image": picture()} | change
    first, second = opened(model, picture()), opened(model, **given)
    assert is_there(second) and not is_there(first) and len(pages._pages) == 1
    assert asked(second, "layer", layer="0")["numbers"]["count"] == model[0](given["image"][None]).numel()


def test_a_model_inside_a_wrapper_has_one_page() -> None:
    model = small()
    opened(model, picture())
    opened(nn.DataParallel(model), picture())
    assert len(pages._pages) == 1


def test_two_models_have_two_pages_and_many_have_no_more_than_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST", 2)
    models = [small() for _ in range(3)]
    urls = [opened(model, picture()) for model in models]
    assert [is_there(url) for url in urls] == [False, True, True]
    view = hs.show(models[2], picture(), ["0"])
    view.close()
    view.close()
    assert [is_there(url) for url in urls] == [False, True, False]
    assert is_there(view.open(browser=False))


def test_what_the_page_cannot_be_opened_for_leaves_the_one_there_is() -> None:
    model = small()
    url = opened(model, picture())
    with pytest.raises(NotShown):
        hs.show(model, picture(), ["0"]).open(browser=False, port=70000)
    assert is_there(url)


def test_a_page_that_was_moved_to_another_port() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        with pytest.raises(NotShown, match=f"Port {port} is taken, or reserved .* or 0 for a free one"):
            opened(small(), picture(), port=port)
    model = small()
    first = opened(model, picture())
    url = opened(model, picture(), port=port)
    assert urlsplit(url).port == port and not is_there(first)
    assert urlsplit(opened(model, picture())).port == port, "it listens there already"
    assert urlsplit(opened(small(), picture(), port=port)).port == port, "a model that the cell has made anew"
    assert len(pages._pages) == 1


@pytest.mark.parametrize("port", [-1, 65536, 70000, 80.0, "8050", True, None])
def test_what_is_no_port(port: Any) -> None:
    with pytest.raises(NotShown, match=r"port= is .* whole number from 1 to 65535, or 0 for a free port"):
        hs.show(small(), picture(), ["0"]).open(browser=False, port=port)


def test_the_pages_end_with_the_process() -> None:
    code = """
import torch, hookscope as hs
from torch import nn
model = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
hs.show(model, torch.rand(3, 9, 9), ["0"]).open(browser=False)
import urllib.request
from hookscope.dashboard.notebook import pages
folders = [each._settings.cache_dir for each in pages._pages]
print(urllib.request.urlopen(f"http://127.0.0.1:{pages._pages[0].port}/healthz").status, folders[0].exists())
print(folders[0])
"""
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True)
    said, folder = ran.stdout.split("\n")[:2]
    assert (said, ran.stderr) == ("200 True", "")
    assert not os.path.exists(folder)


# --- what it leaves behind


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_of_another_type_keeps_no_hook(dtype: torch.dtype) -> None:
    model = small().to(dtype)
    image = picture().to(dtype)
    plain = picture()[None].to(torch.float64 if dtype == torch.bfloat16 else torch.float32)
    with assert_untouched(model):
        url = opened(model, image)
        for _ in range(2):
            assert not model._forward_pre_hooks, "nor while the page is open"
            with pytest.raises(RuntimeError):
                model(plain)  # which is of another type than its weights
            torch.save(model, io.BytesIO())
            found = asked(url, "layer", layer="0")["numbers"]
            assert found["mean"] == pytest.approx(float(model[0](image[None]).detach().double().mean()), rel=1e-2)
            with torch.no_grad():
                model[0].weight.mul_(2)  # type: ignore[operator]
        with torch.no_grad():
            model[0].weight.div_(4)  # type: ignore[operator]
        pages.close_all()
    assert not hs.live_hooks()


def test_a_model_that_the_page_cannot_describe_keeps_no_hook() -> None:
    image = picture().double()

    class Rigid(nn.Module):
        """Runs for the one picture that it was given, and for no other one."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.conv(x)
            if not torch.equal(x.detach()[0], image):
                raise ValueError("another picture")
            return found

    model = Rigid()
    with assert_untouched(model), pytest.raises(NotShown, match="cannot read this model"):
        opened(model, image, layer="conv")
    assert not pages._pages


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
@pytest.mark.parametrize("training", [True, False])
def test_a_wrapper_stays_in_its_mode(wrap: Callable[[nn.Module], nn.Module], training: bool) -> None:
    model = wrap(small())
    model.train(training)
    before = [each.training for each in model.modules()]
    opened(model, picture())
    assert [each.training for each in model.modules()] == before
    pages.close_all()
    assert [each.training for each in model.modules()] == before and model.training == training


class Keeping(nn.Module):
    """Keeps what it should not: a count, a feature, a table of positions made at the first picture's size, a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("runs", torch.zeros(()))
        self.register_parameter("late", None)
        self.count = 0
        self.places: Any = None
        self.seen: list[Tensor] = []
        self.norm: Any

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.runs += 1
        found: Tensor = self.conv(x)
        if self.places is None:
            self.places = torch.randn(found.shape[-2:])
        if not hasattr(self, "norm"):
            self.norm = nn.LayerNorm(found.shape[-2:])
            self.register_buffer("table", torch.zeros(found.shape[-2:]))
            self.late = nn.Parameter(torch.zeros(found.shape[-2:]))
        self.seen.append(found)
        return (self.norm(found) + self.places + self.table + self.late).mean((2, 3))


def kept(model: nn.Module) -> Any:
    own = {name: value for name, value in model.__dict__.items() if not name.startswith("_") and name != "training"}
    tables = [sorted(name for name, value in getattr(model, table).items() if value is not None) for table in TABLES]
    return {name: len(value) if isinstance(value, list) else value for name, value in own.items()}, tables


TABLES = ("_parameters", "_buffers", "_modules")


def test_what_a_model_keeps_is_as_it_was_after_a_view_and_a_page() -> None:
    torch.manual_seed(0)
    model = Keeping().eval()
    before = kept(model)
    with assert_untouched(model):
        view = hs.show(model, picture(), ["conv"])
        assert kept(model) == before
        url = view.open(browser=False)
        assert kept(model) == before
        first = asked(url, "layer", layer="conv")["numbers"]["mean"]
        asked(url, "top", k=1)
        assert kept(model) == before
    with torch.no_grad():
        model.conv.bias.add_(1)  # type: ignore[union-attr]
    random = torch.get_rng_state()
    assert asked(url, "layer", layer="conv")["numbers"]["mean"] == pytest.approx(first + 1, abs=1e-5)
    assert kept(model) == before and torch.equal(random, torch.get_rng_state()), "nor when it was read anew"
    assert not model.runs
    reads = pages._pages[0]._engine.state("Keeping")
    asked(url, "layer", layer="conv")
    assert pages._pages[0]._engine.state("Keeping").phase == reads.phase
    pages.close_all()
    assert model(torch.rand(2, 3, 20, 20)).shape == (2, 4)  # of another size


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.weight_norm])
def test_a_model_can_be_copied_after_a_view_and_a_page_if_it_could_before(norm: Callable[..., nn.Module]) -> None:
    with warnings.catch_warnings(action="ignore"):
        model = nn.Sequential(norm(nn.Conv2d(3, 4, 3)), nn.ReLU()).eval()
    with torch.no_grad():
        model(picture()[None])
    copy.deepcopy(model)
    weight = model[0].weight
    view = hs.show(model, picture(), ["0"])
    copy.deepcopy(model)
    url = view.open(browser=False)
    asked(url, "layer", layer="0")
    copy.deepcopy(model)
    assert model[0].weight is weight and torch.equal(weight, model[0].weight)


def test_a_view_keeps_the_edits_around_it() -> None:
    model = small()
    with hs.edit(model, [hs.mute("0")]):
        found = hs.show(model, picture(), ["0", "1"]).seen.layers[1].activation
    assert not isinstance(found, str) and not found.values.any()


def test_the_process_is_as_it_was() -> None:
    code = """
import logging, os, sys, threading, warnings, torch, hookscope as hs
from torch import nn
deep = nn.Conv2d(3, 4, 3)
for _ in range(40):
    deep = nn.Sequential(deep)
view = hs.show(deep.eval(), torch.rand(3, 9, 9))
def state():
    return sys.path[:], len(warnings.filters), sys.getrecursionlimit(), sys.excepthook, threading.excepthook
before = state()
view.open(browser=False)
path, filters, calls, *hooks = state()
print(path == before[0], filters == before[1], calls > before[2])
view.close()
print(state() == before)
view.open(browser=False)
sys.setrecursionlimit(5000)
view.close()
print(sys.getrecursionlimit())
from dash import _get_app
print(_get_app.APP)
"""
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:4] == ["True True True", "True", "5000", "None"], ran.stderr


def test_a_dash_application_of_ones_own_stays_the_process_s_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import dash
    from dash import _get_app

    monkeypatch.setattr(_get_app, "APP", None)

    def in_a_notebook() -> None:
        own = dash.Dash("own")
        models = [small(), small()]
        urls = [opened(model, picture()) for model in models]
        hs.show(models[0], picture(), ["0"]).close()
        assert is_there(urls[1])
        pages.close_all()
        assert dash.get_app() is own

    contextvars.Context().run(in_a_notebook)  # what other tests of this process made is known to this one


# --- which models it takes


class Generator(nn.Module):
    """Makes a picture of a row of numbers, as a GAN's does."""

    def __init__(self, numbers: int = 16) -> None:
        super().__init__()
        self.full = nn.Linear(numbers, 8 * 16)
        self.up = nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        found: Tensor = self.up(self.full(z.flatten(1)).view(-1, 8, 4, 4))
        return found


class Digits(nn.Module):
    """Makes a row of a picture as tutorials do, in which three channels are three pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.full = nn.Linear(36, 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.full(x.view(-1, 36))
        return found


@pytest.mark.parametrize(
    ("model", "shape", "layer"),
    [
        (Generator(), (16, 1, 1), "full"),
        (Generator(12), (3, 2, 2), "full"),
        (nn.Sequential(nn.ConvTranspose2d(12, 3, 4), nn.Tanh()), (12, 1, 1), "0"),
        (nn.Sequential(nn.Conv2d(4, 3, 1)), (4, 8, 8), "0"),
        (nn.Sequential(nn.Conv2d(4, 3, 1)), (4, 6, 4), "0"),  # its channels may be the first axis or the last
        (nn.Sequential(nn.Conv2d(3, 2, 1)), (3, 6, 3), "0"),
        (nn.Sequential(nn.Conv2d(1, 2, 1)), (1, 6, 3), "0"),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), (1, 6, 6), "1"),
        (Digits(), (1, 6, 6), "full"),
    ],
)
def test_the_page_gives_a_model_as_many_channels_as_the_view(
    model: nn.Module, shape: tuple[int, ...], layer: str
) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    view = hs.show(model.eval(), image, [layer])
    found = asked(view.open(browser=False), "layer", layer=layer)
    (seen,) = view.seen.layers
    assert not isinstance(seen.activation, str)
    numbers = seen.activation.statistics
    assert found["numbers"]["count"] == numbers.count
    assert found["numbers"]["mean"] == pytest.approx(numbers.mean, rel=1e-5, abs=1e-6)
    assert found["numbers"]["std"] == pytest.approx(numbers.std, rel=1e-5, abs=1e-6)


def test_more_channels_than_a_page_has_are_refused_in_a_sentence() -> None:
    view = hs.show(Generator(100).eval(), torch.randn(100, 1, 1), ["full"])
    with pytest.raises(NotShown, match="pictures of up to 16 channels, and this model takes 100"):
        view.open(browser=False)
