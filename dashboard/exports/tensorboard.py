"""What a page shows, written for TensorBoard: into a new folder below the one that the operator named.

A browser says which view it shows, and never where to write. The event files are written by a process of its own
(`exports.tensorboard_writer`), because TensorBoard's writer needs torch, and the model's worker has other things to
do; what it writes are the answers that the page was drawn from.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import flask

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.questions import ActivationOf, GradientsOf
from hookscope.dashboard.asking.texts import file_name
from hookscope.dashboard.engine.process import environment
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Scene, loaded
from hookscope.dashboard.page.view import View
from hookscope.dashboard.places import IMPORTED_FROM
from hookscope.hooks.results.codec import encode
from hookscope.hooks.results.looks import Activation, Gradients

TIMEOUT_SECONDS = 120
NOTHING = "Choose a picture and a layer first: what is shown is what is written."
FOLDER_NAME_LENGTH = 50  # letters of up to four bytes, of 255 with the time
COMMAND = (sys.executable, "-P", "-m", "hookscope.dashboard.exports.tensorboard_writer")


class NotWritten(Exception):
    """Nothing was written; the text says why, as a sentence."""


def register(server: flask.Flask, prefix: str, service: Service, folder: Path) -> None:
    """Put the route on a server that may write into `folder`."""
    writing = threading.Lock()

    @server.post(f"{prefix}tensorboard")
    def write_for_tensorboard() -> flask.Response:
        if not writing.acquire(blocking=False):
            return _sentence(429, "Somebody else is writing for TensorBoard. Try again in a moment.")
        try:
            view = View.from_dict(flask.request.get_json(silent=True))
            return _sentence(200, write(view, service, folder))
        except NotWritten as problem:
            return _sentence(409, str(problem))
        except RecursionError:  # JSON that is nested thousands of levels deep
            return _sentence(400, "This is no view that could be written.")
        finally:
            writing.release()


def write(view: View, service: Service, folder: Path) -> str:
    """Write the answers behind a view; returns a sentence that says where.

    Gradients of the explained class are written where their tab has computed them; nothing is computed here.

    Raises:
        NotWritten: there is nothing to write, or the folder cannot be written to.
    """
    infos = loaded(view, service)
    if not infos:
        raise NotWritten(NOTHING)
    scene = Scene.build(view, infos, service, Gallery(""), Readings(), 0)
    wanted = {
        (side, key): unit for key in view.layers if key for side, unit in scene.of_layer(ActivationOf, key).items()
    }
    gradients = {side: service.value(scene.unit(side, GradientsOf(scene.target(side)))) for side in scene.inputs}
    slopes = [(side.upper(), value) for side, value in gradients.items() if isinstance(value, Gradients)]
    if not (wanted or slopes):
        raise NotWritten(NOTHING)
    values = {about: service.value(unit) for about, unit in sorted(wanted.items())}
    found = [(side.upper(), value) for (side, _), value in values.items() if isinstance(value, Activation)]
    if not (found or slopes):
        raise NotWritten("None of the shown layers has been computed yet. Wait for the cards and try again.")
    run = _new_folder(folder, "-".join(info.title for info in scene.models.values()))
    _run(run, [*found, *slopes])
    left_out = len(wanted) - len(found)
    missing = f" {left_out} of {len(wanted)} were not computed yet and are left out." if left_out else ""
    return f"Written to {run}.{missing} See it with: tensorboard --logdir {folder}"


def _new_folder(folder: Path, title: str) -> Path:
    """A folder that was not there before, named by time and model."""
    name = f"{datetime.datetime.now():%Y-%m-%d-%H%M%S}-{file_name(title, FOLDER_NAME_LENGTH)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, 100):
            run = folder / (name if number == 1 else f"{name}-{number}")
            try:
                run.mkdir()
            except FileExistsError:
                continue
            return run
    except OSError as error:
        raise NotWritten(
            f"The folder for TensorBoard cannot be written to ({error.strerror}). Tell whoever runs the server."
        ) from error
    raise NotWritten("Too much was written for TensorBoard within this second. Try again in a moment.")


def _run(run: Path, found: Sequence[tuple[str, Activation | Gradients]]) -> None:
    """Hand the values to the writing process: for each, its side's letter, its length in eight bytes, and itself."""
    parts: list[bytes] = []
    for side, answer in found:
        data = encode(answer)
        parts += [side.encode(), len(data).to_bytes(8, "little"), data]
    try:
        ran = subprocess.run(
            [*COMMAND, str(run)],
            input=b"".join(parts),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            cwd=IMPORTED_FROM,
            env=environment(threads=1),
        )
    except subprocess.TimeoutExpired as error:
        raise NotWritten(f"Writing took more than {TIMEOUT_SECONDS} seconds and was stopped.") from error
    if ran.returncode != 0:
        print(ran.stderr.decode(errors="replace"), file=sys.stderr)
        lines = ran.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise NotWritten(f"Writing failed: {lines[-1][:300]}")


def _sentence(status: int, text: str) -> flask.Response:
    return flask.Response(text + "\n", status, mimetype="text/plain")
