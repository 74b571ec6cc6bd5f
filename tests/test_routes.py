"""What the browser asks besides Dash's callbacks: every answer is what was asked for, or a status and a sentence."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from inline_app import Connection, InlineApp, served
from inline_engine import INFO, MODEL
from made_pictures import colours, encoded
from PIL import Image

from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.store import InputMissing
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.scene import Gone
from hookscope.dashboard.page.view import View
from hookscope.dashboard.web import server as server_module
from hookscope.hooks.results.targets import Class

HOSTILE_NAME = '"><img src=x onerror=alert(1)>.png'
PICTURE = encoded(Image.fromarray(colours()), "PNG")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InlineApp]:
    with pytest.MonkeyPatch.context() as patch:
        made: list[Gallery] = []

        class Seen(Gallery):
            def __init__(self, prefix: str) -> None:
                super().__init__(prefix)
                made.append(self)

        patch.setattr(server_module, "Gallery", Seen)
        app = InlineApp(tmp_path_factory.mktemp("app"), max_upload_mb=1)
        app.gallery = made[0]  # type: ignore[attr-defined]
        yield app
        app.close()


@pytest.fixture
def app(shared: InlineApp) -> InlineApp:
    shared.engine.phase = "ready"
    shared.engine.infos = {MODEL: INFO}
    shared.engine.opened.clear()
    return shared


def upload(app: InlineApp, data: bytes, name: str = "cat.png", **more: Any) -> Any:
    return app.client.post(f"/upload?name={quote(name)}", data=data, content_type="application/octet-stream", **more)


def add(app: InlineApp, draw: Callable[[], bytes], shows: object, name: str = "", kind: str = "image/png") -> str:
    return str(app.gallery.add((shows,), draw, kind, name))  # type: ignore[attr-defined]


def is_a_sentence(answer: Any) -> bool:
    """Plain text that is no page, no traceback and nothing that a browser could take for markup."""
    text = answer.get_data(as_text=True)
    return (
        answer.mimetype == "text/plain"
        and answer.headers["X-Content-Type-Options"] == "nosniff"
        and bool(re.fullmatch(r"[A-Z][^\n]{15,300}[.)?]\n", text))
        and "Traceback" not in text
    )


# --- uploads


def test_an_upload_is_kept_under_a_key_and_its_pixels_come_back(app: InlineApp) -> None:
    answer = upload(app, PICTURE, "holiday.png")
    assert answer.status_code == 200 and answer.mimetype == "application/json"
    given = json.loads(answer.data)
    assert given.keys() == {"key", "name", "width", "height"}
    assert (given["name"], given["width"], given["height"]) == ("holiday.png", 30, 20)
    kept = app.inputs.get(given["key"])
    assert kept is not None
    with rows.picture(app.inputs.pixels(kept.digest)) as image:
        assert np.array_equal(np.asarray(image), colours())


def test_an_upload_without_its_length_is_received_too(app: InlineApp) -> None:
    with served(app) as port:
        halves = (PICTURE[:100], PICTURE[100:])
        body = b"".join(b"%x\r\n%s\r\n" % (len(half), half) for half in halves) + b"0\r\n\r\n"
        connection = Connection(port, "/upload?name=cat.png", "POST", body, "Transfer-Encoding: chunked\r\n")
        text = connection.until(b"}")
        connection.close()
    assert b"200 OK" in text and b'"width": 30' in text
    app.service._closed.clear()


def test_an_upload_in_a_real_request_with_a_length(app: InlineApp) -> None:
    with served(app) as port:
        connection = Connection(port, "/upload", "POST", PICTURE, f"Content-Length: {len(PICTURE)}\r\n")
        text = connection.until(b"}")
        connection.close()
    assert b"200 OK" in text and b'"name": "picture"' in text
    app.service._closed.clear()


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (b"", 400, "empty"),
        (b"<html><script>alert(1)</script>", 422, "picture"),
        (PICTURE[:60], 422, ""),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 1_100_000, 413, "larger than"),
    ],
)
def test_a_refused_upload_is_a_status_and_a_sentence(app: InlineApp, data: bytes, status: int, word: str) -> None:
    answer = upload(app, data)
    assert answer.status_code == status
    assert is_a_sentence(answer) and word in answer.text


def test_a_body_without_length_that_is_too_large_is_refused(app: InlineApp) -> None:
    stream = io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"\0" * 1_100_000)
    answer = app.client.post("/upload", input_stream=stream, environ_overrides={"wsgi.input_terminated": True})
    assert answer.status_code == 413 and is_a_sentence(answer)


def test_nothing_is_left_of_a_refused_upload(app: InlineApp) -> None:
    def files() -> set[str]:
        return {
            str(path) for path in app.settings.cache_dir.rglob("*") if path.is_file() and "answers" not in str(path)
        }

    upload(app, PICTURE)
    before = files()
    for data in (b"", b"<html>", PICTURE[:60], b"\0" * 1_100_000):
        upload(app, data)
    assert files() == before


@pytest.mark.parametrize(
    "name",
    [HOSTILE_NAME, "../../etc/passwd", "a\r\nSet-Cookie: x=1", "\u202egnp.exe", "x" * 10_000, "", "\0", "é😀.png"],
)
def test_a_file_name_is_a_label_and_never_markup_path_or_header(app: InlineApp, name: str) -> None:
    answer = upload(app, PICTURE, name)
    assert answer.status_code == 200 and answer.mimetype == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and "Set-Cookie" not in answer.headers
    label = answer.get_json()["name"]
    assert 0 < len(label) <= 80 and label.isprintable() and "/" not in label


def test_uploads_take_a_post_only_and_only_from_our_own_page(app: InlineApp) -> None:
    for method in ("put", "delete", "patch"):
        assert getattr(app.client, method)("/upload").status_code == 405
    foreign = upload(app, PICTURE, headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403 and is_a_sentence(foreign)
    assert upload(app, PICTURE, headers={"Host": "evil.example"}).status_code == 400


# --- samples


def test_a_sample_is_taken_and_shown(app: InlineApp) -> None:
    given = app.client.post("/sample/coffee").get_json()
    assert given["key"] == "sample-coffee" and (given["width"], given["height"]) == (600, 400)
    shown = app.client.get("/sample/coffee")
    assert shown.mimetype == "image/jpeg" and Image.open(io.BytesIO(shown.data)).size == (600, 400)


@pytest.mark.parametrize("name", ["tea", "coffee.png", "%00", "..", "COFFEE", quote("<img src=x onerror=alert(1)>")])
def test_what_is_no_sample_is_404(app: InlineApp, name: str) -> None:
    for answer in (app.client.post(f"/sample/{name}"), app.client.get(f"/sample/{name}")):
        assert answer.status_code == 404 and is_a_sentence(answer)


# --- pictures and files


def test_a_picture_may_be_kept_for_ever_and_is_asked_for_once(app: InlineApp) -> None:
    address = add(app, lambda: b"pixels", "picture")
    answer = app.client.get(address)
    assert (answer.status_code, answer.data, answer.mimetype) == (200, b"pixels", "image/png")
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert "Content-Disposition" not in answer.headers
    tag = answer.headers["ETag"]
    assert tag.strip('"') == address.rsplit("/", 1)[1]
    again = app.client.get(address, headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")
    # a browser takes over what the 304 says: it must not forbid to keep the picture
    assert again.headers["Cache-Control"] == answer.headers["Cache-Control"] and again.headers["ETag"] == tag
    assert app.client.get(address, headers={"If-None-Match": '"another"'}).data == b"pixels"


def test_a_file_is_saved_under_its_name(app: InlineApp) -> None:
    answer = app.client.get(add(app, lambda: b"a,b", "file", "Toy-conv.csv", "text/csv"))
    assert answer.headers["Content-Disposition"] == "attachment; filename=Toy-conv.csv"
    assert answer.data == b"a,b" and answer.mimetype == "text/csv"


@pytest.mark.parametrize("name", ['a"; filename="b.exe', "é😀.html", "a b;c=d.html", HOSTILE_NAME])
def test_a_hostile_file_name_stays_one_quoted_name(app: InlineApp, name: str) -> None:
    answer = app.client.get(add(app, lambda: b"x", name, name, "text/html"))
    header = answer.headers["Content-Disposition"]
    assert header.startswith("attachment; filename") and "\n" not in header and header.isascii()
    assert not re.search(r'(?<!\\)"; *filename=', header)


def test_a_file_of_any_name_can_be_saved_over_a_real_connection(app: InlineApp) -> None:
    """A header is Latin-1 on its way, and a person's file may be called фото.png."""
    with served(app) as port:
        connection = Connection(port, add(app, lambda: b"saved", "photo", "hookscope-фото.png.html", "text/html"))
        text = connection.until(b"saved")
        connection.close()
    assert b"200 OK" in text
    assert b"filename*=UTF-8''hookscope-%D1%84%D0%BE%D1%82%D0%BE.png.html" in text
    app.service._closed.clear()


@pytest.mark.parametrize("key", ["", "0" * 40, "x", "..%2f..%2fapp.py", "%00", "a" * 5000])
def test_an_address_that_was_not_given_out_is_404(app: InlineApp, key: str) -> None:
    answer = app.client.get(f"/picture/{key}")
    if key in ("", "..%2f..%2fapp.py"):
        assert b"import" not in answer.data
    else:
        assert answer.status_code == 404 and is_a_sentence(answer)


@pytest.mark.parametrize("error", [Gone("These values are no longer kept. Choose the layer again."), None])
def test_a_picture_whose_values_are_gone_is_410_and_says_what_to_do(app: InlineApp, error: Exception | None) -> None:
    def draw() -> bytes:
        if error is not None:
            raise error
        return app.inputs.preview("k" * 22)

    answer = app.client.get(add(app, draw, repr(error)))
    assert answer.status_code == 410 and is_a_sentence(answer)
    assert "no longer kept" in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    with pytest.raises(InputMissing):
        app.inputs.preview("k" * 22)


# --- the model's state


def test_the_state_of_a_model(app: InlineApp) -> None:
    answer = app.client.get(f"/state?model={MODEL}")
    assert answer.get_json() == {
        "model": MODEL,
        "phase": "ready",
        "sentence": "Ready.",
        "waiting": 0,
        "fingerprint": INFO.fingerprint,
        "hooks": [],
        "work": dict.fromkeys(("taken", "answered", "failed", "stopped", "dropped"), 0),
    }
    assert answer.headers["Cache-Control"] == "no-store" and app.engine.opened == []


def test_asking_for_the_state_of_an_idle_model_loads_it(app: InlineApp) -> None:
    app.engine.phase, app.engine.infos = "idle", {}
    assert app.client.get(f"/state?model={MODEL}").get_json()["fingerprint"] is None
    assert app.engine.opened == [MODEL]


def test_a_failed_model_is_tried_again_when_the_person_says_so_and_not_before(app: InlineApp) -> None:
    app.engine.phase = "failed"
    app.client.get(f"/state?model={MODEL}")
    assert app.engine.opened == []
    assert app.client.post(f"/open?model={MODEL}").status_code == 204
    assert app.engine.opened == [MODEL]


@pytest.mark.parametrize("model", ["", "os:system", "toy ", "Toy", "%00", quote(HOSTILE_NAME)])
def test_a_model_that_is_not_offered_is_neither_described_nor_loaded(app: InlineApp, model: str) -> None:
    for answer in (app.client.get(f"/state?model={model}"), app.client.post(f"/open?model={model}")):
        assert answer.status_code == 404 and is_a_sentence(answer)
    assert app.client.get("/state").status_code == 404
    assert app.engine.opened == []


# --- share, leave, cancel


def test_a_share_link_leads_to_the_view(app: InlineApp) -> None:
    view = View(model=MODEL, a="sample-coffee", layers=("conv",), target=Class(2))
    path = app.client.post("/share", json=view.to_dict()).get_json()["path"]
    found = re.fullmatch(r"/\?share=([A-Za-z0-9_-]{22})", path)
    assert found and app.shares.get(found[1]) == view


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[" * 100_000, b"null", b'{"layers": {"a": 1}}', b"\xff\xfe", b"1" * 6000]
)
def test_a_share_of_nonsense_is_an_empty_view_or_refused(app: InlineApp, body: bytes) -> None:
    answer = app.client.post("/share", data=body, content_type="application/json")
    if answer.status_code == 200:
        assert app.shares.get(answer.get_json()["path"].split("=")[1]) == View()
    else:
        assert answer.status_code == 400 and is_a_sentence(answer)


def test_a_full_disk_is_a_sentence_in_the_share_box(app: InlineApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    answer = app.client.post("/share", json={})
    assert answer.status_code == 507 and is_a_sentence(answer)


def test_leaving_and_cancelling_are_posts_for_one_page(app: InlineApp) -> None:
    for action in ("leave", "cancel"):
        assert app.client.post(f"/{action}/some-page").status_code == 204
        assert app.client.put(f"/{action}/some-page").status_code == 405
        assert app.client.post(f"/{action}/some-page", headers={"Origin": "null"}).status_code == 403


def test_it_says_that_it_lives(app: InlineApp) -> None:
    assert app.client.get("/healthz").data == b"ok\n"


def test_behind_a_prefix_everything_is_below_it(tmp_path: Path) -> None:
    app = InlineApp(tmp_path, url_prefix="/look/inside/")
    assert app.client.get(f"/look/inside/state?model={MODEL}").status_code == 200
    assert app.client.post("/look/inside/share", json={}).get_json()["path"].startswith("/look/inside/?share=")
    assert app.client.post("/look/inside/sample/coffee").status_code == 200
    assert app.client.get("/healthz").status_code == 200
    assert app.client.get(f"/state?model={MODEL}").status_code == 404
    assert app.client.post("/upload", data=PICTURE).status_code in (404, 405)
    app.close()
