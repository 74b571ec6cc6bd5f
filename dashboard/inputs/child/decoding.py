"""Any uploaded picture as RGB pixels, or one sentence why not; runs as a child process with limits of its own.

    python -m hookscope.dashboard.inputs.child.decoding IN OUT SECONDS
    python -m hookscope.dashboard.inputs.child.decoding --many SECONDS     # a line of JSON, [IN, OUT], for each picture

writes OUT.rgb (every pixel) and OUT.jpg (at most 640 on the longer side), and prints one JSON object: `digest`,
`width`, `height`, `notes`, or `refused`. A decoder is C code that reads hostile bytes; whatever it does to this
process, the server gets a sentence. Imports the standard library and Pillow only, numpy where 32-bit values need it:
the child's start is part of every upload.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.child import headers, pixels
from hookscope.dashboard.inputs.child.headers import Data

if TYPE_CHECKING:
    from hookscope.dashboard.inputs.child.arrays import Array
    from hookscope.dashboard.inputs.child.clips import Clip

MAX_PIXELS = 50_000_000
MAX_ASPECT = 100
MAX_JPEG_SCANS = 64
MAX_FRAMES_COUNTED = 1000
MOST_PICTURES = 20_000  # of a set, that one process decodes one after the other
PREVIEW_LONGER_SIDE = 640
MEMORY_BYTES = 640 * 2**20  # of its own; 50 megapixels take at most 570 of it, as WebP or progressive CMYK JPEG
_ADDRESS_BYTES = 1536 * 2**20
_OUTPUT_BYTES = 512 * 2**20
_HEAD_BYTES = 4096

DAMAGED = (
    "This picture is damaged, cut short, or of a rare kind that cannot be read; "
    "open it in a picture editor, save it as PNG, and upload that."
)


class Refused(pixels.Unreadable):
    """The picture is not accepted; the text says what is wrong and what to do."""


def decode(source: Path, target: Path) -> dict[str, object]:
    """Decode `source` into `target`.rgb and `target`.jpg; a source that is such a .rgb is written once more.

    Returns:
        digest (SHA-256 of size and pixels), width, height, notes (what was done to the pixels, for the person), spread
        (whether its values use less than half of what their type could hold), channels (of what stands behind the
        pixels; 0 for nothing), either (whether its axes may be read in two ways).

    Raises:
        Refused: in a sentence.
    """
    if source.suffix == rows.SUFFIX:  # of our own
        with source.open("rb") as file:
            return _written(rows.Kept(file), target)
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        kind = _check_bytes(data)
    return _written(_open(source, kind), target)


def _open(source: Path, kind: str) -> pixels.Picture | Array | Clip:
    if kind in ("NPY", "NPZ"):
        from hookscope.dashboard.inputs.child import arrays  # which takes numpy, that most pictures do not need

        return (arrays.npy if kind == "NPY" else arrays.npz)(source, _check_size)
    if kind == "TIFF" and (found := pixels.grey_pages(source, _check_size)):
        from hookscope.dashboard.inputs.child import arrays

        return arrays.pages(found)
    picture = pixels.Picture(source, kind, _check_size, MAX_FRAMES_COUNTED)
    if picture.frames > 1 and not picture.channels:  # of 16 bits the first frame is worth more than all of 8
        from hookscope.dashboard.inputs.child import clips

        return clips.clip(source, kind, picture)
    return picture


def _written(picture: pixels.Picture | rows.Kept | Array | Clip, target: Path) -> dict[str, object]:
    digest = pixels.write(picture, target, PREVIEW_LONGER_SIDE)
    return {
        "digest": digest,
        "width": picture.width,
        "height": picture.height,
        "notes": picture.notes,
        "spread": picture.spread,
        "channels": picture.channels,
        "either": picture.either,
    }


def _check_bytes(data: Data) -> str:
    """The format, after the checks that need no decoder."""
    head = data[:_HEAD_BYTES]
    kind = headers.kind(head)
    if head.startswith(b"PK\x03\x04") and headers.is_npz(data):
        return "NPZ"
    if kind is None:
        what = headers.guess(head)
        if what is not None:
            raise Refused(f"This is {what} and upload that.")
        raise Refused("This is not a picture that can be read; upload a PNG, JPEG, WebP, GIF, BMP or TIFF file.")
    if kind == "WEBP" and (size := headers.webp_size(head)):
        _check_size(*size)
    if kind == "JPEG" and headers.jpeg_scans(data, MAX_JPEG_SCANS) > MAX_JPEG_SCANS:
        raise Refused(
            f"This JPEG has more than {MAX_JPEG_SCANS} scans, which no camera or editor writes; "
            "save it again as an ordinary JPEG or PNG."
        )
    if kind == "PNG" and not headers.png_is_whole(data):
        raise Refused(DAMAGED)
    return kind


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise Refused("This picture has no pixels; upload another one.")
    if width * height > MAX_PIXELS:
        raise Refused(
            f"This picture has {width:,} x {height:,} pixels, and at most {MAX_PIXELS // 10**6} million are read; "
            "make it smaller and upload it again."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refused(
            f"This picture is {width:,} x {height:,} pixels, and one side may be at most {MAX_ASPECT} times "
            "the other; cut out the part you want to see."
        )


def _limit(seconds: float, pictures: int = 1) -> None:
    """Ask the system to end this process before it takes too much; where a limit is unknown, the others hold."""
    whole = int(seconds) + 1
    for name, soft, hard in (
        ("RLIMIT_CPU", whole * pictures, whole * pictures + 1),
        ("RLIMIT_DATA", MEMORY_BYTES, MEMORY_BYTES),
        ("RLIMIT_AS", _ADDRESS_BYTES, _ADDRESS_BYTES),  # macOS knows the name and refuses or ignores the value
        ("RLIMIT_FSIZE", _OUTPUT_BYTES, _OUTPUT_BYTES),
        ("RLIMIT_CORE", 0, 0),
    ):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (soft, hard))
    # The server ends this process in time; if the server itself is gone, the alarm does.
    signal.alarm(whole + 2)


def _damaged(error: Exception) -> dict[str, object]:
    return {
        "refused": DAMAGED,
        "details": f"{type(error).__name__}: {error}"[:500],
    }


def _no_room() -> dict[str, object]:
    return {"refused": "The server's disk has no room for this picture; tell whoever runs the server."}


def main(arguments: list[str]) -> int:
    """Run as the child: decode, print the answer, and say every refusal in a sentence."""
    if arguments[0] == "--unpack":
        from hookscope.dashboard.inputs.child import unpacking

        _limit(unpacking.SECONDS)
        return unpacking.main(arguments[1:])
    *files, seconds = arguments
    many = files == ["--many"]
    _limit(float(seconds), MOST_PICTURES if many else 1)
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # ours is stricter, and its refusal says how large the picture is
    if not many:
        source, target = files
        print(json.dumps(answer(source, target)))
        return 0
    for line in sys.stdin:
        signal.alarm(int(float(seconds)) + 3)
        source, target = json.loads(line)
        print(json.dumps(answer(source, target)), flush=True)
        signal.alarm(0)
    return 0


def answer(source: str, target: str) -> dict[str, object]:
    """Decode a picture: what `decode` says of it, or why it is refused."""
    try:
        return decode(Path(source), Path(target))
    except pixels.Unreadable as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "Decoding this picture needs too much memory; make it smaller and upload it again."}
    except FileNotFoundError:
        return {"refused": "This file is no longer there."}
    except PermissionError:
        return {"refused": "This file may not be read by the server; whoever runs it can allow that."}
    except OSError as error:
        return _no_room() if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else _damaged(error)
    except Exception as error:  # Pillow's plugins raise almost anything at damaged bytes
        return _damaged(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
