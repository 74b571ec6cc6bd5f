"""A view as a program, while it is written: what it opens, what it is given, and how names become text that is safe.

Nothing that a person, a file or a model called something stands in the program but as `repr` has it, or in a comment of
one line. No path of the server does, and no key.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from hookscope.dashboard.asking.edits import PageEdit
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.targets import Target
from hookscope.dashboard.asking.texts import one_line
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.exports.script_pictures import Picture, picture_of
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.sources.spec import is_own
from hookscope.hooks.results.edits import Level
from hookscope.hooks.results.outputs import AS_FOUND
from hookscope.hooks.results.targets import OWN, Against, Box, Class, Like, Rival

COMMENT_LENGTH = 200
HANDED_OVER = "hookscope.dashboard.notebook.handed:"  # how the specs of models begin that exist in a notebook alone
WIDE = 110  # characters of a line, above which a `with` is broken up
PART = """
@contextlib.contextmanager
def part(name):
    print(f"--- {name}")
    try:
        yield
    except Exception as problem:  # it costs its own part
        if isinstance(problem, NameError) and problem.name in MADE_ABOVE:
            print(f"It needs {problem.name}, which was refused above.")
        elif isinstance(problem, hs.HooksError):
            print(problem)
        else:
            print(f"{type(problem).__name__}: {problem}")
"""
NAMED = """
def named(layer):
    return layer or "(model)"  # the model itself has no name
"""
FILES = ("weights", "labels", "baseline")  # options that are a file of the operator's


@dataclass
class Script:
    """What is written of a scene.

    Attributes:
        body: the program's lines after what it opens. helpers: functions that they call, by name.
        imports: lines. notes: what is not reproduced, sentences. needs: what has to be put beside the program.
        packages: what has to be installed.
        pictures: those that it opens, by the name of their variable.
        shared: variables that one part makes and another needs, other than models, pictures and likenesses.
    """

    scene: Scene
    body: list[str] = field(default_factory=list)
    helpers: dict[str, str] = field(default_factory=dict)
    imports: set[str] = field(default_factory=lambda: {"import hookscope as hs"})
    notes: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=lambda: ["hookscope[check]"])
    pictures: dict[str, Picture] = field(default_factory=dict)
    shared: list[str] = field(default_factory=list)
    _opened: list[str] = field(default_factory=list)  # parts that open the models
    _models: dict[str, str] = field(default_factory=dict)  # variable -> model's name
    _given: list[str] = field(default_factory=list)  # parts that prepare pictures and targets, and edits
    _known: set[str] = field(default_factory=set)
    _written: list[str] | None = None  # lines of the part that is being written

    @contextlib.contextmanager
    def part(self, text: str) -> Iterator[None]:
        """Write a part of the view; what refuses it is printed, as the page says it, and the next part goes on.

        One to which nothing is added is left out.
        """
        assert self._written is None, "a part stands in no other"
        self._written = []
        try:
            yield
            self.body += self._part(text, self._written)
        finally:
            self._written = None

    def add(self, *lines: str) -> None:
        """Lines of code of the part that is being written: there are none outside of parts."""
        assert self._written is not None, "code stands in a part"
        self._written += lines

    def _part(self, text: str, lines: Sequence[str]) -> list[str]:
        self.help("part", PART)
        self.imports.add("import contextlib")
        return ["", f"with part({comment(text)!r}):", *(f"    {line}" for line in lines)] if lines else []

    def note(self, sentence: str) -> None:
        """Say what is not reproduced."""
        self.notes += [] if sentence in self.notes else [sentence]

    def need(self, text: str) -> None:
        """Say what has to be put beside the program."""
        self.needs += [] if text in self.needs else [text]

    def help(self, name: str, source: str) -> None:
        """Have the program define a function."""
        self.helpers[name] = source.strip("\n")

    # --- what it opens

    def model(self, side: str) -> str:
        """The variable of a side's model."""
        name = self.scene.view.model_of(side)
        several = self.scene.view.model_of("a") != self.scene.view.model_of("b")
        variable = f"model_{side}" if several else "model"
        return self.opened(name, variable)

    def opened(self, name: str, variable: str) -> str:
        """Have a model of the server's be opened, whichever side it is on."""
        self._models[variable] = name
        return variable

    def picture(self, side: str) -> str:
        """The variable of a side's picture, prepared."""
        if side not in self._known:
            self._known.add(side)
            scene = self.scene
            model, asked = self.model(side), scene.side(side)
            self._prepare(side, model, picture_of(scene, side), asked.preparation.write(), scene.label(side))
            if asked.second:
                beside = asked.of_second.preparation.write()
                self._prepare(f"second_{side}", model, picture_of(scene, side, second=True), beside, "beside it")
        return side

    def _prepare(self, variable: str, model: str, picture: Picture, preparation: str, label: str) -> None:
        self.pictures[variable] = picture
        words = ",".join(filter(None, [preparation, picture.axes if "channels-" not in preparation else ""]))
        way = f", {words!r}" if words else ""
        lines = [f"{variable} = {model}.prepare({picture.file_name!r}{way})"]
        self._given += self._part(f"{variable.upper()}: {label}", lines)

    def edits(self, side: str) -> str:
        """What enters a side's edits; "" if it has none."""
        if not (edits := self.scene.edits(side)):
            return ""
        variable, model = f"edits_{side}", self.model(side)
        if variable not in self._known:
            self._known.add(variable)
            self._given += ["", f"{variable} = [", *(f"    {edit_code(each)}," for each in edits), "]"]
        return f"hs.edit({model}.module, {variable}, layers={model}.layers)"

    def target(self, side: str) -> str:
        """What is explained of a side."""
        target = self.scene.target(side)
        if not isinstance(target, Like):
            return target_code(target)
        variable, other = f"like_{side}", "b" if side == "a" else "a"
        if variable not in self._known:
            self.picture(other)
            self._known.add(variable)
            lines = [
                f"with {self.looking(side, of=other)}:",
                f"    {variable} = {self.model(side)}.likeness({self.picture(other)})",
            ]
            self._given += self._part(f"the likeness to {other.upper()}", lines)
        return variable

    def looking(self, side: str, of: str = "") -> str:
        """What has the looks of a block read the answer as the page does."""
        reading = self.scene.reading(side)
        given = [] if reading == AS_FOUND else [f"output={reading.output!r}", f"reads={reading.reads!r}"]
        if (of or side) in self.scene.inputs and self.scene.second(of or side):
            self.picture(of or side)
            given.append(f"second=second_{of or side}")
        return f"{self.model(side)}.looking({', '.join(given)})"

    def within(self, side: str, *more: str) -> None:
        """Begin a block in which a side's model computes as the page shows it: its answer's reading, its edits."""
        parts = [self.looking(side), *filter(None, [self.edits(side)]), *more]
        whole = f"with {', '.join(parts)}:"
        self.add(*([whole] if len(whole) <= WIDE else ["with (", *(f"    {part}," for part in parts), "):"]))

    def around(self, first: str, second: str) -> str:
        """What a look at two sides enters around the run of each, as its argument; "" for nothing. Within a part."""
        each = [self.edits(side) for side in (first, second)]
        if not any(each):
            return ""
        entered = [f"(lambda: {one})" if one else "contextlib.nullcontext" for one in each]
        self.add(f"around = {', '.join(entered)}")
        return ", around=around"

    def place(self, key: str, side: str) -> tuple[str, int]:
        """The layer and the call of a side's model that a card's key stands for."""
        return parse_key(self.scene.key_in(key, side))

    # --- the whole

    def settle(self) -> None:
        """Everything was added: find what opens the models, and what of theirs has to lie beside the program."""
        self._opened = []
        for variable, name in self._models.items():
            self._opened += self._part(f"the model {name}", self.open(variable, name))

    def text(self, head: Sequence[str]) -> str:
        """The program.

        Arguments:
            head: what it is, comments' texts.
        """
        self.settle()
        lines = ['"""Numbers of a view of Hookscope\'s page; run it in its own folder: python view.py."""', ""]
        lines += [f"# {comment(text)}" for text in head]
        lines += [f"# It needs: pip install {' '.join(repr(each) for each in dict.fromkeys(self.packages))}"]
        lines += [f"# Put beside it: {comment(text)}" for text in self.needs]
        lines += [f"# Not reproduced: {comment(text)}" for text in self.notes]
        plain = sorted(line for line in self.imports if line.startswith("import ") and "hookscope" not in line)
        ours = sorted(self.imports - {*plain}, key=lambda line: (line.startswith("from "), line))
        lines += ["", *plain, *([""] if plain else []), *ours, ""]
        for source in self.helpers.values():
            lines += ["", source, ""]
        likes = sorted(each for each in self._known if each.startswith("like_"))
        made = (*self._models, *self.pictures, *likes, *self.shared)
        lines += ["", f"MADE_ABOVE = {made!r}  # what parts need, if it was not refused"] if self.body else []
        return "\n".join([*lines, *self._opened, *self._given, *self.body, ""])

    def open(self, variable: str, name: str) -> list[str]:
        """The lines that open a model of the server's."""
        options = self.scene.service.engine.options(name) or ModelOptions(name)
        return [
            f"{variable} = hs.open_model({', '.join(self._arguments(options))})",
            f"print({variable}.describe())",
        ]

    def _arguments(self, options: ModelOptions) -> list[str]:
        """What `hs.open_model` is given: what the operator said, with files by their names alone."""
        found = [repr(self._spec(options.spec))]
        usual = ModelOptions(options.spec)
        for each in fields(ModelOptions):
            value = getattr(options, each.name)
            if each.name in ("spec", "name", "baseline") or value == getattr(usual, each.name):
                continue
            if each.name in FILES:
                value = file_named(value)
                self.need(f"{value.partition('#')[0]}, the model's {each.name}.")
            elif each.name == "arguments":
                value = self._own(json.loads(value))
            found.append(f"{each.name}={value!r}")
        return found

    def _spec(self, spec: str) -> str:
        if spec.startswith(HANDED_OVER):
            self.need("your own code that makes the model, which a notebook handed over: write its name below.")
            return "my_module:make"
        if is_own(spec):
            place = spec.partition(":")[0].replace(".", "/")
            self.need(f"your own code that makes the model, {place}.py.")
        kind, _, name = spec.partition(":")
        if kind == "hf" and is_path(name):
            self.need(f"{file_named(name)}, the folder of the model.")
            return f"hf:{file_named(name)}"
        return spec

    def _own(self, value: Any) -> Any:
        """A factory's arguments, without the paths that are among them."""
        if isinstance(value, dict):
            return {name: self._own(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._own(each) for each in value]
        if isinstance(value, str) and is_path(value):
            self.need(f"{file_named(value)}, which the model's code reads.")
            return file_named(value)
        return value


def comment(text: str) -> str:
    """A text for a comment: one line of what can be seen, which is all of it that is not code."""
    return one_line(text, COMMENT_LENGTH)


def is_path(text: str) -> bool:
    """Whether a text says where something lies on a machine."""
    name = text.partition("#")[0]
    if re.match(r"~|\.{1,2}[/\\]|[/\\]|[A-Za-z]:[/\\]", name) or name.startswith("file:"):
        return True
    return "/" in name and Path(name).exists()


def file_named(path: str) -> str:
    """A file's or a folder's name without where it lies; behind a # stands which of a file's dictionaries.

    >>> file_named("/srv/nets/mine.pt#ema"), file_named("C:\\\\nets\\\\mine.pt"), file_named("mine.pt")
    ('mine.pt#ema', 'mine.pt', 'mine.pt')
    """
    where, hash_, rest = path.partition("#")
    name = PureWindowsPath(PurePosixPath(where).name).name or PurePath(where).name
    return f"{name}{hash_}{rest}"


def edit_code(each: PageEdit) -> str:
    """An edit as a program writes it."""
    call = f", call={each.call}" if each.call is not None else ""
    channel = "" if each.channel is None else f", {each.channel}"
    if isinstance(each, Level):
        return f"hs.level({each.layer!r}{channel}{call})"
    if each.gain == 0:
        return f"hs.mute({each.layer!r}{channel}{call})"
    return f"hs.scale({each.layer!r}, {each.channel}, {each.gain!r}{call})"


def target_code(target: Target | Rival) -> str:
    """What is explained, as a program writes it; not a likeness, which is computed.

    >>> target_code(OWN), target_code(Class(5)), target_code(Against(Class(5))), target_code(Box(2, "left"))
    ('None', '5', 'hs.Against(5)', "hs.Box(2, 'left')")
    """
    if isinstance(target, Class):
        return str(target.index)
    if isinstance(target, Box):
        if target.part == "keypoint":
            return f"hs.Box({target.index}, 'keypoint', {target.keypoint})"
        return f"hs.Box({target.index}{'' if target.part == 'score' else f', {target.part!r}'})"
    if isinstance(target, Against):
        first = "" if target.target == OWN else target_code(target.target)
        other = "" if isinstance(target.other, Rival) else target_code(target.other)
        if first and other:
            return f"hs.Against({first}, {other})"
        return f"hs.Against({first}{f'other={other}' if other else ''})"
    return "None"
