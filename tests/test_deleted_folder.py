"""The cache's folder, or a part of it, is deleted or replaced while the server runs: everything works on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from inline_app import InlineApp
from inline_engine import MODEL, InlineEngine
from made_pictures import encoded
from PIL import Image

from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.incoming import _is_left_over
from hookscope.dashboard.inputs.store import InputStore

numbers = iter(range(1000))


def newest(folder: Path) -> Path:
    return max((folder / "answers").glob("values-*"), key=lambda path: int(path.name.split("-")[1]))


def replaced(folder: Path) -> None:
    """By an empty folder, as a container does that mounts another disk there."""
    folder.rename(folder.with_name(f"{folder.name}-before-{next(numbers)}"))
    folder.mkdir()


def moved_and_linked(folder: Path) -> None:
    """To another disk, with a link in its place."""
    place = folder.with_name(f"{folder.name}-moved-{next(numbers)}")
    folder.rename(place)
    folder.symlink_to(place)


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path)


def without_previews(folder: Path) -> None:
    for path in (folder / "inputs" / "pixels").glob("*.jpg"):
        path.unlink()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "all of it": shutil.rmtree,
    "all in it": emptied,
    "replaced by an empty folder": replaced,
    "moved behind a link": moved_and_linked,
    "the inputs": lambda folder: shutil.rmtree(folder / "inputs"),
    "the pixels": lambda folder: shutil.rmtree(folder / "inputs" / "pixels"),
    "the previews": without_previews,
    "the keys": lambda folder: shutil.rmtree(folder / "inputs" / "keys"),
    "what is on its way in": lambda folder: shutil.rmtree(folder / "inputs" / "incoming"),
    "the shares": lambda folder: shutil.rmtree(folder / "shares"),
    "the answers": lambda folder: shutil.rmtree(folder / "answers"),
    "the answers' values": lambda folder: shutil.rmtree(newest(folder)),
    "the answers' database": lambda folder: (newest(folder) / "cache.db").unlink(),
}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[InlineApp]:
    made = InlineApp(tmp_path / "cache", InlineEngine(at_once=True))
    yield made
    made.close()


def picture(number: int) -> bytes:
    return encoded(Image.new("RGB", (20, 20), (number, 5, 77)), "PNG")


def upload(app: InlineApp, number: int) -> str:
    answer = app.client.post("/upload?name=a.png", data=picture(number))
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["key"])


def is_shown(app: InlineApp, key: str, number: int) -> bool:
    """Whether a picture is there: its own pixels for the worker, and a preview for the page."""
    kept = app.inputs.get(key)
    if kept is None:
        return False
    with rows.picture(app.inputs.pixels(kept.digest)) as image:
        assert image.convert("RGB").getpixel((3, 3)) == (number, 5, 77)
    return bool(app.inputs.preview(key))


def share(app: InlineApp, key: str) -> str:
    answer = app.client.post("/share", json={"model": MODEL, "a": key, "layers": ["conv"]})
    assert answer.status_code == 200, answer.text
    return parse_qs(urlsplit(answer.get_json()["path"]).query)["share"][0]


def answer(app: InlineApp, key: str, number: int) -> bool:
    """Whether a page that looks at a picture is shown its layer, and nothing of it is an error."""
    view = {"model": MODEL, "a": key, "layers": ["conv"]}
    body = {"view": view, "page": "page", "drawn": {}, "mounted": 1, "width": 900, "number": number}
    stream = app.client.post("/ask", json=body).get_json()["stream"]
    text = app.client.get(stream).text
    return "event: done" in text and "sentence error" not in text and '"a" of' not in text and "card-wall" in text


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_everything_works_on(app: InlineApp, damage: Callable[[Path], None]) -> None:
    before = upload(app, 1)
    assert share(app, before) and app.client.post("/sample/coffee").status_code == 200
    assert answer(app, before, 1)
    for attempt in range(2 if damage is shutil.rmtree else 1):  # then what was made again is gone too
        damage(app.settings.cache_dir)
        # the sample first: its pixels are there for the worker, and nobody has to upload them again
        assert app.client.post("/sample/coffee").status_code == 200
        shown = app.client.get("/sample/coffee")
        assert shown.status_code == 200 and shown.mimetype == "image/jpeg"
        assert answer(app, "sample-coffee", 10 * attempt + 2)
        assert damage is not without_previews or is_shown(app, before, 1)
        assert is_shown(app, upload(app, 1), 1)  # the same picture again
        assert is_shown(app, other := upload(app, 2 + attempt), 2 + attempt)
        key = share(app, "sample-coffee")
        shared = app.shares.get(key)
        assert shared is not None and shared.a == "sample-coffee"
        assert answer(app, other, 10 * attempt + 3)


def test_what_is_gone_counts_no_more(app: InlineApp) -> None:
    keys = [upload(app, number) for number in range(3)]
    before = app.inputs.size_bytes()
    shutil.rmtree(app.settings.cache_dir)
    assert [app.inputs.get(key) for key in keys] == [None] * 3
    assert app.inputs.size_bytes() == 0 < before


def test_a_server_holds_its_place_for_uploads_again(tmp_path: Path) -> None:
    """Else a second server that starts on the folder would take it for left over and remove what is on its way in."""
    store = InputStore(tmp_path / "inputs", 2**20)
    shutil.rmtree(tmp_path / "inputs")
    with store._incoming.place() as place:
        assert not _is_left_over(place.parent)
        InputStore(tmp_path / "inputs", 2**20).close()
        place.write_bytes(b"on its way")
    store.close()
    assert list((tmp_path / "inputs" / "incoming").iterdir()) == []
