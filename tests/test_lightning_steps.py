"""Steps of a training of Lightning's that are not as others: without a loss, with another optimiser, the last one."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from test_lightning import Classifier, _norm, batches, by_hand, quiet, small, trainer
from test_lightning import pytestmark as lightning_marks
from torch import Tensor

import hookscope as hs

__all__ = ["quiet"]
pytestmark = [
    *lightning_marks,
    *(pytest.mark.filterwarnings(f"ignore:{text}") for text in (".*returned `None`.*", ".*lr_scheduler.*")),
]
LAYERS = ("0", "1", "4")


class Skipping(Classifier):
    """Gives no loss for some batches; the model is called for them, or not."""

    without: tuple[int, ...] = (0, 3)
    called = False

    def training_step(self, batch: Any, index: int) -> Any:
        if index in self.without:
            if self.called:
                self.net(batch[0])
            return None
        return super().training_step(batch, index)


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("every, expected", [(1, [1, 2, 4, 5, 6, 7]), (3, [1, 4, 6])])
def test_a_step_without_a_loss_is_put_off(
    tmp_path: Path, called: bool, every: int, expected: list[int], recwarn: pytest.WarningsRecorder
) -> None:
    module = Skipping()
    module.called = called
    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=every)
    trainer(tmp_path, follow, max_epochs=1).fit(module, batches())
    feed = hs.read_feed(tmp_path / "run")
    assert feed.steps.tolist() == expected
    told = [str(each.message) for each in recwarn if each.category is UserWarning and "look" in str(each.message)]
    assert len(told) == 1 and told[0].startswith("The training step gave no loss in a step that was to be looked at")
    assert [note for look in feed.looks for note in look.notes] == told
    if not called:  # so that a plain loop over the others is the same, but for its numbers of the steps
        kept = [batch for place, batch in enumerate(batches()) if place not in module.without]
        right = dict(zip((1, 2, 4, 5, 6, 7), by_hand(small(), kept, 1), strict=True))
        for look in feed.looks:
            assert look.loss == pytest.approx(right[look.step]["loss"], rel=1e-5)
            for layer in LAYERS:
                of = look.of(layer)
                assert of["g", "norm"] == pytest.approx(right[look.step]["gradient"][layer], rel=1e-4)
                assert of["u", "ratio"] == pytest.approx(right[look.step]["update"][layer], rel=1e-3)
                assert of["a", "inputs"] == 4


@pytest.mark.parametrize("without", [0, 1])
def test_of_accumulated_batches_one_may_have_no_loss(tmp_path: Path, without: int, recwarn: Any) -> None:
    module = Skipping()
    module.without = (without,)
    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=1)
    trainer(tmp_path, follow, max_epochs=1, accumulate_grad_batches=2).fit(module, batches())
    feed = hs.read_feed(tmp_path / "run")
    assert feed.steps.tolist() == [0, 1, 2, 3] and feed.looks[0].of("0")["g", "norm"] > 0
    assert not [each for each in recwarn if "gave no loss in a step" in str(each.message)]


def test_a_training_that_never_gives_a_loss_ends_without_a_look(tmp_path: Path) -> None:
    module = Skipping()
    module.without = tuple(range(8))
    with pytest.warns(UserWarning, match="gave no loss in a step that was to be looked at"):
        fit = trainer(tmp_path, hs.lightning.LayerStatistics(tmp_path / "run", every=1), max_epochs=1)
        fit.fit(module, batches())
    feed = hs.read_feed(tmp_path / "run")
    assert not feed.looks and feed.state().sentence == "The run has ended." and not hs.live_hooks()


class Replacing(Classifier):
    """Takes another optimiser in the middle: between two steps, or within one."""

    where = ""

    def replace(self, where: str) -> None:
        if where == self.where and self.trainer.global_step == 3:
            self.trainer.optimizers = [torch.optim.SGD(self.net.parameters(), lr=0.01)]

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        self.replace("start")

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        self.replace("end")

    def training_step(self, batch: Any, index: int) -> Tensor:
        self.replace("step")
        return super().training_step(batch, index)


@pytest.mark.parametrize("where", ["start", "end", "step"])
@pytest.mark.parametrize("every", [1, 2])
def test_an_optimiser_that_is_replaced_is_followed_and_noted(tmp_path: Path, where: str, every: int) -> None:
    module = Replacing()
    module.where = where
    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=every)
    with pytest.warns(UserWarning, match="optimiser was replaced by another one, which is followed from here on"):
        trainer(tmp_path, follow, max_epochs=1).fit(module, batches())
    feed = hs.read_feed(tmp_path / "run")
    assert feed.steps.tolist() == [*range(0, 8, every)]
    assert feed.rates()[-1].tolist() == [0.01] and feed.rates()[0].tolist() == [0.1]
    before = small()
    for look in feed.looks:
        ratio = look.of("4")["g", "norm"] * look.rates[0] / look.of("4")["w", "norm"]
        assert look.of("4")["u", "ratio"] == pytest.approx(ratio, rel=1e-3), look.step
    assert feed.looks[0].of("4")["w", "norm"] == pytest.approx(
        _norm([weight.detach() for weight in before[4].parameters()]), rel=1e-4
    )
    assert sum("was replaced by another one" in note for look in feed.looks for note in look.notes) == 1


def test_an_interrupted_fit_and_the_next_with_the_same_callback(tmp_path: Path) -> None:
    class Once(Classifier):
        def training_step(self, batch: Any, index: int) -> Tensor:
            if index == 3 and not self.trainer.callbacks[0].raised:
                self.trainer.callbacks[0].raised = True
                raise ZeroDivisionError("mine")
            return super().training_step(batch, index)

    follow = hs.lightning.LayerStatistics(tmp_path / "run", every=1, resume=True)
    follow.raised = False
    module = Once()
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, follow, max_epochs=1).fit(module, batches())
    assert hs.read_feed(tmp_path / "run").state().sentence == "The run was ended by ZeroDivisionError."
    assert not hs.live_hooks()
    trainer(tmp_path, follow, max_epochs=1).fit(module, batches())
    assert hs.read_feed(tmp_path / "run").steps.tolist() == [*range(8)]


def test_a_feed_that_no_event_ends_is_over_with_its_callback(tmp_path: Path) -> None:
    module, follow = Classifier(), hs.lightning.LayerStatistics(tmp_path / "run", every=1)
    fit = trainer(tmp_path, follow, max_epochs=1)
    follow.on_train_end = follow.on_exception = follow.teardown = lambda *given, **more: None
    fit.fit(module, batches())
    assert hs.read_feed(tmp_path / "run").state().kind == "running" and hs.live_hooks()  # control
    module.trainer = None
    del fit, follow
    gc.collect()
    assert hs.read_feed(tmp_path / "run").state().kind == "ended" and not hs.live_hooks()
