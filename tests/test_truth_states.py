"""Models that are compiled, exported, quantised, frozen or made elsewhere: handled, or refused in a sentence
(docs/truth.md, 4.2 and 6)."""

from __future__ import annotations

import copy
import io
import threading

import pytest
import torch
import torchvision
from helpers import assert_untouched, four_pixels, streamed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hookscope.hooks.causes.likeness import likeness
from hookscope.hooks.errors import ModelNotSupported, NoGradient
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.capture import capture

EXPECTED = [[[[2.0, 4.0], [6.0, 8.0]], [[-1.0, -2.0], [-3.0, -4.0]]]]


@pytest.mark.parametrize(
    "part", ["the model by wrapper", "the model in place", "a child by wrapper", "a child in place"]
)
def test_whatever_is_compiled_is_looked_into(part: str) -> None:
    inner, image = four_pixels()
    model: nn.Module = nn.Sequential(inner).eval()
    if part == "the model by wrapper":
        called: nn.Module = torch.compile(model, backend="eager")
    else:
        called = model
        if part == "the model in place":
            model.compile(backend="eager")
        elif part == "a child by wrapper":
            model[0] = torch.compile(inner, backend="eager")
        else:
            inner.compile(backend="eager")
    called(image)
    naive: list[Tensor] = []
    handle = inner[0].register_forward_hook(lambda module, args, output: naive.append(output))
    called(image)
    handle.remove()
    assert naive == []  # the control: compiled before, it never fires
    with capture(called, ["0.0", "0.4"], gradients=True) as seen:
        logits = called(image)
    seen.differentiate(logits[0, 0])
    assert seen["0.0"].value.tolist() == EXPECTED and seen["0.4"].gradient.tolist() == [[1, 0]]
    assert seen.not_run == {}
    torch._dynamo.reset()


def test_an_exported_program_says_that_its_graph_calls_no_layers() -> None:
    model, image = four_pixels()
    exported = torch.export.export(model, (image,)).module()
    with capture(exported, ["", "0"]) as seen:
        exported(image)
    assert [record.layer for record in seen] == [""]
    assert list(seen.not_run) == ["0"] and "torch.export.unflatten" in seen.not_run["0"]
    info = next(info for info in describe(exported, image) if info.name == "0")
    assert info.calls == () and "exported program" in info.reason_not_run
    flat = torch.export.unflatten(torch.export.export(model, (image,)))
    with capture(flat, "0") as seen:
        flat(image)
    assert seen["0"].value.tolist() == EXPECTED


def test_a_traced_graph_is_looked_into() -> None:
    model, image = four_pixels()
    traced = torch.fx.symbolic_trace(model)
    with capture(traced, "0") as seen:
        traced(image)
    assert seen["0"].value.tolist() == EXPECTED


def test_a_hook_that_exists_during_export_is_baked_in_and_ours_are_gone() -> None:
    model, image = four_pixels()
    with capture(model, "*"):
        model(image)
    clean = torch.export.export(model, (image,)).module()
    handle = model[0].register_forward_hook(lambda module, args, output: output * 2)
    dirty = torch.export.export(model, (image,)).module()
    handle.remove()
    assert torch.equal(clean(image), model(image)) and not torch.equal(dirty(image), model(image))


def test_a_model_made_in_inference_mode_is_captured_and_refused_gradients() -> None:
    with torch.inference_mode():
        model, _ = four_pixels()
    image = four_pixels()[1]
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        model(image.requires_grad_())
    image = image.detach()
    with torch.no_grad(), capture(model, "0") as seen:
        model(image)
    assert seen["0"].value.tolist() == EXPECTED
    with pytest.raises(ModelNotSupported, match=r"copy\.deepcopy"), capture(model, "0", gradients=True):
        pass
    other = copy.deepcopy(model)
    with capture(other, "0", gradients=True) as seen:
        logits = other(image.requires_grad_())
    seen.differentiate(logits[0, 0])
    assert seen["0"].gradient is not None


def test_a_frozen_model_has_gradients_if_its_input_asks_for_them() -> None:
    model, image = four_pixels()
    model.requires_grad_(False)
    with capture(model, "0", gradients=True) as seen:
        logits = model(image)
    with pytest.raises(NoGradient, match="inputs that require grad"):
        seen.differentiate(logits[0, 0])
    with assert_untouched(model), capture(model, "0", gradients=True) as seen:
        logits = model(image.requires_grad_())
        seen.differentiate(logits[0, 0])
    assert seen["0"].gradient.tolist() == [[[[0.75] * 2] * 2, [[0.0] * 2] * 2]]


class Hidden(nn.Module):
    """Computes under no_grad by itself, as decorated models do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = four_pixels()[0]

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_a_forward_pass_under_its_own_no_grad_is_a_sentence() -> None:
    model, image = Hidden(), four_pixels()[1]
    with capture(model, "inner.0", gradients=True) as seen:
        out = model(image.requires_grad_())
    with pytest.raises(NoGradient, match="recorded no graph"):
        seen.differentiate(out[0, 0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    model, image = four_pixels()
    with torch.autocast("cpu", dtype=dtype), capture(model, ["0", "3"], gradients=True) as seen:
        logits = model(image)
    seen.differentiate(logits[0, 0].float())
    assert seen["0"].value.dtype == dtype and seen["0"].value.tolist() == EXPECTED
    assert seen["3"].gradient.tolist() == [[3, 1]]
    with torch.autocast("cpu", dtype=dtype), torch.no_grad(), capture(model, "0", numbers="exact") as seen:
        model(image)
    numbers = seen["0"].statistics
    assert (numbers.min, numbers.max, numbers.mean) == (-4, 8, 1.25) and numbers.channels["mean"].tolist() == [5, -2.5]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_quantised_layers_are_found_by_name_of_type_and_read_as_what_they_stand_for() -> None:
    torch.manual_seed(0)
    model = torchvision.models.quantization.mobilenet_v2(weights=None, quantize=True).eval()
    image = torch.randn(1, 3, 32, 32)
    assert not any(isinstance(module, nn.Conv2d) for module in model.modules())  # the control: they are no Conv2d
    with (
        torch.no_grad(),
        capture(model, ":*Conv2d") as seen,
        capture(model, ":*Conv2d", numbers="exact") as numbers,
    ):
        model(image)
    assert len(seen) == len(numbers) > 50 and seen.records[0].value.is_quantized
    for value, summary in zip(seen, numbers, strict=True):
        plain = value.value.dequantize()
        assert summary.statistics.max == plain.max().item() and summary.statistics.mean == pytest.approx(
            plain.double().mean().item(), rel=1e-9
        )
        assert summary.statistics.channels["mean"].shape == (plain.shape[1],)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_what_a_quantised_model_has_learnt_is_counted_and_compared_though_it_is_packed() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    whole = sum(each.numel() for each in plain.parameters())
    packed = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
    assert sum(each.numel() for each in packed.parameters()) < whole  # the control
    picture = torch.rand(1, 3, 8, 8)
    assert [info.parameters for info in describe(packed, picture) if info.name in ("", "0", "4")] == [whole, 112, 25]
    pictures = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = likeness(plain, packed, pictures)
    assert [each.layer for each in found.second] == [each.layer for each in found.first] == ["0", "4"]
    odd = nn.Sequential(nn.Conv2d(3, 4, 3))
    odd.weight = nn.Dropout()  # a module that can be called, and not without arguments
    assert describe(odd, picture)[0].parameters == 112


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_dynamically_quantised_layers() -> None:
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), {nn.Linear})
    with torch.no_grad(), capture(model, "*") as seen:
        out = model(torch.ones(1, 2))
    assert [record.layer for record in seen] == ["0", "1", ""] and torch.equal(seen[""].value, out)


def test_layers_inside_the_fused_kernel_are_seen_and_global_hooks_miss_them() -> None:
    torch.manual_seed(0)
    model, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), torch.randn(1, 4, 8)
    naive: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: naive.append(module))
    with torch.no_grad():
        model(x)
    handle.remove()
    assert naive == [model]  # the control: the kernel has done the work of all the others, without a word
    with torch.no_grad(), capture(model, ["self_attn", "linear1", "norm2"]) as seen:
        model(x)
    assert [record.layer for record in seen] == ["self_attn", "linear1", "norm2"]
    with torch.enable_grad():  # which takes the layer off the kernel, too
        attended = model.norm1(x + model.self_attn(x, x, x, need_weights=False)[0])
    torch.testing.assert_close(seen["linear1"].value, model.linear1(attended), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype:UserWarning")
def test_ragged_outputs_of_the_fast_path_are_given_part_by_part() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    x, padding = torch.randn(2, 4, 8), torch.tensor([[False] * 3 + [True], [False] * 4])
    naive: list[Tensor] = []
    handle = model.layers[0].register_forward_hook(lambda module, args, output: naive.append(output))
    with torch.no_grad():
        model(x, src_key_padding_mask=padding)
        handle.remove()
        with pytest.raises(RuntimeError, match="doesn't support sizes"):
            naive[0].shape  # noqa: B018
        bare = model(x, src_key_padding_mask=padding)
        with capture(model, ["layers.0", "layers.1.linear1", ""], inputs=True) as seen:
            hooked = model(x, src_key_padding_mask=padding)
        with capture(model, "layers.1.linear1", numbers="exact") as numbers:
            model(x, src_key_padding_mask=padding)
    torch.testing.assert_close(hooked, bare, atol=2e-6, rtol=0)  # a hook takes the layer off the fused kernel
    assert [(r.path, r.shape) for r in seen.of("layers.0")] == [("0", (3, 8)), ("1", (4, 8))]
    assert [(r.path, r.shape) for r in seen.of("layers.1.linear1")] == [("0", (3, 16)), ("1", (4, 16))]
    assert seen[""].shape == (2, 4, 8)
    assert [r.statistics.count for r in numbers] == [48, 64]


def test_a_copy_or_a_file_made_after_a_look_holds_no_hooks() -> None:
    model, image = four_pixels()
    handle = model[0].register_forward_hook(lambda module, args, output: None)
    assert len(copy.deepcopy(model)[0]._forward_hooks) == 1  # the control: copies take hooks along
    with pytest.raises(AttributeError, match=r"[Cc]an't (get|pickle) local object"):
        torch.save(model, io.BytesIO())
    handle.remove()
    with capture(model, "*", inputs=True, gradients=True) as seen:
        model(image)
    assert not copy.deepcopy(model)[0]._forward_hooks and len(seen) > 0
    torch.save(model, io.BytesIO())


class Replicas(nn.Module):
    """Runs its part in another thread, as DataParallel does with its replicas."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = four_pixels()[0]

    def forward(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        thread = threading.Thread(target=lambda: found.append(self.inner(x)))
        thread.start()
        thread.join()
        return found


def test_what_runs_in_another_thread_is_not_mixed_in() -> None:
    model, image = Replicas(), four_pixels()[1]
    with torch.no_grad(), capture(model, ["inner.0"]) as seen:
        model(image)
    assert len(seen) == 0 and "in another thread" in seen.not_run["inner.0"]


class Block(nn.Module):
    """Recomputed in the backward pass, and with a buffer that counts."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.second, self.reentrant = nn.Linear(3, 3), nn.Linear(3, 2), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(lambda y: self.second(self.first(y).relu_()), x, use_reentrant=self.reentrant)


def test_checkpointed_gradients_equal_those_without() -> None:
    torch.manual_seed(0)
    model = Block(reentrant=False)
    plain = nn.Sequential(model.first, nn.ReLU(), model.second)
    x = torch.randn(4, 3, requires_grad=True)
    calls: list[int] = []
    handle = model.first.register_forward_hook(lambda *given: calls.append(1))
    with capture(model, ["first", "second"], gradients=True) as seen:
        out = model(x)
    seen.differentiate(out.square().sum())
    handle.remove()
    assert len(calls) == 2  # the control: it has run once more in the backward pass
    with capture(plain, ["0", "2"], gradients=True) as expected:
        out = plain(x)
    expected.differentiate(out.square().sum())
    assert len(seen) == 2
    for record, other in zip(seen, expected, strict=True):
        assert torch.equal(record.value, other.value) and torch.equal(record.gradient, other.gradient)


def test_a_whole_pass_of_stream_on_unusual_models() -> None:
    model, image = four_pixels()
    for called in (nn.DataParallel(model), torch.compile(model, backend="eager"), torch.fx.symbolic_trace(model)):
        found = streamed(called, image, [("0", 0)])
        assert found[0].values.tolist() == EXPECTED[0]
    torch._dynamo.reset()
