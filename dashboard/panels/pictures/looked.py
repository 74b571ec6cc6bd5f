"""What is known of the set that a view names, in the model that it is about: the tab's parts are drawn from this."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import numpy as np

from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.inputs.store import InputMissing, InputRefused
from hookscope.dashboard.page.scene import Gone, Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.pictures.pages import PAGES
from hookscope.dashboard.sets import labels
from hookscope.dashboard.sets.members import PictureSet, SetMissing
from hookscope.dashboard.sets.sweeps import Progress, Sweeps
from hookscope.hooks.results.set_answers import Answers
from hookscope.hooks.results.sweeps import Sweep


@state
@dataclass(frozen=True)
class Looking:
    """How the pictures of a set are shown.

    Attributes:
        set_page: what is asked of the set; see `pages`. shown: which pictures. of_class: those of one class alone, -1
            for all. from_picture: the first of them.
        channels: in which order the channels' galleries stand. from_channel: the first of them.
        crops: which of a channel's pictures.
    """

    set_page: Annotated[str, PAGES] = ""
    shown: Literal["mistakes", "unsure", "doubtful", "energy", "alike", "all"] = "mistakes"
    of_class: int = -1
    from_picture: int = 0
    channels: Literal["index", "seldom", "strongest"] = "index"
    from_channel: int = 0
    crops: Literal["strongest", "mean", "median", "random"] = "strongest"


@dataclass(frozen=True, repr=False)
class Looked:
    """A set in a model.

    Attributes:
        model: its name. progress: how far the sweep is. found: what is written down of it, None if nothing is.
        classes: which class each group of the set names, -1 for none. names: of the model's classes.
    """

    scene: Scene
    pictures: PictureSet
    model: str
    progress: Progress
    found: Sweep | None
    classes: dict[str, int]
    names: tuple[str, ...]

    def __repr__(self) -> str:
        """Short, and different for whatever is drawn differently of what is written down."""
        view = self.scene.view
        about = (self.pictures.key, self.pictures.version, self.model, view.layers, view.of(Looking))
        return f"Looked{(*about, self.progress.phase, self.progress.saved, self.scene.prefix)!r}"

    @property
    def answers(self) -> Answers | None:
        """What the model answered so far, each picture with the class that it is said to show."""
        now = self.progress.now
        if now is None or now.answers is None:
            return None
        return replace(now.answers, labels=self.labels[now.answers.pictures])

    @property
    def labels(self) -> np.ndarray:
        """Int64 (picture,): of every picture of the set the class that it is said to show; -1 for none."""
        found = [self.classes.get(member.group, labels.NOT_KNOWN) for member in self.pictures.members]
        return np.array(found, np.int64)

    @property
    def labelled(self) -> bool:
        """Whether some picture is said to show a class of the model."""
        return any(index != labels.NOT_KNOWN for index in self.classes.values())

    @property
    def info(self) -> ModelInfo:
        """The model."""
        return self.scene.infos[self.model]

    @property
    def title(self) -> str:
        """What the model is called."""
        return self.info.title

    def name(self, index: int) -> str:
        """A class's name."""
        return self.names[index] if 0 <= index < len(self.names) else f"class {index}"

    def preview(self, number: int) -> str:
        """The address of a small copy of a picture."""
        sweeps = self.scene.service.sweeps
        assert sweeps is not None  # which had the set
        draw = partial(_preview, sweeps, self.pictures.version, number)
        return self.scene.picture(("of a set", self.pictures.version, number), draw, "image/jpeg")


def _preview(sweeps: Sweeps, version: str, number: int) -> bytes:
    try:
        return sweeps.store.preview(version, number)
    except (SetMissing, InputMissing, InputRefused) as gone:
        raise Gone(str(gone)) from gone


def look_at(scene: Scene, key: str = "", side: str = "") -> Looked | str:
    """What is known of a set in the view's model; or a sentence, where there is no such set.

    Arguments:
        key: of the set; the view's own if none is given. side: whose model; that which the header is about if none is.
    """
    sweeps = scene.service.sweeps
    if sweeps is None:
        return "This server looks at no sets of pictures."
    try:
        pictures = sweeps.store.get(key or scene.view.set_a)
    except SetMissing as missing:
        return str(missing)
    side = side or scene.view.side
    model = scene.view.model_of(side)
    info = scene.infos.get(model)
    if info is None:
        return "The model is being loaded …"
    names = info.names(scene.reading(side))
    classes = labels.match(pictures.groups, names)
    return Looked(
        scene, pictures, model, sweeps.progress(pictures, model), sweeps.found(pictures, model), classes, names
    )
