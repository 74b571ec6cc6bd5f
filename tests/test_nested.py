"""Tensors are found wherever a module puts them, and inputs are copied before a model may write into them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pack_sequence
from torchvision.models.detection.image_list import ImageList

from hookscope.hooks.passes.arguments import arguments, first_image, images
from hookscope.hooks.passes.nested import first, private, tensors

ONE = torch.ones(1)
Pair = namedtuple("Pair", "left right")


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple | None = None


def paths(value) -> list[str]:
    return [path for path, _ in tensors(value)]


def test_paths():
    assert paths(ONE) == [""]
    assert paths((ONE, None, [ONE, "text", 3])) == ["0", "2/0"]
    assert paths(OrderedDict(out=ONE, aux=ONE)) == ["out", "aux"]
    assert paths([{"boxes": ONE, "labels": ONE}, {"boxes": ONE}]) == ["0/boxes", "0/labels", "1/boxes"]
    assert paths(Pair(ONE, (ONE,))) == ["left", "right/0"]
    assert paths(Output(ONE, (ONE,))) == ["logits", "hidden/0"]
    assert paths(ImageList(ONE, [(1, 1)])) == ["tensors"]
    assert paths(pack_sequence([torch.ones(2, 1), torch.ones(1, 1)])) == ["data", "batch_sizes"]
    assert paths(None) == paths("text") == paths(torch.nn.Linear(1, 1)) == paths(print) == []
    assert first((None, {"a": ONE}))[0] == "1/a" and first([]) is None


def test_a_value_that_contains_itself_ends():
    loop: list = [ONE]
    loop.append(loop)
    assert len(paths(loop)) < 20


def test_ragged_tensors_are_given_part_by_part():
    ragged = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(5, 3)], layout=torch.jagged)
    assert [(path, tuple(part.shape)) for path, part in tensors({"x": ragged})] == [("x/0", (2, 3)), ("x/1", (5, 3))]


def test_private_copies_require_grad_and_are_no_leaves():
    given = ({"x": torch.ones(2)}, [torch.tensor([1])], Pair(torch.ones(1), "text"), 3)
    copied = private(given, requires_grad=True)
    assert copied[0]["x"].requires_grad and not copied[0]["x"].is_leaf and not copied[0]["x"]._is_view()
    copied[0]["x"].mul_(0)
    assert given[0]["x"].tolist() == [1, 1]
    assert (
        not copied[1][0].requires_grad and isinstance(copied[2], Pair) and copied[2].right == "text" and copied[3] == 3
    )
    assert not private(given, requires_grad=False)[0]["x"].requires_grad


def test_arguments_and_images():
    batch = torch.zeros(4, 3, 8, 8)
    assert arguments(batch) == (batch,) and arguments((batch, 1)) == (batch, 1)
    assert images((batch,)) == 4
    assert images(([torch.zeros(3, 8, 8)] * 2,)) == 2
    assert images(()) == images((torch.zeros(()),)) == 1


def test_the_first_image_of_a_batch_or_of_a_list():
    batch, pictures = torch.arange(8.0).reshape(2, 4), [torch.zeros(1), torch.ones(1)]
    cut = first_image((batch, pictures, 3))
    assert cut[0].tolist() == [[0, 1, 2, 3]] and cut[1] == pictures[:1] and cut[2] == 3
