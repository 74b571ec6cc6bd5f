"""What a page was sent, as a recording that can be kept, read in a diff, and compared.

`Recorder` turns an answer into plain JSON: an array or a picture becomes `{"array": name}` with its values kept beside
it, an address becomes what is found there. `differences` compares two: structure and words exactly, numbers to 1e-4 or
to the last digit that is written out, pictures to one level, because processors differ.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TOLERANCE = 1e-4
COUNTS = 100  # whole numbers up to this or more are counts, of which a rounding moves one from bin to bin
LINE = 118  # letters on a line of a recording
LEVELS = 1  # of a palette's or a grey picture's 256
BLENDED_LEVELS = 6  # one level of a palette, in the red, green or blue that it stands for, or through a lossy codec
ADDRESS = re.compile(r"[^\"]*/picture/[0-9a-f]{40}")
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?( UTC)?([ +-]+\d\d:?\d\d)?( \(?[A-Z]{2,5}\)?(?![A-Za-z]))?")

Fetch = Callable[[str], tuple[str, str, bytes]]  # address -> media type, file name, bytes


class Recorder:
    """Collects one view's recording.

    Arguments:
        fetch: reads an address of this server.
        files: whether files that a person would save are read, too; pictures always are.
    """

    def __init__(self, fetch: Fetch, *, files: bool = False) -> None:
        self.fetch = fetch
        self.files = files
        self.arrays: dict[str, np.ndarray] = {}

    def plain(self, value: Any) -> Any:
        """A value as it is recorded."""
        if isinstance(value, dict):
            if "bdata" in value:
                return self.kept(_unpacked(value))
            return {name: self.plain(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(each) for each in value]
        if isinstance(value, str):
            if ADDRESS.fullmatch(value):
                return self.found(value)
            return TIME.sub("DATE", value)
        return value

    def kept(self, array: np.ndarray, kind: str = "array") -> dict[str, Any]:
        """An array's place in the recording."""
        array = np.ascontiguousarray(array)
        digest = hashlib.sha256(repr((array.dtype.str, array.shape)).encode() + array.tobytes()).hexdigest()[:16]
        self.arrays[digest] = array
        return {kind: digest, "dtype": array.dtype.name, "shape": list(array.shape)}

    def found(self, address: str) -> Any:
        """What is at an address."""
        media_type, name, data = self.fetch(address)
        if name and not self.files:
            return {"file": name, "type": media_type}
        return {"file": name, "type": media_type, "holds": self.held(media_type, data)}

    def held(self, media_type: str, data: bytes) -> Any:
        """A file's contents."""
        kind = media_type.partition(";")[0]
        if kind.startswith("image/"):
            return self.picture(data)
        if kind == "text/html":
            return self.document(data.decode())
        if kind == "application/zip":
            with np.load(io.BytesIO(data)) as archive:
                return {
                    name: str(archive[name]) if archive[name].dtype.kind == "U" else self.kept(archive[name])
                    for name in archive.files
                }
        return TIME.sub("DATE", data.decode()).splitlines()

    def picture(self, data: bytes) -> Any:
        """A picture's format and pixels; a palette's indices where it has one."""
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            found = self.kept(np.asarray(image), "blended" if image.format in ("WEBP", "JPEG") else "picture")
            palette = image.getpalette()
            return {"format": image.format, "mode": image.mode, **found, **({"palette": palette} if palette else {})}

    def document(self, text: str) -> list[Any]:
        """An exported page: its elements in order, its figures, without the scripts that are not ours."""
        return [self.element(each) for each in _Document(text).found]

    def element(self, each: Any) -> Any:
        if isinstance(each, str):
            return self.plain(each)
        tag, attributes = each
        return [tag, {name: self.inside(value) for name, value in attributes.items()}]

    def inside(self, value: Any) -> Any:
        """An attribute, or a figure's JSON, with the pictures that are inside it."""
        if isinstance(value, dict):
            return {name: self.inside(each) for name, each in self.plain(value).items()}
        if isinstance(value, list):
            return [self.inside(each) for each in value]
        if isinstance(value, str) and value.startswith("data:image/"):
            return self.picture(base64.b64decode(value.partition(",")[2]))
        return value


class _Document(HTMLParser):
    """An HTML file as a flat list: (tag, attributes) and texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Any] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "style":
            return  # how things look is not what is sent of them
        if self.cdata_elem != "script":
            self.found.append(data)
        elif "Plotly.newPlot('figure" in data:
            calls = re.findall(r"Plotly\.newPlot\('figure-\d+', (.*?)\);(?=Plotly\.newPlot|$)", data, re.DOTALL)
            self.found += [("figure", {"arguments": json.loads(f"[{call}]")}) for call in calls]


def _unpacked(packed: dict[str, Any]) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])
    return values.reshape([int(n) for n in str(packed["shape"]).split(",")]) if "shape" in packed else values


# --- kept in a folder


def write(folder: Path, name: str, recorded: Any) -> None:
    """Write a view's words; its arrays come with `settle`."""
    (folder / f"{name}.json").write_text(laid_out(recorded) + "\n", encoding="utf-8")


def laid_out(value: Any, indent: str = "") -> str:
    """JSON with a line for each thing that fits on one, so that a change of a word is a line in a diff."""
    text = json.dumps(value, sort_keys=True)  # Dash gives some attributes in another order every time
    if len(indent) + len(text) <= LINE or not isinstance(value, dict | list) or not value:
        return text
    inner = indent + " "
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(name)}: {laid_out(each, inner)}" for name, each in sorted(value.items())]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if all(is_number(each) for each in value):
        return text
    return "[\n" + ",\n".join(f"{inner}{laid_out(each, inner)}" for each in value) + f"\n{indent}]"


def settle(folder: Path, names: Sequence[str], arrays: dict[str, np.ndarray]) -> None:
    """Keep each array beside the first view that names it, and none that nobody names; touch no other file."""
    placed: set[str] = set()
    for name in names:
        mine = sorted((named(folder, name) & arrays.keys()) - placed)
        placed.update(mine)
        path = folder / f"{name}.npz"
        if not mine:
            path.unlink(missing_ok=True)
        elif not path.exists() or sorted(np.load(path).files) != mine:
            np.savez_compressed(path, **{digest: arrays[digest] for digest in mine})


def named(folder: Path, name: str) -> set[str]:
    """The arrays that a view names."""
    return set(re.findall(r'"(?:array|picture|blended)": "(\w{16})"', (folder / f"{name}.json").read_text()))


def read(folder: Path, name: str) -> Any:
    """A view's recording; its arrays are in `arrays_of` the folder."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    """Every recorded array by its digest."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as archive:
            found.update({digest: archive[digest] for digest in archive.files})
    return found


# --- compared


def differences(
    was: Any, now: Any, were: dict[str, np.ndarray], are: dict[str, np.ndarray], path: str = ""
) -> Iterator[str]:
    """Where two recordings part, a line each.

    Arguments:
        was, now: as `read` and `Recorder.plain` give them. were, are: their arrays.
    """
    if isinstance(was, dict) and isinstance(now, dict):
        kind = next((kind for kind in ("array", "picture", "blended") if isinstance(was.get(kind), str)), "")
        if kind and isinstance(now.get(kind), str):
            yield from _arrays_differ(were[was[kind]], are[now[kind]], kind, was.get("palette"), path)
            was, now = ({n: v for n, v in each.items() if n != kind} for each in (was, now))
        for name in was.keys() | now.keys():
            if name not in now or name not in was:
                yield f"{path}/{name}: {'is missing' if name in was else 'is new'}"
            else:
                yield from differences(was[name], now[name], were, are, f"{path}/{name}")
    elif isinstance(was, list) and isinstance(now, list):
        if len(was) != len(now):
            yield f"{path}: {len(was)} things were there, {len(now)} are: {_short(was)} | {_short(now)}"
        for number, (one, other) in enumerate(zip(was, now, strict=False)):
            yield from differences(one, other, were, are, f"{path}/{number}")
    elif isinstance(was, str) and isinstance(now, str):
        if not same_text(was, now):
            yield f"{path}: {_short(was)} | {_short(now)}"
    elif isinstance(was, float) or isinstance(now, float):
        if not (is_number(was) and is_number(now) and close(was, now)):
            yield f"{path}: {was!r} | {now!r}"
    elif was != now or type(was) is not type(now):
        yield f"{path}: {was!r} | {now!r}"


def is_number(value: Any) -> bool:
    """Whether a value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def close(was: float, now: float, at_least: float = 1e-7) -> bool:
    """Whether two numbers are one."""
    if was != was or now != now:
        return was != was and now != now
    return was == now or abs(was - now) <= max(TOLERANCE * max(abs(was), abs(now)), at_least)


def same_text(was: str, now: str) -> bool:
    """Whether two texts say the same: words exactly, numbers with decimals to 1e-4 or to their last digit."""
    if NUMBER.sub("#", was) != NUMBER.sub("#", now):
        return False
    return all(
        one == other
        or (
            ("." in one + other or "e" in one + other)
            and close(float(one), float(other), 1.01 * max(_last(one), _last(other)))
        )
        for one, other in zip(NUMBER.findall(was), NUMBER.findall(now), strict=True)
    )


def _last(number: str) -> float:
    """What the last digit of a written number is worth."""
    digits, _, power = number.partition("e")
    return 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


def _arrays_differ(was: np.ndarray, now: np.ndarray, kind: str, palette: Any, path: str) -> Iterator[str]:
    if was.shape != now.shape or was.dtype != now.dtype:
        yield f"{path}: {was.dtype} {was.shape} | {now.dtype} {now.shape}"
        return
    if was.dtype.kind not in "fiub":
        if not np.array_equal(was, now):
            yield f"{path}: {was.tolist()} | {now.tolist()}"
        return
    one, other = was.astype(np.float64), now.astype(np.float64)
    both = np.isfinite(one) & np.isfinite(other)
    if not np.array_equal(one[~both], other[~both], equal_nan=True):
        yield f"{path}: other places are NaN or infinite"
        return
    if not both.any():
        return
    if kind == "array":
        largest = float(np.abs(one[both]).max())
        allowed = max(TOLERANCE * largest, 1e-12)
        moved = both & (np.abs(one - other) > allowed)  # edges of bins may stand beside the counts
        whole = np.array_equal(one[moved], one[moved].round()) and np.array_equal(other[moved], other[moved].round())
        if was.dtype.kind != "f" or (largest >= COUNTS and whole):
            allowed = max(allowed, 1.0)
    else:
        allowed = LEVELS if kind == "picture" and (palette or was.ndim == 2) else BLENDED_LEVELS
    apart = float(np.abs(one[both] - other[both]).max())
    if apart > allowed:
        share = float((np.abs(one[both] - other[both]) > allowed).mean())
        yield f"{path}: {apart:.6g} apart where {allowed:.3g} are allowed, at {share:.1%} of the values"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 300 else f"{text[:300]} …"
