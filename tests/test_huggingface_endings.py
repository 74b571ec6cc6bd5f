"""A feed within `transformers.Trainer` ends with the training, whatever ends that; and another try is followed."""

from __future__ import annotations

import copy
import gc
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_hf_trainer import InOrder, pictures, small, trained
from torch import nn
from torch._dynamo import eval_frame
from transformers import TrainerCallback

import hookscope as hs

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (".*pin_memory.*", ".*`use_reentrant`.*", ".*lr_scheduler.*")
]
WATCHED = ("_run_epoch", "_finalize_training", "_evaluate", "training_step")


class WithPictures(InOrder):
    """One that has pictures to evaluate."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, eval_dataset=pictures(4), **given)


class Raising(TrainerCallback):
    """Raises in one event, once the training has come to a step."""

    def __init__(self, event: str, error: BaseException, at: int = 3) -> None:
        self.error, self.at, self.raised = error, at, 0
        setattr(self, event, self._raise)

    def _raise(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step >= self.at and not self.raised:
            self.raised += 1
            raise self.error


def left_on(model: nn.Module) -> int:
    hooks = sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules())
    return hooks + sum(len(each._post_accumulate_grad_hooks or ()) for each in model.parameters())


def is_its_own(trainer: Any) -> bool:
    """Whether nothing of ours is on the Trainer."""
    return not {*WATCHED} & {*vars(trainer)} and "call_event" not in vars(trainer.callback_handler)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    gc.collect()
    assert not hs.live_hooks() and eval_frame._stance.stance == "default"


@pytest.mark.parametrize(
    "kind",
    [
        KeyboardInterrupt,
        *(pytest.param(each, marks=pytest.mark.slow) for each in (ValueError, SystemExit, GeneratorExit)),
    ],
)
@pytest.mark.parametrize(
    "event, at, steps",
    [
        ("on_step_begin", 3, [0, 1, 2]),
        ("on_substep_end", 3, [0, 1, 2]),
        ("on_pre_optimizer_step", 3, [0, 1, 2, 3]),
        ("on_step_end", 3, [0, 1, 2]),
        ("on_epoch_begin", 0, []),
        ("on_epoch_end", 0, [0, 1]),
        ("on_log", 0, [0, 1]),
        ("on_evaluate", 0, [0, 1]),
        ("on_train_end", 0, [0, 1, 2, 3]),
    ],
)
def test_an_exception_ends_the_feed_at_once(tmp_path: Path, kind: Any, event: str, at: int, steps: list[int]) -> None:
    model, raising = small(), Raising(event, kind("mine"), at)
    follow = hs.huggingface.LayerStatistics(tmp_path / "run", every=1)
    more = dict(gradient_accumulation_steps=2, eval_strategy="steps", eval_steps=2)
    trainer = trained(tmp_path, follow, raising, model=model, kind=WithPictures, **more)
    with pytest.raises(kind) as raised:
        trainer.train()
    assert (
        not left_on(model) and not hs.live_hooks() and eval_frame._stance.stance == "default"
    )  # with its traceback there
    feed = hs.read_feed(tmp_path / "run")
    by = "" if event == "on_train_end" else f" was ended by {kind.__name__}"  # ours comes before it, and is over
    assert feed.state().sentence == (f"The run{by}." if by else "The run has ended.")
    assert feed.steps.tolist() == steps and is_its_own(trainer) and raised.value is raising.error
    copy.deepcopy(model)
    torch.save(model, io.BytesIO())


class Failing(InOrder):
    """Fails in its own methods."""

    def compute_loss(self, *args: Any, **given: Any) -> Any:
        if self.state.global_step == 2 and self.args.output_dir.endswith("out"):
            raise ZeroDivisionError("mine")
        return super().compute_loss(*args, **given)


def test_an_exception_of_the_model_or_of_a_last_save_ends_it(tmp_path: Path) -> None:
    trainer = trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "run", every=1), kind=Failing)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert hs.read_feed(tmp_path / "run").state().sentence == "The run was ended by ZeroDivisionError."

    class Last(InOrder):
        def _finalize_training(self, *given: Any) -> Any:
            raise OSError("no room for the best model")

    trainer = trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "last", every=1), kind=Last)
    with pytest.raises(OSError, match="best model"):
        trainer.train()
    assert hs.read_feed(tmp_path / "last").state().sentence == "The run was ended by OSError."

    class Evaluating(WithPictures):
        def evaluate(self, *args: Any, **given: Any) -> Any:
            raise LookupError("no metric")

    follow = hs.huggingface.LayerStatistics(tmp_path / "first", every=1)
    trainer = trained(tmp_path, follow, kind=Evaluating, eval_on_start=True, eval_strategy="epoch")
    with pytest.raises(LookupError):
        trainer.train()
    assert hs.read_feed(tmp_path / "first").state().sentence == "The run was ended by LookupError." and is_its_own(
        trainer
    )


def test_an_exception_that_the_training_catches_does_not_end_it(tmp_path: Path) -> None:
    class Careful(WithPictures):
        def _evaluate(self, *args: Any, **given: Any) -> Any:
            try:
                return super()._evaluate(*args, **given)
            except LookupError:
                return {}

        def evaluate(self, *args: Any, **given: Any) -> Any:
            raise LookupError("no metric")

        def training_step(self, *args: Any, **given: Any) -> Any:
            try:
                self.callback_handler.call_event("on_prediction_step", self.args, self.state, self.control)
            except ArithmeticError:
                self.caught = True
            return super().training_step(*args, **given)

    raising = Raising("on_prediction_step", ArithmeticError("mine"))
    follow = hs.huggingface.LayerStatistics(tmp_path / "run", every=1)
    trainer = trained(tmp_path, follow, raising, kind=Careful, eval_strategy="steps", eval_steps=2)
    trainer.train()
    assert trainer.caught and hs.read_feed(tmp_path / "run").steps.tolist() == [*range(8)]
    assert hs.read_feed(tmp_path / "run").state().sentence == "The run has ended." and is_its_own(trainer)


def test_two_on_one_trainer_end_both_and_one_can_be_taken_away(tmp_path: Path) -> None:
    class Removing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.global_step == 2:
                box.pop().remove_callback(second)

    first, second = (hs.huggingface.LayerStatistics(tmp_path / name, every=1) for name in ("one", "two"))
    trainer = trained(tmp_path, first, second, Raising("on_step_begin", KeyboardInterrupt()))
    box = [trainer]
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    states = [hs.read_feed(tmp_path / name).state().sentence for name in ("one", "two")]
    assert states == ["The run was ended by KeyboardInterrupt."] * 2 and is_its_own(trainer)

    first, second = (hs.huggingface.LayerStatistics(tmp_path / name, every=1) for name in ("three", "four"))
    box = [trainer := trained(tmp_path, first, second, Removing())]
    trainer.train()
    read = hs.read_feed(tmp_path / "four")
    assert read.steps.tolist() == [0, 1] and read.state().sentence == "The run has ended."  # although `second` is there
    assert hs.read_feed(tmp_path / "three").steps.tolist() == [*range(8)] and is_its_own(trainer)


def test_what_is_not_seen_at_once_ends_with_the_trainer(tmp_path: Path) -> None:
    class Late(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            raise KeyboardInterrupt  # the event had begun before anything could be watched

    model = small()
    trainer = trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "run", every=1), Late(), model=model)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert left_on(model)  # control: nothing has told it
    del trainer
    gc.collect()
    assert not left_on(model) and eval_frame._stance.stance == "default"
    assert hs.read_feed(tmp_path / "run").state().kind == "ended"


def test_what_is_not_seen_at_once_ends_with_the_next_training(tmp_path: Path) -> None:
    class Late(TrainerCallback):
        tries = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self.tries += 1
            if self.tries == 1:
                raise KeyboardInterrupt

    trainer = trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "run", every=1, resume=True), Late())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train()
    ends = [line for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines() if '"end"' in line]
    assert len(ends) == 2 and '"stopped_by":"the beginning of the next training"' in ends[0]
    assert hs.read_feed(tmp_path / "run").steps.tolist() == [*range(8)] and is_its_own(trainer)


def test_a_resumed_training_in_the_same_process_goes_on_in_the_folder(tmp_path: Path) -> None:
    raising = Raising("on_step_begin", KeyboardInterrupt(), 6)
    follow = hs.huggingface.LayerStatistics(tmp_path / "run", every=1)
    trainer = trained(tmp_path, follow, raising, save_strategy="steps", save_steps=5)
    with pytest.raises(KeyboardInterrupt) as held:
        trainer.train()
    assert hs.read_feed(tmp_path / "run").steps.tolist() == [*range(6)]
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    feed = hs.read_feed(tmp_path / "run")
    assert feed.steps.tolist() == [*range(8)] and feed.state().sentence == "The run has ended."
    assert held.value is raising.error


class Large(InOrder):
    """Has no memory for more than two pictures, from a step on."""

    at = 1

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **given: Any) -> Any:
        if len(inputs["labels"]) > 2 and self.state.global_step == self.at:
            raise RuntimeError("CUDA out of memory.")
        return super().compute_loss(model, inputs, *args, **given)


@pytest.mark.parametrize("at", [1, *(pytest.param(each, marks=pytest.mark.slow) for each in (0, 3))])
def test_another_try_with_fewer_pictures_is_followed(tmp_path: Path, at: int, recwarn: pytest.WarningsRecorder) -> None:
    model = small()
    trainer = trained(
        tmp_path,
        hs.huggingface.LayerStatistics(tmp_path / "run", every=2),
        kind=type("Late", (Large,), {"at": at}),
        model=model,
        auto_find_batch_size=True,
        num_train_epochs=1,
    )
    trainer.train()
    feed = hs.read_feed(tmp_path / "run")
    assert trainer.state.global_step == 8 and feed.steps.tolist() == [0, 2, 4, 6]
    assert {look.of("classifier")["a", "inputs"] for look in feed.looks} == {2}
    assert feed.state().sentence == "The run has ended." and not left_on(model) and is_its_own(trainer)
    assert not [each for each in recwarn if "looks at this training no more" in str(each.message)]


def test_another_try_does_not_write_over_somebody_elses_run(tmp_path: Path) -> None:
    trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "run", every=2)).train()
    before = (tmp_path / "run" / "steps.jsonl").read_bytes()
    follow = hs.huggingface.LayerStatistics(tmp_path / "run", every=2)
    with pytest.warns(UserWarning, match="holds a run already"):
        trained(tmp_path, follow, kind=Large, auto_find_batch_size=True, num_train_epochs=1).train()
    assert (tmp_path / "run" / "steps.jsonl").read_bytes() == before


def test_an_optimiser_that_is_replaced_is_followed(tmp_path: Path) -> None:
    class Replacing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.global_step == 4:
                box[0].optimizer = box[0].accelerator.prepare(torch.optim.SGD(given["model"].parameters(), 0.01))

    trainer = trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "run", every=1), Replacing())
    box = [trainer]
    with pytest.warns(UserWarning, match="optimiser was replaced by another one, which is followed"):
        trainer.train()
    feed = hs.read_feed(tmp_path / "run")
    assert all(look.of("classifier")["u", "ratio"] > 0 for look in feed.looks) and len(feed.looks) == 8
    assert feed.rates()[4:, 0].tolist() == [0.01] * 4


def test_a_training_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    plain, followed = small(), small()
    trained(tmp_path, model=plain, learning_rate=1e-2).train()
    follow = hs.huggingface.LayerStatistics(tmp_path / "run", every=1)
    trained(tmp_path, follow, model=followed, learning_rate=1e-2).train()
    for one, other in zip(plain.parameters(), followed.parameters(), strict=True):
        assert torch.equal(one, other)
