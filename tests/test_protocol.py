"""Messages survive the pipe exactly, and nothing but a message comes out of bytes."""

from __future__ import annotations

import json
import math
import random
import typing

import pytest
from units import unit_of

from hookscope.dashboard.engine import options, protocol
from hookscope.dashboard.engine.base import ModelInfo, Preprocessing
from hookscope.dashboard.engine.protocol import ProtocolError, decode, encode
from hookscope.hooks.results.looks import Call, LayerInfo, LiveHook

UNIT = unit_of("torchvision:resnet18", "ab" * 32, "gradcam", "layer4.1.conv2", 1, 281)
INFO = ModelInfo(
    spec="embedded",
    title="Ä model",
    parameters=4_652_008,
    device="cpu",
    weights="Random weights: as asked for.",
    random=True,
    licence="",
    fingerprint="f" * 64,
    classes=("tench", "goldfish"),
    preprocessing=Preprocessing((256, 300), (224, 224), "bicubic", (0.1, 0.2, math.nan), (0.5, 0.5, math.inf)),
    layers=(
        LayerInfo("", "Net", 10, None, (Call((1, 2), ("image", "feature"), 3),), False),
        LayerInfo(
            "relu",
            "ReLU",
            0,
            7,
            (Call((1, 2, 3, 4), ("image", "channel", "height", "width"), 0, grid=(3, 4)),) * 2,
            True,
            aliases=("a", "b"),
        ),
        LayerInfo("aux", "Linear", 5, None, (), True, reason_not_run="It is used in training only."),
    ),
)
MESSAGES: list[protocol.Message] = [
    protocol.Load(options.ModelOptions(spec="a.b:c", mean=(0.1, 0.2, 0.3), input_size=(32, 64)), "cuda:1", 4),
    protocol.Run(7, (UNIT, unit_of("m", "cd", "prediction"))),
    protocol.GivenInput(7, b"\x89PNG\0\xff", ""),
    protocol.GivenInput(7, b"", "The image is gone."),
    protocol.Withdraw(7, (UNIT,)),
    protocol.Close(),
    protocol.LoadProgress("Downloading."),
    protocol.LoadFailed("No.", "Traceback"),
    protocol.NeedInput(7, "cd"),
    protocol.Started(7, UNIT),
    protocol.Answered(7, UNIT, bytes(range(256)) * 100),
    protocol.Failed(7, UNIT, "It failed.", "details"),
    protocol.HooksLive((LiveHook("layer4", "forward", "page", "analysis"),)),
    protocol.HooksLive(()),
    protocol.Progress(7, 32, 226),
    protocol.Partial(7, UNIT, b"so far"),
    protocol.TaskDone(7),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_equal(message: protocol.Message) -> None:
    assert decode(encode(message)) == message


def test_every_kind_of_message_is_tried() -> None:
    assert {type(message).__name__ for message in [*MESSAGES, protocol.Ready(INFO)]} == {
        kind.__name__ for kind in typing.get_args(protocol.Message)
    }


def test_a_models_description_survives_with_its_not_a_number() -> None:
    back = decode(encode(protocol.Ready(INFO)))
    assert isinstance(back, protocol.Ready)
    assert back.info.layers == INFO.layers
    assert isinstance(back.info.layers[1].calls, tuple) and isinstance(back.info.layers[1].calls[0].shape, tuple)
    assert back.info.preprocessing.mean[:2] == (0.1, 0.2) and math.isnan(back.info.preprocessing.mean[2])
    assert back.info.preprocessing.std == (0.5, 0.5, math.inf)
    assert back.info.preprocessing.resize == (256, 300)


def test_the_header_is_strict_json_without_nan() -> None:
    data = encode(protocol.Ready(INFO))
    json.loads(data[4:], parse_constant=pytest.fail)


def raw(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "little") + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\0",
        b"\x80\x04\x95\x0b\x00\x00\x00",
        b"\xff\xff\xff\xff{}",
        raw([]),
        raw({"type": "Answered"}),
        raw({"type": "os.system", "fields": {"command": "true"}}),
        raw({"type": ["Close"], "fields": {}}),
        raw({"type": "Close", "fields": []}),
        raw({"type": "Close", "fields": {"more": 1}}),
        raw({"type": "TaskDone", "fields": {}}),
        raw({"type": "TaskDone", "fields": {"task": "7"}}),
        raw({"type": "TaskDone", "fields": {"task": True}}),
        raw({"type": "TaskDone", "fields": {"task": None}}),
        raw({"type": "Run", "fields": {"task": 1, "units": {}}}),
        raw({"type": "Run", "fields": {"task": 1, "units": [{"model": "m", "input": "i", "question": "exec"}]}}),
        raw({"type": "Run", "fields": {"task": 1, "units": [{"model": "m", "input": "i", "question": ["x"]}]}}),
        raw({"type": "HooksLive", "fields": {"hooks": ["layer4"]}}),
        b"\x05\0\0\0" + b"\xff" * 5,
        b"\x60\xea\0\0" + b"[" * 60_000,
    ],
)
def test_anything_else_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_damaged_bytes_never_raise_anything_else() -> None:
    rng = random.Random(0)
    originals = [encode(message) for message in [*MESSAGES, protocol.Ready(INFO)]]
    refused = 0
    for _ in range(4000):
        data = bytearray(rng.choice(originals))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = bytes(data[: rng.randint(0, len(data))]) if rng.random() < 0.5 else bytes(data)
        try:
            decode(cut)
        except ProtocolError:
            refused += 1
    assert refused > 1000
