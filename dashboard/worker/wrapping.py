"""What to write where a model may be a detector whose boxes are not recognised: a wrapper that fits its answer."""

from __future__ import annotations

from collections.abc import Sequence

from hookscope.hooks.results.outputs import Output
from hookscope.hooks.results.raw_boxes import BOX, LEAST_SCORE, MOST_BOXES, MOST_OVERLAP

MANY = 4  # so many times more rows than numbers in each, at least, has what may be a list of boxes


def how_to_wrap(outputs: Sequence[Output]) -> str:
    """How to have a model's boxes listed, if it has any; "" where nothing that it returns can be a list of boxes.

    >>> how_to_wrap([Output("0", (1, 84, 900), "other")]).splitlines()[7].strip()
    'rows = self.model(picture)[0][0].T'
    """
    may_be = [each for each in outputs if _may_be_boxes(each.shape)]
    if not may_be:
        return ""
    output = max(may_be, key=lambda each: each.shape[1] * each.shape[2])
    numbers = min(output.shape[1:])
    found = "self.model(picture)" + "".join(f"[{_key(step)}]" for step in filter(None, output.path.split("/")))
    rows = f"{found}[0]{'.T' if output.shape[1] == numbers else ''}"
    which = f" --output {output.path}" if output.path else ""
    return (
        f"If the {' × '.join(map(str, output.shape))} numbers are boxes, and each row is a middle, width and height in "
        f"pixels of the network's picture and then {numbers - BOX} scores, start with --reads yolov8{which}, or with "
        f"yolov5 if the first of those is an objectness. Else answer boxes, labels and scores from a wrapper in the "
        "factory, filled in for such rows:\n"
        "class Boxes(torch.nn.Module):\n"
        "    def __init__(self, model):\n"
        "        super().__init__()\n"
        "        self.model = model\n"
        "\n"
        "    def forward(self, picture):\n"
        f"        rows = {rows}\n"
        f"        scores, labels = rows[:, {BOX}:].max(1)\n"
        f'        boxes = torchvision.ops.box_convert(rows[:, :{BOX}], "cxcywh", "xyxy")\n'
        f"        kept = (scores >= {LEAST_SCORE}).nonzero()[:, 0]\n"
        "        best = torchvision.ops.batched_nms(\n"
        f"            boxes[kept].detach(), scores[kept].detach(), labels[kept], {MOST_OVERLAP}\n"
        "        )\n"
        f"        kept = kept[best[:{MOST_BOXES}]]\n"
        '        return [{"boxes": boxes[kept], "labels": labels[kept], "scores": scores[kept]}]'
    )


def _may_be_boxes(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[0] == 1 and min(shape[1:]) > BOX and max(shape[1:]) >= MANY * min(shape[1:])


def _key(step: str) -> str:
    return step if step.isdigit() else f'"{step}"'
