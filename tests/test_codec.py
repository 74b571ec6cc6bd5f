"""Results survive the trip through bytes, and damaged bytes are refused and nothing else."""

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest

from hookscope.hooks.results.codec import CodecError, decode, encode
from hookscope.hooks.results.looks import (
    Activation,
    AttentionMaps,
    Call,
    Detections,
    GradCam,
    Gradients,
    InputAttribution,
    LayerGradient,
    LayerInfo,
    Prediction,
    Statistics,
)
from hookscope.hooks.results.outputs import Scores
from hookscope.hooks.results.summaries import Survey, SurveyedCall


def numbers(channels: int = 2) -> Statistics:
    return Statistics(
        count=8,
        mean=0.5,
        std=math.nan,
        min=-math.inf,
        max=math.inf,
        zeros=0.25,
        nan=1,
        inf=2,
        quantiles=np.arange(7.0),
        histogram=np.arange(64, dtype=np.int64),
        edges=np.linspace(0, 1, 65),
        channels={"mean": np.arange(float(channels)), "std": np.full(channels, np.nan)},
    )


SCORES = Scores(
    "heads/age",
    "sigmoid",
    np.arange(3, dtype=np.float32),
    np.arange(3, dtype=np.float32),
    np.full(3, 0.5, np.float32),
)
CALL = Call((1, 197, 768), ("image", "token", "channel"), 3, "bfloat16", (14, 14), 1, 2, "layer1.relu")
GRADIENT = LayerGradient(
    "conv", 1, "output", "", 4, 2.0, 1.0, math.inf, -1.0, 1.0, 0.5, 1, 1, np.arange(7.0), np.full(7, math.nan)
)
BOXES = Detections(np.ones((1, 4), np.float32), np.array([3]), np.array([0.5], np.float32))
RESULTS = {
    "activation": Activation(
        "layer1.0.conv1",
        1,
        np.arange(12, dtype=np.float32).reshape(2, 3, 2),
        ("channel", "height", "width"),
        numbers(),
        path="out",
        milliseconds=1.5,
    ),
    "activation of one number": Activation("", 0, np.array(3.5, np.float32), (), numbers(0)),
    "empty activation": Activation("x", 0, np.empty((0, 4), np.float32), ("token", "channel"), numbers(0), grid=(2, 2)),
    "turned activation": Activation(
        "x", 0, np.arange(6, dtype=np.float32).reshape(2, 3).T, ("height", "width"), numbers()
    ),
    "attention": AttentionMaps(
        "blocks.0.attn",
        0,
        1,
        np.full((2, 3, 3), 1 / 3, np.float32),
        ("head", "query", "key"),
        np.full(2, math.log(3)),
        math.log(3),
        (1, 2),
        1,
        np.eye(3, dtype=np.float32),
        1.5,
    ),
    "gradient": GRADIENT,
    "gradients": Gradients(3, 0.5, (GRADIENT,), 4.0),
    "input attribution": InputAttribution("saliency", 3, 0.5, np.ones((2, 3), np.float32), note="A sentence."),
    "gradcam": GradCam("features", 0, 285, -math.inf, np.full((2, 2), np.nan, np.float32), 2.0),
    "detections": BOXES,
    "prediction of a detector": Prediction(None, np.zeros((2, 2, 3), np.uint8), (0.0, 0.0, 2.0, 2.0), detections=BOXES),
    "scores": SCORES,
    "prediction": Prediction(SCORES, np.full((2, 2, 3), 7, np.uint8), (0.0, 1.0, 2.5, 3.0)),
    "layer": LayerInfo("a.b", "Conv2d", 10, None, (CALL, CALL), True, "", ("c.b",)),
    "layer that did not run": LayerInfo('é.\n"x"', "Identity", 0, 0, (), False, "It did not run: “why”?"),
    "call": CALL,
    "statistics": numbers(),
    "survey": Survey((SurveyedCall("a.b", 1, {"zeros": 0.25, "dead": math.nan, "gradient": 1e-9}),), 3, "", 12.5),
    "call of a survey": SurveyedCall("", 0, {"magnitude": math.nan, "gradient": math.inf}),
}


TYPES = tuple({type(each): None for each in RESULTS.values()})


def back(data: bytes) -> object:
    """Any of the results."""
    return decode(data, *TYPES)


def same(first: object, second: object) -> bool:
    if dataclasses.is_dataclass(first):
        return type(first) is type(second) and all(
            same(getattr(first, field.name), getattr(second, field.name)) for field in dataclasses.fields(first)
        )
    if isinstance(first, np.ndarray):
        return (
            isinstance(second, np.ndarray)
            and first.dtype == second.dtype
            and first.shape == second.shape
            and np.array_equal(first, second, equal_nan=True)
        )
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, tuple):
        return isinstance(second, tuple) and len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, float) and math.isnan(first):
        return isinstance(second, float) and math.isnan(second)
    return type(first) is type(second) and first == second


@pytest.mark.parametrize("name", RESULTS)
def test_round_trip(name):
    assert same(RESULTS[name], back(encode(RESULTS[name])))


def test_a_result_of_another_type_than_was_asked_for_is_refused():
    for result in RESULTS.values():
        with pytest.raises(CodecError, match="is none of"):
            decode(encode(result), *(kind for kind in TYPES if kind is not type(result)))


@pytest.mark.parametrize(
    ("name", "field", "wrong"),
    [
        ("prediction", "logits", "a text"),
        ("prediction", "pixels", 3),
        ("prediction", "crop", None),
        ("prediction", "crop", [0.0, 1.0]),
        ("prediction", "detections", {"$type": "Call", "fields": {}}),
        ("call", "order", 3.5),
        ("call", "order", True),
        ("call", "shape", [1, "2"]),
        ("call", "grid", [1, 2, 3]),
        ("activation", "statistics", {}),
        ("statistics", "channels", {"mean": 1.0}),
        ("statistics", "mean", "nan"),
        ("survey", "calls", [3]),
        ("gradcam", "values", {"$array": 0, "dtype": "<f4", "shape": [2, 2], "more": 1}),
    ],
)
def test_a_value_that_its_field_does_not_declare_is_refused(name, field, wrong):
    data = encode(RESULTS[name])
    length = int.from_bytes(data[4:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["fields"][field] = wrong
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 8)
    changed = data[:4] + len(text).to_bytes(4, "little") + text + data[8 + length + (-(8 + length) % 8) :]
    with pytest.raises(CodecError):
        back(changed)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "i4", "i8", "f2", "f4", "f8", ">f4"])
def test_every_plain_dtype(dtype):
    values = np.array([0, 1, 1, 0]).astype(dtype)
    assert same(GradCam("", 0, 0, 0.0, values), back(encode(GradCam("", 0, 0, 0.0, values))))


def test_arrays_are_read_only_views_aligned_to_eight_bytes():
    data = encode(RESULTS["activation"])
    values = back(data).values
    assert not values.flags.writeable and values.ctypes.data % 4 == 0
    header = int.from_bytes(data[4:8], "little")
    assert len(data) % 8 == 0 and data[8 : 8 + header].startswith(b'{"$type":"Activation"')


def test_the_header_is_strict_json_without_nan():
    data = encode(RESULTS["statistics"])
    length = int.from_bytes(data[4:8], "little")

    def refuse(text: str) -> float:
        raise AssertionError(text)

    header = json.loads(data[8 : 8 + length], parse_constant=refuse)
    assert header["fields"]["std"] == {"$float": "nan"}


@pytest.mark.parametrize("name", RESULTS)
def test_a_blob_cut_anywhere_is_refused(name):
    data = encode(RESULTS[name])
    padding = len(data) - len(data.rstrip(b"\0"))
    for length in range(len(data) - max(padding, 1)):
        with pytest.raises(CodecError):
            back(data[:length])


@pytest.mark.parametrize("name", RESULTS)
def test_a_changed_byte_is_refused_or_harmless(name):
    data = encode(RESULTS[name])
    length = int.from_bytes(data[4:8], "little")
    for position in range(8 + length):
        for value in (0, data[position] ^ 1, 0x22, 0x5B, 0xFF):
            damaged = data[:position] + bytes([value]) + data[position + 1 :]
            try:
                back(damaged)
            except CodecError:
                continue


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"null",
        b"1",
        b"[]",
        b'"text"',
        b'{"$type":"Nothing","fields":{}}',
        b'{"$type":"os.system","fields":{"command":"true"}}',
        b'{"$type":["Call"],"fields":{}}',
        b'{"$type":"Call"}',
        b'{"$type":"Call","fields":{"unknown":1}}',
        b'{"$type":"Call","fields":[]}',
        b'{"$type":"Call","fields":null}',
        b'{"$array":0,"dtype":"O","shape":[1]}',
        b'{"$array":0,"dtype":"S8","shape":[1]}',
        b'{"$array":0,"dtype":"<f4,<f4","shape":[1]}',
        b'{"$array":0,"dtype":"<f4","shape":[-1]}',
        b'{"$array":0,"dtype":"<f4","shape":[1e99]}',
        b'{"$array":0,"dtype":"<f4","shape":"4"}',
        b'{"$array":0,"dtype":"<f4","shape":[99999999999999999999]}',
        b'{"$array":0,"dtype":"<f4","shape":[0,99999999999999999999]}',
        b'{"$array":0,"dtype":"nonsense","shape":[1]}',
        b'{"$array":0,"dtype":7,"shape":[1]}',
        b'{"$array":0,"dtype":"<f4"}',
        b'{"$float":"not a number"}',
        b'{"$float":[]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"1" * 5000,
    ],
)
def test_headers_that_are_not_results_are_refused(header):
    data = b"HSR1" + len(header).to_bytes(4, "little") + header + b"\0" * 64
    with pytest.raises(CodecError):
        back(data)


@pytest.mark.parametrize("data", [b"", b"HSR", b"HSR1", b"HSR1\xff\xff\xff\xff", b"PK\x03\x04", pickle.dumps(1)])
def test_other_bytes_are_refused(data):
    with pytest.raises(CodecError):
        back(data)


def test_a_result_with_the_wrong_fields_is_refused():
    data = encode(CALL)
    with pytest.raises(CodecError):
        back(data.replace(b'"order":3', b'"ordre":3'))
