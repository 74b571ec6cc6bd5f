"""What runs along the network, as a program: gradients, where A and B part, what comes back, the tree's numbers."""

from __future__ import annotations

from hookscope.dashboard.exports.script_code import Script
from hookscope.dashboard.exports.script_layers import restored_parts
from hookscope.dashboard.page.scene import SIDES, Scene
from hookscope.dashboard.panels.back import Back
from hookscope.dashboard.panels.depth import Depth
from hookscope.dashboard.panels.tree import APART, Bars
from hookscope.dashboard.sets.layer_numbers import SET_METRICS
from hookscope.hooks.methods import METRICS

LISTED = 12  # channels of a layer that is taken apart


def shows_gradients(scene: Scene) -> bool:
    """Whether gradients stand along the depth."""
    return bool(scene.inputs) and scene.view.of(Depth).depth == "gradients"


def gradients(script: Script, scene: Scene) -> None:
    """How large the target's gradient is at every layer that has weights."""
    for side in scene.inputs:
        model, picture, target = script.model(side), script.picture(side), script.target(side)
        script.begin(f"gradients by layer, {side.upper()}")
        script.within(side)
        script.add(
            f"    found = hs.gradients({model}.module, {picture}, None, {target})",
            f'print("gradients of {side.upper()} explain", f"{{found.score:.6g}}")',
            "for each in found.layers:",
            f'    print(f"{side.upper()} {{each.layer}} call {{each.call}}: rms {{each.rms:.6g}}, '
            'largest {each.max_abs:.6g}")',
        )


def both(scene: Scene) -> bool:
    """Whether both sides are there, in models of one picture."""
    return {*SIDES} <= {*scene.inputs} and not any(scene.info_of(side).pictures for side in SIDES)


def shows_parting(scene: Scene) -> bool:
    """Whether A is held against B along the depth, or in the tree."""
    along = scene.view.tab == "depth" and scene.view.of(Depth).depth == "apart"
    return both(scene) and (along or scene.view.of(Bars).metric == APART)


def parting(script: Script, scene: Scene) -> None:
    """How far A and B are apart at every layer, and where they part."""
    a, b = script.model("a"), script.model("b")
    own = f", {b}.module" if scene.two_models else ""
    layers = f"layers={a}.layers" + (f", layers_b={b}.layers" if scene.two_models else "")
    script.imports.add("from hookscope.hooks.results.parting import along_the_depth, first_parting")
    script.begin("A against B")
    pictures, around = f"{script.picture('a')}, {script.picture('b')}", script.around("a", "b")
    script.add(
        f"with {script.looking('a')}:",
        f'    found = hs.parting({a}.module, {pictures}{own}, {layers}, distributions="unlike"{around})',
    )
    usual = "None"
    if not scene.two_models:
        usual = "usual"
        script.add(
            "# how far unrelated photographs are apart, which the distances are shares of; it takes a pass for each",
            f"photographs = [each for batch, _ in {a}.folder() for each in batch.split(1)]",
            f"usual = hs.parting_calibration({a}.module, photographs, layers={a}.layers)",
        )
    script.add(
        f"distances = along_the_depth(found, {usual})",
        "for each in found.steps:",
        '    print(f"apart at {each.layer} call {each.call}: {distances[each.place]:.6g}")',
        f"first = first_parting(found, {usual}).call",
        'print("they part first at", first.layer if first else "no layer")',
    )


def shows_back(scene: Scene) -> bool:
    """Whether it is shown what comes back."""
    return both(scene) and scene.view.of(Depth).depth == "back"


def back(script: Script, scene: Scene) -> None:
    """What comes back with each layer, and with the parts of the first chosen one."""
    taker = scene.view.of(Back).back_into
    giver = "a" if taker == "b" else "b"
    model = script.model(taker)
    own = f", model_a={script.model(giver)}.module" if scene.two_models else ""
    pictures = f"{script.picture(giver)}, {script.picture(taker)}"
    targets = f"target={script.target(giver)}, target_b={script.target(taker)}"
    around = script.around(giver, taker)
    script.begin(f"{giver.upper()} restored in {taker.upper()}")
    script.add(
        f"with {script.looking(giver)}:",
        f"    *_, found = hs.restore({model}.module, {pictures}, {targets}, layers={model}.layers{own}{around})",
        'print(f"the difference of the two classes: {found.of_a:.6g} and {found.of_b:.6g}")',
        "for each in found.layers:",
        '    print(f"back at {each.layer} call {each.call}: whole {each.whole:.6g}, estimate {each.estimate:.6g}")',
    )
    by = scene.view.of(Back).back_by
    key = next((key for key in scene.view.layers if key), "")
    if by == "none" or not key:
        return
    script.begin(f"{key}, by {by}")
    restored_parts(script, scene, key, giver, taker, by)
    if by == "channels":
        script.add(
            f"for channel in found.strongest[:{LISTED}]:",
            f'    print({f"back with {key} channel"!r}, channel, f"{{found.exact[channel]:.6g}}")',
        )
    else:
        script.add("for row in found.exact:", '    print("back by place", *(f"{value:.6g}" for value in row))')


def shows_metric(scene: Scene) -> bool:
    """Whether the tree's rows have a number of the picture."""
    return bool(scene.inputs) and scene.view.of(Bars).metric in METRICS


def metric(script: Script, scene: Scene) -> None:
    """That number of every layer."""
    name = scene.view.of(Bars).metric
    row = METRICS[name]
    side = scene.view.side if scene.view.side in scene.inputs else next(iter(scene.inputs))
    model, picture = script.model(side), script.picture(side)
    chosen = f", metrics=[{name!r}], target={script.target(side)}" if row.of == "gradient" else f", metrics=[{name!r}]"
    script.begin(f"{row.title} of every layer, {side.upper()}")
    script.within(side)
    also = 'also=("containers", "operations")'
    script.add(
        f"    found = hs.survey({model}.module, {picture}, {model}.layers{chosen}, {also})",
        "for each in found.calls:",
        f'    print(f"{row.title} of {{each.layer}} call {{each.call}}: {{each[{name!r}]:.6g}}")',
    )


def left_out(script: Script, scene: Scene) -> None:
    """What of it no program has."""
    if scene.view.of(Bars).metric in SET_METRICS:
        script.note("The tree's bars over a set: the tab Pictures has a program of that set.")
