"""A folder of 10,000 files of which 100 are broken: how long it takes to be looked at, and what a sweep makes of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from digits_models import digits, file_of, write_module
from served import Application, until
from tempo import limit

from hookscope.dashboard.sets.members import scan
from hookscope.dashboard.sets.store import key_of

COUNT, BROKEN = 10_000, 100
MODEL = "digits"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("many")
    write_module(found)
    pictures, classes = digits()
    made = []
    for number in range(200):
        file_of(pictures[number], found / "one.png")
        made.append((int(classes[number]), (found / "one.png").read_bytes()))
    for number in range(COUNT):
        label, data = made[number % len(made)]
        place = found / "set" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        broken = number % (COUNT // BROKEN) == 7
        (place / f"{number:05}.png").write_bytes(data[: len(data) // 2] if broken else data)
    return found


@pytest.mark.slow
def test_a_large_folder_is_looked_at_and_swept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(folder))
    began = time.monotonic()
    assert len(scan("key", "many", folder / "set").members) == COUNT
    scanned = time.monotonic() - began
    application = Application(tmp_path, "--model", f"{MODEL}=digits_net:whole", "--images", f"many={folder / 'set'}")
    key = key_of("many")

    def post(path: str, body: object = None) -> bytes:
        data = b"" if body is None else json.dumps(body).encode()
        request = Request(application.url + path, data, {"Content-Type": "application/json"})
        return bytes(urlopen(request).read())

    def state() -> str:
        return str(json.loads(urlopen(f"{application.url}state?model={MODEL}").read())["phase"])

    def timed(number: int) -> tuple[float, str]:
        """How long the page's question takes, and what of the answer comes with it."""
        view = {"model": MODEL, "tab": "pictures", "set_a": key}
        asked = {"view": view, "page": "p", "number": number, "drawn": {}, "mounted": 0, "width": 800, "ahead": True}
        began = time.monotonic()
        text = post("ask", asked).decode()
        return time.monotonic() - began, text

    def progress() -> dict[str, object]:
        return dict(json.loads(urlopen(f"{application.url}set/{key}/progress?model={MODEL}").read()))

    try:
        until(lambda: state() == "ready", limit(60.0))
        before = [timed(number)[0] for number in range(3)]
        post(f"set/{key}/start?model={MODEL}")
        took: list[float] = []
        while progress()["phase"] == "running":
            took.append(timed(len(took) + 10)[0])
            time.sleep(0.9)
        done = progress()
        assert (done["phase"], done["seen"], done["lost"]) == ("done", COUNT, 0)
        after, text = timed(10_000)
        table = urlopen(f"{application.url}set/{key}/answers.csv?model={MODEL}").read().decode().splitlines()
        assert len(table) == COUNT + 1  # those that are broken with the reason
        assert f"{BROKEN} could not be read" in text and f"and {BROKEN - 12} more." in text
        told = f"{max(before):.2f} s before, {max(took):.2f} s during, {after:.2f} s after the sweep"
        print(f"looked through in {scanned:.2f} s; a question took {told}")
        assert scanned < limit(1.5) and max(before) < limit(2.0) and after < limit(2.0)
        assert sorted(took)[len(took) // 2] < limit(1.5)
    finally:
        application.stop()
