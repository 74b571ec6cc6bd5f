"""Dash's own routes: the page is answered, and nonsense gets a status and a sentence, with nothing in the log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from inline_app import InlineApp

CALLBACK = "/_dash-update-component"
SUITES = "/_dash-component-suites"
ARRIVE = {"id": "location", "property": "search"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InlineApp]:
    made = InlineApp(tmp_path_factory.mktemp("dash"))
    made.client.get("/")
    yield made
    made.close()


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The log stays empty: an administrator who reads it has nothing to do about nonsense."""
    with caplog.at_level(logging.INFO):
        yield
    assert not caplog.records, caplog.text


def right(app: InlineApp, name: str = "location", value: Any = "?a=sample-coffee") -> dict[str, Any]:
    """The body that the page sends for the callback of an input."""
    known = app.client.get("/_dash-dependencies").get_json()
    (output, given) = next(
        (each["output"], each["inputs"][0])
        for each in known
        if each["inputs"][0]["id"] == name and not each["clientside_function"]
    )
    places = [each.rsplit(".", 1) for each in output.strip(".").split("...")]
    outputs = [{"id": place, "property": what} for place, what in places]
    return {
        "output": output,
        "outputs": outputs,
        "inputs": [{**given, "value": value}],
        "changedPropIds": [f"{given['id']}.{given['property']}"],
    }


def is_a_refusal(answer: Any, status: int) -> bool:
    return (
        answer.status_code == status
        and answer.mimetype == "text/plain"
        and bool(re.fullmatch(r"[A-Z][^\n]{15,300}\.\n", answer.get_data(as_text=True)))
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("location", "?a=sample-coffee"), ("location", None), ("more-cards", {"first": 1, "last": 2})],
)
def test_what_the_page_sends_is_answered(app: InlineApp, quiet: None, name: str, value: Any) -> None:
    answer = app.client.post(CALLBACK, json=right(app, name, value))
    assert answer.status_code == 200 and answer.get_json()["response"]


def test_every_script_of_the_page_is_served(app: InlineApp, quiet: None) -> None:
    scripts = re.findall(r'src="(/_dash-component-suites/[^"]+)"', app.client.get("/").text)
    assert len(scripts) > 5
    assert {app.client.get(script).status_code for script in scripts} == {200}


def test_a_file_of_no_component_is_404(app: InlineApp, quiet: None) -> None:
    for path in (
        "os/path",
        "dash/nonsense.js",
        "dash/../app.py",
        "dash/dash_renderer.min.js",
        "é/😀",
        "x" * 5000 + "/y",
    ):
        assert is_a_refusal(app.client.get(f"{SUITES}/{path}"), 404), path


def test_a_file_that_a_component_names_and_its_package_lacks_is_404(app: InlineApp, quiet: None) -> None:
    """Browsers ask for maps of the scripts when their tools are open; the components are packed without them."""
    named = [(package, path) for package, paths in app.dash.registered_paths.items() for path in paths]
    maps = [f"{SUITES}/{package}/{path}" for package, path in named if path.endswith(".map")]
    answers = [app.client.get(path) for path in maps]
    assert maps and {answer.status_code for answer in answers} <= {200, 404}
    assert all(is_a_refusal(answer, 404) for answer in answers if answer.status_code == 404)


@pytest.mark.parametrize(
    "body", [None, 7, [], "x", {}, True, 1.5, [[]], {"inputs": 3}, {"output": None}, {"output": {}}]
)
def test_what_is_no_callback_is_400(app: InlineApp, quiet: None, body: Any) -> None:
    assert is_a_refusal(app.client.post(CALLBACK, json=body), 400)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"output": "\\ud800"}', b"NaN"])
def test_what_is_no_json_is_400(app: InlineApp, quiet: None, data: bytes) -> None:
    assert is_a_refusal(app.client.post(CALLBACK, data=data, content_type="application/json"), 400)
    assert is_a_refusal(app.client.post(CALLBACK, data=data), 400)


WRONG = (
    None,
    3,
    "x",
    True,
    [],
    {},
    [None],
    [3],
    [[]],
    ["x"],
    [{}],
    {"id": 1},
    [{"id": {}, "property": []}],
    [ARRIVE] * 2,
)


@pytest.mark.parametrize("field", ["output", "outputs", "inputs", "state", "changedPropIds"])
def test_a_wrong_field_in_a_right_question_is_400_or_is_not_read(app: InlineApp, quiet: None, field: str) -> None:
    for wrong in WRONG:
        answer = app.client.post(CALLBACK, json=right(app) | {field: wrong})
        harmless = field in ("state", "changedPropIds") and answer.status_code == 200
        assert harmless or is_a_refusal(answer, 400), (wrong, answer.text)
    missing = right(app)
    del missing[field if field in missing else "output"]
    answer = app.client.post(CALLBACK, json=missing)
    assert (field == "changedPropIds" and answer.status_code == 200) or is_a_refusal(answer, 400)


@pytest.mark.parametrize("name", ["location", "model-ready", "more-cards"])
def test_a_wrong_value_in_a_right_question_is_400_or_is_not_read(app: InlineApp, quiet: None, name: str) -> None:
    for wrong in (3, True, 1.5, [], [1], {}, {"spec": 3}, {"spec": {}}, {"first": "x", "last": None}, {"first": 1e400}):
        answer = app.client.post(CALLBACK, json=right(app, name, wrong))
        assert is_a_refusal(answer, 400), (wrong, answer.text)


def test_a_callback_of_the_browser_is_not_the_servers(app: InlineApp, quiet: None) -> None:
    known = app.client.get("/_dash-dependencies").get_json()
    there = [each for each in known if each["clientside_function"]]
    assert there
    for each in there:
        body = {"output": each["output"], "inputs": each["inputs"], "changedPropIds": []}
        assert is_a_refusal(app.client.post(CALLBACK, json=body), 400)
