"""The page as it was recorded: what it is sent in some fifty views, by the real application and the real worker.

Whoever moves code sees here that nothing of it moved on the page. What changes on purpose is recorded anew, in a commit
of its own that says why:

    python tests/test_same_page.py            all views
    python tests/test_same_page.py rank-mean  these views

The recording knows routes, ids and models, and no module of ours, so it stays while files move.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go
import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))

from page_recording import Recorder, arrays_of, differences, named, read, settle, write
from served import Application

FOLDER = Path(__file__).parent / "same_page"
EMBEDDED = "embedded"
TOY, SPOILT, DETECTOR, SEGMENTER, FAILING = (
    f"tests.recorded_models:{name}" for name in ("classifier", "spoilt", "detector", "segmenter", "failing")
)
VIT = "timm:vit_tiny_patch16_224@random"
MODELS = (EMBEDDED, TOY, SPOILT, DETECTOR, SEGMENTER, VIT, FAILING)
BOX_1 = -4  # how an address of today names a detector's second box

COFFEE = {"a": "sample-coffee"}
BOTH = {"a": "sample-coffee", "b": "sample-chelsea"}


@dataclass(frozen=True)
class Shown:
    """One view that is recorded.

    Attributes:
        view: as the page sends it. files: whether the files that it offers are recorded too.
        mounted: how many cards the page holds. width: of a card's wall, in CSS pixels.
    """

    model: str
    view: dict[str, Any] = field(default_factory=dict)
    files: bool = False
    mounted: int = 2
    width: int = 795


def toy(layer: str = "block.conv", inputs: dict[str, str] = BOTH, files: bool = False, **view: Any) -> Shown:
    """A view of the small classifier."""
    return Shown(TOY, {**inputs, "layers": [layer], **view}, files)


VIEWS: dict[str, Shown] = {
    "default-a": Shown(EMBEDDED, {**COFFEE, "layers": ["blocks.5.0"]}, files=True),
    "default-b-a": Shown(EMBEDDED, {**BOTH, "layers": ["blocks.5.0", "conv_head"], "count": "64"}),
    "default-gradients": Shown(EMBEDDED, {**COFFEE, "tab": "gradients", "target": 967}),
    "a-b": toy(files=True),
    "a-alone": toy(inputs=COFFEE),
    "b-alone": toy(inputs={"b": "sample-chelsea"}),
    "same-picture": toy(inputs={"a": "sample-camera", "b": "sample-camera"}),
    **{f"rank-{rank}": toy(rank=rank, table=True) for rank in ("strongest", "mean", "variance", "zeros", "difference")},
    "scale-channel": toy(scale="channel"),
    **{f"colours-{colours}": toy(colours=colours) for colours in ("viridis", "magma", "grey")},
    "count-64": toy("block.wide", COFFEE, count="64", rank="strongest"),
    "count-all": toy("block.wide", BOTH, count="all"),
    "overlay-a": Shown(TOY, {**COFFEE, "layers": ["block.conv"], "overlay": True}, width=300),
    "overlay-b": Shown(TOY, {**BOTH, "layers": ["block.conv"], "overlay": True}, width=500),
    "network-view": toy(seen=True),
    "table": toy("block.wide", COFFEE, table=True),
    **{f"map-{name}": toy("block.wide", maps=name) for name in ("gradcam++", "layercam", "scorecam")},
    "map-of-a-class": toy("block.wide", target=2),
    "channel": toy(inputs=COFFEE, detail="block.conv", channel=5),
    "channel-a-b": toy(detail="block.conv", channel=3, overlay=True),
    "mean-map": toy(detail="block.conv", channel=-1, scale="channel", files=True),
    "attributions": toy(inputs=COFFEE, attributions=True, target=1),
    "attributions-a-b": toy(attributions=True),
    **{
        f"metric-{name}": toy(inputs=COFFEE, metric=name)
        for name in ("magnitude", "zeros", "dead", "gradient", "entropy")
    },
    "metric-a-b": toy(metric="magnitude"),
    "gradients": toy(tab="gradients", files=True),
    "call-2": toy("block.relu:1"),
    "overwritten": toy("block.relu", COFFEE),
    "vector": toy("head"),
    "number": toy("spread"),
    "whole-model": toy("(model)"),
    "detector-a": Shown(DETECTOR, {**COFFEE, "layers": ["body.2"]}, files=True),
    "detector-box": Shown(DETECTOR, {**BOTH, "layers": ["body.0"], "target": BOX_1}),
    "segmenter-a": Shown(SEGMENTER, {**COFFEE, "layers": ["head"]}),
    "segmenter-b": Shown(SEGMENTER, {**BOTH, "layers": ["body"], "target": 3, "metric": "zeros"}),
    "vit-block": Shown(VIT, {**COFFEE, "layers": ["blocks.3"], "count": "64"}),
    "vit-attention": Shown(VIT, {**COFFEE, "layers": ["blocks.3.attn"], "patch": 30, "count": "64"}),
    "no-input": toy(inputs={}),
    "nothing-chosen": Shown(TOY),
    "lost-picture": toy(inputs={"a": "no-such-key", "b": "sample-coffee"}),
    "no-such-layer": toy("block.conv9"),
    "no-such-call": toy("block.relu:7"),
    "never-ran": toy("block.training_only"),
    "no-such-class": toy(target=77),
    "not-finite": Shown(SPOILT, {**COFFEE, "layers": ["head"]}),
    "failed-model": Shown(FAILING, {**COFFEE, "layers": ["conv"]}),
}

# address, method, body, status: what else the page is sent, and every way in which it is refused
ROUTES: dict[str, tuple[str, str, Any]] = {
    "first-page": ("_dash-layout", "GET", None),
    **{
        f"state-{name}": (f"state?model={quote(model)}", "GET", None)
        for name, model in (("toy", TOY), ("failing", FAILING))
    },
    "state-unknown": ("state?model=os:system", "GET", None),
    "upload-text": ("upload?name=notes.txt", "POST", b"no picture"),
    "upload-empty": ("upload?name=x.png", "POST", b""),
    "upload-cut": ("upload?name=cut.png", "POST", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    "upload-heic": ("upload?name=phone.heic", "POST", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    "sample-unknown": ("sample/nobody", "POST", b""),
    "sample-known": ("sample/coffee", "POST", b""),
    "picture-unknown": (f"picture/{'0' * 40}", "GET", None),
    "ask-nonsense": ("ask", "POST", b"[1, 2]"),
    "open-unknown": ("open?model=nothing", "POST", b""),
}
ADDRESSES = (
    "",
    f"?model={TOY}&a=sample-coffee&layer=block.conv&layer=block.relu:1&rank=mean&overlay=1&target=2",
    f"?model={DETECTOR}&a=sample-coffee&target=-4&tab=gradients",
    "?model=os:system",
    "?share=aaaaaaaaaaaaaaaaaaaaaa",
)


class Visitor:
    """Asks the application as its page does."""

    def __init__(self, folder: Path) -> None:
        self.application = Application(
            folder, "--threads", "1", *(each for model in MODELS for each in ("--model", model))
        )
        self.url = self.application.url
        self.asked = 0

    def request(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Message, bytes]:
        """Ask for a path below the application's address."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        address = self.url + path.lstrip("/")
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.headers, refused.read()

    def fetch(self, address: str) -> tuple[str, str, bytes]:
        """The type, name and bytes of a picture or file."""
        status, headers, data = self.request(address)
        assert status == 200, (address, status, data[:300])
        return headers.get_content_type(), headers.get_filename() or "", data

    def ready(self, model: str) -> dict[str, Any]:
        """Wait until a model is loaded, or has failed; gives its state."""
        for _ in range(6000):
            state: dict[str, Any] = json.loads(self.request(f"state?model={quote(model)}")[2])
            if state["phase"] in ("ready", "failed"):
                return state
            time.sleep(0.05)
        raise AssertionError(f"{model} did not load: {state}")

    def ask(self, shown: Shown) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ask for a view as a new page that shows nothing; its answer, and the last update of each part."""
        self.asked += 1
        view = {"model": shown.model, **shown.view}
        page = f"visitor{self.asked}"
        body = {"view": view, "page": page, "drawn": {}, "mounted": shown.mounted, "width": shown.width, "number": 1}
        status, _, data = self.request("ask", "POST", body)
        assert status == 200, data
        answer = json.loads(data)
        parts: dict[str, Any] = {}
        for block in self.request(answer["stream"])[2].decode().split("\n\n"):
            kind, _, text = block.partition("\n")
            if kind == "event: message":
                message = json.loads(text.removeprefix("data: "))
                parts[message["part"]] = {"whole": message["signature"] is not None, "updates": message["updates"]}
        return {name: answer[name] for name in ("query", "changes")}, parts

    def dash(self, prop: str, value: Any) -> Any:
        """Call the callback of an input such as "location.search" as Dash's own script does."""
        known = json.loads(self.request("_dash-dependencies")[2])
        name, what = prop.split(".")
        (output,) = (
            each["output"]
            for each in known
            if each["inputs"] == [{"id": name, "property": what}] and not each["clientside_function"]
        )
        places = [each.rsplit(".", 1) for each in output.strip(".").split("...")]
        body = {
            "output": output,
            "outputs": [{"id": name, "property": what} for name, what in places],
            "inputs": [{"id": name, "property": what, "value": value}],
            "changedPropIds": [prop],
        }
        return json.loads(self.request("_dash-update-component", "POST", body)[2])

    def record(self, name: str, recorder: Recorder) -> Any:
        """One view's or route's recording."""
        if name in VIEWS:
            shown = VIEWS[name]
            state = self.ready(shown.model)
            self.ask(shown)  # computed here; from the cache, as the next one comes, no time is told
            answer, parts = self.ask(shown)
            for part in parts.values():
                for _, properties in part["updates"]:
                    if "figure" in properties:
                        go.Figure(properties["figure"])  # refuses what Plotly does not know
            return {"state": [state["phase"], state["sentence"]], "answer": answer, "parts": recorder.plain(parts)}
        if name == "addresses":
            return {address: recorder.plain(self.dash("location.search", address)) for address in ADDRESSES}
        if name.startswith("model-"):
            model = dict(zip(("toy", "detector", "segmenter", "vit"), (TOY, DETECTOR, SEGMENTER, VIT), strict=True))[
                name[6:]
            ]
            state = self.ready(model)
            return recorder.plain(self.dash("model-ready.data", {"spec": model, "fingerprint": state["fingerprint"]}))
        path, method, body = ROUTES[name]
        if path.startswith("state") and "os" not in path:
            state = {**self.ready(TOY if "classifier" in path else FAILING), "fingerprint": "", "work": ""}
            return recorder.plain(state)
        status, headers, data = self.request(path, method, body)
        kind = headers.get_content_type()
        said = json.loads(data) if kind == "application/json" else data.decode()
        if name == "sample-known":
            said["key"] = said["key"] and "KEY"
        return {"status": status, "type": kind, "said": recorder.plain(said)}

    def close(self) -> None:
        """End the application."""
        self.application.stop()


NAMES = [*VIEWS, "addresses", "model-toy", "model-detector", "model-segmenter", "model-vit", *ROUTES]


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    made = Visitor(tmp_path_factory.mktemp("same-page"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def recorded_arrays() -> dict[str, Any]:
    return arrays_of(FOLDER)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_the_one_that_was_recorded(name: str, visitor: Visitor, recorded_arrays: dict[str, Any]) -> None:
    recorder = Recorder(visitor.fetch, files=name in VIEWS and VIEWS[name].files)
    now = json.loads(json.dumps(visitor.record(name, recorder)))
    found = list(differences(read(FOLDER, name), now, recorded_arrays, recorder.arrays))
    assert not found, f"{len(found)} differences from the recording:\n" + "\n".join(found[:12])


def test_nothing_is_recorded_that_is_not_compared(recorded_arrays: dict[str, Any]) -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(NAMES)
    assert recorded_arrays.keys() == set().union(*(named(FOLDER, name) for name in NAMES))


def record_anew(names: list[str]) -> None:
    """Write the recordings of some views, or of all."""
    arrays = arrays_of(FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        visitor = Visitor(Path(folder))
        try:
            for name in names:
                recorder = Recorder(visitor.fetch, files=name in VIEWS and VIEWS[name].files)
                write(FOLDER, name, visitor.record(name, recorder))
                arrays.update(recorder.arrays)
                print(name, flush=True)
        finally:
            visitor.close()
    settle(FOLDER, NAMES, arrays)


if __name__ == "__main__":
    record_anew(sys.argv[1:] or NAMES)
