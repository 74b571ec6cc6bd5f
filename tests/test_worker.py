"""A real worker with the real default model: its numbers, the order they come in, and the hooks it leaves behind."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import torch
import torchvision
from captum.attr import LayerGradCam, Saliency
from PIL import Image
from tempo import limit
from units import answer_of, rows_of, unit_of

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.engine.base import Event, ModelState
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import LoadedModel, load
from hookscope.dashboard.sources.preprocessing import Prepared, open_pixels
from hookscope.dashboard.worker.handlers import handler_of
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.attention import attention_maps
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.looks.gradients import gradients
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.looks import Activation, GradCam, Prediction
from hookscope.hooks.results.summaries import Survey

PICTURES = Path(skimage.__file__).parent / "data"
ESPRESSO = 967


def picture(name: str) -> bytes:
    return rows_of(Image.open(PICTURES / f"{name}.png"))


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine([ModelOptions("embedded")], device="cpu")
    engine.open("embedded")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def here(engine: LocalEngine) -> LoadedModel:
    """The same model in this process, to compute what the worker should answer."""
    return load(ModelOptions("embedded"), "cpu")


@pytest.fixture(scope="module")
def state(engine: LocalEngine) -> ModelState:
    deadline = time.monotonic() + 60
    while engine.state("embedded").info is None:
        assert time.monotonic() < deadline, engine.state("embedded")
        time.sleep(0.05)
    return engine.state("embedded")


def ask(engine: LocalEngine, *units: Unit) -> tuple[list[Event], list[ModelState]]:
    """Everything that happens to these units, and the model's state at each event."""
    slot = f"slot {time.monotonic_ns()}"
    engine.submit(slot, units, picture)
    events: list[Event] = []
    states = []
    while not events or events[-1].kind != "end":
        news, _ = engine.events(slot, len(events), 30)
        assert news, "nothing came for 30 s"
        states += [engine.state("embedded")] * len(news)
        events += news
    return events, states


def answers(events: list[Event]) -> dict[str, Any]:
    assert not [event for event in events if event.kind == "failed"], events
    return {event.unit.layer: answer_of(event.data) for event in events if event.unit and event.kind == "done"}


def unit(layer: str = "", question: Any = "activation", image: str = "coffee", **more: Any) -> Unit:
    return unit_of("embedded", image, question, layer, **more)


def test_what_the_page_learns_of_the_model(state: ModelState) -> None:
    info = state.info
    assert info and state.phase == "ready" and state.sentence == "Ready."
    assert (info.title, info.licence, info.random, info.device) == ("EfficientNet-Lite0", "Apache-2.0", False, "cpu")
    assert info.parameters == 4_652_008
    assert len(info.classes) == 1000 and info.classes[ESPRESSO] == "espresso"
    assert info.layers[0].name == "" and info.layers[0].calls[0].shape == (1, 1000)
    stem = next(layer for layer in info.layers if layer.name == "conv_stem")
    assert stem.calls[0].shape == (1, 32, 112, 112)
    assert stem.calls[0].axes == ("image", "channel", "height", "width")
    assert stem.multiply_adds == 32 * 112 * 112 * 3 * 3 * 3
    assert len(info.fingerprint) == 64


def test_coffee_is_espresso(engine: LocalEngine, here: LoadedModel) -> None:
    result = answers(ask(engine, unit(question="prediction"))[0])[""]
    assert isinstance(result, Prediction)
    shares = torch.from_numpy(result.scores.logits.copy()).softmax(0)
    assert int(shares.argmax()) == ESPRESSO
    assert float(shares[ESPRESSO]) == pytest.approx(0.951, abs=0.01)
    prepared = here.prepare(open_pixels(picture("coffee")))
    with torch.no_grad():
        assert np.allclose(result.scores.logits, here.module(prepared.tensor)[0].numpy(), atol=1e-4)
    assert np.array_equal(result.pixels, prepared.pixels)
    # 600 x 400 is resized to 384 x 256; the crop of 224 leaves 80 and 16 pixels, at 1.5625 original pixels each
    assert result.crop == pytest.approx((80 * 600 / 384, 25.0, 304 * 600 / 384, 375.0))


def test_a_cat_is_a_cat(engine: LocalEngine, state: ModelState) -> None:
    result = answers(ask(engine, unit(question="prediction", image="chelsea"))[0])[""]
    assert state.info and "cat" in state.info.classes[int(result.scores.logits.argmax())]


def test_an_activation_is_what_the_forward_pass_computes(engine: LocalEngine, here: LoadedModel) -> None:
    layers = ["blocks.2.1.conv_dw", "bn1", "classifier"]
    results = answers(ask(engine, *map(unit, layers))[0])
    seen: dict[str, torch.Tensor] = {}
    modules = dict(here.module.named_modules())
    handles = [
        modules[name].register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o.detach().clone()))
        for name in layers
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(engine._threads)
    with torch.no_grad():
        here.module(here.prepare(open_pixels(picture("coffee"))).tensor)
    torch.set_num_threads(threads)
    for handle in handles:
        handle.remove()
    for name in layers:
        result = results[name]
        assert isinstance(result, Activation)
        assert torch.equal(torch.from_numpy(result.values.copy()), seen[name][0]), name
        assert result.statistics.mean == pytest.approx(float(seen[name].double().mean()))
        assert result.statistics.max == float(seen[name].max())
    assert results["bn1"].axes == ("channel", "height", "width")


def test_layers_stream_in_execution_order_whatever_the_order_of_asking(engine: LocalEngine) -> None:
    events, states = ask(engine, unit("blocks.6"), unit("conv_stem"), unit("blocks.3"))
    assert [event.kind for event in events] == ["started"] * 3 + ["done"] * 3 + ["end"]
    assert [event.unit.layer for event in events if event.unit and event.kind == "done"] == [
        "conv_stem",
        "blocks.3",
        "blocks.6",
    ]
    assert states[-1].hooks == ()


def test_hooks_are_on_the_layers_asked_for_and_gone_at_the_end(engine: LocalEngine) -> None:
    # The page's poll may see any moment; what has to hold is that it sees these hooks during, and none after.
    seen = set()
    slots = [f"poll {number} {time.monotonic_ns()}" for number in range(5)]
    for number, slot in enumerate(slots):
        engine.submit(slot, [unit("conv_stem", image="chelsea"), unit(f"blocks.{number}")], picture)
    for slot in slots:
        cursor, end = 0, False
        while not end:
            news, cursor = engine.events(slot, cursor, 0.001)
            seen |= {(hook.layer, hook.kind, hook.purpose) for hook in engine.state("embedded").hooks}
            end = bool(news) and news[-1].kind == "end"
    assert engine.state("embedded").hooks == ()
    asked = {"conv_stem", *(f"blocks.{number}" for number in range(5))}
    analysed = {(layer, kind) for layer, kind, purpose in seen if purpose == "analysis"}
    assert analysed and analysed <= {(layer, "forward") for layer in asked}  # a moment of each is a matter of luck


@pytest.mark.parametrize("target", [-1, 285])
def test_grad_cam_equals_captums(engine: LocalEngine, here: LoadedModel, target: int) -> None:
    events, _ = ask(engine, unit("blocks.6", "gradcam", target=target), unit("conv_head", "gradcam", target=target))
    results = answers(events)
    tensor = here.prepare(open_pixels(picture("coffee"))).tensor
    index = ESPRESSO if target == -1 else target
    for layer in ("blocks.6", "conv_head"):
        oracle = LayerGradCam(here.module, here.module.get_submodule(layer)).attribute(tensor, target=index)
        result = results[layer]
        assert isinstance(result, GradCam) and result.target == index
        difference = np.abs(result.values - oracle[0, 0].detach().numpy()).max()
        assert difference <= 1e-5 * max(1.0, np.abs(result.values).max())


def test_a_survey_has_every_layer_that_ran_and_a_gradient_where_one_is_asked_for(
    engine: LocalEngine, state: ModelState
) -> None:
    plain = answers(ask(engine, unit(question="survey", target=None))[0])[""]
    events, states = ask(engine, unit(question="survey", target=285))
    sloped = answers(events)[""]
    assert isinstance(plain, Survey) and isinstance(sloped, Survey) and states[-1].hooks == ()
    assert (plain.target, sloped.target) == (-1, 285)
    assert state.info
    calls = {(layer.name, number) for layer in state.info.layers for number in range(len(layer.calls))}
    assert any(layer.operation for layer in state.info.layers)
    assert {(call.layer, call.call) for call in plain.calls} == calls
    assert all("gradient" not in call.numbers for call in plain.calls)
    by_name = {call.layer: call for call in sloped.calls}
    assert by_name[""]["gradient"] == by_name["classifier"]["gradient"] == 1  # a logit's own
    assert by_name["blocks.3"]["gradient"] > 0
    statistics = answers(ask(engine, unit("bn1"))[0])["bn1"].statistics
    assert by_name["bn1"]["magnitude"] == pytest.approx(math.hypot(statistics.mean, statistics.std), rel=1e-5)
    assert by_name["bn1"]["zeros"] == statistics.zeros


@pytest.mark.parametrize("method", ["gradcam++", "layercam"])
def test_the_other_maps_are_the_librarys(engine: LocalEngine, here: LoadedModel, method: str) -> None:
    result = answers(ask(engine, unit("blocks.6", method, target=285))[0])["blocks.6"]
    tensor = here.prepare(open_pixels(picture("coffee"))).tensor
    expected = layer_map(here.module, tensor, "blocks.6", 285, method).values
    assert (result.method, result.target) == (method, 285)
    np.testing.assert_allclose(result.values, expected, atol=1e-4 * np.abs(expected).max())


def test_score_cam_tells_how_far_it_is_and_how_many_channels_it_took(engine: LocalEngine) -> None:
    slot = f"slot {time.monotonic_ns()}"
    engine.submit(slot, [unit("conv_head", "scorecam")], picture)
    seen = set()
    while not (events := [event for event in engine.events(slot, 0, 0.02)[0] if event.kind in ("done", "failed")]):
        seen.add(engine.state("embedded").sentence)
    result = answer_of(events[0].data)
    assert result.note == "From the 64 strongest of 1280 channels." and result.target == ESPRESSO
    told = [
        sentence
        for sentence in seen
        if re.fullmatch(r"Computing Score-CAM of conv_head: \d+ of 64 pictures\.", sentence)
    ]
    assert told, seen


def test_gradients_of_every_layer_with_weights(engine: LocalEngine, here: LoadedModel) -> None:
    result = answers(ask(engine, unit(question="gradients", target=285))[0])[""]
    tensor = here.prepare(open_pixels(picture("coffee"))).tensor
    expected = gradients(here.module, tensor, target=285)
    assert [layer.layer for layer in result.layers] == [layer.layer for layer in expected.layers]
    assert [layer.norm for layer in result.layers] == pytest.approx([layer.norm for layer in expected.layers], rel=1e-3)
    assert result.layers[0].layer == "conv_stem" and result.layers[-1].norm == 1


def test_saliency_is_captums(engine: LocalEngine, here: LoadedModel) -> None:
    result = answers(ask(engine, unit(question="saliency"))[0])[""]
    tensor = here.prepare(open_pixels(picture("coffee"))).tensor.requires_grad_()
    oracle = Saliency(here.module).attribute(tensor, target=ESPRESSO)[0].amax(0).numpy()
    np.testing.assert_allclose(result.values, oracle, atol=1e-4 * oracle.max())
    assert result.target == ESPRESSO and result.values.shape == (224, 224)


def test_a_slow_attribution_is_stopped_when_nobody_waits(engine: LocalEngine) -> None:
    slot = f"slot {time.monotonic_ns()}"
    engine.submit(slot, [unit(question="occlusion", target=3)], picture)
    deadline = time.monotonic() + 30
    while "of 226 pictures" not in engine.state("embedded").sentence:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    engine.cancel(slot)
    begun = time.monotonic()
    while engine.state("embedded").phase != "ready":
        time.sleep(0.005)
    assert time.monotonic() - begun < limit(0.2)


def test_a_click_in_the_middle_of_a_slow_attribution_is_answered_between_two_of_its_passes(
    engine: LocalEngine,
) -> None:
    """Within one batch and its own time; the slow one then goes on, and its answer is what it is alone."""
    slow, quick = unit(question="occlusion", target=7), unit("blocks.3", image="chelsea")
    slot = f"slot {time.monotonic_ns()}"
    engine.submit(slot, [slow], picture)
    deadline = time.monotonic() + 30
    while not any(event.kind == "progress" for event in engine.events(slot, 0, 0.02)[0]):
        assert time.monotonic() < deadline
    begun = time.monotonic()
    seen = answers(ask(engine, quick)[0])["blocks.3"]
    took = time.monotonic() - begun
    assert "done" not in [event.kind for event in engine.events(slot, 0, 0)[0]] and took < limit(1.5), took
    alone = answers(ask(engine, unit("blocks.3", image="chelsea"))[0])["blocks.3"]
    assert np.array_equal(seen.values, alone.values)
    events = engine.events(slot, 0, 0)[0]
    while events[-1].kind != "end":
        assert time.monotonic() < deadline + 60
        events += engine.events(slot, len(events), 1)[0]
    (told,) = [answer_of(event.data) for event in events if event.kind == "done"]
    again = answers(ask(engine, slow)[0])[""]
    assert np.array_equal(told.values, again.values) and told.logit == again.logit


def test_errors_are_sentences_and_spare_the_rest_of_the_batch(engine: LocalEngine) -> None:
    events, _ = ask(engine, unit("blocks.6"), unit("blocks.6.0.conv_pv"), unit("blocks.3", call=4))
    failed = {event.unit.layer: event for event in events if event.unit and event.kind == "failed"}
    done = [event.unit.layer for event in events if event.unit and event.kind == "done"]
    assert done == ["blocks.6"]
    assert "EfficientNet has no layer 'blocks.6.0.conv_pv'. Did you mean" in failed["blocks.6.0.conv_pv"].sentence
    assert "call 5" in failed["blocks.3"].sentence
    events, _ = ask(engine, unit("classifier", "gradcam"), unit("blocks.6", "gradcam", target=5000))
    sentences = [event.sentence for event in events if event.kind == "failed"]
    assert len(sentences) == 2 and "classifier" in sentences[0] and "5000" in sentences[1]


def test_an_input_that_is_gone_is_a_sentence(engine: LocalEngine) -> None:
    events, _ = ask(engine, unit("conv_stem", image="was deleted"))
    assert events[0].kind == "failed" and "cannot be read any more" in events[0].sentence
    assert answers(ask(engine, unit("conv_stem"))[0])


def test_the_model_is_not_changed_by_being_looked_at(engine: LocalEngine) -> None:
    first = answers(ask(engine, unit("blocks.5"), unit(""))[0])
    answers(ask(engine, unit("blocks.6", "gradcam"))[0])
    second = answers(ask(engine, unit("blocks.5"), unit(""))[0])
    for layer in first:
        assert np.array_equal(first[layer].values, second[layer].values)


def test_attention_of_a_transformer_and_the_refusal_of_a_layer_without(here: LoadedModel) -> None:
    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=4).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    prepared = Prepared(pixels, (0.0, 0.0, 32.0, 32.0), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    image = prepared.tensor
    model = replace(here, module=vit, info=replace(here.info, layers=describe(vit, image)))
    names = [f"encoder.layers.encoder_layer_{index}.self_attention" for index in (1, 0)]
    units = tuple(unit(layer, "attention") for layer in (*names, "conv_proj", "nothing"))
    sent: list[protocol.FromWorker] = []
    task = Task(protocol.Run(1, units), sent.append, frozenset)
    with looking(cancelled=task.cancelled):
        handler_of(units[0])(model, task, prepared)
    task.finish()
    failed = {message.unit.layer: message.sentence for message in sent if isinstance(message, protocol.Failed)}
    assert "computes no attention itself" in failed["conv_proj"] and "no layer 'nothing'" in failed["nothing"]
    found = {message.unit.layer: answer_of(message.data) for message in sent if isinstance(message, protocol.Answered)}
    expected = attention_maps(vit, image, with_rollout=True)
    assert list(found) == names[::-1] and len(expected) == 2  # in execution order
    for maps in expected:
        assert np.array_equal(found[maps.layer].weights, maps.weights)
        assert np.array_equal(found[maps.layer].rollout, maps.rollout)
    assert any(isinstance(message, protocol.HooksLive) and message.hooks for message in sent) and not live_hooks()


@pytest.mark.parametrize("question", ["activation", "gradcam"])
def test_many_layers_are_looked_up_in_as_few_walks_through_the_model_as_one(
    here: LoadedModel, question: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,105 modules a walk takes 1 ms, and a walk per layer was half of what a page of 24 layers may cost."""
    walks = [0]
    kind: Any = type(here.module)
    walk = kind.named_modules

    def counted(*args: Any, **more: Any) -> Any:
        walks[0] += 1
        return walk(*args, **more)

    monkeypatch.setattr(kind, "named_modules", counted)
    prepared = here.prepare(open_pixels(picture("coffee")))
    blocks = [info.name for info in here.info.layers if info.type == "Conv2d" and info.name.startswith("blocks")]
    counts = []
    for layers in (blocks[:1], blocks[:24]):
        sent: list[protocol.FromWorker] = []
        task = Task(protocol.Run(1, tuple(unit(layer, question) for layer in layers)), sent.append, frozenset)
        walks[0] = 0
        handler_of(unit("", question))(here, task, prepared)
        task.finish()
        counts.append(walks[0])
        assert sum(isinstance(message, protocol.Answered) for message in sent) == len(layers)
    assert counts[0] == counts[1] > 0
