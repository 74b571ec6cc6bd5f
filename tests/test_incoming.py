"""An upload's bytes live in a file of their own, within a limit, and no longer than their request."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ENVIRON, ROOT

from hookscope.dashboard.inputs.decoder import InputRefused
from hookscope.dashboard.inputs.incoming import Incoming, receive


class Endless:
    """A body that never ends, and counts what was taken of it."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int, /) -> bytes:
        self.given += size
        return b"x" * size


class Broken:
    """A connection that breaks after some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, size: int, /) -> bytes:
        if not self.data:
            raise ConnectionResetError("the browser is gone")
        data, self.data = self.data, b""
        return data


def test_a_body_is_written_as_it_is(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    for number, length in enumerate((None, len(data))):
        receive(io.BytesIO(data), length, tmp_path / str(number), 200_000)
        assert (tmp_path / str(number)).read_bytes() == data
    # What is behind the announced end belongs to the next request.
    stream = io.BytesIO(data)
    receive(stream, 1000, tmp_path / "first", 200_000)
    assert (tmp_path / "first").read_bytes() == data[:1000] and stream.tell() == 1000


def test_over_the_limit(tmp_path: Path) -> None:
    endless = Endless()
    with pytest.raises(InputRefused, match="larger than 1 MB") as caught:
        receive(endless, None, tmp_path / "x", 1_000_000)
    assert caught.value.status == 413
    assert endless.given <= 1_000_000 + 2**16
    untouched = Endless()
    with pytest.raises(InputRefused, match="larger than 1 MB"):
        receive(untouched, 1_000_001, tmp_path / "y", 1_000_000)
    assert untouched.given == 0


@pytest.mark.parametrize("length", [None, 0])
def test_an_empty_body(tmp_path: Path, length: int | None) -> None:
    with pytest.raises(InputRefused, match="empty"):
        receive(io.BytesIO(), length, tmp_path / "x", 100)


def test_a_body_that_stops_early(tmp_path: Path) -> None:
    for number, stream in enumerate((io.BytesIO(b"12345"), Broken(b"12345"))):
        with pytest.raises(InputRefused, match="stopped after 5 of 1,000 bytes"):
            receive(stream, 1000, tmp_path / str(number), 2000)


def test_nothing_is_left_of_a_place(tmp_path: Path) -> None:
    incoming = Incoming(tmp_path / "incoming")
    for failure in (None, InputRefused("No."), OSError("odd")):
        try:
            with incoming.place() as place:
                for suffix in ("", ".rgb", ".jpg", ".json"):
                    place.with_suffix(suffix).write_bytes(b"x")
                if failure:
                    raise failure
        except (InputRefused, OSError):
            pass
        assert [path.name for path in place.parent.iterdir()] == ["lock"]
    with pytest.raises(InputRefused, match="no room") as caught, incoming.place():
        raise OSError(28, "No space left on device")
    assert caught.value.status == 507
    with pytest.raises(InputRefused, match="could not keep") as caught, incoming.place():
        raise PermissionError(13, "Permission denied")
    assert caught.value.status == 500
    incoming.close()
    incoming.close()
    with pytest.raises(InputRefused, match="stopping"), incoming.place():
        pass
    assert not list((tmp_path / "incoming").iterdir())


def test_what_a_killed_server_left_is_removed_and_a_running_ones_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    script = f"""
import os, signal
from pathlib import Path
from hookscope.dashboard.inputs.incoming import Incoming
(Incoming(Path({str(folder)!r}))._folder / "half an upload").write_bytes(b"x")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=ENVIRON, check=False)
    (left,) = folder.iterdir()
    running = Incoming(folder)
    assert not left.exists()
    another = Incoming(folder)
    assert running._folder.exists()
    running.close()
    another.close()
