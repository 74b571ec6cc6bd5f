"""A server's sets, sweeps and page in the test's own process, around a real worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from served import until
from tempo import limit

from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Scene, loaded
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels import order
from hookscope.dashboard.sets.members import PictureSet
from hookscope.dashboard.sets.store import SetStore, key_of
from hookscope.dashboard.sets.sweeps import Sweeps


class SetDesk:
    """What a server holds, in a folder of its own."""

    def __init__(self, engine: LocalEngine, offered: Mapping[str, Path], place: Path) -> None:
        self.engine = engine
        self.inputs = InputStore(place / "inputs", 2**26)
        self.cache = Cache(place / "answers", 2**26)
        self.store = SetStore(place / "sets", dict(offered), self.inputs)
        self.sweeps = Sweeps(engine, self.store, place / "found")
        self.service = Service(engine, self.cache, self.inputs, sweeps=self.sweeps)
        self.gallery, self.readings = Gallery("/picture/"), Readings()
        self.asked = 0

    def set(self, name: str) -> PictureSet:
        """An offered set."""
        return self.store.get(key_of(name))

    def swept(self, name: str, model: str) -> PictureSet:
        """A set that has been looked through."""
        pictures = self.set(name)
        self.sweeps.start(pictures, model)
        until(lambda: self.sweeps.progress(pictures, model).phase != "running", limit(60.0))
        assert self.sweeps.progress(pictures, model).phase == "done"
        return pictures

    def scene(self, view: View) -> Scene:
        """What a page with this view is drawn from."""
        return Scene.build(view, loaded(view, self.service), self.service, self.gallery, self.readings, 900)

    def draw(self, view: View, seconds: float = 60.0) -> dict[str, dict[str, Any]]:
        """What a page that is opened at a view shows once everything was answered, by component."""
        self.asked += 1
        parts = order.parts(self.scene(view), len(view.layers), "/")
        name = self.service.ask("page", parts, {}, self.asked)
        found: dict[str, dict[str, Any]] = {}
        last: Any = None
        for shown in self.service.updates(name, lambda: False):
            last = shown or last
            for component, properties in shown[1] if isinstance(shown, tuple) else []:
                key = component if isinstance(component, str) else f"{component['type']} {component['card']}"
                found.setdefault(key, {}).update(properties)
        assert last == "done"
        return found

    def close(self) -> None:
        """Stop what was started."""
        self.service.close()
        self.sweeps.close()
        self.store.close()
        self.inputs.close()
        self.cache.close()


def text_of(tree: Any) -> str:
    """The text of what a `Markup` shows."""
    if isinstance(tree, str):
        return tree
    if tree and isinstance(tree[0], str) and len(tree) == 3 and isinstance(tree[1], dict):
        return text_of(tree[2])
    return "".join(map(text_of, tree))


def elements(tree: Any, **wanted: str) -> list[Any]:
    """Its elements whose attributes are these; a class is one of several."""
    found = []
    for node in tree:
        if isinstance(node, str):
            continue
        _, attributes, children = node
        has = {**attributes, "className": attributes.get("className", "").split()}
        if all(value in has[name] if name == "className" else has.get(name) == value for name, value in wanted.items()):
            found.append(node)
        found += elements(children, **wanted)
    return found
