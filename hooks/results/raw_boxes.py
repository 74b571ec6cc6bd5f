"""Raw boxes: a number of rows for every cell of a picture, as YOLO's detectors answer before anything is left out.

A row is the middle, width and height of a box in pixels of what the model is given, and then the scores. Nothing in the
numbers says so: what they are taken for is found by counting them, and is an assumption.
"""

from __future__ import annotations

from collections.abc import Sequence

RAW = {"yolov8": 4, "yolov5": 5}  # by reading, where a row's scores of classes begin
STRIDES = (8, 16, 32)  # pixels of a cell, of the three grids
ANCHORS = {1: "yolov8", 3: "yolov5"}  # boxes per cell
LEAST_SCORE = 0.25
MOST_OVERLAP = 0.45  # intersection over union of two boxes of one class, above which the worse one is left out
MOST_BOXES = 100
BOX = 4  # numbers of a row before its scores
RULE = (
    f"of the boxes with a score of at least {LEAST_SCORE} those that no better box of their class overlaps by more "
    f"than {MOST_OVERLAP}, at most {MOST_BOXES}"
)


def could_be(shape: Sequence[int], reads: str) -> bool:
    """Whether an output can be read as raw boxes of one image.

    Arguments:
        reads: a reading; of others than `RAW` it cannot.

    >>> could_be((1, 84, 8400), "yolov8"), could_be((1, 5, 8400), "yolov5"), could_be((1, 84), "yolov8")
    (True, False, False)
    """
    return reads in RAW and len(shape) == 3 and shape[0] == 1 and min(shape[1:]) > RAW[reads]


def classes_of(shape: Sequence[int], reads: str) -> int:
    """How many scores of classes a row has; the longer axis of the shape is that of the boxes."""
    return min(shape[1:]) - RAW[reads]


def cells(size: tuple[int, int]) -> int:
    """How many cells the three grids have of a picture of (height, width); 0 where they do not divide it.

    >>> cells((640, 640)), cells((100, 64))
    (8400, 0)
    """
    if any(length % stride for length in size for stride in STRIDES):
        return 0
    return sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)


def boxes_per_cell(shape: Sequence[int], size: tuple[int, int] | None) -> int:
    """How many rows an output has for each cell of the picture, 1 or 3; 0 if it has any other number of them.

    Arguments:
        shape: with the image axis. size: (height, width) of the picture.

    >>> boxes_per_cell((1, 84, 8400), (640, 640)), boxes_per_cell((1, 25200, 85), (640, 640))
    (1, 3)
    >>> boxes_per_cell((1, 84, 8399), (640, 640)), boxes_per_cell((1, 197, 768), (224, 224))
    (0, 0)
    """
    if size is None or len(shape) != 3 or shape[0] != 1 or not cells(size):
        return 0
    count, rest = divmod(max(shape[1:]), cells(size))
    layout = ANCHORS.get(count, "")
    return count if not rest and could_be(shape, layout) else 0


def layout_of(shape: Sequence[int], per_cell: int, classes: int = 0) -> str:
    """Which of `RAW` an output is taken for.

    Arguments:
        per_cell: see `boxes_per_cell`. classes: how many class names there are, which decide where they fit; 0 if none
            are known.

    >>> layout_of((1, 84, 8400), 1), layout_of((1, 8400, 85), 1, classes=80), layout_of((1, 25200, 85), 3)
    ('yolov8', 'yolov5', 'yolov5')
    """
    fitting = [reads for reads in RAW if could_be(shape, reads) and classes_of(shape, reads) == classes]
    return fitting[0] if fitting else ANCHORS[per_cell]


def grounds(shape: Sequence[int], per_cell: int, reads: str) -> str:
    """Why an output is taken for raw boxes, and which of them are listed, as a part of a sentence."""
    strides = f"{', '.join(map(str, STRIDES[:-1]))} and {STRIDES[-1]}"
    many = "a row" if per_cell == 1 else f"{per_cell} rows"
    objectness = ", an objectness" if reads == "yolov5" else ""
    return (
        f"by its {' × '.join(map(str, shape))} numbers it has {many} for each cell of strides {strides}: a box "
        f"(middle, width, height){objectness} and {classes_of(shape, reads)} scores; listed are, {RULE}"
    )
