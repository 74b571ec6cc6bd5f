"""Modules that run often, in another order, or never (docs/truth.md, 2, 3, 9.1, 9.3 and 9.4)."""

from __future__ import annotations

import pytest
import torch
import torchvision
from helpers import assert_untouched, four_pixels
from torch import Tensor, nn

from hookscope.hooks.errors import LayerNotExecuted, ModelNotSupported
from hookscope.hooks.looks.capture import capture


class Head(nn.Module):
    """One convolution over several sizes, as RetinaNet's head has it, under three names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.again = self.conv
        self.block = nn.Sequential(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        levels = [x, x[..., ::2, ::2], x[..., ::4, ::4]]
        return torch.stack([(index + 1) * self.conv(level).mean() for index, level in enumerate(levels)]).sum()


def test_calls_of_different_sizes_and_names_are_kept_once_each() -> None:
    model, x = Head(), torch.randn(1, 1, 8, 8)
    store: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(lambda m, a, o, name=name: store.setdefault(name, []).append(o.detach()))
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Conv2d)
    ]
    with capture(model, ":Conv2d") as seen:
        model(x)
    for handle in handles:
        handle.remove()
    assert sum(map(len, store.values())) == 9  # the control: a hook per name sees each of the three calls three times
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        torch.cat(store["conv"])
    assert [(record.layer, record.call, record.shape[-1]) for record in seen] == [
        ("conv", 0, 8),
        ("conv", 1, 4),
        ("conv", 2, 2),
    ]
    assert seen["block.0", 2] is seen["again", 2] is seen["conv", 2]


def test_gradients_go_to_their_own_call_although_backward_visits_the_last_first() -> None:
    model, x = Head(), torch.randn(1, 1, 8, 8)
    order: list[Tensor] = []

    def watch(module: nn.Module, args: object, output: Tensor) -> None:
        output.register_hook(order.append)

    handle = model.conv.register_forward_hook(watch)
    with capture(model, "conv", gradients=True) as seen:
        out = model(x)
    handle.remove()
    seen.differentiate(out)
    assert [gradient.shape[-1] for gradient in order] == [2, 4, 8]  # the control: paired by order, all are wrong
    for record, weight in zip(seen, (1, 2, 3), strict=True):
        assert record.gradient.shape == record.value.shape
        torch.testing.assert_close(record.gradient.sum().item(), float(weight))


class Unused(nn.Module):
    """Layers that do not run, each for another reason."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.steps = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.direct = nn.Linear(4, 4)
        self.aux_head = nn.Linear(4, 2)
        self.never = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.attention(x, x, x)
        for step in self.steps:
            x = step(x)
        return self.direct.forward(x)


def test_layers_that_did_not_run_are_listed_with_the_reason() -> None:
    model = Unused()
    with capture(model, "*") as seen:
        model(torch.randn(1, 3, 4))
    said = seen.not_run
    assert list(said) == ["attention.out_proj", "steps", "direct", "aux_head", "never"]
    assert "MultiheadAttention uses its weights" in said["attention.out_proj"]
    assert "only holds other layers" in said["steps"]
    assert "why is not known" in said["direct"]  # `layer.forward(x)` passes every hook by
    assert "only in training" in said["aux_head"]
    assert "no weights" in said["never"]
    with pytest.raises(LayerNotExecuted, match="uses its weights"):
        seen["attention.out_proj"]


def test_the_last_convolution_of_googlenet_is_one_that_never_runs() -> None:
    model = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=True).eval()
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)][-1]
    assert last == "aux2.conv.conv"  # the control: what "the last convolution" of a loop over modules() is
    with torch.no_grad(), capture(model, ":Conv2d") as seen:
        model(torch.randn(1, 3, 64, 64))
    assert set(seen.not_run) == {"aux1.conv.conv", "aux2.conv.conv"}
    assert all("only in training" in reason for reason in seen.not_run.values())
    assert seen.records[-1].layer == "inception5b.branch4.1.conv"


def test_nothing_ran_or_it_ran_in_another_thread() -> None:
    model, _ = four_pixels()
    with capture(model, ["0", "4"]) as seen:
        pass
    assert seen.not_run == {"0": "The model itself did not run.", "4": "The model itself did not run."}


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torchscript_part_is_listed_and_the_rest_is_captured() -> None:
    model = nn.Sequential(nn.Linear(2, 2), torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)))
    with capture(model, "*") as seen:
        model(torch.ones(1, 2))
    assert [record.layer for record in seen] == ["0", ""]
    assert list(seen.not_run) == ["1"] and "TorchScript" in seen.not_run["1"]
    with pytest.raises(ModelNotSupported, match="Layer '1' is TorchScript"), capture(model, "1"):
        pass


def test_hooks_run_in_the_order_of_registration_whatever_their_kind() -> None:
    model, image = four_pixels()
    order: list[str] = []
    layer = model[0]
    handles = [
        layer.register_forward_hook(lambda *given: order.append("first"), with_kwargs=True),
        layer.register_forward_hook(lambda *given: order.append("second"), always_call=True),
        layer.register_forward_hook(lambda *given: order.append("third")),
        layer.register_forward_hook(lambda *given: order.append("in front"), prepend=True),
    ]
    model(image)
    for handle in handles:
        handle.remove()
    assert order == ["in front", "first", "second", "third"]


class Interrupted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyboardInterrupt


def test_an_interruption_leaves_no_hook_and_a_hook_that_is_always_called_is_not() -> None:
    model, called = nn.Sequential(nn.Linear(2, 2), Interrupted()), []
    always = model[1].register_forward_hook(lambda *given: called.append("always"), always_call=True)
    with assert_untouched(model), pytest.raises(KeyboardInterrupt), capture(model, "*", gradients=True):
        model(torch.ones(1, 2))
    assert called == []  # the control: cleaning up in such a hook comes too late for Ctrl+C
    always.remove()


def test_a_users_own_hook_stays_and_ours_sees_what_it_made_of_the_output() -> None:
    model, image = four_pixels()
    handle = model[0].register_forward_hook(lambda module, args, output: output + 100)
    with capture(model, ["0"]) as seen:
        hooked = model(image)
    assert seen["0"].value.min() == 96  # -4 + 100: that is what the next layer got
    assert torch.equal(model(image), hooked) and len(model[0]._forward_hooks) == 1
    handle.remove()
