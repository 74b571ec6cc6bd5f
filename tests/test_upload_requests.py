"""Uploads over real HTTP to the real application: malformed requests, hostile names, many at once, a dying decoder."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import mutated_uploads
import numpy as np
import pytest
from made_pictures import colours, encoded
from PIL import Image
from served import Application, until
from tempo import limit

from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.child.decoding import MAX_PIXELS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")

PIXELS = colours()
PICTURE = encoded(Image.fromarray(PIXELS), "PNG")
LIMIT_BYTES = 30_000_000
MEMORY_BYTES = 200 * 10**6


class Server:
    """The real application with its files, its processes and its memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.application = Application(folder, "--max-upload-mb", str(LIMIT_BYTES // 10**6))
        self.port = urlsplit(self.application.url).port or 0
        self.pid = self.application.process.pid

    def send(self, request: bytes, hang_up: bool = False) -> tuple[int, str]:
        """Send bytes as they are; returns the status and the body of the answer, 0 and "" if there is none."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
                connection.sendall(request.replace(b"HOST", f"Host: 127.0.0.1:{self.port}".encode(), 1))
            if hang_up:
                return 0, ""
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status, answer.read().decode()

    def upload(self, data: bytes, name: str = "cat.png") -> tuple[int, str]:
        return self.send(
            b"POST /upload?name=%s HTTP/1.1\r\nHOST\r\nContent-Length: %d\r\n\r\n" % (quote(name).encode(), len(data))
            + data
        )

    def works(self) -> bool:
        """Whether it is the same process and takes a picture."""
        status, text = self.upload(PICTURE)
        return status == 200 and json.loads(text)["width"] == 30 and self.application.process.poll() is None

    def incoming(self) -> list[str]:
        """What is left of uploads on their way in."""
        return [path.name for path in (self.folder / "inputs" / "incoming").rglob("*") if path.is_file()]

    def decoders(self) -> list[int]:
        """The decoding children that run."""
        found = []
        for path in Path(f"/proc/{self.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                for child in path.read_text().split():
                    if b"hookscope.dashboard.inputs.child.decoding" in Path(f"/proc/{child}/cmdline").read_bytes():
                        found.append(int(child))
        return found

    def memory(self, name: str) -> int:
        """Bytes that /proc says of the server's own process: "VmRSS" now, "VmHWM" at most since `forget_peak`."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) * 1024  # type: ignore[index]

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("cache"))
    yield started
    started.application.stop()


def post(*headers: bytes, body: bytes = b"", line: bytes = b"POST /upload?name=cat.png HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"HOST", *headers, b"", body])


def length(number: int) -> bytes:
    return b"Content-Length: %d" % number


def in_chunks(data: bytes) -> bytes:
    parts = [data[start : start + 1000] for start in range(0, len(data), 1000)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="cat.png"\r\nContent-Type: image/png\r\n\r\n'
    + PICTURE
    + b"\r\n--x--\r\n"
)
FORM_TYPE = b"Content-Type: multipart/form-data; boundary=x"
WHOLE = length(len(PICTURE))
CHUNKED = b"Transfer-Encoding: chunked"
# name: (request, status, a part of the answer)
REQUESTS: dict[str, tuple[bytes, int, str]] = {
    "as it should be": (post(WHOLE, body=PICTURE), 200, '"width": 30'),
    "in chunks": (post(CHUNKED, body=in_chunks(PICTURE)), 200, '"width": 30'),
    "any content type": (post(WHOLE, b"Content-Type: text/html", body=PICTURE), 200, '"width": 30'),
    "no content type": (post(WHOLE, b"Content-Type: ", body=PICTURE), 200, '"width": 30'),
    "no name": (post(WHOLE, body=PICTURE, line=b"POST /upload HTTP/1.1"), 200, '"name": "picture"'),
    "more than announced": (post(WHOLE, b"Connection: close", body=PICTURE + b"GET / HTTP/1.1"), 200, '"width": 30'),
    "waits to be told to go on": (post(WHOLE, b"Expect: 100-continue", body=PICTURE), 200, '"width": 30'),
    "no length": (post(b"Connection: close"), 400, "The file is empty; choose a picture."),
    "length 0": (post(length(0)), 400, "The file is empty; choose a picture."),
    "empty in chunks": (post(CHUNKED, body=b"0\r\n\r\n"), 400, "The file is empty; choose a picture."),
    "less than a picture": (post(length(60), body=PICTURE[:60]), 422, "damaged, cut short"),
    "HTTP 1.0 without a length": (post(body=PICTURE, line=b"POST /upload HTTP/1.0"), 400, "The file is empty"),
    "a form": (post(length(len(FORM)), FORM_TYPE, body=FORM), 422, "not a picture"),
    "JSON": (post(length(16), b"Content-Type: application/json", body=b'{"data": "iVBO"}'), 422, "not a picture"),
    "a data address": (post(length(26), body=b"data:image/png;base64,iVBO"), 422, "not a picture"),
    "a little too large": (post(length(LIMIT_BYTES + 1), body=b"\0" * (LIMIT_BYTES + 1)), 413, "larger than 30 MB"),
    "much too large, nothing sent": (post(length(10**12)), 413, "exceeds max_body"),
    "too large in chunks": (post(CHUNKED, body=in_chunks(b"\0" * 32 * 10**6)), 413, "exceeds max_body"),
    "a negative length": (post(b"Content-Length: -1", body=PICTURE), 400, ""),
    "a length in words": (post(b"Content-Length: many", body=PICTURE), 400, ""),
    "two lengths": (post(WHOLE, length(7), body=PICTURE), 400, ""),
    "a length and chunks": (post(length(7), CHUNKED, body=in_chunks(PICTURE)), 200, '"width": 30'),
    "junk for chunks": (post(CHUNKED, body=b"zz\r\nzz\r\n0\r\n\r\n"), 400, ""),
    "another transfer encoding": (post(b"Transfer-Encoding: gzip", body=PICTURE), 501, ""),
    "headers without end": (post(b"X-Long: " + b"x" * 300_000), 431, ""),
    "a broken request line": (b"POST\r\n\r\n", 400, ""),
    "GET, which is the page": (post(line=b"GET /upload HTTP/1.1"), 200, "<!DOCTYPE html>"),
    "PUT": (post(WHOLE, body=PICTURE, line=b"PUT /upload HTTP/1.1"), 405, ""),
    "from another site": (post(WHOLE, b"Origin: http://evil.example", body=PICTURE), 403, "."),
    "for another host": (post(WHOLE, body=PICTURE).replace(b"HOST", b"Host: evil.example"), 400, "one of its names"),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_a_malformed_request_is_answered_and_leaves_nothing(server: Server, name: str) -> None:
    request, status, part = REQUESTS[name]
    found, text = server.send(request)
    assert found == status
    assert part in text and "Traceback" not in text
    assert server.incoming() == ["lock"]


def test_an_upload_that_breaks_off_leaves_nothing(server: Server) -> None:
    for share in (0, 30, 5000):
        server.send(post(length(10_000), body=(PICTURE * 50)[:share]), hang_up=True)
        server.send(post(CHUNKED, body=in_chunks(PICTURE * 50)[:share]), hang_up=True)
    until(lambda: server.incoming() == ["lock"])
    assert server.works()


NAMES = {
    "a path": "../../../etc/passwd",
    "a Windows path": r"C:\Users\me\..\cat.png",
    "NUL": "cat.png\0.exe",
    "a new line": "cat\r\nSet-Cookie: x=1.png",
    "right to left": "\u202egnp.exe",
    "no width": "c\u200ba\ufefft.png",
    "4 KB": "x" * 4096 + ".png",
    "4 KB of emoji": "\U0001f63a" * 1024,
    "HTML": '"><img src=x onerror=alert(1)>.png',
    "a template": "{{7*7}}${7*7}<%= 7*7 %>.png",
    "dots": "...",
    "nothing to see": "\u200b\u200b",
    "a formula": "=cmd|'/c calc'!A0.png",
    "another ending": "cat.php",
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_hostile_name_is_a_label_and_nothing_else(server: Server, kind: str) -> None:
    before = {path.relative_to(server.folder) for path in server.folder.rglob("*")}
    status, text = server.upload(PICTURE, NAMES[kind])
    assert status == 200
    label = json.loads(text)["name"]
    assert 0 < len(label) <= 80 and label.isprintable() and not set(label) & set("/\\")
    new = {path.relative_to(server.folder) for path in server.folder.rglob("*")} - before
    assert all(re.fullmatch(r"inputs/(keys/[\w-]{22}\.json|pixels/[0-9a-f]{64}\.(png|jpg))", str(path)) for path in new)


def test_a_name_in_another_encoding(server: Server) -> None:
    for name in (b"%ff%fe.png", b"caf%e9.png", b"%00", b"%2e%2e%2f%2e%2e%2fx", b"%u202e", b"a&name=b"):
        status, text = server.send(post(WHOLE, body=PICTURE, line=b"POST /upload?name=%s HTTP/1.1" % name))
        assert status == 200
        label = json.loads(text)["name"]
        assert label.isprintable() and "/" not in label


def noise(side: int) -> bytes:
    """An uncompressed picture of side * side * 3 bytes."""
    tile = np.random.default_rng(3).integers(0, 256, (100, 100, 3), np.uint8)
    return encoded(Image.fromarray(np.tile(tile, (side // 100, side // 100, 1))), "BMP")


def test_ten_uploads_of_25_mb_at_once_take_little_memory(server: Server) -> None:
    data = noise(2900)
    assert 25_000_000 < len(data) < LIMIT_BYTES
    assert server.works()
    server.forget_peak()
    before = server.memory("VmRSS")
    answers: list[tuple[int, str]] = []
    threads = [threading.Thread(target=lambda: answers.append(server.upload(data))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    added = server.memory("VmHWM") - before
    print(f"ten uploads of {len(data) / 1e6:.0f} MB at once added {added / 1e6:.0f} MB to {before / 1e6:.0f} MB")
    assert [status for status, _ in answers] == [200] * 10
    assert added < MEMORY_BYTES
    assert server.incoming() == ["lock"]


@pytest.fixture(scope="module")
def slow_picture() -> bytes:
    """The largest that is accepted: its decoder runs long enough to be met."""
    return encoded(Image.new("L", (8000, MAX_PIXELS // 8000), 7), "PNG", compress_level=1)


def test_a_decoder_that_is_killed_is_a_sentence_and_the_next_upload_works(server: Server, slow_picture: bytes) -> None:
    for number, words in (
        (signal.SIGSEGV, "This picture's decoder crashed"),
        (signal.SIGABRT, "This picture's decoder crashed"),
        (signal.SIGKILL, "The system ended the reading of this picture"),
    ):
        status, text = while_decoding(server, slow_picture, lambda pid, number=number: os.kill(pid, number))
        assert status == 422 and words in text and mutated_uploads.SENTENCE.fullmatch(text.strip())
        assert server.works() and server.incoming() == ["lock"] and server.decoders() == []


def test_a_decoder_that_hangs_is_a_sentence_and_others_are_not_kept_waiting(
    server: Server, slow_picture: bytes
) -> None:
    waited: list[float] = []

    def hang(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        assert server.works()
        waited.append(time.monotonic() - began)

    began = time.monotonic()
    status, text = while_decoding(server, slow_picture, hang)
    assert status == 422 and "takes longer than 10 s" in text
    assert time.monotonic() - began < limit(20) and waited[0] < limit(8)
    assert server.works() and server.incoming() == ["lock"] and server.decoders() == []


def while_decoding(server: Server, data: bytes, act: Callable[[int], None]) -> tuple[int, str]:
    """Upload a picture, do something to the process that decodes it, and return the answer."""
    answers: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: answers.append(server.upload(data)))
    thread.start()
    (pid,) = until(server.decoders, 20, "for the decoder")
    act(pid)
    thread.join()
    return answers[0]


def test_damaged_files_over_http_leave_the_server_as_it_was(server: Server) -> None:
    files = mutated_uploads.bases()
    for number in range(40):
        status, text = server.upload(mutated_uploads.mutant(number, files))
        assert status in (200, 422), text
        assert status == 200 or mutated_uploads.SENTENCE.fullmatch(text.strip())
    assert server.works() and server.incoming() == ["lock"] and server.decoders() == []


def test_what_is_served_is_not_what_was_sent(server: Server) -> None:
    """No address gives back a byte that a person sent: the page is told a key, and the key leads to new pixels."""
    exif = Image.Exif()
    exif[0x010E] = "PAYLOAD"
    sent = encoded(Image.fromarray(PIXELS), "PNG", exif=exif.tobytes()) + b"<script>PAYLOAD</script>"
    key = json.loads(server.upload(sent, "PAYLOAD.html")[1])["key"]
    kept = b"".join(path.read_bytes() for path in (server.folder / "inputs" / "pixels").iterdir())
    assert b"PAYLOAD" in sent and b"PAYLOAD" not in kept
    for path in (f"/picture/{key}", f"/upload/{key}", f"/inputs/keys/{key}.json", f"/sample/{key}", f"/assets/{key}"):
        status, text = server.send(post(line=f"GET {path} HTTP/1.1".encode()))
        # Where there is no such address, Dash answers with the page.
        assert status == 404 or "<title>Hookscope</title>" in text
        assert "PAYLOAD" not in text
    with rows.picture((server.folder / "inputs" / "pixels" / pixels_of(server, key)).read_bytes()) as image:
        assert np.array_equal(np.asarray(image), PIXELS)


def pixels_of(server: Server, key: str) -> str:
    return json.loads((server.folder / "inputs" / "keys" / f"{key}.json").read_text())["digest"] + ".rgb"
