"""Which set is looked at, and how far the model is with it."""

from __future__ import annotations

import json
import math
from typing import Any

from dash import html

from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.pictures.choosing import NOTHING_CHOSEN
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.dashboard.sets import labels
from hookscope.dashboard.sets.sweeps import Progress

REFUSED = 12  # files whose reasons are listed
NAMED, SUGGESTED = 12, 12  # folders that are no classes, and those for which a class is looked for that is meant


def sets_of(scene: Scene) -> list[tuple[str, str]]:
    """The sets that this page may look at: the offered ones, its browser's own, what its view names: (key, name)."""
    sweeps = scene.service.sweeps
    if sweeps is None:
        return []
    return [*sweeps.store.offered(), *sweeps.store.named([*scene.own_sets, scene.view.set_a, scene.view.set_b])]


def choices(scene: Scene, chosen: str | None, words: str = "set of pictures") -> html.Div:
    """The sets that can be chosen, of which one may be; `words` stand before them."""
    buttons = [
        html.Button(
            name,
            className="pill",
            **{"data-do": "set", "data-value": json.dumps({"set_a": key, **NOTHING_CHOSEN})},
            **{"aria-pressed": "true" if key == chosen else "false"},
        )
        for key, name in sets_of(scene)
    ]
    return html.Div(
        [html.Span(words, className="muted"), *buttons],
        className="set-choice live-only",
        role="group",
        **{"aria-label": "Set of pictures"},
    )


def state(looked: Looked) -> html.Div:
    """The bar of the sweep: what it is over, how far it is, and what can be done."""
    pictures, progress = looked.pictures, looked.progress
    share = progress.seen / progress.total if progress.total else 0.0
    running = progress.phase == "running"
    bar = html.Div(
        html.Div(className="done", style={"width": f"{100 * share:.1f}%"}),
        className="bar",
        role="progressbar",
        **{
            "aria-valuenow": str(progress.seen),
            "aria-valuemax": str(progress.total),
            "aria-label": "Pictures looked at",
        },
    )
    parts: list[Any] = [
        html.Strong(pictures.name),
        bar,
        html.Span(f"{format_count(progress.read)} of {format_count(progress.total)}", className="mono"),
        html.Span(_words(looked), className="muted"),
        html.Span(className="spacer"),
        _delete(looked) if pictures.key in looked.scene.own_sets and not pictures.offered else None,
        _action(looked),
    ]
    more = {"data-again": "1"} if running else {}
    return html.Div([html.Div(parts, className="sweep-line"), *_notes(looked)], className="sweep-state", **more)


def _delete(looked: Looked) -> html.Details:
    """A visitor's own set goes with a click, and a second one."""
    name = looked.pictures.name
    button = html.Button("Delete it", className="pill", **{"data-do": "delete-set", "data-value": looked.pictures.key})
    text = html.P(["The pictures of ", html.Strong(name), " leave this server, with all that was found of them."])
    summary = html.Summary("delete", title="Remove this set of yours from the server")
    return html.Details([summary, html.Div([text, button], className="menu")], className="save delete-set live-only")


def _action(looked: Looked) -> html.Button | None:
    progress = looked.progress
    if progress.phase == "running":
        return _button("stop", looked, "cancel", "link", "Stop; what was found up to the last few seconds stays.")
    if progress.phase == "done" or not progress.total:
        return None
    text = {"new": "Look through it", "failed": "Try again"}.get(progress.phase, "Go on")
    about = "Run the model over every picture. It goes on when this page is closed, and you can go on clicking."
    return _button("start", looked, text, "pill primary", about)


def _button(what: str, looked: Looked, text: str, class_name: str, help_text: str) -> html.Button:
    value = json.dumps({"what": what, "set": looked.pictures.key, "model": looked.model})
    return html.Button(
        text, className=f"{class_name} live-only", title=help_text, **{"data-do": "sweep", "data-value": value}
    )


def _words(looked: Looked) -> str:
    progress = looked.progress
    said = []
    if progress.phase == "running" and progress.speed:
        said.append(f"{progress.speed:.0f} pictures/s" if progress.speed >= 2 else f"{progress.speed:.1f} pictures/s")
        said.append(f"{_duration(progress.left_seconds)} left")
    if progress.phase == "stopped":
        said.append("stopped")
    if progress.phase == "new" and progress.total:
        said.append("not looked at yet")
    if progress.unread:
        said.append(f"{format_count(progress.unread)} could not be read")
    if refused := len(looked.pictures.refused):
        said.append(
            f"{format_count(refused)} more not used" if progress.unread else f"{format_count(refused)} not used"
        )
    return " · ".join(said)


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "…"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _notes(looked: Looked) -> list[Any]:
    """What is to be said beside the bar: why it failed, what labels mean, which files are not used."""
    progress, found = looked.progress, []
    if looked.pictures.note and progress.phase == "new":
        found.append(html.P(looked.pictures.note, className="sentence"))
    if progress.sentence:
        found.append(html.P(progress.sentence, className="sentence error" if progress.phase == "failed" else "muted"))
    if not progress.total:
        found.append(html.P("There is no picture in this set that can be used.", className="sentence"))
    found += [html.P(note, className="muted") for note in (progress.now.notes if progress.now else ())]
    if looked.pictures.groups and looked.names:  # which an embedding has none of
        found += [html.P(text, className="muted") for text in _no_classes(looked)]
    if reasons := _reasons(looked, progress):
        left = len(reasons) - REFUSED
        lines = [html.P([html.Span(name, className="mono"), f" {reason}"]) for name, reason in reasons[:REFUSED]]
        lines += [html.P(f"and {left:,} more.")] if left > 0 else []
        count = "One file is" if len(reasons) == 1 else f"{format_count(len(reasons))} files are"
        summary = html.Summary(f"{count} not used, and why")
        found.append(html.Details([summary, html.Div(lines, className="each muted")]))
    return found


def _no_classes(looked: Looked) -> list[str]:
    """Which folders are no classes of the model, what may be meant, and how many pictures do not count for that."""
    groups = looked.pictures.groups
    lacking = [group for group in groups if looked.classes.get(group, labels.NOT_KNOWN) == labels.NOT_KNOWN]
    if not lacking:
        return []
    many = len(lacking) > 1
    if len(lacking) == len(groups):
        what = "No folder is" if many else "Its folder is not"
    else:
        what = f"{format_count(len(lacking))} of {format_count(len(groups))} folders {'are' if many else 'is'} not"
    meant = labels.suggest(lacking[:SUGGESTED], looked.names)
    named = [f"{group} (did you mean {meant[group]}?)" if group in meant else group for group in lacking[:NAMED]]
    rest = f" and {format_count(len(lacking) - NAMED)} more" if len(lacking) > NAMED else ""
    count = sum(member.group in set(lacking) for member in looked.pictures.members)
    pictures = (
        "The picture in it is"
        if count == 1
        else f"The {format_count(count)} pictures in {'them' if many else 'it'} are"
    )
    return [
        f"{what} the name, the number or the WordNet id of a class of this model: {', '.join(named)}{rest}. "
        f"{pictures} not counted as right or wrong."
    ]


def _reasons(looked: Looked, progress: Progress) -> list[tuple[str, str]]:
    members = looked.pictures.members
    unread = [(members[number].place, why) for number, why in (progress.now.unread if progress.now else ())]
    return [*looked.pictures.refused, *unread]
