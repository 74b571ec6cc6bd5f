"""What runs along the network, as a program: gradients, where A and B part, what comes back, the tree's numbers."""

from __future__ import annotations

from hookscope.dashboard.exports.script_code import NAMED, Script
from hookscope.dashboard.exports.script_layers import restored_parts
from hookscope.dashboard.page.scene import SIDES, Scene
from hookscope.dashboard.panels.back import Back
from hookscope.dashboard.panels.depth import Depth
from hookscope.dashboard.panels.tree import APART, Bars
from hookscope.dashboard.sets.layer_numbers import SET_METRICS
from hookscope.hooks.methods import METRICS

LISTED = 12  # channels of a layer that is taken apart
SHOW_PARTING = """
def show_parting(found, usual):
    distances = along_the_depth(found, usual)
    for each in found.steps:
        value, why = distances[each.place], each.reason
        if found.by_distribution and not why:
            why = f"of one size here, relative L2 {each.distance:.6g}"
        text = f"{value:.6g}, {why}" if why and math.isnan(value) else f"{value:.6g}"
        print(f"apart at {named(each.layer)} call {each.call}: {text}")
    if found.by_distribution:
        print("A and B differ in size at most layers: these are distances of distributions, mean KS of the channels.")
        print("Pictures of one size would give the layer where they part.")
    elif usual is None and found.models == 1:
        print("These are raw distances, relative L2: which layer is the first is not known without a comparison.")
    else:
        first = first_parting(found, usual).call
        print("they part first at", named(first.layer) if first else "no layer")
"""


def shows_gradients(scene: Scene) -> bool:
    """Whether gradients stand along the depth."""
    return bool(scene.inputs) and scene.view.of(Depth).depth == "gradients"


def gradients(script: Script, scene: Scene) -> None:
    """How large the target's gradient is at every layer that has weights."""
    script.help("named", NAMED)
    for side in scene.inputs:
        model, picture, target = script.model(side), script.picture(side), script.target(side)
        with script.part(f"gradients by layer, {side.upper()}"):
            script.within(side)
            script.add(
                f"    found = hs.gradients({model}.module, {picture}, None, {target})",
                f'print("gradients of {side.upper()} explain", f"{{found.score:.6g}}")',
                "for each in found.layers:",
                f'    print(f"{side.upper()} {{named(each.layer)}} call {{each.call}}: rms {{each.rms:.6g}}, '
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
    pictures = f"{script.picture('a')}, {script.picture('b')}"
    own = f", {b}.module" if scene.two_models else ""
    layers = f"layers={a}.layers" + (f", layers_b={b}.layers" if scene.two_models else "")
    script.imports |= {"import math", "from hookscope.hooks.results.parting import along_the_depth, first_parting"}
    script.help("named", NAMED)
    script.help("show_parting", SHOW_PARTING)
    if not scene.two_models:
        with script.part("how far unrelated photographs are apart, which the distances are shares of"):
            script.add(
                "usual = None",
                f"photographs = [each for batch, _ in {a}.folder() for each in batch.split(1)]",
                f"usual = hs.parting_calibration({a}.module, photographs, layers={a}.layers)  # a pass for each",
            )
    usual = "None" if scene.two_models else "usual"
    with script.part("A against B"):
        around = script.around("a", "b")
        script.add(
            f"with {script.looking('a')}:",
            f'    found = hs.parting({a}.module, {pictures}{own}, {layers}, distributions="unlike"{around})',
            f"show_parting(found, {usual})",
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
    script.help("named", NAMED)
    with script.part(f"{giver.upper()} restored in {taker.upper()}"):
        around = script.around(giver, taker)
        script.add(
            f"with {script.looking(giver)}:",
            f"    *_, found = hs.restore({model}.module, {pictures}, {targets}, layers={model}.layers{own}{around})",
            'print(f"the difference of the two classes: {found.of_a:.6g} and {found.of_b:.6g}")',
            "for each in found.layers:",
            '    at = f"back at {named(each.layer)} call {each.call}"',
            '    why = f", {each.reason}" if each.reason else ""',
            '    print(f"{at}: whole {each.whole:.6g}, estimate {each.estimate:.6g}{why}")',
        )
    by = scene.view.of(Back).back_by
    key = next((key for key in scene.view.layers if key), "")
    if by == "none" or not key:
        return
    with script.part(f"{key}, by {by}"):
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
    script.help("named", NAMED)
    also = 'also=("containers", "operations")'
    with script.part(f"{row.title} of every layer, {side.upper()}"):
        script.within(side)
        script.add(
            f"    found = hs.survey({model}.module, {picture}, {model}.layers{chosen}, {also})",
            "for each in found.calls:",
            f'    print(f"{row.title} of {{named(each.layer)}} call {{each.call}}: {{each[{name!r}]:.6g}}")',
        )


def left_out(script: Script, scene: Scene) -> None:
    """What of it no program has."""
    if scene.view.of(Bars).metric in SET_METRICS:
        script.note("The tree's bars over a set: the tab Pictures has a program of that set.")
