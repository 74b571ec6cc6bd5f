"""The tab "Findings": what is wrong with the model or with what it is given, the worst first, with evidence."""

from __future__ import annotations

from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.findings import files
from hookscope.dashboard.panels.findings.asked import Asked, ask
from hookscope.dashboard.panels.findings.cards import card, in_words
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.pictures.beside import count_of
from hookscope.dashboard.panels.pictures.head import choices
from hookscope.dashboard.panels.regions import refuse, show_text, stop_button
from hookscope.dashboard.sets.store import REFERENCE
from hookscope.hooks.results.findings import SEVERITIES, Checked, CheckUp, CheckUpNow
from hookscope.hooks.rules import RULES

NAME = "findings"


def layout() -> html.Section:
    """Draw the panel, empty."""
    return html.Section(
        [
            html.Div([Markup(ids.FINDINGS_CHOICE), Markup(ids.FINDINGS_STATE)], className="panel findings-head"),
            Markup(ids.FINDINGS, className="findings"),
        ],
        className="findings-side",
        **{"aria-label": "Findings"},
    )


def parts(scene: Scene) -> list[Part]:
    """The choice of sets, and what was found over the chosen one."""
    sets = choices(scene, scene.view.set_a or REFERENCE, "checked over")
    choice = Part.still("findings choice", [show_text(ids.FINDINGS_CHOICE, sets)])
    asked = ask(scene)
    if isinstance(asked, str):
        return [choice, Part.still(NAME, _instead(asked))]
    return [choice, Part(NAME, (asked.unit,), (asked,), _draw, error=ids.FINDINGS_STATE)]


def _instead(sentence: str) -> list[Update]:
    return [show_text(ids.FINDINGS_STATE, html.P(sentence, className="sentence")), show_text(ids.FINDINGS, None)]


def _draw(asked: Asked, answers: Answers) -> list[Update]:
    wrong = failures(answers, (asked.unit,))
    found = result_of(answers, asked.unit, CheckUp)
    now = result_of(answers, asked.unit, CheckUpNow) if found is None else None
    state: list[Any] = [refuse(each, NAME) for each in wrong]
    if found is not None:
        state.append(_summary(asked, found))
    elif not wrong:
        state.append(_waiting(asked, now))
    there = found or now
    if there is None:
        return [show_text(ids.FINDINGS_STATE, state), show_text(ids.FINDINGS, None)]
    cards = [card(asked, finding) for finding in there.findings]
    if cards or found is None:
        state += [_folded(there.checked, finished=found is not None)] if there.checked else []
    else:
        cards = [_nothing(found)]
    return [show_text(ids.FINDINGS_STATE, state), show_text(ids.FINDINGS, cards)]


def _over(asked: Asked, pictures: int) -> str:
    name = asked.looked.pictures.name
    return f"{count_of(pictures)} of {name}" if not asked.reference else f"the {name} ({pictures})"


def _waiting(asked: Asked, now: CheckUpNow | None) -> html.Div:
    done = len(now.checked) if now else 0
    share = done / len(RULES)
    bar = html.Div(
        html.Div(className="done", style={"width": f"{100 * share:.1f}%"}),
        className="bar",
        role="progressbar",
        **{"aria-valuenow": str(done), "aria-valuemax": str(len(RULES)), "aria-label": "Rules gone through"},
    )
    doing = [" · ", html.Span(now.doing, className="mono")] if now and now.doing else []
    said = html.Span([f"{done} of {len(RULES)} rules", *doing], className="muted")
    whose = html.Strong("Checking …")
    title = f"Over {_over(asked, asked.unit.question.pictures)}"
    return html.Div([whose, bar, said, stop_button(NAME)], className="sweep-line", title=title)


def _summary(asked: Asked, found: CheckUp) -> html.Div:
    count = len(found.findings)
    words = "Nothing found" if not count else "1 finding" if count == 1 else f"{count} findings"
    kinds = [
        f"{number} {severity}{'s' if number > 1 else ''}"
        for severity in SEVERITIES
        if (number := sum(each.severity == severity for each in found.findings))
    ]
    gone_through = sum(each.status != "skipped" for each in found.checked)
    about = f"{gone_through} of {len(RULES)} rules over {_over(asked, found.pictures)}, {found.seconds:.1f} s"
    return html.Div(
        [
            html.H2(words),
            html.Span(", ".join(kinds), className="muted") if count > 1 and kinds else None,
            html.Span(about, className="muted"),
            html.Div([files.as_json(asked, found), files.in_ci(asked)], className="files"),
        ],
        className="sweep-line",
    )


def _nothing(found: CheckUp) -> html.Div:
    text = "No rule has found anything, which is no proof of health. What was checked, and what could not be:"
    return html.Div([html.P(text), *_checked(found.checked)], className="panel finding none findings-checked")


def _folded(checked: tuple[Checked, ...], *, finished: bool) -> html.Details:
    """What was checked, behind a line."""
    skipped = sum(each.status == "skipped" for each in checked)
    text = "What was checked" + (f", and why {skipped} could not be" if skipped else "")
    summary = html.Summary(text if finished else f"{text}, so far")
    return html.Details([summary, html.Div(_checked(checked))], className="each findings-checked")


def _checked(checked: tuple[Checked, ...]) -> list[Any]:
    """What was checked, on what, and what could not be and why."""
    groups = (
        ("found", "Found something"),
        ("ok", "Checked, nothing found"),
        ("skipped", "Not checked, or it cannot be told"),
    )
    parts: list[Any] = []
    for status, title in groups:
        rows = [
            html.Tr([html.Td(each.rule, className="mono", title=_help(each.rule)), html.Td(in_words(each.why))])
            for each in checked
            if each.status == status
        ]
        if rows:
            parts += [html.H3(title), html.Table(html.Tbody(rows), className="checked")]
    return parts


def _help(name: str) -> str:
    rule = RULES.get(name)
    return (
        "" if rule is None else f"{rule.title}. {rule.formula}." + (f" Blind to: {rule.blind}." if rule.blind else "")
    )


def _saved(scene: Scene) -> Any:
    return layout()


PANEL = Panel(
    NAME,
    "main",
    urgency=3,
    layout=lambda setup: layout(),
    parts=parts,
    waiting=lambda wait: [Part.still(NAME, _instead(wait.sentence))],
    saved=_saved,
    tabs=("findings",),
)
