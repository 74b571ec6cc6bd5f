"""Nothing in a file of weights runs, only dense tensors reach the model, and every refusal says what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import torch
from checkpoint_cases import BAD, GOOD, SENTINEL, Bad, Good, net, pt
from safetensors.torch import save
from served import ROOT, Application, until
from torch import nn
from torchvision import models

from hookscope.dashboard.engine.base import ModelState
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources import checkpoints, fitting
from hookscope.dashboard.sources.file_kinds import WeightsError
from hookscope.dashboard.sources.load import load

ADVICE = re.compile(r"weights.only|safe_globals|allowlist|trusted source|docs/stable", re.I)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_as_many_as_were_promised() -> None:
    names = [case.name for case in (*GOOD, *BAD)]
    assert len(names) == len(set(names)) >= 30
    assert f"{len(names)} files, {len(BAD)} of them hostile" in " ".join((ROOT / "README.md").read_text().split())


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_it_is_read(folder: Path, case: Good) -> None:
    (folder / case.file).write_bytes(case.data)
    module = net()
    nn.init.zeros_(module[3].weight)
    fitting.fill(module, checkpoints.read(case.file), case.file)
    for name, value in module.state_dict().items():
        assert value.dtype == net().state_dict()[name].dtype
        assert torch.equal(value.nan_to_num(), case.weights.get(name, value).nan_to_num())
        assert torch.equal(value.isnan(), case.weights.get(name, value).isnan())


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_it_is_refused_and_nothing_runs(
    folder: Path, case: Bad, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # what torch's advice would have a person set
    (folder / case.file).write_bytes(case.data)
    module = net()
    with pytest.raises(WeightsError) as caught:
        fitting.fill(module, checkpoints.read(case.file), case.file)
    sentence = str(caught.value)
    assert case.reason in sentence
    assert case.file in sentence and sentence.endswith(".") and "\n" not in sentence
    assert not ADVICE.search(sentence)
    assert caught.value.__cause__ is None or not ADVICE.search(str(caught.value.__cause__))
    assert not ADVICE.search("".join(capfd.readouterr()))
    assert {path.name for path in folder.iterdir()} == {case.file}
    assert all(torch.equal(value, net().state_dict()[name]) for name, value in module.state_dict().items())


def test_the_gadgets_would_run_under_the_reader_that_torch_advises(folder: Path) -> None:
    """The control of the test above: the same file does run code once it is trusted."""
    (folder / "w.pt").write_bytes(next(case.data for case in BAD if case.name == "os.mkdir"))
    torch.load("w.pt", weights_only=False)
    assert (folder / SENTINEL).is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what a process took")
def test_a_bomb_takes_no_memory(folder: Path) -> None:
    bombs = [case for case in BAD if case.name in ("stride 0, 160 GB", "a packed record", "bytes by the terabyte")]
    before = peak_bytes(forget=True)
    for case in bombs:
        (folder / case.file).write_bytes(case.data)
        with pytest.raises(WeightsError):
            checkpoints.read(case.file)
    assert len(bombs) == 3
    assert peak_bytes() - before < 100 * 10**6


def peak_bytes(forget: bool = False) -> int:
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_paths_that_are_no_file(folder: Path) -> None:
    (folder / "weights.pt").mkdir()
    with pytest.raises(
        WeightsError, match=r"The folder weights\.pt holds no file of weights\. Give the \.safetensors or"
    ):
        checkpoints.read("weights.pt")
    with pytest.raises(WeightsError, match=r"There is no weights file none\.pt\. Give the path"):
        checkpoints.read("none.pt")


class Tied(nn.Module):
    """Two layers that share one weight, as encoders and decoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


def test_tied_weights_are_given_once_or_twice(folder: Path) -> None:
    original = Tied()
    (folder / "twice.pt").write_bytes(pt(original.state_dict()))
    (folder / "once.safetensors").write_bytes(save({"second.weight": original.second.weight.detach()}))
    for file in ("twice.pt", "once.safetensors"):
        module = Tied()
        fitting.fill(module, checkpoints.read(file), file)
        assert torch.equal(module.first.weight, original.first.weight)
        assert module.first.weight is module.second.weight
    apart = Tied()
    apart.second.weight = nn.Parameter(torch.zeros(3, 3))
    with pytest.raises(WeightsError, match=r"1 missing \(first\.weight\)"):
        fitting.fill(apart, checkpoints.read("once.safetensors"), "once.safetensors")


def test_what_hangs_on_a_parameter_stays_in_the_file(folder: Path) -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.detach = "not a method any more"  # type: ignore[method-assign, assignment]
    (folder / "w.pt").write_bytes(pt({"w": parameter}))
    found = checkpoints.read("w.pt")[""]["w"]
    assert type(found) is torch.Tensor and not found.__dict__ and not found.requires_grad


# --- through a worker process, and through the whole application


def bad(name: str) -> Bad:
    return next(case for case in BAD if case.name == name)


def opened(options: ModelOptions) -> ModelState:
    """What becomes of a model in a worker process of its own."""
    engine = LocalEngine([options], device="cpu")
    try:
        engine.open(options.spec)
        return until(lambda: state if (state := engine.state(options.spec)).phase in ("ready", "failed") else None)
    finally:
        engine.close()


def test_a_worker_reads_good_weights(folder: Path) -> None:
    spec = "torchvision:squeezenet1_1"
    torch.manual_seed(8)
    state = models.squeezenet1_1(weights=None).state_dict()
    (folder / "w.pt").write_bytes(pt({"state_dict": {f"module.{name}": value.half() for name, value in state.items()}}))
    found = opened(ModelOptions(spec, weights=str(folder / "w.pt"))).info
    assert found is not None
    assert (found.weights, found.random) == ("From w.pt (state_dict.module).", False)
    here = load(ModelOptions(spec, weights=str(folder / "w.pt")), "cpu")
    assert found.fingerprint == here.info.fingerprint
    assert all(torch.equal(value, state[name].half().float()) for name, value in here.module.state_dict().items())


def test_a_factory_that_reads_a_hostile_file_itself_runs_nothing_either(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "w.pt").write_bytes(bad("os.mkdir").data)
    (folder / "reads_itself.py").write_text("import torch\ndef make(): return torch.load('w.pt')\n")
    state = opened(ModelOptions("reads_itself:make"))
    assert state.phase == "failed" and "have it read model.state_dict() alone" in state.sentence
    seen = state.sentence + "".join(capfd.readouterr())
    assert "reads_itself.py" in seen  # its author is told where
    assert not ADVICE.search(seen)
    assert not (folder / SENTINEL).exists()


@pytest.fixture(params=["os.system", "stride 0, 160 GB"])
def case(request: pytest.FixtureRequest) -> Iterator[Bad]:
    yield bad(request.param)
    assert not (ROOT / SENTINEL).exists()


def test_the_page_says_why_and_the_terminal_gives_no_bad_advice(folder: Path, case: Bad) -> None:
    (folder / case.file).write_bytes(case.data)
    model = "torchvision:squeezenet1_1"
    application = Application(folder / "cache", "--model", model, "--weights", str(folder / case.file))
    try:

        def failed() -> str:
            answer = requests.get(f"{application.url}state", params={"model": model}, timeout=10).json()
            return str(answer["sentence"]) if answer["phase"] == "failed" else ""

        sentence = until(failed)
    finally:
        application.process.terminate()
        printed = "".join(application.process.communicate(timeout=20))
    assert case.reason in sentence and not ADVICE.search(sentence)
    assert not ADVICE.search(printed) and "Traceback" not in printed
    assert not (folder / SENTINEL).exists()
