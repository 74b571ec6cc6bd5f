"""The files of a zip, each written under a number; runs as a child process with limits of its own.

    python -m hookscope.dashboard.inputs.child.decoding --unpack ZIP FOLDER LIMITS SECONDS     # LIMITS is JSON

writes FOLDER/NUMBER for each file that is used, and prints a line of JSON for each: `within` and either `file` and
`size`, or `refused`; or one line with `refused` alone, where nothing of the zip is used. FOLDER/labels is a table
`labels.csv` that lies at the top, or at the top of the one folder in which everything lies.

A zip says of itself what it likes. No name in it becomes a path; every size is counted as it comes out; what two files
share, a password, a link, a zip within it is refused, and the rest is used.
"""

from __future__ import annotations

import contextlib
import errno
import json
import resource
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MEMORY_BYTES = 256 * 2**20
SECONDS = 600.0  # of all of it
MOST_TIMES = 200  # a file may be larger than it is in the zip; only what is of one colour and not packed comes to more
FREE_BYTES = 1_000_000  # of a file, up to which that does not count
LABELS_BYTES = 4 << 20
LIST_BYTES = 16 << 20  # 200,000 files of usual names
LONGEST_WITHIN = 400
READ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK_BYTES = 2**16
_END_BYTES = 66_000  # of a zip, in which its end and a remark stand
_LOCAL_HEAD_BYTES = 30
_UTF_8 = 0x800
_LOCKED = 0x1
_UNIX = 3
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")

NO_ZIP = "This zip is damaged, cut short, or no zip; pack the pictures again."
OVERLAPPING = "Files of this zip lie over each other, as no program packs them; pack the pictures again."
LONG_LIST = "This zip's list of files is too long to be read; pack fewer files."


class Refused(Exception):
    """A file of the zip, or all of it, is not used; the text says why."""


@dataclass(frozen=True)
class Limits:
    """What may come out of a zip.

    Attributes:
        first: the number of the first file. most: how many files are used. file_bytes: of one. bytes: of all.
        left_out: endings of names that lie beside pictures, and are left out without a word.
    """

    first: int
    most: int
    file_bytes: int
    bytes: int
    left_out: Sequence[str] = ()


def unpack(archive: Path, folder: Path, limits: Limits) -> Iterator[dict[str, object]]:
    """Write the files of a zip; gives a line for each that is used or refused.

    Raises:
        Refused: nothing of it is used.
    """
    _check_list(archive)
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = [info for info in opened.infolist() if not _is_left_out(_name(info), limits)]
            _check_whole(opened.infolist(), infos, limits)
            yield from _files(opened, infos, folder, limits)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError) as error:
        # NotImplementedError is what zipfile raises of a zip that asks for a version of the format it cannot read
        raise Refused(NO_ZIP) from error


def _check_list(archive: Path) -> None:
    """Refuse a zip whose list of files is long, by what its end says of it; memory has a limit in any case."""
    with archive.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _END_BYTES))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    large = tail.rfind(b"PK\x06\x06", 0, max(end, 0))  # where the list's size has 8 bytes
    at, length = (end + 12, 4) if large < 0 else (large + 40, 8)
    if end >= 0 and int.from_bytes(tail[at : at + length], "little") > LIST_BYTES:
        raise Refused(LONG_LIST)


def _files(
    opened: zipfile.ZipFile, infos: list[zipfile.ZipInfo], folder: Path, limits: Limits
) -> Iterator[dict[str, object]]:
    number, left = limits.first, limits.bytes
    table = _table([PurePosixPath(_name(info)) for info in infos])
    for info in infos:
        name = _name(info)
        is_table = PurePosixPath(name) == table
        try:
            _check(info, name, LABELS_BYTES if is_table else limits.file_bytes)
            if not is_table and PurePosixPath(name).suffix.lower() in limits.left_out:
                continue
            if not is_table and number - limits.first == limits.most:
                raise Refused(f"A set holds at most {limits.first + limits.most:,} pictures; this one is left out.")
            size = _write(opened, info, folder / ("labels" if is_table else str(number)), min(limits.file_bytes, left))
        except Refused as refused:
            yield {"within": name, "refused": str(refused)}
            continue
        left -= size
        if not is_table:
            yield {"within": name, "file": number, "size": size}
            number += 1


def _table(paths: list[PurePosixPath]) -> PurePosixPath | None:
    """Where a table of labels lies that is about all files."""
    tops = {path.parts[0] if len(path.parts) > 1 else "" for path in paths if path.parts}
    depth = 2 if len(tops) == 1 and "" not in tops else 1
    return next((path for path in paths if path.name == "labels.csv" and len(path.parts) <= depth), None)


def _name(info: zipfile.ZipInfo) -> str:
    """A file's path in the zip; many programs write UTF-8 and do not say so."""
    name = info.filename
    if not info.flag_bits & _UTF_8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")[-LONGEST_WITHIN:]


def _is_left_out(name: str, limits: Limits) -> bool:
    """Whether it is a folder, or one of the files that systems put beside others."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") and part != ".." for part in parts) or "__MACOSX" in parts
    return name.endswith("/") or not parts or hidden


def _check_whole(everything: list[zipfile.ZipInfo], infos: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Refuse a zip whose files lie over each other, or come to more than there is room for."""
    end = 0
    for info in sorted(everything, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise Refused(OVERLAPPING)
        end = info.header_offset + _LOCAL_HEAD_BYTES + info.compress_size
    total = sum(info.file_size for info in infos if info.file_size <= limits.file_bytes)
    if total > limits.bytes:
        raise Refused(too_large(total, limits.bytes))


def too_large(total: int, limit: int) -> str:
    """Why nothing of a zip is used that holds too much."""
    return f"The files of this zip come to {total / 1e6:,.0f} MB, and there is room for {limit / 1e6:g} MB; pack fewer."


def _check(info: zipfile.ZipInfo, name: str, limit_bytes: int) -> None:
    """Refuse a file by what the zip's list says of it."""
    path = PurePosixPath(name)
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        raise Refused("Its path leads out of the zip, so it is left out.")
    if stat.S_ISLNK(mode):
        raise Refused("It is a link, and links are not followed.")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise Refused("It is no file: a pipe, a socket or a device.")
    if info.flag_bits & _LOCKED:
        raise Refused("It is locked with a password; pack it again without one.")
    if info.compress_type not in READ_METHODS:
        raise Refused("It is packed in a way that is not read; pack it again as an ordinary zip.")
    if path.suffix.lower() == ".zip":
        raise Refused("A zip within a zip is not opened; unpack it first.")
    if info.file_size > limit_bytes:
        raise Refused(_large(limit_bytes))
    if not info.file_size:
        raise Refused("The file is empty.")


def _large(limit_bytes: int) -> str:
    return f"This file is larger than {limit_bytes / 1e6:g} MB; make the picture smaller or save it as JPEG."


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, limit_bytes: int) -> int:
    """Write a file, and count what really comes out; gives its size."""
    size = 0
    try:
        with opened.open(info) as source, target.open("xb") as file:
            while chunk := source.read(_CHUNK_BYTES):
                if not size and chunk.startswith(_ZIP) and b".npy" not in chunk[:1100]:
                    raise Refused("A zip within a zip is not opened; unpack it first.")
                size += len(chunk)
                if size > limit_bytes:
                    raise Refused(_large(limit_bytes))
                if size > max(FREE_BYTES, MOST_TIMES * info.compress_size):
                    raise Refused(
                        f"It is more than {MOST_TIMES} times as large as packed, as no photograph is; save it as PNG."
                    )
                file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error) as error:
        target.unlink(missing_ok=True)
        raise Refused("It is damaged in the zip; pack it again.") from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return size


def main(arguments: list[str]) -> int:
    """Run as the child, whose other limits are set."""
    archive, folder, limits, _ = arguments
    with contextlib.suppress(AttributeError, ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        for line in unpack(Path(archive), Path(folder), Limits(**json.loads(limits))):
            print(json.dumps(line), flush=True)
    except Refused as refused:
        print(json.dumps({"refused": str(refused)}))
    except MemoryError:
        print(json.dumps({"refused": LONG_LIST}))
    except OSError as error:
        no_room = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        print(json.dumps({"refused": "" if no_room else NO_ZIP, "details": str(error)}))
    return 0
