"""docs/errors.md lists every sentence that refuses something, and no other."""

from __future__ import annotations

import ast
import re

import pytest
from error_sentences import GAP, ROOT, Module, Sentence, sentences

from hookscope.dashboard.checking.arguments import FLAGS
from hookscope.dashboard.settings.table import TABLE

FOUND = sentences()
TEXT = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def entries(text: str) -> dict[str, str]:
    """The sentences that are listed, and what is said about each."""
    items = re.split(r"\n(?=\* |#|\n)", text)
    found = (re.match(r"\* \*\*(.+?)\*\* ?(.*)", " ".join(item.split())) for item in items)
    return {each[1]: each[2] for each in found if each}


LISTED = entries(TEXT)


def stands_for(entry: str, sentence: str) -> bool:
    return bool(re.fullmatch(".*".join(re.escape(part) for part in entry.split(GAP)), sentence, re.S))


@pytest.mark.parametrize("sentence", FOUND, ids=lambda sentence: sentence.text[:60])
def test_every_sentence_of_the_code_is_listed(sentence: Sentence) -> None:
    assert any(stands_for(entry, sentence.text) for entry in LISTED), (
        f"{sentence.place} says something that docs/errors.md does not list. Add this line to the section that fits, "
        f"and behind it what it means and what to do:\n\n* **{sentence.text}** ...\n\n"
        "If it is no error, add it to NO_ERRORS in tests/error_sentences.py."
    )


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry[:60])
def test_every_entry_is_said_somewhere(entry: str) -> None:
    assert any(stands_for(entry, sentence.text) for sentence in FOUND), (
        f"docs/errors.md explains a sentence that the code does not say (any more); take it out or mend it:\n\n{entry}"
    )
    assert len(LISTED[entry]) >= 10, f"docs/errors.md does not say what this means or what to do: {entry}"


def test_there_is_something_to_compare() -> None:
    assert len(FOUND) > 160 and len(LISTED) > 120
    assert TEXT.count("\n* **") == len(LISTED)  # each once, and none that the pattern misses


def test_options_are_called_by_their_names() -> None:
    assert set(re.findall(r"--[a-z-]+", TEXT)) <= {setting.flag for setting in TABLE} | {"--help", "--url", *FLAGS}


def test_what_is_collected() -> None:
    """The collector itself, on code that says things in every way that it knows."""
    source = """
NONE = "There is none of it."
def refuse(name, count):
    if count > 1:
        reason = "is too long"
    else:
        reason = f"is {count} short"
    if name:
        raise HooksError(f"{name} {reason}. " "Cut it.")
    raise WeightsError(_why(name)) from None
def _why(name):
    return NONE if name else "It has no name at all."
def answer(kind):
    raise ValueError(f"half a sentence for {kind}")
    raise CodecError("Nobody reads this sentence.")
    print("Written to the terminal.", file=sys.stderr)
    print("Written to the output.")
    return _sentence(404, "Not here at all."), Failure("It has failed here."), {"refused": NONE}
"""
    found = {text for text, _ in Module(ast.parse(source)).sentences()}
    assert found == {
        "… is too long. Cut it.",
        "… is … short. Cut it.",
        "There is none of it.",
        "It has no name at all.",
        "Written to the terminal.",
        "Not here at all.",
        "It has failed here.",
    }
