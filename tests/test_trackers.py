"""What trackers are given: the same names and numbers for each, keys that they take, and pictures of 8 bits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkout import ENVIRON, ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn.functional import cross_entropy

import hookscope as hs
from hookscope.hooks.datasets.tensorboard import Writer
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.feeds import BINS, bin_edges
from hookscope.hooks.results.greys import grid
from hookscope.hooks.training.mlflow import Keys, enlarged
from hookscope.hooks.training.rows import DEAD, LOGGED, NAMES, names_of, rows

ORACLES = ROOT / ".venv-oracles" / "bin" / "python"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feed of a network whose ReLU has one of four channels dead."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0, -1
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pictures, classes = torch.randn(8, 3, 8, 8), torch.randint(0, 5, (8,))
    path = tmp_path_factory.mktemp("feeds") / "run"
    with hs.follow(model, path, every=2, optimizer=optimizer, pinned=pictures[:1]) as feed:
        feed.metric("most")(lambda layer, value: value.max())
        for _ in range(6):
            loss = cross_entropy(model(pictures), classes)
            loss.backward()
            feed.step(loss=loss)
            optimizer.step()
            optimizer.zero_grad()
    return path


def test_rows_are_the_feeds_own_numbers_by_name_and_layer(folder: Path) -> None:
    feed = hs.read_feed(folder)
    look = feed.looks[1]
    found = rows(look)
    assert found["gradient norm/0"] == look.of("0")["g", "norm"]
    assert found["update ratio/3"] == look.of("3")["u", "ratio"]
    assert found["activation rms/2"] == look.of("2")["a", "rms"]
    assert found["dead channels/1"] == 0.25 and look.of("1")["a", "dead"] == 1
    assert found["most/1"] == pytest.approx(float(look.own["most"][look.layers.index("1")]))
    assert "gradient norm/1" not in found and not any(np.isnan(value) for value in found.values())
    assert {name.partition("/")[0] for name in found} == {*LOGGED, "most"}
    assert {name.partition("/")[2] for name in rows(look, layers=["3"])} == {"3"}
    assert len(NAMES) == 20 and names_of("weight norm") == ("weight norm",) and names_of(False) == ()
    with pytest.raises(HooksError, match=r"no number 'norm' of a layer\. There are activation mean, .*, dead channels"):
        names_of("norm")


def test_tensorboard_has_the_same_numbers_distributions_and_maps(folder: Path, tmp_path: Path) -> None:
    feed = hs.read_feed(folder)
    with Writer(tmp_path) as writer:
        writer.add_feed(feed, [*LOGGED, "weight norm"])
    run = EventAccumulator(str(tmp_path), {"histograms": 0, "images": 0, "scalars": 0, "tensors": 0}).Reload()
    for look in feed.looks:
        for name, value in rows(look, [*LOGGED, "weight norm"]).items():
            (event,) = [each for each in run.Scalars(name) if each.step == look.step]
            assert event.value == np.float32(value), name
        for group, title in (("a", "activation"), ("g", "gradient"), ("w", "weight")):
            for layer, counts in feed.bins(look.step)[group].items():
                (event,) = [each for each in run.Histograms(f"{title}/{layer}") if each.step == look.step]
                found = event.histogram_value
                assert found.num == counts.sum() and sum(found.bucket) == counts.sum()
                # each bucket is a bin of ours: between the same edges as many values
                for start, end, count in zip(
                    found.bucket_limit[:-1], found.bucket_limit[1:], found.bucket[1:], strict=True
                ):
                    middle = np.searchsorted(bin_edges(), (start + end) / 2)
                    assert counts[middle] == count
    assert len(feed.bins(0)["a"]["0"]) == BINS and len(run.Images("maps/0")) == 3


def test_keys_are_what_mlflow_takes_and_each_its_own() -> None:
    key = Keys()
    names = ["gradient norm/layer1.0/add:2", "a?", "a!", "a?", "../x", "/x//y", "ü/ß", "x" * 1000, "x" * 999 + "y", " "]
    found = [key(name) for name in names]
    assert found[:4] == ["gradient norm/layer1.0/add_2", "a_", "a_ 2", "a_"]
    assert found[4:7] == ["_/x", "_/x/_/y", "_/_"] and found[7] != found[8] and len(found[7]) <= 200
    assert len(set(found)) == len(set(names))
    for each in found:
        assert set(each) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. /")
        assert os.path.normpath(each) == each and not each.startswith("/")


def test_pictures_have_a_line_between_maps_and_none_is_too_narrow_for_mlflow() -> None:
    maps = np.arange(1, 4, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
    assert grid(maps).tolist() == [
        [1, 1, 1, 0, 2, 2, 2],
        [1, 1, 1, 0, 2, 2, 2],
        [0, 0, 0, 0, 0, 0, 0],
        [3, 3, 3, 0, 0, 0, 0],
        [3, 3, 3, 0, 0, 0, 0],
    ]
    small = enlarged(np.array([[0, 255]], np.uint8))
    assert small.shape == (128, 256) and (small[:, :128] == 0).all() and (small[:, 128:] == 255).all()
    for shape in ((1, 1000), (1000, 1), (300, 1), (1, 257), (500, 400)):
        height, width = enlarged(np.zeros(shape, np.uint8)).shape
        assert max(height, width) <= 64 * min(height, width) and height % shape[0] == width % shape[1] == 0


def test_without_mlflow_or_wandb_a_sentence_says_so(folder: Path) -> None:
    code = (
        "import sys; sys.modules['mlflow'] = sys.modules['wandb'] = None\n"
        "import hookscope as hs\n"
        "for module in (hs.mlflow, hs.wandb):\n"
        "    try: module.log_layers(sys.argv[1])\n    except ImportError as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, folder], env=ENVIRON, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [
        "MLflow is not installed: pip install 'hookscope[mlflow]'.",
        "Weights & Biases is not installed: pip install wandb.",
        "False",
    ]


class Recorder(types.SimpleNamespace):
    """Stands for MLflow, which cannot be installed beside the tested versions; test_mlflow.py has the real one."""

    def __init__(self) -> None:
        super().__init__(numbers={}, images={}, figures=[], flushed=0)
        self.entities = types.SimpleNamespace(Metric=lambda key, value, when, step: (key, value, when, step))

    def active_run(self) -> Any:
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="here"))

    def MlflowClient(self) -> Recorder:
        return self

    def log_batch(self, run: str, metrics: Any, synchronous: bool) -> None:
        assert run == "here" and synchronous and len(metrics) <= 1000
        for key, value, _, step in metrics:
            self.numbers[key, step] = value

    def log_image(self, run: str, image: np.ndarray, key: str, step: int, synchronous: bool) -> None:
        assert image.dtype == np.uint8 and synchronous
        self.images[key, step] = image

    def log_figure(self, run: str, figure: Any, path: str) -> None:
        self.figures.append(path)

    def flush_async_logging(self) -> None:
        self.flushed += 1


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", found)
    return found


def test_mlflow_is_given_a_feed(folder: Path, recorder: Recorder) -> None:
    hs.mlflow.log_layers(folder, maps=2)
    feed = hs.read_feed(folder)
    expected = {(name, look.step): value for look in feed.looks for name, value in rows(look).items()}
    assert recorder.numbers == expected and recorder.figures == ["hookscope/gradient norm.png"] and recorder.flushed
    assert {step for _, step in recorder.images} == {0, 4}
    (key,) = [key for key, step in recorder.images if step == 4 and key.startswith("maps/0 ")]
    values = feed.maps(4).maps["0"]
    high = float(np.abs(values).max())
    assert key == f"maps/0 black {-high:.4g} white {high:.4g}".replace("+", "_")
    shown = recorder.images[key, 4]
    times = 256 // 13  # two maps of 6 and a line
    assert shown.shape == (13 * times, 13 * times)
    first = np.rint((values[0].astype(np.float64) + high) / (2 * high) * 255)
    assert (shown[: 6 * times : times, : 6 * times : times] == first).all()


def test_mlflow_is_given_looks_as_they_come_and_never_stops_a_training(tmp_path: Path, recorder: Recorder) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        hs.mlflow.log_layers(feed)
        for step in range(3):
            if step == 2:
                recorder.log_batch = None  # type: ignore[method-assign]
            model(torch.randn(2, 4)).sum().backward()
            if step == 2:
                with pytest.warns(UserWarning, match="What listened to the feed failed"):
                    feed.step()
            else:
                feed.step()
    assert {step for _, step in recorder.numbers} == {0, 1} and len(hs.read_feed(tmp_path / "run").looks) == 3


def train(feed: Any, model: nn.Module, optimizer: Any, pictures: torch.Tensor, steps: int) -> None:
    for _ in range(steps):
        loss = cross_entropy(model(pictures), torch.arange(len(pictures)) % 5)
        loss.backward()
        feed.step(loss=loss)
        optimizer.step()
        optimizer.zero_grad()


def test_mlflow_is_given_maps_and_the_figure_of_a_feed_that_is_written(tmp_path: Path, recorder: Recorder) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pictures = torch.randn(8, 3, 8, 8)
    with hs.follow(model, tmp_path / "run", every=2, optimizer=optimizer, pinned=pictures[:1]) as feed:
        hs.mlflow.log_layers(feed)
        train(feed, model, optimizer, pictures, 1)
        assert {step for _, step in recorder.images} == {0} and not recorder.figures  # one look is no course
        shown = {key: image for (key, step), image in recorder.images.items() if step == 0}
        train(feed, model, optimizer, pictures, 11)  # looks at 0, 2, ..., 10: the first, second, fourth, and the last
        flushed = recorder.flushed
    assert {step for _, step in recorder.images} == {0, 2, 6, 10} and recorder.flushed == flushed + 1
    assert recorder.figures == ["hookscope/gradient norm.png"] * 3
    written = hs.read_feed(tmp_path / "run")
    expected = {(name, look.step): value for look in written.looks for name, value in rows(look).items()}
    assert recorder.numbers == pytest.approx(expected, rel=1e-4)  # a line has five digits
    kept = written.maps(0)
    assert kept is not None and {key.split()[0] for key in shown} == {f"maps/{layer}" for layer in kept.maps}
    (drawn,) = [image for key, image in shown.items() if key.startswith("maps/1 ")]  # behind a ReLU: 0 is black
    most, times = kept.maps["1"].max(), 256 // 13
    first = np.rint(kept.maps["1"][0].astype(np.float64) / most * 255)
    assert (drawn[: 6 * times : times, : 6 * times : times] == first).all()

    recorder.images.clear()
    with hs.follow(model, tmp_path / "again", every=1, optimizer=optimizer, pinned=pictures[:1]) as feed:
        hs.mlflow.log_layers(feed, maps=0, figure=False)
        train(feed, model, optimizer, pictures, 2)
    assert not recorder.images and len(recorder.figures) == 3


def test_trackers_are_given_nothing_by_the_processes_that_do_not_write(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(recorder, "active_run", lambda: None)  # the first process alone has begun one
    model = nn.Sequential(nn.Linear(4, 4))
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        hs.mlflow.log_layers(feed)
        hs.wandb.log_layers(feed)
        model(torch.randn(2, 4)).sum().backward()
        feed.step()
    assert not recorder.numbers and not (tmp_path / "run").exists()


def test_mlflow_is_given_what_was_captured_and_diagnostics(recorder: Recorder) -> None:
    torch.manual_seed(0)
    model, pictures = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(2, 3, 8, 8)
    with hs.capture(model, ["0", "1"]) as seen, torch.no_grad():
        answer = model(pictures)
    hs.mlflow.log_layers(seen, step=7)
    values = answer.double().numpy()
    assert recorder.numbers["output mean/1", 7] == pytest.approx(values.mean())
    assert recorder.numbers["output std/1", 7] == pytest.approx(values.std())
    assert recorder.numbers["output zeros/1", 7] == pytest.approx((values == 0).mean())
    assert [key.split()[0] for key, _ in recorder.images] == ["maps/0", "maps/1"]

    diagnostics = hs.Diagnostics(model, features=1)
    diagnostics.run(pictures)
    recorder.images.clear()
    hs.mlflow.log_layers(diagnostics, step=8, layers=["1"])
    assert recorder.numbers["output mean/1", 8] == pytest.approx(values.mean(), rel=1e-6)
    assert recorder.numbers["dead channels/1", 8] == 0 and ("output mean/0", 8) not in recorder.numbers
    assert len(recorder.images) == 1
    with pytest.raises(HooksError, match="and this is a int"):
        hs.mlflow.log_layers(3)


class OfBiases(types.SimpleNamespace):
    """Stands for a run of wandb's."""

    def __init__(self) -> None:
        super().__init__(axes=[], lines=[])

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axes.append((name, step_metric))

    def log(self, line: Any) -> None:
        self.lines.append(line)


def test_wandb_is_given_the_same_rows_at_the_feeds_steps(folder: Path) -> None:
    run = OfBiases()
    hs.wandb.log_layers(folder, run=run, log=["gradient norm", DEAD])
    feed = hs.read_feed(folder)
    assert run.lines == [{**rows(look, ["gradient norm", DEAD]), "step of the feed": look.step} for look in feed.looks]
    assert ("gradient norm/*", "step of the feed") in run.axes
    with pytest.raises(HooksError, match="and this is a int"):
        hs.wandb.log_layers(3, run=run)


def test_layers_that_are_not_there_are_told_and_one_name_is_one_layer(
    folder: Path, tmp_path: Path, recorder: Recorder
) -> None:
    for log in (hs.mlflow.log_layers, lambda *given, **more: hs.wandb.log_layers(*given, run=OfBiases(), **more)):
        with pytest.raises(HooksError, match=r"no numbers of a layer 'nope'\. There are those of 0, 1, 2"):
            log(folder, layers=["0", "nope"])
    hs.mlflow.log_layers(folder, layers="0", maps=0, figure=False)
    assert {name.split("/")[1] for name, _ in recorder.numbers} == {"0"}

    recorder.numbers.clear()
    model = nn.Sequential(nn.Linear(4, 4))
    with (
        pytest.warns(UserWarning, match="no numbers of a layer 'net'. There are those of 0") as said,
        hs.follow(model, tmp_path / "run", every=1) as feed,
    ):
        hs.mlflow.log_layers(feed, layers=["net", "0"], figure=False)
        for _ in range(2):
            model(torch.randn(2, 4)).sum().backward()
            feed.step()
    assert len(said) == 1 and ("gradient norm/0", 1) in recorder.numbers


@pytest.mark.parametrize("name", ["gradient norm", DEAD, "", print])
def test_a_metric_has_a_name_of_its_own(tmp_path: Path, name: Any) -> None:
    feed = hs.follow(nn.Sequential(nn.Linear(4, 4)), tmp_path / "run")
    with pytest.raises(HooksError, match="of its own"):
        feed.metric(name)(print)


# --- the real ones, in an environment of their own: `make test-slow` makes it from requirements-oracles.txt

WITH_MLFLOW = """
import json, sys
import mlflow, numpy as np
from PIL import Image
import hookscope as hs
feed, store = sys.argv[1:]
mlflow.set_tracking_uri(f"sqlite:///{store}/runs.db")
mlflow.create_experiment("layers", artifact_location=f"file://{store}/artifacts")
mlflow.set_experiment("layers")
with mlflow.start_run() as run:
    hs.mlflow.log_layers(feed, maps=2)
client = mlflow.MlflowClient()
told = client.get_run(run.info.run_id)
numbers = {
    key: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, key)]
    for key in told.data.metrics
}
def files(path=None):
    for each in client.list_artifacts(run.info.run_id, path):
        yield from files(each.path) if each.is_dir else [each.path]
found = list(files())
named = "images/maps~0 ", "+step+4+"
picture = next(each for each in found if each.startswith(named[0]) and named[1] in each and each.endswith("png"))
pixels = np.asarray(Image.open(client.download_artifacts(run.info.run_id, picture)))
print(json.dumps({"numbers": numbers, "files": found, "pixels": pixels.tolist(), "version": mlflow.__version__,
                  "torch": "torch" in sys.modules}))
"""


@pytest.mark.slow
def test_a_real_mlflow_with_its_sqlite_store_gives_back_what_it_was_given(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "log.py").write_text(WITH_MLFLOW)
    quiet = ENVIRON | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    command = [ORACLES, tmp_path / "log.py", folder, tmp_path]
    ran = subprocess.run(command, env=quiet, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    feed = hs.read_feed(folder)
    assert told["version"].startswith("3.") and not told["torch"]
    numbers = {(key, step): value for key, history in told["numbers"].items() for step, value in history}
    assert numbers == {(name, look.step): value for look in feed.looks for name, value in rows(look).items()}
    assert "hookscope/gradient norm.png" in told["files"]
    values = feed.maps(4).maps["0"]
    high = float(np.abs(values).max())
    first = np.rint((values[0].astype(np.float64) + high) / (2 * high) * 255)
    pixels, times = np.array(told["pixels"]), 256 // 13
    assert (pixels[: 6 * times : times, : 6 * times : times] == first).all()


LIVE = """
import json, sys
store, here = sys.argv[1:]
sys.path.append(here)  # where torch is; what MLflow needs in other versions comes first
import mlflow, numpy as np, torch
import hookscope as hs
mlflow.set_tracking_uri(f"sqlite:///{store}/runs.db")
mlflow.create_experiment("layers", artifact_location=f"file://{store}/artifacts")
mlflow.set_experiment("layers")
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
pictures = torch.randn(8, 3, 8, 8)
client = mlflow.MlflowClient()
def files(path=None):
    for each in client.list_artifacts(run.info.run_id, path):
        yield from files(each.path) if each.is_dir else [each.path]
with mlflow.start_run() as run, hs.follow(model, store + "/run", every=2, optimizer=optimizer, pinned=pictures) as feed:
    hs.mlflow.log_layers(feed)
    for step in range(6):
        loss = torch.nn.functional.cross_entropy(model(pictures), torch.arange(8) % 5)
        loss.backward()
        feed.step(loss=loss)
        optimizer.step()
        optimizer.zero_grad()
        if step == 3:  # the look at step 2 is there, while the training goes on
            told = client.get_run(run.info.run_id)
            early = {"files": list(files()), "status": told.info.status, "metrics": dict(told.data.metrics)}
told = client.get_run(run.info.run_id)
numbers = {
    key: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, key)]
    for key in told.data.metrics
}
print(json.dumps({"numbers": numbers, "files": list(files()), "early": early, "status": told.info.status}))
"""


@pytest.mark.slow
def test_a_real_mlflow_has_the_maps_while_the_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "live.py").write_text(LIVE)
    quiet = ENVIRON | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    command = [ORACLES, tmp_path / "live.py", tmp_path, Path(torch.__file__).parent.parent]
    ran = subprocess.run(command, env=quiet, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    feed = hs.read_feed(tmp_path / "run")
    numbers = {(key, step): value for key, history in told["numbers"].items() for step, value in history}
    expected = {(name, look.step): value for look in feed.looks for name, value in rows(look).items()}
    assert numbers == pytest.approx(expected, rel=1e-4)  # a line has five digits
    early = told["early"]
    assert early["status"] == "RUNNING" and told["status"] == "FINISHED" and early["metrics"]
    for step, there in ((0, early), (2, early), (4, told)):
        assert any(name.startswith("images/maps~1 ") and f"+step+{step}+" in name for name in there["files"]), step
    assert "hookscope/gradient norm.png" in early["files"] and not any("+step+4+" in name for name in early["files"])


@pytest.mark.slow
def test_the_examples_block_runs_with_a_real_mlflow(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "examples" / "mlflow.md").read_text(encoding="utf-8")
    first, second = re.search(r"```python\n(.*?)```", text, re.S), re.search(r"needs=mlflow\n(.*?)```", text, re.S)
    assert first is not None and second is not None
    quiet = ENVIRON | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    subprocess.run([sys.executable, "-c", first[1]], env=quiet, cwd=tmp_path, check=True, timeout=300)
    code = f"import hookscope as hs\n{second[1]}"  # the feed is enough, and there is no torch
    subprocess.run([ORACLES, "-c", code], env=quiet, cwd=tmp_path, check=True, timeout=300)


WITH_WANDB = """
import json, sys
import wandb
import hookscope as hs
feed, store = sys.argv[1:]
with wandb.init(mode="offline", dir=store, project="layers") as run:
    hs.wandb.log_layers(feed, run=run)
    told = {key: value for key, value in dict(run.summary).items() if not key.startswith("_")}
print(json.dumps(told))
"""


@pytest.mark.slow
def test_a_real_wandb_takes_the_rows_offline(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "log.py").write_text(WITH_WANDB)
    quiet = ENVIRON | {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "HOME": str(tmp_path)}
    command = [ORACLES, tmp_path / "log.py", folder, tmp_path]
    ran = subprocess.run(command, env=quiet, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    last = hs.read_feed(folder).looks[-1]
    assert json.loads(ran.stdout.splitlines()[-1]) == {**rows(last), "step of the feed": last.step}
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
