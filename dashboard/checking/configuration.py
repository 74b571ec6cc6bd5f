"""What a project says of its check-ups: `[tool.hookscope.check]` in its pyproject.toml.

[tool.hookscope.check]
model = "shop.nets:make"
weights = "weights/net.safetensors"
images = "tests/pictures"
baseline = "tests/baseline.json"
fail-on = "error"
rules = { "rare-channels" = "off: we prune later", "padding-artefact" = "note" }
limits = { "dead-channels" = 0.5 }
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hookscope.dashboard.checking.refusals import Unchecked
from hookscope.dashboard.settings.table import Setting

FILE = "pyproject.toml"
TABLE = "[tool.hookscope.check]"
OWN = ("images", "pictures", "baseline", "fail-on", "rules", "limits")
OF_FILES = ("weights", "labels", "images", "baseline")  # whose values are paths, from the file's folder on


@dataclass(frozen=True)
class Configuration:
    """What a project says.

    Attributes:
        path: of the file; None where there is none that says anything.
        texts: of each key that holds texts or numbers, what is written there, each as on the command line.
        rules, limits: by name, as texts.
    """

    path: Path | None = None
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)

    def one(self, key: str) -> str:
        """What is written of a key that has one value; "" for nothing.

        Raises:
            Unchecked: there are several.
        """
        texts = self.texts.get(key, ())
        if len(texts) > 1:
            raise Unchecked(f"In {self.path} {key} has {len(texts)} values, and one is needed.")
        return texts[0] if texts else ""


def read_configuration(folder: Path, rows: Sequence[Setting]) -> Configuration:
    """What the nearest pyproject.toml with a table of ours says, in a folder or above it.

    Arguments:
        rows: the settings of a model, which may stand there too.

    Raises:
        Unchecked: a file cannot be read, or says what is not understood.
    """
    for place in (folder, *folder.parents):
        path = place / FILE
        table = _table(path)
        if table is not None:
            return _understood(path, table, {row.flag.removeprefix("--"): row for row in rows})
    return Configuration()


def _table(path: Path) -> Mapping[str, Any] | None:
    """Our table of a file; None where there is none."""
    try:
        text = path.read_text(encoding="utf-8")
        found: Any = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Unchecked(f"{path} cannot be read ({reason}), so what it says of check-ups is not known.") from error
    for name in ("tool", "hookscope", "check"):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    if not isinstance(found, Mapping):
        raise Unchecked(f"In {path} {TABLE} is no table.")
    return found


def _understood(path: Path, table: Mapping[str, Any], rows: Mapping[str, Setting]) -> Configuration:
    texts: dict[str, Sequence[str]] = {}
    named: dict[str, Mapping[str, str]] = {"rules": {}, "limits": {}}
    known = (*OWN, *rows)
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(known))}."
            raise Unchecked(f"In {path} {TABLE} has {key!r}, which there is not. {hint}")
        if key in named:
            named[key] = dict(_flat(path, key, value))
        else:
            texts[key] = [_placed(path.parent, key, text) for text in _texts(path, key, value)]
    return Configuration(path, texts, named["rules"], named["limits"])


def _flat(path: Path, key: str, value: Any, before: str = "") -> Iterable[tuple[str, str]]:
    """A table as names and texts; `preprocessing.ratio`, written without quotes, is a table in the table."""
    if not isinstance(value, Mapping):
        raise Unchecked(f'In {path} {key} is no table: write {key} = {{ "dead-channels" = ... }}.')
    for name, each in value.items():
        if isinstance(each, Mapping) and not before:
            yield from _flat(path, key, each, f"{name}.")
        else:
            (text,) = _texts(path, f"{key}.{before}{name}", each, several=False)
            yield before + name, text


def _texts(path: Path, key: str, value: Any, several: bool = True) -> list[str]:
    """A value of the file as it would be written on the command line."""
    if several and isinstance(value, list):
        return [text for each in value for text in _texts(path, key, each, several=False)]
    if several and isinstance(value, Mapping):  # --factory-arg
        return [f"{name}={text}" for name, each in value.items() for text in _texts(path, key, each, several=False)]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, str | int | float):
        return [str(value)]
    raise Unchecked(f"In {path} {key} is {type(value).__name__}, and a text or a number is needed.")


def _placed(folder: Path, key: str, text: str) -> str:
    """A path that is written from the file's folder on, from where we are."""
    if key not in OF_FILES:
        return text
    name, equals, rest = text.partition("=") if key == "images" and not (folder / text).is_dir() else ("", "", text)
    return name + equals + str(folder / Path(rest).expanduser())
