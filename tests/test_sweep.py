"""Every leaf's output and gradient equals the zero-leaf oracle: a few models here, all of them in `make sweep`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench import models, oracle, sweep
from bench.models import NotRun, answer_of, build, smallest_input
from bench.oracle import give_values, judge
from hookscope.hooks.looks import records
from hookscope.hooks.passes.graph import tap

# One of each trap: in-place ReLUs, reused modules, += on an output, cat, NHWC, functional attention, dict and list
# outputs, a head that runs once per level, layers that never run, Identity skips.
SUBSET = [
    "torchvision:alexnet",
    "torchvision:googlenet",
    "torchvision:mobilenet_v3_small",
    "torchvision:resnet18",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:squeezenet1_1",
    "torchvision:swin_t",
    "torchvision:lraspp_mobilenet_v3_large",
    "torchvision:ssdlite320_mobilenet_v3_large",
    "timm:convnext_atto",
    "timm:ghostnet_050",
    "timm:levit_128s",
    "timm:tf_efficientnet_lite0",
]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("spec", SUBSET)
def test_every_leaf_equals_the_oracle(spec: str) -> None:
    threads = torch.get_num_threads()
    answer = answer_of(spec, threads)
    assert answer["wrong"] == [] and answer["unavailable"] == [] and answer["same_output"]
    assert answer["leaves"] > 20 and answer["gradients"] > 0.9 * answer["leaves"]
    assert all(".shortcut" in name for name in answer["aliases"])  # Identity, whose input is read by the sum too


class Traps(nn.Module):
    """An output that is written over, a skip through an Identity, and a view that is read and then written over."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.same, self.flat = nn.Conv2d(3, 4, 1), nn.ReLU(True), nn.Identity(), nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        x = self.same(x) * 2 + x
        flat = self.flat(x)
        return flat.clone() + flat.mul_(3)


def test_the_verdict_names_the_exceptions() -> None:
    torch.manual_seed(0)
    verdict = judge(Traps(), (torch.randn(1, 3, 4, 4),))
    assert verdict.wrong == [] and verdict.aliases == ["same"] and verdict.unavailable == ["flat"]
    assert (verdict.leaves, verdict.tensors, verdict.same_output, verdict.never) == (4, 4, True, {})


def test_the_verdict_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Controls: kept without a copy, the value is wrong; taken after the fact, or not checked, so is the gradient."""
    torch.manual_seed(0)
    monkeypatch.setattr(Tensor, "clone", lambda self, **options: self, raising=True)
    assert "conv: another output" in judge(Traps(), (torch.randn(1, 3, 4, 4),)).wrong
    monkeypatch.undo()

    def later(tensor: Tensor) -> object:
        edge, _ = tap(tensor * 1.5)  # a place of its own in the graph, which the score does not go through
        return edge, None

    monkeypatch.setattr(records, "tap", later)
    assert any(text.startswith("conv: another gradient") for text in judge(Traps(), (torch.randn(1, 3, 4, 4),)).wrong)
    monkeypatch.setattr(records, "tap", tap)
    monkeypatch.setattr(records, "overwritten_view", lambda watch: False)
    assert any(text.startswith("flat: another gradient") for text in judge(Traps(), (torch.randn(1, 3, 4, 4),)).wrong)


def test_weights_that_are_all_alike_are_given_values() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    nn.init.zeros_(model[2].weight)
    kept = model[0].weight.clone()
    give_values(model)
    assert model[2].weight.abs().min() > 0 and model[1].weight.std() > 0.05 and torch.equal(model[0].weight, kept)


def test_a_vision_transformers_head_of_zeros_does_not_make_the_comparison_vacuous() -> None:
    model = build("torchvision:vit_b_32")
    assert model.heads.head.weight.abs().max() > 0


def test_the_smallest_input_that_is_accepted() -> None:
    assert smallest_input(nn.Sequential(nn.Conv2d(3, 2, 60)))[0].shape[-1] == 64

    with pytest.raises(NotRun, match="no square picture of up to 512"):
        smallest_input(nn.Sequential(nn.Conv2d(4, 2, 3)))


def test_answers_are_remembered_and_asked_for_again_only_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"input": "32 × 32", "leaves": 2, "tensors": 3, "gradients": 3, "wrong": [], "aliases": ["a.0.b", "a.1.b"]}
    good |= {"unavailable": [], "rounded": 1, "error": 1e-7, "same_output": True, "seconds": 1.0}
    answers = {
        "torchvision:alexnet": good,
        "torchvision:vgg11": {"not_run": "it needs more than 8 GB"},
        "torchvision:vgg13": {"failed": "RuntimeError: broken"},
    }
    asked: list[str] = []

    def run(spec: str, threads: int) -> dict[str, object]:
        asked.append(spec)
        return {"spec": spec, **answers[spec]}

    monkeypatch.setattr(sweep, "RESULTS", tmp_path / "sweep.jsonl")
    monkeypatch.setattr(sweep, "specs", lambda: list(answers))
    monkeypatch.setattr(sweep, "_run", run)
    assert sweep.main([]) == 1  # one could not be run
    assert sweep.main([]) == 1
    assert asked == [*answers, "torchvision:vgg13"]
    printed = capsys.readouterr().out
    assert "| torchvision:alexnet | 32 × 32 | 2 | 3 | 3 | 1 | 0 | 2: a.*.b | 0 | 1e-07 | 1 |" in printed
    assert "not run: it needs more than 8 GB" in printed and "failed: RuntimeError: broken" in printed
    assert "1 of 3 models ran: 2 leaf modules, 3 outputs and 3 gradients; 0 wrong" in printed
    assert len([json.loads(line) for line in (tmp_path / "sweep.jsonl").read_text().splitlines()]) == 4
    assert sweep.main(["nothing-like-it"]) == 2


def test_the_sweep_covers_what_it_says() -> None:
    names = sweep.specs()
    assert len(names) == len(set(names)) and sum(name.startswith("timm:") for name in names) >= 40
    assert {"torchvision:vit_h_14", "torchvision:fcn_resnet50", "torchvision:maskrcnn_resnet50_fpn"} <= set(names)
    assert set(SUBSET) <= set(names)


def test_a_model_that_needs_too_much_memory_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(spec: str) -> nn.Module:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 GB")

    monkeypatch.setattr(models, "build", fail)
    assert answer_of("timm:huge") == {"spec": "timm:huge", "not_run": "it needs more than 8 GB"}


def test_tolerances_are_those_of_rounding() -> None:
    assert oracle.TOLERANCE <= 1e-4 and oracle.NOISE <= 1e-5
