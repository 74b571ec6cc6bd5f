"""What may stand beside the weights in a file of torch's, read as something that does nothing.

Trainers save their arguments, their counters and their configurations with the weights. torch's reader makes only what
it is told to make; it is told these names, and makes `Inert` of each: no module of such a name is imported, and no code
of theirs runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

PLAIN = ("tuple", "set", "frozenset", "slice", "int", "float", "complex", "str", "bool", "bytearray")
DICTS = (
    "builtins.dict",
    "__builtin__.dict",
    "collections.defaultdict",
    "easydict.EasyDict",
    "yacs.config.CfgNode",
    "addict.addict.Dict",
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
)
LISTS = ("builtins.list", "__builtin__.list")
NUMBERS = ("Float16", "Float32", "Float64", "Int32", "Int64", "UInt8", "Bool", "Str")
NODES = ("Any", "Integer", "Float", "String", "Boolean", "Enum", "Path", "Bytes")
NAMES = (
    "argparse.Namespace",
    *(f"{place}.{name}" for place in ("builtins", "__builtin__") for name in PLAIN),
    "_codecs.encode",
    "datetime.datetime",
    "datetime.date",
    "datetime.timedelta",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.dtypes.{name}DType" for name in NUMBERS),
    *(
        f"pathlib{place}.{name}"
        for place in ("", "._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
    ),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata", "Box", "Node")),
    *(f"omegaconf.nodes.{name}Node" for name in NODES),
    "omegaconf.nodes.ValueNode",
    "typing.Any",
)  # fmt: skip


class Inert:
    """Stands for an object that is not made: it takes whatever it is given, and keeps nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> Inert:
        """Made of anything."""
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class InertDict:
    """The same for what is filled as a dictionary, which torch's reader does to its own kinds of it alone."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        """An empty dictionary."""
        return OrderedDict()


class InertList:
    """The same for what is filled as a list."""

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        """An empty list."""
        return []


def allowed() -> list[Any]:
    """As `torch.serialization.safe_globals` takes them."""
    kinds: tuple[tuple[type, Sequence[str]], ...] = ((Inert, NAMES), (InertDict, DICTS), (InertList, LISTS))
    return [(kind, name) for kind, names in kinds for name in names]
