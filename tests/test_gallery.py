"""The gallery: addresses that nobody can guess, pictures drawn when they are asked for, and never too many kept."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from hookscope.dashboard.page.gallery import Gallery, Item


class Drawing:
    """Draws the same bytes, and counts how often."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.times = 0

    def __call__(self) -> bytes:
        self.times += 1
        return self.data


def key(address: str) -> str:
    return address.rsplit("/", 1)[-1]


@pytest.fixture
def gallery() -> Gallery:
    return Gallery("/picture/")


def held(gallery: Gallery) -> int:
    """The bytes that the gallery really holds."""
    return int(gallery._drawn.currsize)


def test_the_same_picture_has_the_same_address_and_any_other_another(gallery: Gallery) -> None:
    draw = Drawing(b"x")
    address = gallery.add(("wall", 1), draw, "image/png")
    assert gallery.add(("wall", 1), draw, "image/png") == address
    others = {
        gallery.add(("wall", 2), draw, "image/png"),
        gallery.add(("wall", "1"), draw, "image/png"),
        gallery.add(("wall", 1), draw, "image/jpeg"),
        gallery.add(("wall", 1), draw, "image/png", "wall.png"),
        gallery.add(("wall", 1), draw, "image/png", "other.png"),
    }
    assert len(others | {address}) == 6
    assert draw.times == 0


def test_an_address_cannot_be_made_up(gallery: Gallery) -> None:
    address = gallery.add(("wall", 1), Drawing(b"x"), "image/png")
    assert address.startswith("/picture/") and len(key(address)) == 40  # 160 bits
    assert Gallery("/picture/").add(("wall", 1), Drawing(b"x"), "image/png") != address  # another server's secret
    for wrong in ("", "x", key(address)[:-1], key(address).upper(), "../" + key(address), key(address) + "0"):
        assert gallery.get(wrong) is None


def test_a_picture_is_drawn_when_it_is_first_read_and_then_kept(gallery: Gallery) -> None:
    draw = Drawing(b"pixels")
    address = gallery.add(("wall", 1), draw, "image/png")
    assert gallery.get(key(address)) == Item(b"pixels", "image/png")
    assert gallery.get(key(address)) == Item(b"pixels", "image/png")
    assert draw.times == 1


def test_a_file_is_drawn_each_time_and_takes_no_room(gallery: Gallery) -> None:
    draw = Drawing(b"numbers")
    address = gallery.add(("file", 1), draw, "text/csv", "layer.csv")
    assert [gallery.get(key(address)) for _ in range(3)] == [Item(b"numbers", "text/csv", "layer.csv")] * 3
    assert draw.times == 3 and held(gallery) == 0


def test_the_newest_way_to_draw_is_taken(gallery: Gallery) -> None:
    """The first one may hold an input that is gone."""
    gallery.add(("wall", 1), Drawing(b"old"), "image/png")
    address = gallery.add(("wall", 1), Drawing(b"new"), "image/png")
    assert gallery.get(key(address)) == Item(b"new", "image/png")


def test_a_picture_that_cannot_be_drawn_now_may_be_later(gallery: Gallery) -> None:
    ready: list[bytes] = []
    address = gallery.add(("wall", 1), lambda: ready[0], "image/png")
    with pytest.raises(IndexError):
        gallery.get(key(address))
    ready.append(b"now")
    assert gallery.get(key(address)) == Item(b"now", "image/png")


def test_kept_pictures_stay_within_their_bytes_and_what_went_is_drawn_again() -> None:
    gallery = Gallery("/picture/", max_bytes=1000)
    draws = [Drawing(bytes([n]) * 300) for n in range(10)]
    keys = [key(gallery.add((n,), draw, "image/png")) for n, draw in enumerate(draws)]
    for each in keys:
        assert gallery.get(each) is not None
        assert held(gallery) <= 1000
    assert gallery.get(keys[0]) == Item(b"\0" * 300, "image/png")
    assert [draw.times for draw in draws] == [2] + [1] * 9
    assert gallery.get(keys[9]) is not None and draws[9].times == 1


def test_a_picture_that_two_readers_draw_at_once_takes_its_room_once() -> None:
    gallery = Gallery("/picture/", max_bytes=500)
    both, times = threading.Barrier(2), []

    def draw() -> bytes:
        times.append(1)
        if len(times) <= 2:
            both.wait(60)
        return b"p" * 300

    address = key(gallery.add(("wall", 1), draw, "image/png"))
    readers = [threading.Thread(target=gallery.get, args=(address,)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(times) == 2 and held(gallery) == 300
    assert gallery.get(address) == Item(b"p" * 300, "image/png") and len(times) == 2  # it was not thrown out


def test_the_oldest_addresses_go() -> None:
    gallery = Gallery("/picture/", 5)
    keys = [key(gallery.add((n,), Drawing(b"12345"), "image/png")) for n in range(5)]
    for each in keys:
        gallery.get(each)
    gallery.add((0,), Drawing(b"12345"), "image/png")  # asked for again: the newest now
    gallery.add((5,), Drawing(b"12345"), "image/png")
    gallery.add((6,), Drawing(b"12345"), "image/png")
    assert gallery.get(keys[0]) is not None
    assert gallery.get(keys[1]) is None and gallery.get(keys[2]) is None
    assert held(gallery) <= 7 * 5


def test_many_readers_at_once() -> None:
    gallery = Gallery("/picture/", 40, 5_000)
    wrong: list[object] = []

    def draw(number: int) -> Callable[[], bytes]:
        return lambda: bytes([number]) * (100 + number)

    def read(offset: int) -> None:
        for n in range(400):
            number = (n * 7 + offset) % 60
            item = gallery.get(key(gallery.add((number,), draw(number), "image/png")))
            if item is not None and item.data != bytes([number]) * (100 + number):
                wrong.append(item)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(gallery._entries) <= 40
    assert held(gallery) <= 5_000
