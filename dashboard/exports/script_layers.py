"""What the tab "Layers" shows, as a program: answers, cards with their maps, attention and weights, attributions."""

from __future__ import annotations

from hookscope.dashboard.exports.script_code import Script
from hookscope.dashboard.page.reading import Walls
from hookscope.dashboard.page.scene import SIDES, Scene
from hookscope.dashboard.page.view import MEAN
from hookscope.dashboard.panels import attributions, ladder, likeness, models
from hookscope.dashboard.panels.card import attention, cam, weights
from hookscope.dashboard.sources.spec import name_of, title_of
from hookscope.hooks.methods import INPUTS, MAPS
from hookscope.hooks.results.maps import why_no_maps

LISTED = 8  # channels of a layer
SHOW_ANSWER = """
def show_answer(name, found):
    for each, share in found:
        print(f"{name} answers {each}: {share:.6g}")
    if not found:
        print(f"{name} answers NaN or infinite values: there is no ranking.")
"""
SHOW_NUMBERS = """
def show_numbers(name, numbers):
    texts = [f"{each} {getattr(numbers, each):.6g}" for each in ("mean", "std", "min", "max", "zeros", "nan", "inf")]
    print(f"{name}: {', '.join(texts)}")
"""
NUMBERS_OF = """
def numbers_of(seen, layer, call):
    found = [each for each in seen.of(layer) if each.call == call]
    return (found or [seen[layer, call]])[0].statistics  # which says why there is none
"""
SHOW_CHANNELS = """
def show_channels(name, numbers, order, chosen=()):
    there = range(len(numbers["mean"]))
    own = [channel for channel in order if channel in there][:LISTED]
    for channel in (*own, *(channel for channel in chosen if channel in there)):
        texts = [f"{each} {numbers[each][channel]:.6g}" for each in ("mean", "std", "min", "max", "zeros")]
        print(f"{name} channel {channel}: {', '.join(texts)}")
"""
SHOW_TOLD = """
def show_told(name, word, values, order):
    for channel in [channel for channel in order if channel < len(values)][:LISTED]:
        print(f"{name} channel {channel} {word} {values[channel]:.6g}")
"""
# As the page orders: one order for two sides that have as many channels, else each side's own by index.
ORDERED = """
def ordered(channels, orders):
    counts = {len(each["mean"]) for each in channels.values()}
    return next((each for each in orders if {len(each)} == counts), np.arange(max(counts, default=0)))
"""
STRONGEST_FIRST = """
def strongest_first(strengths, both):
    if len({len(each) for each in strengths}) != 1:
        return []
    strength = both(strengths, axis=0)
    return np.argsort(-np.where(np.isnan(strength), -np.inf, strength), kind="stable")
"""
SHOW_MAP = """
def show_map(name, number, values):
    with np.errstate(invalid="ignore"):  # the sum of infinite values of both signs is NaN
        total = values.sum()
    print(f"{name}: explains {number:.6g}, sum {total:.6g}, min {values.min():.6g}, max {values.max():.6g}")
"""
SHOW_ATTRIBUTION = """
def show_attribution(name, number, values):
    sizes = abs(values[np.isfinite(values)]).astype(np.float64)
    end = (np.quantile(sizes, 0.99) or sizes.max()) if sizes.size else np.nan
    with np.errstate(invalid="ignore"):
        total = values.sum()
    print(
        f"{name}: explains {number:.6g}, sum {total:.6g}, min {values.min():.6g}, max {values.max():.6g}, "
        f"99th percentile of the sizes, where the page's scale ends, {end:.6g}"
    )
"""
STRENGTHS = {  # by rank, of the numbers of one side's channels, and how two sides become one
    "strongest": ("np.maximum(abs(each['min']), abs(each['max']))", "np.max"),
    "mean": ("each['mean']", "np.mean"),
    "variance": ("each['std'] ** 2", "np.mean"),
    "zeros": ("each['zeros']", "np.mean"),
}
TOLD_BY = ("class", "effect")
NOTHING_TOLD = "told, orders = [], []"
REFUSED = ("if isinstance(found, hs.HooksError):", "    raise found")  # of looks that give why they gave nothing


def has_pictures(scene: Scene) -> bool:
    """Whether there is a picture to ask of."""
    return bool(scene.inputs)


def answers(script: Script, scene: Scene) -> None:
    """What each side's model answers."""
    for side in scene.inputs:
        info, reading = scene.infos[scene.view.model_of(side)], scene.reading(side)  # as without typed captions
        form, name = info.form(reading), side.upper()
        if form == "other":
            continue
        model, picture = script.model(side), script.picture(side)
        with script.part(f"what {name} answers"):
            script.within(side)
            if form == "boxes":
                script.add(
                    f"    found = {model}.detect({picture})",
                    "for label, score in zip(found.labels, found.scores):",
                    f'    print("{name} finds class", label, f"{{score:.6g}}")',
                )
            elif not info.names(reading):
                script.add(
                    f"    found = {model}.predict({picture})",
                    "count = len(found.logits)",
                    'plain = f"a picture or features of {count} channels"',
                    'what = f"an embedding of {count} numbers" if found.reads == "embedding" else plain',
                    f'print(f"{name} answers {{what}}, which is no list of classes.")',
                )
            else:
                script.help("show_answer", SHOW_ANSWER)
                script.add(f"    found = {model}.top({picture})", f"show_answer({name!r}, found)")


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
    script.help("numbers_of", NUMBERS_OF)
    script.imports.add("import torch")
    for key in keys(scene):
        calls = {side: found for side in scene.inputs if (found := scene.call_of(key, side))}
        mapped = [side for side, (_, call) in calls.items() if not why_no_maps(call, call.shape)]
        for place, side in enumerate(calls):
            layer, call = script.place(key, side)
            model, picture, name = script.model(side), script.picture(side), _named(scene, side, key)
            numbers = f'hs.Numbers("exact", {model}.layers)'
            with script.part(f"the layer {scene.key_in(key, side)}, {side.upper()}"):
                script.add(*(["channels = {}"] if place == 0 else []))
                captured = f"hs.capture({model}.module, [{layer!r}], numbers={numbers}) as seen"
                script.within(side, "torch.no_grad()", captured)
                script.add(
                    f"    {model}.module({picture})",
                    f"numbers = numbers_of(seen, {layer!r}, {call})",
                    f"show_numbers({name!r}, numbers)",
                )
                if side in mapped:
                    script.add("if numbers.channels:", f"    channels[{name!r}] = numbers.channels")
        if mapped:
            _channels(script, scene, key, mapped)


def _channels(script: Script, scene: Scene, key: str, sides: list[str]) -> None:
    """The first channels of a layer, as the wall has them.

    Arguments:
        sides: of which it has maps.
    """
    for name, helper in {"ordered": ORDERED, "show_channels": SHOW_CHANNELS}.items():
        script.help(name, helper.replace("LISTED", str(LISTED)))
    script.imports.add("import numpy as np")
    rank = scene.view.of(Walls).rank
    orders, told = "[]", False
    if rank in STRENGTHS:
        script.help("strongest_first", STRONGEST_FIRST)
        strength, both = STRENGTHS[rank]
        orders = f"[strongest_first([{strength} for each in channels.values()], {both})]"
    elif rank == "difference" and len(sides) == 2:
        _apart(script, scene, key)
        orders, told = "orders", True
    elif rank == "back" and len(sides) == 2:
        _back(script, scene, key)
        orders, told = "orders", True
    elif rank in TOLD_BY:
        _told(script, scene, key, rank)
        orders, told = "orders", True
    with script.part(f"the channels of {key}"):
        script.add(f"order = ordered(channels, {orders})")
        if told:
            script.help("show_told", SHOW_TOLD.replace("LISTED", str(LISTED)))
            script.add("for each in told:", "    show_told(*each, order)")
        enlarged = scene.view.detail == key and scene.view.channel != MEAN
        chosen = f", [{scene.view.channel}]" if enlarged else ""
        script.add("for name, numbers in channels.items():", f"    show_channels(name, numbers, order{chosen})")


def _apart(script: Script, scene: Scene, key: str) -> None:
    """How far A and B are apart at each channel."""
    script.imports |= {
        "from hookscope.dashboard.drawing.ranking import distance",
        "from hookscope.hooks.results.maps import maps",
    }
    one, other = (_named(scene, side, key) for side in SIDES)
    with script.part(f"how far the channels of {key} are apart"):
        script.add(NOTHING_TOLD)
        for side in SIDES:
            layer, call = script.place(key, side)
            script.within(side)
            asked = f"{script.model(side)}.activation({script.picture(side)}, {layer!r}, {call})"
            script.add(f"    values_{side} = maps({asked})")
        script.add(
            "if np.shape(values_a) == np.shape(values_b):",
            "    apart = distance(values_a, values_b)",
            f"    told.append(({f'{other} - {one}'!r}, 'differs by', apart))",
            "    orders.append(np.argsort(-apart, kind='stable'))",
        )


def _back(script: Script, scene: Scene, key: str) -> None:
    """What comes back of A's answer with each channel in B's run."""
    with script.part(f"what comes back with the channels of {key}"):
        script.add(NOTHING_TOLD)
        restored_parts(script, scene, key, "a", "b", "channels")
        script.add(
            f"told.append(({_named(scene, 'a', key)!r}, 'counts', found.best))", "orders.append(found.strongest)"
        )


def _told(script: Script, scene: Scene, key: str, rank: str) -> None:
    """How much each channel has to do with its side's answer; the first side that tells an order tells it of both."""
    for place, side in enumerate(each for each in scene.inputs if scene.call_of(key, each)):
        layer, call = script.place(key, side)
        model, picture, target = script.model(side), script.picture(side), script.target(side)
        name = _named(scene, side, key)
        with script.part(f"what the channels count for, {name}"):
            script.add(*([NOTHING_TOLD] if place == 0 else []))
            script.within(side)
            if rank == "class":
                script.imports.add("from hookscope.hooks.causes.shares import channel_shares")
                asked = f"{model}.module, {picture}, [({layer!r}, {call})], {target}, {model}.layers"
                script.add(f"    ((_, _, found),) = channel_shares({asked})", *REFUSED)
                values, order = "found.values", "np.argsort(-found.values, kind='stable')"
            else:
                asked = f"{model}.module, {picture}, {layer!r}, {target}, call={call}, layers={model}.layers"
                script.add(f"    found = hs.effects({asked})")
                values, order = "found.measured", "found.strongest(len(found.order))"
            script.add(f"told.append(({name!r}, 'counts', {values}))", f"orders.append({order})")


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


def _named(scene: Scene, side: str, key: str) -> str:
    """A side's layer, by the name that it has in the side's model."""
    return f"{side.upper()} {scene.key_in(key, side) or key}"


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
            script.imports.add("import numpy as np")
            layer, call = script.place(key, side)
            model, picture, target = script.model(side), script.picture(side), script.target(side)
            name = f"{row.title} of {_named(scene, side, key)}"
            with script.part(name):
                script.within(side)
                if row.rule is None:  # the page looks at the strongest channels alone
                    module, _, function = row.runs.partition(":")
                    script.imports.add(f"from {module} import {function}")
                    asked = f"{model}.module, {picture}, [({layer!r}, {call})], {target}, {model}.layers"
                    script.add(f"    ((_, _, found),) = {function}({asked}, max_channels=64)", *REFUSED)
                else:
                    asked = f"{model}.module, {picture}, {layer!r}, {target}, {method!r}, call={call}"
                    script.add(f"    found = hs.layer_map({asked})")
                script.add(f"show_map({name!r}, found.logit, found.values)")


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
            name, asked = _named(scene, side, key), f"{model}.module, {picture}, [({layer!r}, {call})], {model}.layers"
            with script.part(f"attention of {name}"):
                script.within(side)
                script.add(
                    f"    heads = hs.attention_maps({asked})[0]",
                    "for head, entropy in enumerate(heads.entropy):",
                    f'    print({f"{name} head"!r}, f"{{head}}: entropy {{entropy:.6g}}")',
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
            name = _named(scene, side, key)
            with script.part(f"weights of {name}"):
                script.add(
                    f"for each in weights({model}.module, {layer!r}).parameters:",
                    f"    show_numbers(' '.join([{name!r}, each.name]), each.statistics)",
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
            with script.part(f"{row.title}, {side.upper()}"):
                script.within(side)
                script.add(
                    f"    found = hs.attribute_input({model}.module, {picture}, {method!r}, {target})",
                    f"show_attribution({f'{row.title} of {side.upper()}'!r}, found.logit, found.values)",
                )


def compares_models(scene: Scene) -> bool:
    """Whether all models stand beside each other."""
    return bool(scene.view.of(models.Compared).models and scene.inputs and len(scene.offered) > 1)


def every_model(script: Script, scene: Scene) -> None:
    """What each offered model answers, the picture prepared as it wants it; each is opened in a part of its own."""
    side = next(iter(scene.inputs))
    picture = script.pictures[script.picture(side)]
    axes = scene.side(side).preparation.axes
    words = picture.axes if axes == "own" else axes
    given = f"{picture.file_name!r}, {words!r}" if words else repr(picture.file_name)
    script.help("show_answer", SHOW_ANSWER)
    own = scene.view.model_of(side)
    for number, offered in enumerate(scene.offered):
        name, model, title = name_of(offered), f"other_{number}", title_of(offered)
        if name == own:
            continue
        with script.part(f"{title} on {side.upper()}"):
            script.add(
                *script.open(model, name),
                f"picture = {model}.prepare({given})",
                f"with {model}.looking():",
                f"    if {model}.predict(picture).shares.size:",
                f"        show_answer({title!r}, {model}.top(picture))",
                "    else:",
                f"        print({title!r}, 'answers no classes.')",
            )


def compares_layers(scene: Scene) -> bool:
    """Whether the layers of two models are held against each other."""
    return bool(scene.view.of(likeness.Alike).likeness and scene.two_models)


def alike(script: Script, scene: Scene) -> None:
    """Which layer of B's model is most like each of A's."""
    a, b = script.model("a"), script.model("b")
    pictures = ", ".join(f"[each for batch, _ in {model}.folder() for each in batch.split(1)]" for model in (a, b))
    with script.part("likeness of layers, over the built-in photographs"):
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
