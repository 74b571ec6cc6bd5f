"""The statistics of layers in trainings of a real `lightning.Trainer`, beside numbers computed by hand."""

from __future__ import annotations

import copy
import csv
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from checkout import ENVIRON
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import hookscope as hs
from hookscope.hooks.errors import HooksError

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        ".*isinstance.treespec, LeafSpec",  # lightning's own, under torch 2.15
        ".*does not have many workers",
        ".*smaller than the logging interval",
        ".*Checkpoint directory .* exists and is not empty",
        ".*is not supported on CPU",
        ".*TensorBoard",
        ".*Be aware that when using `ckpt_path`",
        ".*You defined a `validation_step` but have no",
    )
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Lightning tells what it does on the console."""
    loud = logging.getLogger("lightning.pytorch")
    before = loud.level
    loud.setLevel(logging.ERROR)
    yield
    loud.setLevel(before)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 5))


class Classifier(lightning.LightningModule):
    """A network inside a module that has no `forward` of its own."""

    def __init__(self, net: nn.Module | None = None, optimizer: Any = None) -> None:
        super().__init__()
        self.net = small() if net is None else net
        self.kind = optimizer or (lambda weights: torch.optim.SGD(weights, lr=0.1))

    def training_step(self, batch: Any, index: int) -> Tensor:
        return cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("validation", cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return self.kind(self.parameters())


class Calling(Classifier):
    """One that is called itself."""

    def forward(self, pictures: Tensor) -> Tensor:
        return self.net(pictures)

    def training_step(self, batch: Any, index: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])


def batches(dtype: torch.dtype = torch.float32) -> DataLoader:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(32, 3, 8, 8, generator=generator, dtype=dtype)
    return DataLoader(TensorDataset(pictures, torch.randint(0, 5, (32,), generator=generator)), batch_size=4)


def trainer(folder: Path, *callbacks: Any, **settings: Any) -> lightning.Trainer:
    given = dict(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False) | settings
    return lightning.Trainer(
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **given,
    )


def by_hand(model: nn.Module, loader: Any, epochs: int, accumulated: int = 1) -> list[dict[str, Any]]:
    """The same training in a plain loop: of each step loss, norm of gradients, weights and updates of each layer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    for _ in range(epochs):
        waiting = list(loader)
        while waiting:
            now, waiting = waiting[:accumulated], waiting[accumulated:]
            loss = 0.0
            for pictures, classes in now:
                part = cross_entropy(model(pictures), classes) / accumulated
                part.backward()
                loss += float(part.detach())
            layers = {name: list(each.parameters(recurse=False)) for name, each in model.named_modules()}
            layers = {name: own for name, own in layers.items() if own}
            norm = {name: _norm([weight.grad for weight in own]) for name, own in layers.items()}
            before = {name: [weight.detach().clone() for weight in own] for name, own in layers.items()}
            optimizer.step()
            away = {
                name: _norm([new.detach() - old for new, old in zip(own, before[name], strict=True)])
                / _norm(before[name])
                for name, own in layers.items()
            }
            optimizer.zero_grad()
            found.append(
                {"loss": loss, "gradient": norm, "weight": {n: _norm(w) for n, w in before.items()}, "update": away}
            )
    return found


def _norm(tensors: list[Any]) -> float:
    return float(torch.cat([each.reshape(-1).double() for each in tensors]).norm())


@pytest.mark.parametrize("kind", [Classifier, Calling])
@pytest.mark.parametrize("accumulated", [1, 3])
def test_numbers_are_those_of_a_plain_loop_in_float64(tmp_path: Path, kind: Any, accumulated: int) -> None:
    module = kind()
    expected = by_hand(copy.deepcopy(module.net).double().train(), batches(torch.float64), 2, accumulated)
    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=2)
    fit = trainer(tmp_path, follow, precision="64-true", accumulate_grad_batches=accumulated, gradient_clip_val=None)
    fit.fit(module, batches(torch.float64), batches(torch.float64))
    feed = hs.read_feed(tmp_path / "run")
    assert feed.state().kind == "ended" and feed.steps.tolist() == list(range(0, len(expected), 2))
    prefix = "net." if kind is Calling else ""  # it is followed as a whole where it is called itself
    for look in feed.looks:
        right = expected[look.step]
        assert look.loss == pytest.approx(right["loss"], rel=1e-6) and not look.notes
        for layer in right["gradient"]:
            of = look.of(prefix + layer)
            assert of["g", "norm"] == pytest.approx(right["gradient"][layer], rel=2e-4), (look.step, layer)
            assert of["w", "norm"] == pytest.approx(right["weight"][layer], rel=2e-4)
            assert of["u", "ratio"] == pytest.approx(right["update"][layer], rel=2e-3)
            assert of["a", "inputs"] == 4 * min(accumulated, 8 - look.step % -(-8 // accumulated) * accumulated)
    assert [step for look in feed.looks for step, _ in look.given.losses] == list(range(feed.steps[-1] + 1))


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_under_a_scaler_are_those_of_float32_before_clipping(tmp_path: Path, fused: bool) -> None:
    module = Classifier(optimizer=lambda weights: torch.optim.Adam(weights, lr=1e-4, fused=fused))
    plain = copy.deepcopy(module.net)
    pictures, classes = next(iter(batches()))
    cross_entropy(plain(pictures), classes).backward()
    scaler = torch.amp.GradScaler("cpu", init_scale=65_536.0)
    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=4)
    # fused ones cannot be clipped by Lightning
    clip = {} if fused else {"gradient_clip_val": 1e-3}
    trainer(tmp_path, follow, plugins=[MixedPrecision("16-mixed", "cpu", scaler)], **clip).fit(module, batches())
    look = hs.read_feed(tmp_path / "run").looks[0]
    assert look.scale == 65_536
    for layer in ("0", "1", "4"):
        right = _norm([weight.grad for weight in plain.get_submodule(layer).parameters()])
        assert look.of(layer)["g", "norm"] == pytest.approx(right, rel=1e-2)


def test_bfloat16_is_within_a_hundredth_and_clipping_comes_later(tmp_path: Path) -> None:
    module = Classifier()
    plain = copy.deepcopy(module.net)
    pictures, classes = next(iter(batches()))
    cross_entropy(plain(pictures), classes).backward()
    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=4)
    trainer(tmp_path, follow, precision="bf16-mixed", gradient_clip_val=1e-3).fit(module, batches())
    look = hs.read_feed(tmp_path / "run").looks[0]
    for layer in ("0", "4"):
        right = _norm([weight.grad for weight in plain.get_submodule(layer).parameters()])
        assert look.of(layer)["g", "norm"] == pytest.approx(right, rel=1e-2)
        assert look.of(layer)["u", "ratio"] * look.of(layer)["w", "norm"] < 1.1e-4  # control: what was used was clipped


class Adversaries(lightning.LightningModule):
    """Two networks, each with an optimiser; the second one learns in every other batch.

    Attributes:
        toggled: whether each is frozen while the other one learns.
    """

    def __init__(self, toggled: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization, self.toggled = False, toggled
        self.maker, self.judge = nn.Linear(4, 6), nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
        self.seen: list[dict[str, float]] = []

    def forward(self, noise: Tensor) -> Tensor:
        return self.maker(noise)

    def training_step(self, batch: Any, index: int) -> None:
        makes, judges = self.optimizers()
        noise, ones = batch[0].flatten(1)[:, :4], torch.ones(len(batch[0]), 1)
        self._turn(makes)
        loss = binary_cross_entropy_with_logits(self.judge(self(noise)), ones)
        makes.zero_grad()
        self.manual_backward(loss)
        found = {"maker": _norm([weight.grad for weight in self.maker.parameters()])}
        makes.step()
        self._turn(judges, makes)
        judges.zero_grad()
        if index % 2 == 0:
            real = batch[0].flatten(1)[:, 4:10]
            loss = binary_cross_entropy_with_logits(self.judge(real), ones)
            loss = loss + binary_cross_entropy_with_logits(self.judge(self(noise).detach()), 0 * ones)
            self.manual_backward(loss)
            found["judge.0"] = _norm([weight.grad for weight in self.judge[0].parameters()])
            judges.step()
        self._turn(None, judges)
        self.seen.append(found)

    def _turn(self, now: Any, before: Any = None) -> None:
        if self.toggled and before is not None:
            self.untoggle_optimizer(before)
        if self.toggled and now is not None:
            self.toggle_optimizer(now)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.maker.parameters(), lr=0.1), torch.optim.Adam(self.judge.parameters(), lr=0.01)


@pytest.mark.parametrize("toggled", [False, True])
def test_each_of_several_optimisers_has_its_own_gradients(tmp_path: Path, toggled: bool) -> None:
    module = Adversaries(toggled)
    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=1)
    trainer(tmp_path, follow, max_epochs=1).fit(module, batches())
    feed = hs.read_feed(tmp_path / "run")
    assert feed.steps.tolist() == list(range(8)) and not feed.alarms()
    for look, right in zip(feed.looks, module.seen, strict=True):
        assert not look.notes
        for layer, norm in right.items():
            assert look.of(layer)["g", "norm"] == pytest.approx(norm, rel=1e-4), (look.step, layer)
        assert ("u", "ratio") in look.of("maker")
        assert (("u", "ratio") in look.of("judge.0")) == ("judge.0" in right)
        assert look.of("judge.2")["a", "std"] > 0 and look.of("maker")["a", "std"] > 0


def test_loggers_get_numbers_at_the_step_that_was_looked_at(tmp_path: Path) -> None:
    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=3, log=("gradient norm", "activation mean"))
    logger = CSVLogger(tmp_path / "csv", flush_logs_every_n_steps=1)
    fit = trainer(tmp_path, follow, logger=logger)  # log_every_n_steps stays at 50: self.log would say nothing
    fit.fit(Classifier(), batches(), batches())
    feed = hs.read_feed(tmp_path / "run")
    with open(Path(logger.log_dir) / "metrics.csv") as file:
        lines = [line for line in csv.DictReader(file) if line["gradient norm/0"]]
    assert [int(line["step"]) for line in lines] == feed.steps.tolist()
    norms = feed.column("g", "norm")[:, feed.layers.index("0")]
    assert [float(line["gradient norm/0"]) for line in lines] == pytest.approx(norms.tolist(), rel=1e-4)
    assert float(fit.callback_metrics["gradient norm/0"]) == pytest.approx(float(norms[-1]), rel=1e-4)
    assert set(fit.callback_metrics) == {f"gradient norm/{layer}" for layer in "014"} | {
        f"activation mean/{layer}" for layer in "01234"
    } | {"validation"}


def test_a_training_that_goes_on_goes_on_in_its_feed(tmp_path: Path) -> None:
    saved = ModelCheckpoint(tmp_path / "kept", every_n_epochs=1, save_top_k=-1, filename="{epoch}")
    first = trainer(tmp_path, hs.lightning.LayerStatistics(tmp_path / "run", every=3), saved, enable_checkpointing=True)
    first.fit(Classifier(), batches())
    assert hs.read_feed(tmp_path / "run").steps.tolist() == [0, 3, 6, 9, 12, 15]
    again = trainer(tmp_path, hs.lightning.LayerStatistics(tmp_path / "run", every=3), max_epochs=2)
    again.fit(Classifier(), batches(), ckpt_path=str(tmp_path / "kept" / "epoch=0.ckpt"))  # after 8 steps
    feed = hs.read_feed(tmp_path / "run")
    assert feed.steps.tolist() == [0, 3, 6, 9, 12, 15] and feed.state().kind == "ended"
    assert sum('"begin"' in line for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()) == 2


# --- a training is never stopped


def trained(folder: Path, *callbacks: Any, module: Any = None, **settings: Any) -> dict[str, Tensor]:
    module = Classifier() if module is None else module
    fit = trainer(folder, *callbacks, **settings)
    fit.fit(module, batches())
    assert fit.state.finished and fit.global_step == 16
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def test_a_training_is_the_same_bit_by_bit_with_and_without_it(tmp_path: Path) -> None:
    alone = trained(tmp_path)
    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=2, pinned=torch.randn(2, 3, 8, 8))
    followed = trained(tmp_path, follow)
    assert all(torch.equal(alone[name], followed[name]) for name in alone)
    assert not hs.live_hooks() and hs.read_feed(tmp_path / "run").maps(14) is not None


def test_what_fails_is_told_once_and_the_training_goes_on(tmp_path: Path) -> None:
    alone = trained(tmp_path)
    (tmp_path / "file").write_text("no folder")
    follow = hs.lightning.LayerStatistics(tmp_path / "file", every=2)
    with pytest.warns(UserWarning, match=r"looks at this training no more .*file cannot be written") as told:
        followed = trained(tmp_path, follow)
    assert len([each for each in told if "Hookscope" in str(each.message)]) == 1
    assert all(torch.equal(alone[name], followed[name]) for name in alone)

    with pytest.warns(UserWarning, match=r"looks at this training no more .*no module 'nets'. It has 'net'"):
        trained(tmp_path, hs.lightning.LayerStatistics(tmp_path / "a", module="nets"))

    failing = hs.lightning.LayerStatistics(tmp_path / "b", every=2)

    @failing.metric("broken")
    def broken(layer: str, value: Tensor) -> float:
        raise ZeroDivisionError("mine")

    with pytest.warns(UserWarning, match=r"The metric 'broken' failed at layer '0' \(ZeroDivisionError: mine\)"):
        trained(tmp_path, failing)
    assert len(hs.read_feed(tmp_path / "b").looks) == 8


class BrokenLogger(CSVLogger):
    def log_metrics(self, metrics: Any, step: Any = None) -> None:
        if any("norm" in name for name in metrics):
            raise OSError(28, "No space left on device")


def test_a_logger_that_fails_ends_the_logging_and_not_the_feed(tmp_path: Path) -> None:
    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=2)
    with pytest.warns(UserWarning, match=r"could not be logged \(OSError: .*No space") as told:
        trained(tmp_path, follow, logger=BrokenLogger(tmp_path))
    assert len([each for each in told if "could not be logged" in str(each.message)]) == 1
    assert len(hs.read_feed(tmp_path / "run").looks) == 8


def test_a_disk_that_is_gone_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hookscope.hooks.training import writer

    def full(file: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    class Later(lightning.Callback):
        def on_train_batch_start(self, *given: Any) -> None:
            if given[0].global_step == 4:
                monkeypatch.setattr(writer, "_write_all", full)

    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=2)
    with pytest.warns(UserWarning, match="The feed run cannot be written"):
        trained(tmp_path, follow, Later())
    assert len(hs.read_feed(tmp_path / "run").looks) == 2


class Bare(Classifier):
    """No layers: one weight of its own."""

    def __init__(self) -> None:
        super().__init__(net=nn.Identity())
        self.weight = nn.Parameter(torch.zeros(5, 192))

    def training_step(self, batch: Any, index: int) -> Tensor:
        return cross_entropy(batch[0].flatten(1) @ self.weight.T, batch[1])


def test_a_model_without_layers_has_its_own_weights_followed(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing of it is called
        trained(tmp_path, hs.lightning.LayerStatistics(tmp_path / "run", every=2), module=Bare())
    look = hs.read_feed(tmp_path / "run").looks[0]
    assert look.of("")["w", "count"] == 960 and look.of("")["g", "norm"] > 0


def test_an_exception_of_the_trainings_own_ends_the_feed_by_its_name(tmp_path: Path) -> None:
    class Stops(Classifier):
        def training_step(self, batch: Any, index: int) -> Tensor:
            if self.global_step == 5:
                raise KeyError("mine")
            return super().training_step(batch, index)

    with pytest.raises(KeyError, match="mine"):
        trained(tmp_path, hs.lightning.LayerStatistics(tmp_path / "run", every=2), module=Stops())
    feed = hs.read_feed(tmp_path / "run")
    assert feed.state().kind == "ended" and "KeyError" in feed.state().sentence and not hs.live_hooks()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"every": 0}, "every is 0"),
        ({"log": "gradient nrm"}, "There is no number 'gradient nrm' of a layer"),
        ({"alarms": {"dead": "off"}}, "dead"),
    ],
)
def test_wrong_arguments_are_refused_before_the_training(tmp_path: Path, given: Any, sentence: str) -> None:
    with pytest.raises(HooksError, match=sentence):
        hs.lightning.LayerStatistics(tmp_path, **given)


def test_without_lightning_a_sentence_says_so() -> None:
    code = (
        "import sys; sys.modules['lightning'] = sys.modules['pytorch_lightning'] = None\n"
        "import hookscope as hs\n"
        "try: hs.lightning\nexcept ImportError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "Lightning is not installed: pip install 'hookscope[lightning]'."


TWO = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[2])
import torch
import hookscope as hs
from test_lightning import Classifier, batches, lightning

class Telling(Classifier):
    def training_step(self, batch, index):
        if index == 0:
            torch.save(batch, f"{sys.argv[1]}/{self.global_rank}.pt")
        return super().training_step(batch, index)

if __name__ == "__main__":
    follow = hs.lightning.LayerStatistics(sys.argv[1] + "/run", every=2)
    fit = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", callbacks=[follow], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )
    fit.fit(Telling(), batches())
"""


@pytest.mark.slow
def test_of_two_processes_the_first_writes_gradients_of_both(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    command = [sys.executable, str(tmp_path / "two.py"), str(tmp_path), str(Path(__file__).parent)]
    subprocess.run(command, env=ENVIRON, check=True, timeout=300, capture_output=True)
    feed = hs.read_feed(tmp_path / "run")
    assert feed.steps.tolist() == [0, 2] and feed.skipped == 0 and feed.looks[0].of("0")["a", "inputs"] == 4
    halves = []
    for process in (0, 1):
        plain, (pictures, classes) = small(), torch.load(tmp_path / f"{process}.pt")
        cross_entropy(plain(pictures), classes).backward()
        halves.append([weight.grad for weight in plain[0].parameters()])
    mean = [(one + other) / 2 for one, other in zip(*halves, strict=True)]
    assert _norm(mean) != pytest.approx(_norm(halves[0]), rel=1e-2)  # control
    assert feed.looks[0].of("0")["g", "norm"] == pytest.approx(_norm(mean), rel=1e-4)
