"""What the tab "Run" shows, as a program over the folder of the feed, which whoever runs it names."""

from __future__ import annotations

from hookscope.dashboard.exports.script_code import Script, file_named
from hookscope.dashboard.feeds.curves import LOSS, RATE, SCALE
from hookscope.dashboard.feeds.curves import OWN as OWN_NUMBER
from hookscope.dashboard.feeds.series import OWN
from hookscope.dashboard.feeds.store import Followed
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.run.choice import Asked, ask
from hookscope.dashboard.panels.run.curve import title_of_curve

TOLD = """
def told(value, nan=0, inf=0):
    if nan > 0 or inf > 0:
        return f"{nan:.0f} NaN, {inf:.0f} infinite"
    return f"{value:.6g}"
"""
COLUMN = """
def column(feed, group, name):
    values = feed.own(name) if group == "m" else feed.column(group, name)
    if group not in ("a", "g", "w"):
        return values, np.zeros_like(values), np.zeros_like(values)
    return values, np.nan_to_num(feed.column(group, "nan")), np.nan_to_num(feed.column(group, "inf"))
"""


def asked_of(scene: Scene) -> Asked | None:
    """What the view asks of the runs; None where there is nothing."""
    found = ask(scene.view, scene.service.feeds, scene.gallery)
    return found if isinstance(found, Asked) and found.look() is not None else None


def shows_run(scene: Scene) -> bool:
    """Whether a run is shown that was looked at."""
    return asked_of(scene) is not None


def run(script: Script, scene: Scene) -> None:
    """The chosen step, the chosen number of every layer there and over the steps, and one layer's, of each run."""
    asked = asked_of(scene)
    assert asked is not None
    if not script.body:
        script.packages[:] = ["hookscope"]  # no model is opened
    script.imports |= {"import sys", "import numpy as np"}
    script.help("told", TOLD)
    script.help("column", COLUMN)
    for place, each in enumerate(asked.runs):
        letter = f"{'AB'[place]} " if asked.other else ""
        with script.part(f"run {letter}{each.name}"):
            _read(script, each, place + 1)
            _at_the_step(script, asked, each, letter)
            _over_the_steps(script, asked, each, letter)
            if place == 0:
                _distribution(script, asked)
                _pinned(script, asked)
            _alarms(script, letter)
    script.note("Looks that the training wrote after this program.")


def _read(script: Script, run: Followed, argument: int) -> None:
    """The feed, up to the newest look that the page had: a training may go on."""
    name = file_named(run.name)
    beside = "FOLDER" if argument == 1 else "FOLDER OTHER"
    script.need(f"{name}, the folder that hs.follow wrote, or name it: python view.py {beside}.")
    newest = run.newest
    assert newest is not None
    script.add(
        f"feed = hs.read_feed(sys.argv[{argument}] if len(sys.argv) > {argument} else {name!r})",
        f"there = feed.steps <= {newest.step}  # the newest look when this was written",
    )


def _at_the_step(script: Script, asked: Asked, run: Followed, letter: str) -> None:
    """The look, the chosen number along the depth, and every number of the chosen layer."""
    look = asked.look(run)
    if look is None:
        script.add(f'print("{letter}was not looked at up to that step")')
        return
    group, name = asked.column.group, asked.column.name
    own = f"look.own.get({name!r}, np.full(len(look.layers), np.nan))"
    values = own if group == OWN else f"look.column({group!r}, {name!r})"
    counts = "nan, inf = np.zeros(len(values)), np.zeros(len(values))"
    if group in ("a", "g", "w"):
        counts = f"nan, inf = (np.nan_to_num(look.column({group!r}, each)) for each in ('nan', 'inf'))"
    script.add(
        f"look = feed.at({look.step})",
        f'print("{letter}step", look.step, f"loss {{look.loss:.6g}} scale {{look.scale:.6g}}")',
        f'print("{letter}learning rates", *(f"{{each:.6g}}" for each in look.rates))',
        f"values = {values}",
        counts,
        "for layer, *numbers in zip(look.layers, values, nan, inf):",
        "    if not np.isnan(numbers[0]) or sum(numbers[1:]) > 0:",
        f'        print("{letter}at the step", layer, {asked.column.key!r}, told(*numbers))',
        f"layer = {asked.layer!r}",
        "if layer in look.layers:",
        "    for (group, name), value in look.of(layer).items():",
        f'        print("{letter}layer", layer, group, name, f"{{value:.6g}}")',
        "    for name, numbers in look.own.items():",
        f'        print("{letter}layer", layer, "own", name, f"{{numbers[look.layers.index(layer)]:.6g}}")',
    )


def _over_the_steps(script: Script, asked: Asked, run: Followed, letter: str) -> None:
    """The lines: of every layer where it begins, ends, is smallest and largest; of the chosen one every look."""
    group, name = asked.column.group, asked.column.name
    script.add(
        *_curve(asked.curve, letter, run.kept.last_step()),
        f"values, nan, inf = (each[there] for each in column(feed, {group!r}, {name!r}))",
        "for place, layer in enumerate(feed.layers):",
        "    known = np.isfinite(values[:, place]) & (nan[:, place] + inf[:, place] == 0)",
        "    if known.any():",
        "        line, looks = values[known, place], feed.steps[there][known]",
        "        least, most = looks[line.argmin()], looks[line.argmax()]",
        f'        print("{letter}over the steps", layer, f"first {{line[0]:.6g}} last {{line[-1]:.6g}}",',
        '              f"least {line.min():.6g} at {least} largest {line.max():.6g} at {most}")',
        f"if {asked.layer!r} in feed.layers:",
        f"    place = feed.layers.index({asked.layer!r})",
        "    for step, *numbers in zip(feed.steps[there], values[:, place], nan[:, place], inf[:, place]):",
        f'        print("{letter}line", step, told(*numbers))',
    )


def _curve(key: str, letter: str, last: int) -> list[str]:
    """What stands above the lines, up to the last step of which something was known."""
    if not key:
        return []
    if key == RATE:
        known = "zip(feed.steps.tolist(), feed.rates().tolist())"
    elif key == SCALE:
        known = "((look.step, [look.scale]) for look in feed.looks)"
    else:
        read = "feed.losses()" if key == LOSS else f"feed.scalars({key.removeprefix(OWN_NUMBER)!r})"
        known = f"((step, [value]) for step, value in zip(*{read}))"
    return [
        f"for step, values in {known}:",
        f"    if step <= {last} and not np.isnan(values).all():",
        f'        print({letter + title_of_curve(key)!r}, step, *(f"{{value:.8g}}" for value in values))',
    ]


def _distribution(script: Script, asked: Asked) -> None:
    """How the chosen layer's values were distributed at the step."""
    script.imports.add("from hookscope.hooks.results.feeds import bin_edges")
    script.add(
        "bins = feed.bins(look.step)",
        f"counts = bins and bins[{asked.kind!r}].get({asked.layer!r})",
        "if counts is None:",
        '    print("its distribution at this step is not kept")',
        "elif not counts.any():",
        '    print("none of its values at this step is finite")',
        "else:",
        "    edges = [-np.inf, *bin_edges(), np.inf]",
        '    print(f"share of 0, or nearer to it than 1e-11: {counts[len(counts) // 2] / counts.sum():.6g}")',
        "    for place in np.flatnonzero(counts):",
        '        print(f"bin from {edges[place]:.4g} to {edges[place + 1]:.4g}:", counts[place])',
    )


def _pinned(script: Script, asked: Asked) -> None:
    """What layers made of the pinned picture."""
    if not asked.run.info.pinned:
        return
    script.add(
        "pinned = feed.maps(look.step)",
        "for layer, maps in pinned.maps.items() if pinned else ():",
        "    finite = maps[np.isfinite(maps)]",
        '    print("pinned", layer, f"up to {abs(finite).max():.6g}" if finite.size else "none is finite")',
        "if pinned and pinned.answer is not None:",
        "    for index in np.argsort(-np.nan_to_num(pinned.answer, nan=-np.inf), kind='stable')[:3]:",
        '        print("pinned answer", index, f"{pinned.answer[index]:.6g}")',
    )


def _alarms(script: Script, letter: str) -> None:
    """What was told."""
    script.add(
        "for each in feed.alarms():",
        "    if each.step <= feed.steps[there][-1]:",
        f'        print("{letter}alarm", each.step, each.rule, each.layer, each.sentence)',
    )
