"""Downloads that do not come to their end: no file of them stays, however the worker ends."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import pytest
from checkout import ENVIRON

from hookscope.dashboard.engine import protocol
from hookscope.dashboard.sources.unfinished import remove_unfinished, unfinished

# What the worker process does: the mailbox listens first, then torch is imported, then weights are fetched.
WORKER = """
    import sys
    from multiprocessing.connection import Connection
    from pathlib import Path
    from hookscope.dashboard.worker.mailbox import Mailbox
    Mailbox(Connection(int(sys.argv[1])))
    assert "torch" not in sys.modules
    from hookscope.dashboard.sources import weights
    weights.download(sys.argv[2], Path(sys.argv[3]), lambda sentence: print(sentence, flush=True))
"""


@pytest.fixture
def slow_file() -> Iterator[str]:
    """The address of a file of 3 MB, of which the last does not come."""
    over = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(3 << 20))
            self.end_headers()
            self.wfile.write(bytes(2 << 20))
            over.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/net.pth"
        over.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("ends", ["it is told to", "its server is gone"])
def test_a_worker_that_ends_in_the_middle_of_a_download_leaves_no_file(
    slow_file: str, tmp_path: Path, ends: str
) -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(theirs.fileno()), slow_file, str(tmp_path / "net")]
    with subprocess.Popen(
        command, env=ENVIRON, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True
    ) as worker:
        theirs.close()
        output: IO[str] | None = worker.stdout
        assert output is not None and "1 of 3 MB" in output.readline()
        assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
        with Connection(ours.detach()) as connection:
            if ends == "it is told to":
                connection.send_bytes(protocol.encode(protocol.Close()))
                worker.wait(60)
        worker.wait(60)
    assert list(tmp_path.iterdir()) == []


def test_a_file_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with unfinished(path) as partial:
        partial.write_text("whole")
        partial.replace(path)
    assert [each.name for each in path.parent.iterdir()] == ["file"] and path.read_text() == "whole"
    with pytest.raises(OSError, match="broke"), unfinished(path) as partial:
        partial.write_text("a half")
        raise OSError("broke off")
    assert [each.name for each in path.parent.iterdir()] == ["file"] and path.read_text() == "whole"
    with unfinished(path) as partial:
        partial.write_text("a half")
        remove_unfinished()
        remove_unfinished()
        assert not partial.exists()
