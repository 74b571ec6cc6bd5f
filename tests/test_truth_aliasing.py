"""In-place writes, aliases and return values: the naive hook is wrong here, shown beside ours (docs/truth.md, 1)."""

from __future__ import annotations

import pytest
import torch
import torchvision
from helpers import assert_untouched, four_pixels
from torch import Tensor, nn

from hookscope.hooks.errors import NoGradient
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.results.looks import GradCam


@pytest.fixture(scope="module")
def alexnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.alexnet(weights=None).eval()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def added_zeros(model: nn.Module, name: str, image: Tensor, target: int) -> Tensor:
    """The oracle: the gradient with respect to zeros that are added to a layer's output."""
    zeros: list[Tensor] = []

    def add(module: nn.Module, args: object, output: Tensor) -> Tensor:
        zeros.append(torch.zeros_like(output, requires_grad=True))
        return output + zeros[0]

    handle = model.get_submodule(name).register_forward_hook(add)
    score = model(image)[0, target]
    handle.remove()
    return torch.autograd.grad(score, zeros[0])[0]


def test_full_backward_hooks_break_the_forward_pass_and_ours_do_not(image: Tensor) -> None:
    model = torchvision.models.alexnet(weights=None).eval()
    handle = model.features[0].register_full_backward_hook(lambda *given: None)
    with pytest.raises(RuntimeError, match="is a view and is being modified inplace"):
        model(image)
    handle.remove()
    with capture(model, "features.0", gradients=True) as seen:
        logits = model(image)
    seen.differentiate(logits[0, 1])
    assert torch.equal(seen["features.0"].gradient, added_zeros(model, "features.0", image, 1))


def test_a_removed_backward_hook_leaves_its_kind_behind_and_ours_leave_nothing() -> None:
    model, image = four_pixels()
    with assert_untouched(model), capture(model, "*", gradients=True, inputs=True) as seen:
        seen.differentiate(model(image)[0, 0])
    model[0].register_full_backward_hook(lambda *given: None).remove()
    assert model[0]._is_full_backward_hook is True  # for ever, and the other kind is refused from now on
    with pytest.raises(RuntimeError, match="Cannot use both"):
        model[0].register_backward_hook(lambda *given: None)


def test_gradients_after_the_fact_belong_to_the_overwritten_value(alexnet: nn.Module, image: Tensor) -> None:
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = alexnet.features[0].register_forward_hook(keep)
    with capture(alexnet, "features.0", gradients=True) as seen:
        logits = alexnet(image)
    handle.remove()
    true = added_zeros(alexnet, "features.0", image, 2)
    afterwards = torch.autograd.grad(logits[0, 2], kept[0], retain_graph=True)[0]
    assert (afterwards - true).abs().max() > 0.1 * true.abs().max()  # the control
    seen.differentiate(logits[0, 2])
    assert torch.equal(seen["features.0"].gradient, true)


class ReadThenWritten(nn.Module):
    """A view that somebody reads before it is written over."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        flat = self.flat(x)
        before = flat * 2
        return before + flat.relu_()


def test_a_part_of_a_gradient_is_not_given_for_the_whole() -> None:
    model, x = ReadThenWritten(), torch.ones(1, 1, 2, 2, requires_grad=True)
    edges = []
    handle = model.flat.register_forward_hook(
        lambda module, args, output: edges.append(torch.autograd.graph.get_gradient_edge(output))
    )
    with capture(model, ["flat", ""], gradients=True) as seen:
        out = model(x * 1)
    handle.remove()
    assert torch.autograd.grad(out.sum(), edges, retain_graph=True)[0].unique().item() == 2  # 3 is right
    seen.differentiate(out.sum())
    assert seen["flat"].gradient is None and "overwrites in place" in seen["flat"].reason_no_gradient
    assert seen[""].gradient.unique().item() == 1


class Skip(nn.Module):
    """An Identity whose input is read by somebody else too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.same = nn.Conv2d(1, 1, 1), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.same(x) * 3 + x * 5


def test_a_tensor_that_is_given_back_has_the_gradient_of_all_who_read_it() -> None:
    model = Skip()
    with capture(model, ["conv", "same"], gradients=True, inputs=True) as seen:
        out = model(torch.ones(1, 1, 2, 2))
    seen.differentiate(out.sum())
    assert seen["same"].gradient.unique().item() == 8 == seen["conv"].gradient.unique().item()
    assert seen.of("same", "input")[0].gradient.unique().item() == 8


def test_gradients_at_the_input_are_those_of_the_value_before_the_layer(alexnet: nn.Module, image: Tensor) -> None:
    names = ["features.1", "features.3", "classifier.4"]  # an in-place ReLU, a convolution, a linear layer
    with capture(alexnet, names, gradients=True, inputs=True) as seen:
        logits = alexnet(image)
    seen.differentiate(logits[0, 5])
    for name in names:
        zeros: list[Tensor] = []

        def add(module: nn.Module, args: tuple[Tensor], zeros: list[Tensor] = zeros) -> Tensor:
            zeros.append(torch.zeros_like(args[0], requires_grad=True))
            return args[0] + zeros[0]

        handle = alexnet.get_submodule(name).register_forward_pre_hook(add)
        true = torch.autograd.grad(alexnet(image)[0, 5], zeros)[0]
        handle.remove()
        (found,) = seen.of(name, "input")
        assert torch.equal(found.gradient, true) and true.abs().max() > 0


def test_an_input_from_outside_has_a_gradient_only_if_it_asks_for_one() -> None:
    model, image = four_pixels()
    given = image.clone().requires_grad_()
    for picture in (image, given):
        with capture(model, ["0"], gradients=True, inputs=True) as seen:
            logits = model(picture)
        seen.differentiate(logits[0, 0])
        (found,) = seen.of("0", "input")
        assert (found.gradient is None) == (picture is image)
    assert found.gradient.unique().tolist() == [1.5] and given.grad is None  # 2 * 3 / 4


def test_what_a_hook_returns_replaces_the_output_and_ours_returns_nothing() -> None:
    model, image = four_pixels()
    true, other = model(image), model(image * 2)
    store: dict[str, Tensor] = {}
    handle = model[0].register_forward_hook(lambda module, args, output: store.setdefault("0", output.detach().clone()))
    assert torch.equal(model(image), true)
    assert torch.equal(model(image * 2), true) and not model[0](image).requires_grad  # the first answer, for ever
    handle.remove()
    with hook(model[0], "forward", lambda *given: store["0"], layer="0", owner="me", purpose="analysis"):
        assert torch.equal(model(image * 2), other) and model[0](image).requires_grad


def test_hooks_made_in_a_loop_keep_their_own_names() -> None:
    model, image = four_pixels()
    late: dict[str, Tensor] = {}
    handles = []
    for name, layer in model.named_children():
        handles.append(layer.register_forward_hook(lambda m, a, o: late.update({name: o})))  # noqa: B023
    with capture(model, ["0", "1", "2", "3", "4"]) as seen:
        model(image)
    for handle in handles:
        handle.remove()
    assert list(late) == ["4"]  # the control
    assert [record.layer for record in seen] == ["0", "1", "2", "3", "4"]


def test_after_the_last_score_the_graph_is_gone_and_said_to_be() -> None:
    model, image = four_pixels()
    with capture(model, "0", gradients=True) as seen:
        logits = model(image)
    seen.differentiate(logits[0, 0])
    with pytest.raises(NoGradient, match="retain_graph=True"):
        seen.differentiate(logits[0, 1])


class Sliced(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2]


class Classifier(nn.Module):
    """Reads a slice of its feature maps, writes over it, and reads it again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.slice = nn.Conv2d(1, 3, 1), Sliced()

    def forward(self, x: Tensor) -> Tensor:
        part = self.slice(self.conv(x))
        before = part * 2
        return (before + part.relu_()).mean((2, 3))


def test_no_map_is_made_of_a_part_of_a_gradient() -> None:
    torch.manual_seed(0)
    model, image = Classifier().eval(), torch.randn(1, 1, 4, 4)
    layers = describe(model, image)
    found = {layer: result for layer, _, result in grad_cam(model, image, [("slice", 0), ("conv", 0)], 0, layers)}
    assert isinstance(found["slice"], NoGradient) and "overwrites in place" in str(found["slice"])
    assert isinstance(found["conv"], GradCam)
