"""The statistics of layers in trainings of a real `transformers.Trainer`, beside numbers computed by hand."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkout import ENVIRON
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments, ViTConfig, ViTForImageClassification

import hookscope as hs
from hookscope.hooks.errors import HooksError

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (".*pin_memory.*", ".*`use_reentrant`.*", ".*lr_scheduler.*")
]
PARTS = ("vit.embeddings.patch_embeddings.projection", "vit.layers.0.mlp.fc1", "vit.layernorm", "classifier")


def small() -> ViTForImageClassification:
    torch.manual_seed(0)
    shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    return ViTForImageClassification(ViTConfig(**shape, image_size=16, patch_size=8, num_labels=4, hidden_act="relu"))


def pictures(count: int = 16) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {"pixel_values": torch.randn(3, 16, 16, generator=generator), "labels": place % 4} for place in range(count)
    ]


class InOrder(Trainer):
    """One that takes the pictures in their order, so that the same can be done by hand."""

    def _get_train_sampler(self, *given: Any) -> Any:
        return None


def trained(
    folder: Path, *callbacks: TrainerCallback, model: Any = None, kind: Any = InOrder, **settings: Any
) -> Trainer:
    given = dict(num_train_epochs=2, per_device_train_batch_size=4, logging_steps=3, save_strategy="no") | settings
    arguments = TrainingArguments(
        str(folder / "out"), use_cpu=True, report_to=[], disable_tqdm=True, dataloader_pin_memory=False, **given
    )
    trainer = kind(small() if model is None else model, arguments, train_dataset=pictures(), callbacks=list(callbacks))
    return trainer


def by_hand(accumulated: int, steps: int, dtype: torch.dtype = torch.float64) -> list[dict[str, Any]]:
    """Of each step the loss, and the norms of the gradients of some layers, in a plain loop as the Trainer's."""
    model = small().to(dtype).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    data, found = pictures(), []
    taken = [data[start : start + 4] for start in range(0, len(data), 4)] * 4
    for step in range(steps):
        loss = 0.0
        for batch in taken[step * accumulated : (step + 1) * accumulated]:
            values = torch.stack([each["pixel_values"] for each in batch]).to(dtype)
            part = model(values, labels=torch.tensor([each["labels"] for each in batch])).loss / accumulated
            part.backward()
            loss += float(part.detach())
        norms, weights = {}, {}
        for layer in PARTS:
            own = list(model.get_submodule(layer).parameters())
            norms[layer], weights[layer] = _norm([weight.grad for weight in own]), _norm(own)
        whole = _norm([weight.grad for weight in model.parameters() if weight.grad is not None])
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
        optimizer.zero_grad()
        found.append({"loss": loss, "norm": norms, "weight": weights, "whole": whole})
    return found


def _norm(tensors: list[Any]) -> float:
    return float(torch.cat([each.detach().reshape(-1).double() for each in tensors]).norm())


SAME = dict(learning_rate=1e-2, lr_scheduler_type="constant", max_grad_norm=0.01)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_numbers_are_those_of_a_plain_loop_in_float64_before_clipping(tmp_path: Path, accumulated: int) -> None:
    follow = hs.huggingface.LayerStatistics(tmp_path / "run", every=2)
    trained(tmp_path, follow, gradient_accumulation_steps=accumulated, **SAME).train()
    feed = hs.read_feed(tmp_path / "run")
    steps = 8 // accumulated
    expected = by_hand(accumulated, steps)
    assert feed.steps.tolist() == list(range(0, steps, 2)) and feed.state().kind == "ended"
    for look in feed.looks:
        right = expected[look.step]
        assert right["whole"] > 0.1  # control: clipped to 0.01, as on_pre_optimizer_step has them
        assert look.loss == pytest.approx(right["loss"], rel=1e-4) and not look.notes
        for layer in PARTS:
            assert look.of(layer)["g", "norm"] == pytest.approx(right["norm"][layer], rel=5e-3), (look.step, layer)
            assert look.of(layer)["w", "norm"] == pytest.approx(right["weight"][layer], rel=1e-3)
            assert look.of(layer)["a", "inputs"] == 4 * accumulated
        assert look.of("vit.layers.0.mlp.activation_fn")["a", "channels"] == 32  # and not the 5 tokens


def test_bfloat16_is_within_three_hundredths(tmp_path: Path) -> None:
    follow = hs.huggingface.LayerStatistics(tmp_path / "run", every=100)
    trained(tmp_path, follow, bf16=True, **SAME).train()
    (look,), (right, *_) = hs.read_feed(tmp_path / "run").looks, by_hand(1, 1)
    for layer in PARTS:
        assert look.of(layer)["g", "norm"] == pytest.approx(right["norm"][layer], rel=3e-2)


def test_the_history_has_the_numbers_and_a_reporter_too_if_asked(tmp_path: Path) -> None:
    follow = hs.huggingface.LayerStatistics(tmp_path / "run", every=2)
    trainer = trained(tmp_path, follow)
    trainer.train()
    feed = hs.read_feed(tmp_path / "run")
    lines = [line for line in trainer.state.log_history if "gradient norm/classifier" in line]
    assert [line["step"] for line in lines] == feed.steps.tolist() == [0, 2, 4, 6]
    norms = feed.column("g", "norm")[:, feed.layers.index("classifier")].tolist()
    assert [line["gradient norm/classifier"] for line in lines] == pytest.approx(norms, rel=1e-4)
    assert len([line for line in trainer.state.log_history if "loss" in line]) == 2  # the Trainer's own logs stay
    json.dumps(trainer.state.log_history, allow_nan=False)

    class Reporter(TrainerCallback):
        heard: list[dict[str, float]] = []  # noqa: RUF012

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
            self.heard.append(dict(logs))

    again = hs.huggingface.LayerStatistics(tmp_path / "again", every=2)
    trainer = trained(tmp_path, Reporter(), again, logging_steps=1)
    again.report_to(trainer)
    trainer.train()
    assert len([logs for logs in Reporter.heard if "gradient norm/classifier" in logs]) == 4
    assert len([logs for logs in Reporter.heard if "loss" in logs]) == 8  # none is lost by ours


def test_a_training_is_the_same_bit_by_bit_and_no_hook_stays(tmp_path: Path) -> None:
    model, followed = small(), small()
    trained(tmp_path, model=model, **SAME).train()
    shown = torch.randn(2, 3, 16, 16)
    trained(
        tmp_path, hs.huggingface.LayerStatistics(tmp_path / "run", every=3, pinned=shown), model=followed, **SAME
    ).train()
    for one, other in zip(model.state_dict().values(), followed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert not hs.live_hooks() and not any(weight._post_accumulate_grad_hooks for weight in followed.parameters())
    assert hs.read_feed(tmp_path / "run").maps(3) is not None


def test_a_training_that_goes_on_goes_on_in_its_feed(tmp_path: Path) -> None:
    saving = dict(save_strategy="steps", save_steps=5)
    trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "run", every=3), **saving).train()
    assert hs.read_feed(tmp_path / "run").steps.tolist() == [0, 3, 6]
    again = trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "run", every=3), num_train_epochs=4, **saving)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    feed = hs.read_feed(tmp_path / "run")
    assert feed.steps.tolist() == [0, 3, 6, 9, 12, 15] and feed.state().kind == "ended"


def test_what_fails_is_told_once_and_the_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(UserWarning, match=r"looks at this training no more .*file cannot be written") as told:
        trainer = trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "file", every=2))
        trainer.train()
    assert trainer.state.global_step == 8 and len([each for each in told if "Hookscope" in str(each.message)]) == 1

    failing = hs.huggingface.LayerStatistics(tmp_path / "metric", every=2)

    @failing.metric("broken")
    def broken(layer: str, value: Any) -> float:
        raise ZeroDivisionError("mine")

    with pytest.warns(UserWarning, match="The metric 'broken' failed"):
        trained(tmp_path, failing).train()
    assert len(hs.read_feed(tmp_path / "metric").looks) == 4

    follow = hs.huggingface.LayerStatistics(tmp_path / "log", every=2)
    trainer = trained(tmp_path, follow)
    follow.report_to(object())
    with pytest.warns(UserWarning, match="could not be logged"):
        trainer.train()
    assert trainer.state.global_step == 8 and len(hs.read_feed(tmp_path / "log").looks) == 4

    from hookscope.hooks.training import writer

    class Later(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.global_step == 3:
                monkeypatch.setattr(writer, "_write_all", full)

    def full(file: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.warns(UserWarning, match="The feed disk cannot be written"):
        trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "disk", every=2), Later()).train()
    assert len(hs.read_feed(tmp_path / "disk").looks) == 2


class Bare(nn.Module):
    """A model without layers, that is no model of transformers either."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 768))

    def forward(self, pixel_values: Any, labels: Any) -> dict[str, Any]:
        answer = pixel_values.flatten(1) @ self.weight.T
        return {"loss": nn.functional.cross_entropy(answer, labels), "logits": answer}


def test_a_model_without_layers_has_its_own_weights_followed(tmp_path: Path) -> None:
    trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "run", every=2), model=Bare()).train()
    feed = hs.read_feed(tmp_path / "run")
    assert feed.looks[0].of("")["w", "count"] == 4 * 768 and feed.looks[0].loss == pytest.approx(1.386294, rel=1e-5)


class OwnLoss(InOrder):
    """One whose loss is its own, and twice the model's."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        return 2 * model(**inputs).loss


def test_the_loss_has_the_share_by_which_it_was_minimised(tmp_path: Path) -> None:
    model = small()
    plain = copy.deepcopy(model).train()
    first = pictures()[:4]
    values, labels = torch.stack([each["pixel_values"] for each in first]), torch.tensor([0, 1, 2, 3])
    right = float(plain(values, labels=labels).loss.detach())
    trained(tmp_path, hs.huggingface.LayerStatistics(tmp_path / "run"), model=model, kind=OwnLoss).train()
    assert hs.read_feed(tmp_path / "run").looks[0].loss == pytest.approx(2 * right, rel=1e-5)


def test_wrong_arguments_are_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(HooksError, match="every is 0"):
        hs.huggingface.LayerStatistics(tmp_path, every=0)
    with pytest.raises(HooksError, match="There is no number 'norm' of a layer"):
        hs.huggingface.LayerStatistics(tmp_path, log=["norm"])


def test_without_transformers_a_sentence_says_so() -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import hookscope as hs\n"
        "try: hs.huggingface\nexcept ImportError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "The package transformers is not installed: pip install 'hookscope[hf-trainer]'."
