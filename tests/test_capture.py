"""Captured values are the values that the layers computed, and looking leaves no trace."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
import torch
import torchvision
from helpers import Count, Ran, assert_untouched, four_pixels, streamed
from torch import nn
from torch.utils.checkpoint import checkpoint

from hookscope.hooks.errors import Cancelled, HooksError, LayerNotExecuted, LayerNotFound, NoGradient
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks import records
from hookscope.hooks.looks.capture import capture, stream
from hookscope.hooks.numbers import elsewhere
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.looks import Activation, LayerInfo


@pytest.fixture(scope="module")
def alexnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.alexnet(weights=None).eval()


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def small() -> torch.Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def collect(model, inputs, wanted, layers=None, cancelled=None, **options) -> list[Activation]:
    with looking(cancelled=cancelled):
        return streamed(model, inputs, wanted, layers, **options)


def alone(model: nn.Module, name: str, image: torch.Tensor) -> list[torch.Tensor]:
    """A layer's outputs by a hook of its own that copies: the plainest right way."""
    copies = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, a, o: copies.append(o.detach().clone()))
    with torch.no_grad():
        model(image)
    handle.remove()
    return copies


# capture


def test_four_pixels_by_hand():
    model, image = four_pixels()
    with assert_untouched(model), capture(model, "*") as seen:
        model(image)
    assert [record.layer for record in seen] == ["0", "1", "2", "3", "4", ""]
    assert seen["0"].value.tolist() == [[[[2, 4], [6, 8]], [[-1, -2], [-3, -4]]]]
    assert seen["1"].value.tolist() == [[[[2, 4], [6, 8]], [[0, 0], [0, 0]]]]
    assert seen["3"].value.tolist() == [[5, 0]]
    assert seen["4"].value.tolist() == [[15, -5]]


def test_alexnets_first_layer_has_negative_values_and_a_plain_detach_does_not(alexnet, image):
    naive = {}
    handle = alexnet.features[0].register_forward_hook(lambda m, a, o: naive.setdefault(0, o.detach()))
    with torch.no_grad(), capture(alexnet, "features.0") as seen:
        alexnet(image)
    handle.remove()
    assert naive[0].min() == 0  # the control: the in-place ReLU has overwritten it
    value = seen["features.0"].value
    assert value.min() < -1 and 0.4 < (value < 0).float().mean() < 0.6
    by_hand = torch.nn.functional.conv2d(
        image, alexnet.features[0].weight, alexnet.features[0].bias, stride=4, padding=2
    )
    torch.testing.assert_close(value, by_hand)


def test_inputs_are_those_before_the_layer_changes_them(alexnet, image):
    with torch.no_grad(), capture(alexnet, "features.1", inputs=True) as seen:
        alexnet(image)
    before, after = seen.of("features.1", "input")[0].value, seen["features.1"].value
    assert before.min() < 0 and torch.equal(before.relu(), after)


def test_every_call_is_kept_in_execution_order(resnet, small):
    with torch.no_grad(), capture(resnet, [":ReLU", ":Conv2d"]) as seen:
        resnet(small)
    assert len([record for record in seen if record.layer.endswith("relu")]) == 17
    assert [(record.layer, record.call) for record in seen.records[1:6]] == [
        ("relu", 0),
        ("layer1.0.conv1", 0),
        ("layer1.0.relu", 0),
        ("layer1.0.conv2", 0),
        ("layer1.0.relu", 1),
    ]
    first, second = alone(resnet, "layer1.0.relu", small)
    assert torch.equal(seen["layer1.0.relu", 0].value, first)
    assert torch.equal(seen["layer1.0.relu", 1].value, second)
    with pytest.raises(KeyError, match="2 tensors"):
        seen["layer1.0.relu"]
    with pytest.raises(LayerNotExecuted, match="call 2"):
        seen["layer1.0.relu", 2]
    with pytest.raises(LayerNotFound, match="was not chosen"):
        seen["layer1"]
    with pytest.raises(LayerNotFound, match=r"has no layer 'layer1.0.rellu'. Did you mean 'layer1.0.relu'"):
        seen["layer1.0.rellu"]


def test_the_output_is_bit_identical_with_hooks_on_every_layer(resnet, alexnet, small, image):
    for model, picture in ((resnet, small), (alexnet, image)):
        with torch.no_grad():
            bare = model(picture)
            with capture(model, "*", inputs=True):
                hooked = model(picture)
        assert torch.equal(bare, hooked)


class Many(nn.Module):
    """Outputs of many kinds."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 2, batch_first=True)
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True)
        self.nothing = Nothing()

    def forward(self, x):
        out, (hidden, _) = self.lstm(x)
        self.nothing(out)
        weighted, _ = self.attention(out, out, out, need_weights=False)
        return {"out": weighted, "more": [hidden, None, "text", 3]}


class Nothing(nn.Module):
    def forward(self, x):
        return None


def test_what_was_recorded_is_a_mapping(resnet, small):
    with capture(resnet, ["layer1.0.relu", "layer4.1.conv2", "fc"]) as seen:
        resnet(small)
    assert "fc" in seen and "layer1.0.relu" in seen and ("layer1.0.relu", 1) in seen
    assert ("layer1.0.relu", 2) not in seen and "conv1" not in seen and "no such layer" not in seen
    assert 7 not in seen and () not in seen and ("fc", 0, "") in seen and ("fc", 0, "0") not in seen
    assert seen.keys() == [("layer1.0.relu", 0), ("layer1.0.relu", 1), "layer4.1.conv2", "fc"]
    assert all(seen[key] is record and key in seen and record in seen for key, record in seen.items())
    assert list(dict(seen)) == seen.keys()
    assert [record.layer for record in seen] == ["layer1.0.relu", "layer1.0.relu", "layer4.1.conv2", "fc"]
    assert repr(seen).splitlines() == [
        "Captured from ResNet:",
        "  ('layer1.0.relu', 0): float32 (1, 64, 16, 16)",
        "  ('layer1.0.relu', 1): float32 (1, 64, 16, 16)",
        "  'layer4.1.conv2': float32 (1, 512, 2, 2)",
        "  'fc': float32 (1, 1000)",
    ]
    assert repr(seen["layer1.0.relu", 1]) == "Record('layer1.0.relu', call 1, output: float32 (1, 64, 16, 16))"


def test_a_mapping_names_paths_inputs_and_what_did_not_run():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.unused = nn.LSTM(2, 3), nn.Linear(2, 2)

        def forward(self, x):
            return self.inner(x)[0]

    model = Two()
    with capture(model, ["inner", "unused"], inputs=True, numbers="exact") as seen:
        assert "not run: 'inner', 'unused'" in repr(seen) and "inner" not in seen
        model(torch.ones(4, 2))
    keys = seen.keys()
    assert len(keys) == 3 and all(len(key) == 3 and seen[key].path == key[2] for key in keys)
    assert "inner" in seen and "unused" not in seen
    text = repr(seen)
    assert "statistics of (4, 3)" in text and "and 1 inputs, in `records`" in text and "not run: 'unused'" in text
    with capture(model, "inner", gradients=True) as seen:
        output = model(torch.ones(4, 2))
    seen.differentiate(output.sum())
    assert "with its gradient" in repr(seen[seen.keys()[0]])


def test_nested_outputs_are_flattened_with_their_paths():
    model = Many().eval()
    with torch.no_grad(), capture(model, ["", "lstm", "attention", "nothing"], inputs=True) as seen:
        out = model(torch.randn(1, 4, 3))
    assert [record.path for record in seen.of("lstm")] == ["0", "1/0", "1/1"]
    assert [record.path for record in seen.of("attention")] == ["0"]
    assert [record.path for record in seen.of("attention", "input")] == ["0", "1", "2"]
    assert [record.path for record in seen.of("")] == ["out", "more/0"]
    assert seen.of("nothing") == []
    assert torch.equal(seen["", 0, "out"].value, out["out"])


def test_keyword_arguments_are_inputs_too():
    class Calls(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Bilinear(1, 1, 1)

        def forward(self, x):
            return self.inner(x, input2=2 * x)

    model = Calls()
    with capture(model, "inner", inputs=True) as seen:
        model(torch.ones(1, 1))
    assert [(r.path, r.value.item()) for r in seen.of("inner", "input")] == [("0", 1), ("input2", 2)]


def test_gradients_equal_the_zero_leaf_oracle(alexnet, image):
    names = ["features.0", "features.1", "features.8", "features.10", "classifier.1", "classifier.6"]
    with capture(alexnet, names, gradients=True) as seen:
        logits = alexnet(image)
    with assert_untouched(alexnet):
        seen.differentiate(logits[0, 7])
    for name in names:
        assert torch.equal(seen[name].gradient, zero_leaf(alexnet, name, 0, image, 7)), name


def test_gradients_of_both_calls_of_a_reused_relu(resnet, small):
    with capture(resnet, "layer4.1.relu", gradients=True) as seen:
        logits = resnet(small)
    seen.differentiate(logits[0, 3])
    for call in (0, 1):
        found = seen["layer4.1.relu", call].gradient
        assert torch.equal(found, zero_leaf(resnet, "layer4.1.relu", call, small, 3))
        assert found.abs().max() > 0


def zero_leaf(model: nn.Module, name: str, call: int, image: torch.Tensor, target: int) -> torch.Tensor:
    """The gradient at one call's output: with respect to zeros that are added to it."""
    zeros: list[torch.Tensor] = []

    def add(module, args, output):
        zeros.append(torch.zeros_like(output, requires_grad=True))
        return output + zeros[-1]

    handle = model.get_submodule(name).register_forward_hook(add)
    score = model(image)[0, target]
    handle.remove()
    return torch.autograd.grad(score, zeros[call])[0]


def test_two_scores_from_one_forward_pass_and_nobodys_grad_changes():
    model, image = four_pixels()
    model[4].weight.grad = torch.full((2, 2), 9.0)
    with capture(model, "*", gradients=True) as seen:
        logits = model(image)
    with assert_untouched(model):
        seen.differentiate(logits[0, 0], retain_graph=True)
        assert seen["3"].gradient.tolist() == [[3, 1]]
        assert seen["0"].gradient.tolist() == [[[[0.75] * 2] * 2, [[0.0] * 2] * 2]]  # channel 1 is below 0
        seen.differentiate(logits[0, 1])
        assert seen["3"].gradient.tolist() == [[-1, 2]]


def test_a_view_that_is_overwritten_has_no_gradient_and_says_so():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.ReLU(inplace=True))
    with capture(model, "*", gradients=True) as seen:
        out = model(torch.ones(1, 1, 2, 2))
    seen.differentiate(out.sum())
    assert seen["1"].gradient is None and "view" in seen["1"].reason_no_gradient
    assert seen["0"].gradient is not None and seen["0"].reason_no_gradient == ""


def test_gradients_without_a_graph_are_refused():
    model, image = four_pixels()
    with torch.no_grad(), capture(model, "0", gradients=True) as seen:
        logits = model(image)
    with pytest.raises(NoGradient, match="recorded no graph"):
        seen.differentiate(logits[0, 0])


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.reentrant = reentrant

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


def test_checkpointed_layers_are_counted_once_and_reentrant_ones_explained():
    x = torch.ones(1, 2, requires_grad=True)
    model = Checkpointed(reentrant=False)
    with capture(model, "inner", gradients=True) as seen:
        seen.differentiate(model(x)[0, 0])  # runs the layer again, inside the block
    assert len(seen) == 1
    assert seen["inner"].gradient.tolist() == [[1, 0]]
    model = nn.Sequential(nn.Linear(2, 2), Checkpointed(reentrant=True))
    with capture(model, ["0", "1.inner"], gradients=True) as seen:
        out = model(x)
    with pytest.raises(NoGradient, match="reentrant"):
        seen.differentiate(out[0, 0])


def test_statistics_only_keeps_numbers_and_no_tensors(alexnet, image):
    with torch.no_grad(), capture(alexnet, ":Conv2d", numbers="exact") as seen:
        alexnet(image)
    assert all(record.value is None for record in seen)
    found = seen["features.0"].statistics
    (true,) = alone(alexnet, "features.0", image)
    assert found.min == true.min().item() and found.min < 0
    assert found.channels["mean"].shape == (64,)
    np.testing.assert_allclose(found.channels["mean"], true.double().mean((0, 2, 3)), rtol=1e-12)


def test_moments_alone_when_the_distribution_is_not_wanted():
    model, image = four_pixels()
    with capture(model, "0", numbers="plain") as seen:
        model(image)
    found = seen["0"].statistics
    assert (found.min, found.max, found.mean) == (-4, 8, 1.25) and found.histogram.size == 0


def test_eval_inside_the_block_and_the_same_model_afterwards():
    model = torchvision.models.resnet18(weights=None).train()
    model.layer2.eval()
    picture = torch.randn(2, 3, 32, 32)
    with assert_untouched(model):
        with capture(model, "bn1"), torch.no_grad():
            assert not model.bn1.training
            model(picture)


def test_training_mode_is_left_alone_when_asked():
    model = nn.Sequential(nn.BatchNorm1d(2)).train()
    with capture(model, "0", training=True) as seen:
        model(torch.randn(8, 2) + 5)
    assert model.training and model[0].num_batches_tracked == 1
    assert abs(seen["0"].value.mean()) < 1e-5  # normalised by the batch


def test_captures_under_inference_mode_can_be_used_later(alexnet, image):
    with torch.inference_mode(), capture(alexnet, "features.0") as seen:
        alexnet(image)
    value = seen["features.0"].value
    assert not value.is_inference()
    value.requires_grad_(True).sum().backward()


@pytest.mark.parametrize("patterns", [["0", "nonsense"], [":Conv2d", ":LSTM"]])
def test_all_names_are_looked_up_before_the_first_registration(patterns):
    model = four_pixels()[0]
    with assert_untouched(model), pytest.raises(LayerNotFound), capture(model, patterns):
        pass


def test_an_exception_in_the_middle_leaves_nothing(resnet):
    with assert_untouched(resnet), pytest.raises(RuntimeError, match="expected input"):
        with capture(resnet, "*"):
            resnet(torch.zeros(1, 4, 32, 32))


def test_threads_do_not_mix(resnet):
    wanted = [["conv1"], ["layer1.0.conv1", "layer4"], ["fc"], ["layer2.0.relu"]]
    pictures = [torch.randn(1, 3, 32, 32) for _ in wanted]
    with torch.no_grad():
        expected = [[alone(resnet, name, p) for name in names] for names, p in zip(wanted, pictures, strict=True)]
    wrong: list[object] = []

    def work(index: int) -> None:
        for _ in range(10):
            with torch.no_grad(), looking(owner=str(index)), capture(resnet, wanted[index]) as seen:
                resnet(pictures[index])
            got = [[record.value for record in seen.of(name)] for name in wanted[index]]
            same = all(
                len(a) == len(b) and all(map(torch.equal, a, b)) for a, b in zip(got, expected[index], strict=True)
            )
            if not same or len(seen) != sum(map(len, expected[index])):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(wanted))]
    with assert_untouched(resnet):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)


def test_fifty_captures_and_ten_failures_leave_nothing_alive():
    model, image = four_pixels()
    watched: list[weakref.ref] = []
    layers = describe(model, image)
    with assert_untouched(model):
        for index in range(50):
            with capture(model, ["0", "1", "4"], gradients=index % 2 == 0) as seen:
                logits = model(image)
            watched += [weakref.ref(seen), *(weakref.ref(record.value) for record in seen)]
            if index % 10 == 0 and index % 2 == 0:
                seen.differentiate(logits[0, 0])
            del seen, logits
        for index in range(10):
            with pytest.raises(ZeroDivisionError):
                with capture(model, ["0", "1", "4"], gradients=True) as seen:
                    out = model(image)
                    watched += [weakref.ref(seen), weakref.ref(out), *(weakref.ref(r.value) for r in seen)]
                    raise ZeroDivisionError
            del seen, out
            with pytest.raises(Cancelled):
                collect(model, image, [("4", 0)], layers, cancelled=Count(yes_from=2 + index % 4))
    gc.collect()
    assert not [reference for reference in watched if reference() is not None]
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


# stream


def test_stream_delivers_values_numbers_and_axes(alexnet, image):
    with assert_untouched(alexnet):
        first, last = collect(alexnet, image, [("features.12", 0), ("features.0", 0)])
    assert (first.layer, last.layer) == ("features.0", "features.12")  # execution order
    (true,) = alone(alexnet, "features.0", image)
    assert first.values.dtype == np.float32 and first.axes == ("channel", "height", "width")
    assert np.array_equal(first.values, true[0].numpy()) and first.values.min() < -1
    assert first.statistics.min == float(first.values.min())
    assert first.statistics.channels["max"].shape == (64,)
    assert 0 < first.milliseconds < last.milliseconds
    assert not np.shares_memory(first.values, true.numpy())


def test_the_forward_pass_stops_after_the_last_wanted_call(alexnet, image):
    layers = describe(alexnet, image)
    ran = Ran()
    handles = [module.register_forward_pre_hook(ran) for module in alexnet.modules()]
    try:
        collect(alexnet, image, [("features.0", 0), ("features.3", 0)], layers)
        # the model, "features", and its first four layers
        assert ran.times == 6
        ran.times = 0
        collect(alexnet, image, [("", 0)], layers)
        assert ran.times == sum(not info.operation for info in layers)
    finally:
        for handle in handles:
            handle.remove()


def test_a_later_call_of_a_reused_module_is_waited_for(resnet, small):
    wanted = [("layer1.0.relu", 1), ("layer1.0.conv2", 0)]
    conv, relu = collect(resnet, small, wanted)
    assert (conv.layer, relu.layer, relu.call) == ("layer1.0.conv2", "layer1.0.relu", 1)
    assert np.array_equal(relu.values, alone(resnet, "layer1.0.relu", small)[1][0].numpy())


def test_a_container_ends_after_its_children(resnet, small):
    found = collect(resnet, small, [("layer1", 0), ("layer1.1.conv2", 0)])
    assert [activation.layer for activation in found] == ["layer1.1.conv2", "layer1"]


class Swallows(nn.Module):
    """A model that catches every exception of its layers, as some wrappers do."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()

    def forward(self, x):
        try:
            x = self.first(x)
        except Exception:
            x = -x
        return self.second(x)


def test_the_stop_passes_a_models_own_except():
    model = Swallows()
    ran = Ran()
    model.second.register_forward_pre_hook(ran)
    layers = describe(model, torch.ones(1, 2))
    ran.times = 0
    assert collect(model, torch.ones(1, 2), [("first", 0)], layers)[0].values.tolist() == [1, 1]
    assert ran.times == 0


def test_an_error_of_the_receiver_passes_a_models_own_except():
    model = Swallows()
    layers = describe(model, torch.ones(1, 2))

    def deliver(*found):
        raise BrokenPipeError

    with assert_untouched(model), pytest.raises(BrokenPipeError):
        stream(model, torch.ones(1, 2), [("first", 0), ("second", 0)], deliver, layers)


def test_cancelling_inside_the_forward_pass(resnet, small):
    layers = describe(resnet, small)
    cancelled = Count(yes_from=9)
    live: list[int] = []

    def deliver(*found):
        live.append(len(live_hooks()))

    with assert_untouched(resnet), pytest.raises(Cancelled), looking(cancelled=cancelled):
        stream(resnet, small, [("conv1", 0), ("fc", 0)], deliver, layers)
    assert cancelled.asked == 9  # asked no more once it had said so
    assert live == [3]  # two that look and the one that asks
    with resnet_lock_is_free(resnet):
        pass


def resnet_lock_is_free(model: nn.Module):
    from hookscope.hooks.passes.modes import locked

    done = threading.Event()

    def work():
        with locked(model):
            done.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert done.wait(5)
    return locked(model)


def test_already_cancelled_does_not_run_the_model(alexnet, image):
    layers = describe(alexnet, image)
    ran = Ran()
    handle = alexnet.register_forward_pre_hook(ran)
    with pytest.raises(Cancelled):
        collect(alexnet, image, [("features.0", 0)], layers, cancelled=lambda: True)
    handle.remove()
    assert ran.times == 0


def test_no_work_is_spent_on_what_nobody_wants(alexnet, image):
    layers = describe(alexnet, image)
    ran = Ran()
    handle = alexnet.classifier[6].register_forward_pre_hook(ran)
    wanted = [("features.0", 0), ("features.3", 0), ("classifier.6", 0)]
    found = collect(alexnet, image, wanted, layers, still_wanted=lambda layer, call: layer == "features.3")
    handle.remove()
    assert [activation.layer for activation in found] == ["features.3"]
    assert ran.times == 0  # and the pass stopped there


def test_what_will_not_run_is_said_after_the_others_are_delivered(resnet, small):
    found = []
    with assert_untouched(resnet):
        wanted = [("layer1.0.relu", 5), ("conv1", 0)]
        stream(resnet, small, wanted, lambda *each: found.append(each), describe(resnet, small))
    assert [each[:2] for each in found] == [("conv1", 0), ("layer1.0.relu", 5)]
    assert isinstance(found[1][2], LayerNotExecuted) and "is called 2 times" in str(found[1][2])


class Depends(nn.Module):
    """Runs its second layer for positive inputs only."""

    def __init__(self):
        super().__init__()
        self.always, self.sometimes = nn.Linear(1, 1), nn.Linear(1, 1)

    def forward(self, x):
        out = self.always(x)
        return self.sometimes(out) if x.sum() > 0 else out


def test_a_path_that_depends_on_the_input():
    model = Depends()
    layers: tuple[LayerInfo, ...] = describe(model, torch.ones(1, 1))
    found = []
    stream(model, -torch.ones(1, 1), [("sometimes", 0), ("always", 0)], lambda *each: found.append(each), layers)
    assert [each[0] for each in found] == ["always", "sometimes"]
    assert isinstance(found[1][2], LayerNotExecuted) and "depends on its input" in str(found[1][2])


def test_wrong_names_are_refused_before_the_model_runs(alexnet, image):
    ran = Ran()
    handle = alexnet.register_forward_pre_hook(ran)
    with pytest.raises(LayerNotFound, match=r"Did you mean 'features\.0'"):
        stream(alexnet, image, [("feature.0", 0)], print, ())
    handle.remove()
    assert ran.times == 0


def test_a_layer_that_returns_no_tensor_is_a_sentence():
    model = Many().eval()
    x = torch.randn(1, 4, 3)
    with pytest.raises(HooksError, match="'nothing' returned no tensor"):
        collect(model, x, [("nothing", 0)])
    (found,) = collect(model, x, [("lstm", 0)])
    assert found.path == "0" and found.values.shape == (4, 2)


def test_aliases_answer_by_the_name_that_was_asked():
    model = nn.Sequential(nn.Linear(1, 1))
    model.other = model[0]
    found = collect(model, torch.ones(1, 1), [("0", 0), ("other", 1)])
    assert [(a.layer, a.call) for a in found] == [("0", 0), ("other", 1)]


class Mutates(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x):
        return self.inner(x.sub_(1).div_(2))


def test_the_callers_tensor_is_not_changed_by_a_model_that_writes_into_its_input():
    model = Mutates()
    x = torch.full((1, 2), 5.0)
    found = collect(model, x, [("inner", 0)])
    assert x.tolist() == [[5, 5]] and found[0].values.tolist() == [2, 2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_travel_as_float32(dtype):
    model, image = four_pixels()
    found = collect(model.to(dtype), image.to(dtype), [("0", 0)])[0]
    assert found.values.dtype == np.float32 and found.dtype == str(dtype).removeprefix("torch.")
    assert found.values.tolist() == [[[2, 4], [6, 8]], [[-1, -2], [-3, -4]]]


def test_channels_last_memory_is_read_by_its_axes():
    model, image = four_pixels()
    model.to(memory_format=torch.channels_last)
    found = collect(model, image.to(memory_format=torch.channels_last), [("0", 0)])[0]
    assert found.values.flags.c_contiguous
    assert found.values.tolist() == [[[2, 4], [6, 8]], [[-1, -2], [-3, -4]]]


def test_integer_and_bool_activations():
    class Argmax(nn.Module):
        def forward(self, x):
            return x.argmax(1)

    found = collect(nn.Sequential(Argmax()), torch.tensor([[0.0, 3.0, 1.0]]), [("0", 0)])[0]
    assert found.values.tolist() == [1] and found.dtype == "int64" and found.statistics.max == 1


def test_a_compiled_model_is_looked_into():
    model, image = four_pixels()
    compiled = torch.compile(model, backend="eager")
    compiled(image)
    assert collect(compiled, image, [("0", 0)])[0].values.min() == -4
    with capture(compiled, "0") as seen:
        compiled(image)
    assert seen["0"].value.min() == -4
    torch._dynamo.reset()


def test_a_data_parallel_model_is_looked_into():
    model, image = four_pixels()
    assert collect(nn.DataParallel(model), image, [("0", 0)])[0].values.min() == -4


@pytest.mark.parametrize("there", [False, True])
def test_numbers_are_read_once_and_travel(monkeypatch, there):
    """On an accelerator they are waited for when somebody looks; then they are numbers like those from here."""
    for module in (elsewhere, records):
        monkeypatch.setattr(module, "lies_there", lambda values: there)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    with torch.no_grad(), capture(net, ["0", "1"], numbers="exact") as seen:
        net(torch.ones(1, 3, 8, 8))
    assert seen["0"].statistics is seen["0"].statistics and seen["0"].statistics.min < 0  # not of what ReLU made of it
    again = pickle.loads(pickle.dumps(seen["0"]))  # as somebody may who keeps them: nothing of ours reads a pickle
    assert again.statistics.mean == seen["0"].statistics.mean and again.statistics.channels["mean"].shape == (4,)
