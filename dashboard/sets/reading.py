"""Decodes single pictures of sets for whoever asks for a few of them, beside the sweeps, which have feeds of their own.

One child at a time, kept for the next picture and ended when nobody has asked for a while.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from pathlib import Path

from hookscope.dashboard.inputs.decoder import Decoder, InputRefused, Many
from hookscope.dashboard.inputs.rows import SUFFIX
from hookscope.dashboard.sets.feeding import check_file

IDLE_SECONDS = 20.0


class Reader:
    """Reads pictures, one after the other.

    Arguments:
        decoder: runs the child.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._child = Many(decoder)
        self._lock = threading.Lock()
        self._idle: threading.Timer | None = None
        self._closed = False

    def read(self, source: Path, preview: Path) -> bytes:
        """Every pixel of a picture, as `inputs.rows` has them.

        Arguments:
            preview: where its small copy is kept; made if it is not there.

        Raises:
            InputRefused: it cannot be read.
        """
        with self._lock, tempfile.TemporaryDirectory(prefix="hookscope-picture-") as folder:
            if self._closed:
                raise InputRefused("The server is stopping; choose the set again when it is back.", 503)
            self._stop_waiting()
            target = Path(folder) / "picture"
            try:
                check_file(source)
                self._child.decode(source, target)
                _keep(target.with_suffix(".jpg"), preview)
                return target.with_suffix(SUFFIX).read_bytes()
            except OSError as error:
                raise InputRefused(f"The decoded picture is gone ({error.strerror}); ask for it again.") from error
            finally:
                self._idle = threading.Timer(IDLE_SECONDS, self._end_idle)
                self._idle.daemon = True
                self._idle.start()

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._closed = True
            self._stop_waiting()
            self._child.end()

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _end_idle(self) -> None:
        with self._lock:
            if self._idle is threading.current_thread():  # nobody has asked since
                self._idle = None
                self._child.end()


def _keep(made: Path, preview: Path) -> None:
    if preview.exists():
        return
    with contextlib.suppress(OSError):
        preview.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.move(made, preview)
