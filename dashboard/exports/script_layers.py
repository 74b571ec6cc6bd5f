"""What the tab "Layers" shows, as a program: answers, cards with their maps, attention and weights, attributions."""

from __future__ import annotations

from hookscope.dashboard.exports.script_code import Script
from hookscope.dashboard.page.reading import Walls
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import MEAN
from hookscope.dashboard.panels import attributions, ladder, likeness, models
from hookscope.dashboard.panels.card import attention, cam, weights
from hookscope.dashboard.sources.spec import name_of, title_of
from hookscope.hooks.methods import INPUTS, MAPS
from hookscope.hooks.results.maps import why_no_maps

LISTED = 8  # channels of a layer
SHOW_NUMBERS = """
def show_numbers(name, numbers):
    texts = [f"{each} {getattr(numbers, each):.6g}" for each in ("mean", "std", "min", "max", "zeros", "nan", "inf")]
    print(f"{name}: {', '.join(texts)}")
"""
SHOW_CHANNELS = """
def show_channels(name, numbers, order):
    for channel in order:
        texts = [f"{each} {numbers.channels[each][channel]:.6g}" for each in ("mean", "std", "min", "max", "zeros")]
        print(f"{name} channel {channel}: {', '.join(texts)}")
"""
SHOW_MAP = """
def show_map(name, number, values):
    print(f"{name}: explains {number:.6g}, sum {values.sum():.6g}, min {values.min():.6g}, max {values.max():.6g}")
"""
SHOW_ATTRIBUTION = """
def show_attribution(name, number, values):
    sizes = abs(values[np.isfinite(values)]).astype(np.float64)
    end = (np.quantile(sizes, 0.99) or sizes.max()) if sizes.size else np.nan
    print(
        f"{name}: explains {number:.6g}, sum {values.sum():.6g}, min {values.min():.6g}, max {values.max():.6g}, "
        f"99th percentile of the sizes, where the page's scale ends, {end:.6g}"
    )
"""
STRENGTHS = {  # by rank, of the numbers of one side's channels, and how two sides become one
    "strongest": ("np.maximum(abs(each['min']), abs(each['max']))", "np.max"),
    "mean": ("each['mean']", "np.mean"),
    "variance": ("each['std'] ** 2", "np.mean"),
    "zeros": ("each['zeros']", "np.mean"),
}
TOLD_BY = ("class", "effect", "back")


def has_pictures(scene: Scene) -> bool:
    """Whether there is a picture to ask of."""
    return bool(scene.inputs)


def answers(script: Script, scene: Scene) -> None:
    """What each side's model answers."""
    for side in scene.inputs:
        form = scene.form(side)
        if form == "other":
            continue
        picture = script.picture(side)
        script.begin(f"what {side.upper()} answers")
        script.within(side)
        if form == "boxes":
            script.add(f"    found = {script.model(side)}.detect({picture})")
            script.add(
                "for label, score in zip(found.labels, found.scores):",
                f'    print("{side.upper()} finds class", label, f"{{score:.6g}}")',
            )
            continue
        script.add(f"    found = {script.model(side)}.top({picture})")
        script.add("for name, share in found:", f'    print(f"{side.upper()} answers {{name}}: {{share:.6g}}")')


# --- the cards


def keys(scene: Scene) -> list[str]:
    """The cards' layers that some side's model has."""
    return [key for key in scene.view.layers if key and any(scene.call_of(key, side) for side in scene.inputs)]


def has_cards(scene: Scene) -> bool:
    """Whether a card is open."""
    return bool(keys(scene))


def cards(script: Script, scene: Scene) -> None:
    """The numbers of each layer, and its first channels in the chosen order."""
    script.help("show_numbers", SHOW_NUMBERS)
    script.imports.add("import torch")
    for key in keys(scene):
        script.begin(f"the layer {key}")
        sides = [side for side in scene.inputs if scene.call_of(key, side)]
        for side in sides:
            layer, call = script.place(key, side)
            model, picture = script.model(side), script.picture(side)
            numbers = f'hs.Numbers("exact", {model}.layers)'
            captured = f"hs.capture({model}.module, [{layer!r}], numbers={numbers}) as seen"
            script.within(side, "torch.no_grad()", captured)
            script.add(
                f"    {model}.module({picture})",
                f"numbers_{side} = next(each for each in seen.of({layer!r}) if each.call == {call}).statistics",
                f"show_numbers({_named(side, key)!r}, numbers_{side})",
            )
        if all(not why_no_maps(found[1], found[1].shape) for side in sides if (found := scene.call_of(key, side))):
            _channels(script, scene, key, sides)


def _channels(script: Script, scene: Scene, key: str, sides: list[str]) -> None:
    """The first channels of a layer, as the wall has them."""
    script.help("show_channels", SHOW_CHANNELS)
    script.imports.add("import numpy as np")
    rank = scene.view.of(Walls).rank
    count = f"len(numbers_{sides[0]}.channels.get('mean', ()))"
    script.add(f"order = np.arange({count})")
    if rank in STRENGTHS:
        strength, both = STRENGTHS[rank]
        each = ", ".join(f"numbers_{side}.channels" for side in sides)
        script.add(
            f"channels = [{each}]",
            "if all(channels) and len({len(each['mean']) for each in channels}) == 1:",
            f"    strength = {both}([{strength} for each in channels], axis=0)",
            "    order = np.argsort(-np.nan_to_num(strength, nan=-np.inf), kind='stable')",
        )
    elif rank == "difference" and len(sides) == 2:
        _apart(script, scene, key)
    elif rank in TOLD_BY:
        _told(script, scene, key, sides, rank)
    listed = f"order[:{LISTED}]"
    if scene.view.detail == key and scene.view.channel != MEAN:
        listed = f"[*order[:{LISTED}], {scene.view.channel}]"
    for side in sides:
        script.add(f"if numbers_{side}.channels:")
        script.add(f"    show_channels({_named(side, key)!r}, numbers_{side}, {listed})")


def _apart(script: Script, scene: Scene, key: str) -> None:
    script.imports.add("from hookscope.hooks.results.maps import maps")
    for side in ("a", "b"):
        layer, call = script.place(key, side)
        script.within(side)
        asked = f"{script.model(side)}.activation({script.picture(side)}, {layer!r}, {call})"
        script.add(f"    values_{side} = maps({asked})")
    script.add(
        "if values_a.shape == values_b.shape:",
        "    strength = np.abs(values_b - values_a).reshape(len(values_a), -1).mean(1, dtype=np.float64)",
        "    order = np.argsort(-strength, kind='stable')",
        f"    for channel in order[:{LISTED}]:",
        f'        print({f"B - A {key} channel"!r}, channel, f"{{strength[channel]:.6g}}")',
    )


def _told(script: Script, scene: Scene, key: str, sides: list[str], rank: str) -> None:
    """The orders that the model itself tells, of the first side."""
    side = sides[0]
    layer, call = script.place(key, side)
    model, picture, target = script.model(side), script.picture(side), script.target(side)
    if rank == "class":
        script.imports.add("from hookscope.hooks.causes.shares import channel_shares")
        script.within(side)
        asked = f"{model}.module, {picture}, [({layer!r}, {call})], {target}, {model}.layers"
        script.add(f"    ((_, _, told),) = channel_shares({asked})", "told = told.values")
        script.add("order = np.argsort(-told, kind='stable')")
    elif rank == "effect":
        script.within(side)
        asked = f"{model}.module, {picture}, {layer!r}, {target}, call={call}, layers={model}.layers"
        script.add(f"    effects = hs.effects({asked})", "told = effects.measured")
        script.add("order = effects.strongest(len(effects.order))")
    elif len(sides) == 2:
        restored_parts(script, scene, key, "a", "b", "channels")
        script.add("told, order = found.best, found.strongest")
    else:
        return
    script.add(f"for channel in order[:{LISTED}]:")
    script.add(f'    print({f"{_named(side, key)} channel"!r}, channel, "counts", f"{{told[channel]:.6g}}")')


def restored_parts(script: Script, scene: Scene, key: str, giver: str, taker: str, by: str) -> None:
    """`found`: what comes back of the giver's answer with each part of a layer in the taker's run."""
    layer, call = script.place(key, taker)
    model = script.model(taker)
    own = f", model_a={script.model(giver)}.module" if scene.two_models else ""
    targets = f"target={script.target(giver)}, target_b={script.target(taker)}, layers={model}.layers"
    one, other = script.picture(giver), script.picture(taker)
    around = script.around(giver, taker)
    script.add(f"with {script.looking(giver)}:")
    asked = f"{model}.module, {one}, {other}, {layer!r}, {call}, by={by!r}, {targets}{own}{around}"
    script.add(f"    *_, found = hs.restore_parts({asked})")


def _named(side: str, key: str) -> str:
    return f"{side.upper()} {key}"


def maps(script: Script, scene: Scene) -> None:
    """Where each layer speaks for the target."""
    method = scene.view.of(cam.Maps).maps
    row = MAPS[method]
    for key in keys(scene):
        for side in scene.inputs:
            found = scene.call_of(key, side)
            if not found or why_no_maps(found[1], found[1].shape):
                continue
            if (found[0].name, script.place(key, side)[1]) in scene.info_of(side).of_second:
                script.note(f"The map of {key}, which sees the second picture alone.")
                continue
            script.help("show_map", SHOW_MAP)
            script.begin(f"{row.title} of {key}, {side.upper()}")
            layer, call = script.place(key, side)
            model, picture, target = script.model(side), script.picture(side), script.target(side)
            script.within(side)
            if row.rule is None:  # the page looks at the strongest channels alone
                module, _, function = row.runs.partition(":")
                script.imports.add(f"from {module} import {function}")
                asked = f"{model}.module, {picture}, [({layer!r}, {call})], {target}, {model}.layers, max_channels=64"
                script.add(f"    ((_, _, found),) = {function}({asked})")
            else:
                asked = f"{model}.module, {picture}, {layer!r}, {target}, {method!r}, call={call}"
                script.add(f"    found = hs.layer_map({asked})")
            script.add(f"show_map({f'{row.title} of {_named(side, key)}'!r}, found.logit, found.values)")


def has_attention(scene: Scene) -> bool:
    """Whether a card shows attention."""
    return any(attention.heads(scene, key) for key in keys(scene))


def attentions(script: Script, scene: Scene) -> None:
    """The entropy of each head."""
    for key in keys(scene):
        for side in scene.inputs:
            found = scene.call_of(key, side)
            if not found or not found[1].heads:
                continue
            layer, call = script.place(key, side)
            model, picture = script.model(side), script.picture(side)
            script.begin(f"attention of {key}, {side.upper()}")
            script.within(side)
            script.add(
                f"    heads = hs.attention_maps({model}.module, {picture}, [({layer!r}, {call})], {model}.layers)[0]",
                "for head, entropy in enumerate(heads.entropy):",
                f'    print({f"{_named(side, key)} head"!r}, f"{{head}}: entropy {{entropy:.6g}}")',
            )


def shows_weights(scene: Scene) -> bool:
    """Whether the cards' weights are unfolded."""
    return bool(scene.view.of(weights.Unfolded).weights and any(scene.view.layers))


def learnt(script: Script, scene: Scene) -> None:
    """What each layer has learned."""
    script.help("show_numbers", SHOW_NUMBERS)
    script.imports.add("from hookscope.hooks.looks.weights import weights")
    for key in filter(None, scene.view.layers):
        for side in scene.models:
            if not (found := scene.call_of(key, side)) or found[0].operation or not found[0].parameters:
                continue
            layer, model = script.place(key, side)[0], script.model(side)
            script.begin(f"weights of {key}")
            script.add(
                f"for each in weights({model}.module, {layer!r}).parameters:",
                f"    show_numbers(' '.join([{_named(side, key)!r}, each.name]), each.statistics)",
            )


# --- over the whole picture


def shows_attributions(scene: Scene) -> bool:
    """Whether they are unfolded."""
    return bool(scene.view.of(attributions.Opened).attributions and scene.inputs)


def attributed(script: Script, scene: Scene) -> None:
    """Which pixels speak for the target, by every method."""
    script.help("show_attribution", SHOW_ATTRIBUTION)
    script.imports.add("import numpy as np")
    script.packages.append("captum")
    for side in scene.inputs:
        if scene.second(side):
            script.note("Attributions to the second of two pictures.")
        frames = scene.frames(scene.view.model_of(side)) > 1
        model, picture, target = script.model(side), script.picture(side), script.target(side)
        if frames:
            script.note("Attributions of one frame of a clip: the program's numbers are of all of its frames.")
        for method, row in INPUTS.items():
            if frames and method == "occlusion":
                script.note("Occlusion of a clip, whose windows end where its frames do.")
                continue
            script.begin(f"{row.title}, {side.upper()}")
            script.within(side)
            script.add(f"    found = hs.attribute_input({model}.module, {picture}, {method!r}, {target})")
            script.add(f"show_attribution({f'{row.title} of {side.upper()}'!r}, found.logit, found.values)")


def compares_models(scene: Scene) -> bool:
    """Whether all models stand beside each other."""
    return bool(scene.view.of(models.Compared).models and scene.inputs and len(scene.offered) > 1)


def every_model(script: Script, scene: Scene) -> None:
    """What each offered model answers, the picture prepared as it wants it."""
    side = next(iter(scene.inputs))
    script.picture(side)
    script.begin(f"every model on {side.upper()}")
    own = scene.view.model_of(side)
    for number, offered in enumerate(scene.offered):
        name = name_of(offered)
        if name == own:
            continue
        model = script.opened(name, f"other_{number}")
        script.add(
            f"picture = {model}.prepare({script.pictures[side].file_name!r})",
            f"with {model}.looking():",
            f"    found = {model}.top(picture)",
            "for name, share in found:",
            f'    print({title_of(offered)!r}, "answers", name, f"{{share:.6g}}")',
        )


def compares_layers(scene: Scene) -> bool:
    """Whether the layers of two models are held against each other."""
    return bool(scene.view.of(likeness.Alike).likeness and scene.two_models)


def alike(script: Script, scene: Scene) -> None:
    """Which layer of B's model is most like each of A's."""
    a, b = script.model("a"), script.model("b")
    script.begin("likeness of layers, over the built-in photographs")
    pictures = ", ".join(f"[each for batch, _ in {model}.folder() for each in batch.split(1)]" for model in (a, b))
    script.add(
        f"found = hs.likeness({a}.module, {b}.module, {pictures})",
        "for row, best in enumerate(found.best):",
        "    one, other = found.first[row], found.second[best]",
        '    print(f"{one.layer} is most like {other.layer}: {found.cka[row, best]:.6g}")',
    )


def left_out(script: Script, scene: Scene) -> None:
    """What of the view no program has."""
    if scene.view.of(ladder.Opened).ladder:
        script.note("The levels of the detector's pyramid: see hs.levels for a set of pictures.")
    if any(scene.captions(side) for side in scene.inputs):
        script.note("The captions that were typed on the page: the model answers with its own.")
    if any(scene.infos[scene.view.model_of(side)].pictures for side in scene.inputs):
        script.note("What lies over the second of two pictures.")
