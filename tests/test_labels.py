"""A file's name is a label: one line, no path, nothing invisible."""

import unicodedata

import pytest

from hookscope.dashboard.inputs.labels import MAX_LENGTH, file_label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("cat.png", "cat.png"),
        ("My Holiday (2).JPG", "My Holiday (2).JPG"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\x.png", "x.png"),
        ("C:\\Users\\me\\cat.png", "cat.png"),
        ("..", "picture"),
        ("", "picture"),
        ("///", "picture"),
        ("\0\0", "picture"),
        ("a\0b.png", "ab.png"),
        ("a\r\nSet-Cookie: x.png", "a Set-Cookie: x.png"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("\u2066x\u2069\u200b\ufeff.png", "x.png"),
        ("a\u2028b\u2029c.png", "a b c.png"),
        ("\ud800.png", "png"),
        ("Ame\u0301lie.png", "Am\u00e9lie.png"),
        ("猫の写真.png", "猫の写真.png"),
        ("<script>alert(1)</script>.png", "script>.png"),
        ("<img src=x onerror=alert(1)>.png", "<img src=x onerror=alert(1)>.png"),
    ],
)
def test_labels(name: str, label: str) -> None:
    assert file_label(name) == label


@pytest.mark.parametrize(
    "name", ["a" * 10_000 + ".jpeg", "a" * 10_000, "." * 10_000, "\u202e" * 10_000 + "x", "é" * 200]
)
def test_a_label_is_short_and_says_the_suffix(name: str) -> None:
    label = file_label(name)
    assert 0 < len(label) <= MAX_LENGTH
    assert label.endswith(".jpeg") == name.endswith(".jpeg")
    assert all(unicodedata.category(letter)[0] != "C" for letter in label)
