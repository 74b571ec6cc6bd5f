"""What the tabs "Pictures" and "Findings" show, as a program over a folder that whoever runs it names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.exports.script_code import NAMED, Script, file_named
from hookscope.dashboard.page.matching import call_of
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.findings.asked import PICTURES
from hookscope.dashboard.panels.pictures.embedding import Mapped
from hookscope.dashboard.panels.pictures.going import ORDERS, Pruning
from hookscope.dashboard.panels.pictures.looked import Looked, Looking, look_at
from hookscope.dashboard.panels.pictures.outliers import PER_PAGE, Outliers
from hookscope.dashboard.sets.members import PictureSet
from hookscope.dashboard.sets.store import REFERENCE
from hookscope.dashboard.sets.stored import STORED
from hookscope.hooks.layers.penultimate import penultimate

LISTED = 24  # rows
FIRST = (0.01, 0.02)  # shares of the channels that the page measures before the library's


def looked_at(scene: Scene) -> Looked | None:
    """The view's set in its model; None where there is none."""
    found = look_at(scene) if scene.view.set_a else None
    return found if isinstance(found, Looked) else None


def _page(scene: Scene, *names: str) -> bool:
    return looked_at(scene) is not None and scene.view.of(Looking).set_page in names


def _folder(script: Script, pictures: PictureSet, variable: str, argument: int) -> None:
    """Where the set's pictures lie: nobody but who runs the program can say that."""
    if pictures.key == REFERENCE:
        script.add(f'{variable} = ""  # the built-in photographs')
        return
    script.imports.add("import sys")
    name = file_named(pictures.name)
    script.need(f"{name}, the folder of the set, or name it: python view.py FOLDER.")
    script.add(f"{variable} = sys.argv[{argument}] if len(sys.argv) > {argument} else {name!r}")
    if not pictures.offered:
        script.note("The order in which the page has a set that was brought or chosen there, where that decides.")


@contextlib.contextmanager
def _part(script: Script, scene: Scene, title: str) -> Iterator[tuple[str, str]]:
    """A part about the set: the variable of the model, and the block's begin."""
    looked = looked_at(scene)
    assert looked is not None
    model = script.model(scene.view.side)
    with script.part(f"{title}: {file_named(looked.pictures.name)}"):
        _folder(script, looked.pictures, "folder", 1)
        yield model, f"with {model}.looking():"


def _sweep(script: Script, model: str, begin: str, wanted: str, found: str = "found", folder: str = "folder") -> None:
    """Look through a folder: `found`, and `names` of the pictures that were seen, in their order."""
    pictures = "pictures" if folder == "folder" else "other_pictures"
    script.add(
        f"{pictures} = {model}.folder({folder})",
        begin,
        f"    {found} = hs.sweep({model}.module, {pictures}, [{wanted}], described={model}.layers)",
    )


def shows_overview(scene: Scene) -> bool:
    """Whether mistakes and channels are shown, or a page that is not there."""
    return _page(scene, "")


def overview(script: Script, scene: Scene) -> None:
    """How often the model is right, the mistakes, and which channels of the chosen layers never fire."""
    looked = looked_at(scene)
    assert looked is not None
    with _part(script, scene, "the set") as (model, begin):
        _sweep(script, model, begin, "hs.statistics('*'), hs.answers(), hs.gap('*')")
        names = f"{model}.classes"
        script.add(
            'print("pictures:", len(found.pictures))',
            "answers = found.answers",
            "if answers is not None:",
            '    print(f"accuracy: {answers.accuracy:.6g}")',
            f"    for row in answers.mistakes()[:{LISTED}]:",
            "        picture, answer, label = answers.pictures[row], answers.best[row, 0], answers.labels[row]",
            f'        print("wrong:", pictures.read[picture], "is", {names}[label], "answered",'
            f' {names}[answer], f"{{answers.shares[row, 0]:.6g}}")',
        )
        for key in filter(None, scene.view.layers):
            if not call_of(looked.info, key):
                continue
            layer, call = parse_key(key)
            script.add(
                f"layer = found.summary({layer!r}, {call})",
                f"print({f'{key} never fires in'!r}, int((layer.fired == 0).sum()), 'of', len(layer.fired), "
                "f'channels, mean {layer.statistics.mean:.6g}')",
            )
    against(script, scene, model)


def against(script: Script, scene: Scene, model: str) -> None:
    """Where the set and a second one part."""
    other = look_at(scene, scene.view.set_b) if scene.view.set_b not in ("", scene.view.set_a, STORED) else None
    if not isinstance(other, Looked):
        return
    script.shared.append("found")
    script.help("named", NAMED)
    with script.part(f"against {file_named(other.pictures.name)}"):
        _folder(script, other.pictures, "other_folder", 2)
        _sweep(script, model, f"with {model}.looking():", "hs.gap('*')", "other", "other_folder")
        script.add(
            "for each in hs.gap(found, other):",
            '    print(f"gap at {named(each.layer)} call {each.call}: {each.effect:.6g}, p {each.p:.6g}")',
        )


def shows_outliers(scene: Scene) -> bool:
    """Whether outliers are shown."""
    return _page(scene, "outliers")


def outliers(script: Script, scene: Scene) -> None:
    """The pictures that are least like the others, another set or a stored baseline."""
    with _part(script, scene, "outliers") as (model, begin):
        view = scene.view
        chosen = view.of(Outliers).outliers_by
        features = _features(scene)
        wanted = f"hs.profiles('*'), hs.answers(){features}"
        _sweep(script, model, begin, wanted)
        other = look_at(scene, view.set_b) if view.set_b not in ("", view.set_a, STORED) else None
        if view.set_b == STORED:
            options = scene.service.engine.options(view.model_of(view.side))
            name = Path(options.baseline).name if options and options.baseline else "baseline.json"
            script.need(f"{name} and the .safetensors that belongs to it, the stored baseline.")
            script.add(f"scores = hs.Baseline.read({name!r}).score_sweep(found)")
        elif isinstance(other, Looked):
            _folder(script, other.pictures, "other_folder", 2)
            _sweep(script, model, begin, wanted, "other", "other_folder")
            script.add(f"scores = hs.Baseline.from_sweep(other, {model}.module).score_sweep(found)")
            script.note("That pictures which lie in both sets are held against the rest of the other.")
        else:
            script.add(f"scores = hs.Baseline.from_sweep(found, {model}.module).leave_one_out()")
        script.imports.add("import numpy as np")
        script.add(
            f"standing = scores.of({chosen!r}) or scores.of('layers')",
            "order = np.argsort(-np.nan_to_num(standing.values.astype(np.float64), nan=-np.inf), kind='stable')",
            f"for row in order[:{PER_PAGE}]:",
            '    print("unlike:", pictures.read[scores.pictures[row]], f"{standing.values[row]:.6g}")',
        )


def _features(scene: Scene) -> str:
    """The features before the head, as a sweep of the page keeps them."""
    info = scene.infos[scene.view.model_of(scene.view.side)]
    last = penultimate(info.layers)
    return "" if last is None else f", hs.features([{last[0]!r}])"


def shows_map(scene: Scene) -> bool:
    """Whether the pictures lie in a plane."""
    return _page(scene, "map")


def plane(script: Script, scene: Scene) -> None:
    """Where each picture lies."""
    method = scene.view.of(Mapped).map_by
    key = next((key for key in scene.view.layers if key), "")
    info = scene.infos[scene.view.model_of(scene.view.side)]
    place = parse_key(key) if key else penultimate(info.layers)
    if place is None:
        script.note("The map, because no layer is chosen that it could be drawn by.")
        return
    layer, call = place
    if method == "tsne":
        script.packages.append("hookscope[tsne]")
    with _part(script, scene, "map of the pictures") as (model, begin):
        _sweep(script, model, begin, f"hs.features([{layer!r}])")
        script.add(
            f"features = next(each for each in found.features if each.call == {call})",
            f"points = hs.embed(features.values, {method!r}).points",
            "for picture, (x, y) in zip(features.pictures, points):",
            '    print("point:", pictures.read[picture], f"{x:.6g} {y:.6g}")',
        )
    script.note("Which pictures are drawn where there are more than the map shows at once.")


def shows_information(scene: Scene) -> bool:
    """Whether variety stands along the depth."""
    return _page(scene, "information")


def information(script: Script, scene: Scene) -> None:
    """How much variety each layer lets through."""
    script.help("named", NAMED)
    with _part(script, scene, "variety along the depth") as (model, begin):
        _sweep(script, model, begin, "hs.statistics('*'), hs.information('*')")
        script.add(
            "for each in hs.information(found):",
            '    print(f"{named(each.layer)} call {each.call}: effective rank {each.effective_rank:.6g}, '
            'participation ratio {each.participation_ratio:.6g}, entropy {each.entropy:.6g}")',
        )


def shows_pruning(scene: Scene) -> bool:
    """Whether it is asked which channels could go."""
    return _page(scene, "could-go")


def pruning(script: Script, scene: Scene) -> None:
    """How often the model answers something else without a layer's least important channels."""
    asked = scene.view.of(Pruning)
    key = next((key for key in scene.view.layers if key), "")
    if not key:
        script.note("What could go, because no layer is chosen.")
        return
    layer, call = parse_key(key)
    with _part(script, scene, f"what of {key} could go") as (model, begin):
        script.imports.add("from hookscope.hooks.datasets.pruning import SHARES")
        script.add(
            f"pictures = {model}.folder(folder, most={int(asked.prune_over)})",
            begin,
            f"    found = hs.importance({model}.module, pictures, [{layer!r}], described={model}.layers)",
            f"    matters = next(each for each in found if each.call == {call})",
            "    curve = hs.prune_curve(",
            f"        {model}.module, pictures, {layer!r}, matters.order({asked.prune_by!r}), call={call},",
            f"        shares=(*{FIRST!r}, *SHARES), random_orders={ORDERS}, described={model}.layers,",
            "    )",
            "for count, agreement in zip(curve.counts, curve.agreement):",
            f'    print({f"{key} without"!r}, count, f"channels agrees {{agreement:.6g}}")',
            f"can_go = curve.removable({int(asked.prune_at) / 100})",
            'print("can go:", can_go.count, "channels,", can_go.parameters, "parameters")',
        )


def always(scene: Scene) -> bool:
    """Whether there is anything at all, which there is."""
    return True


def findings(script: Script, scene: Scene) -> None:
    """What is wrong with the model, by the page's rules."""
    side = scene.view.side
    model = script.model(side)
    looked = look_at(scene, scene.view.set_a or REFERENCE)
    if not isinstance(looked, Looked):
        script.note("The check-up, because there is no such set.")
        return
    with script.part(f"findings over {file_named(looked.pictures.name)}"):
        _folder(script, looked.pictures, "folder", 1)
        script.add(
            f"with {script.looking(side)}:",
            f"    found = {model}.check({model}.folder(folder, most={PICTURES}, in_turns=True))",
            "for each in found.findings:",
            '    print(f"{each.severity}: {each.rule}: {each.sentence}")',
            "if not found.findings:",
            '    print("Nothing was found.")',
            'print("What was checked:")',
            "for each in found.checked:",
            '    print(f"{each.status}: {each.rule}: {each.why}")',
        )


def left_out(script: Script, scene: Scene) -> None:
    """What of the tab no program has."""
    chosen = scene.view.of(Looking)
    if not chosen.set_page and chosen.shown != "mistakes":
        script.note("Which of the pictures are listed: the answers of all are in found.answers.")
