"""The store of uploaded pictures: by unguessable key, shared by digest, within a limit, across restarts."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_pictures import colours, encoded, orientation_exif
from PIL import Image

from hookscope.dashboard.inputs import decoder as decoder_module
from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs import store as inputs_module
from hookscope.dashboard.inputs.samples import PHOTOGRAPHS
from hookscope.dashboard.inputs.samples import SAMPLES as SAMPLE_BY_NAME
from hookscope.dashboard.inputs.store import Input, InputMissing, InputRefused, InputStore
from hookscope.dashboard.sources.preprocessing import PreparationError, open_pixels

SAMPLES = Path(__file__).resolve().parent.parent / "assets" / "samples"
# The files of scikit-image 0.26, unchanged: the numbers that we publish were computed on them.
SAMPLE_FILES = {
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "brick.jpg": "50a390bc8781f3d79b810940143f4b5c84eaaa9e5da440a1643c564edc8584d4",
    "cell.jpg": "de75d67e638a19712a22d1714b91c10446f959f3aa4a4703bdb8cbfcde635c29",
    "clock.jpg": "c4fedb50c2818280cdd9f92179b8bb0f40c49fb972512344ccaf22f00b43124b",
    "coins.jpg": "55a9135777410ab408ff261177b700e3e1d178d1086a36fe660a6d13733d2ecd",
    "galaxies.jpg": "73582850d4fb3357fa1994607802ae260f5e7d817b5809735a7ccd6abb8f2d57",
    "grass.jpg": "db607a4d9b1c766f42e4d2293d6160b041fc42d00ad1083826bdf2245c22d219",
    "gravel.jpg": "b2cfb3e28777d415462dfa43db2a914f0f256aaeec10abeb498d60159b7385b1",
    "hopper.jpg": "a1b8a6e041a3b682d11ae4a7f35d81178b722c0bcbcd1e1c5f11edac345433ab",
    "raccoon.jpg": "992e7da74aba27156613594a2dc24c82cc5a0d046873a1b31bf5dfbc259a7f13",
    "retina.jpg": "21ce7a27eb868cac212e6bcd2307caf841ee720bd66fded82014af655da968a6",
    "stairs.jpg": "5a3ebed1c95b0a3e8178bbb4e57d0529b5a42d929e3f786e50e9bf65937acc1d",
    "text.jpg": "d48770a36a16551aa60ecba5372235e853c367b695e09456ef642ba024fe1e61",
    "tissue.jpg": "e5f606df380cce973b896e528b66400278349cf1f4c8180be8f21b4e01dadd78",
    "astronaut-helmet.png": "b7c69601fb2806713d1008104328cf0746aac3592d754283db9f69ee05b91e6b",
    "camera-tripod.png": "0fdcdf2697202ccf079e5774a1f5841dec0b8dcf22596cf48a7f22d97eafd51d",
    "chelsea-face.png": "130243fba87b3ee474df5b2996c46d0a6d7497a0db8dc6258ccd4c806aa34e9d",
    "coffee-cup.png": "b0040ebf097d867dae750876aacd7efb87c7d262f6b4dff85d3c80e042fec5c3",
    "raccoon-face.png": "88e1708f59140990af0ed40919bef58c3c93f59b3b4ec15956ddd8f9a2bb87c1",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "inputs"


@pytest.fixture
def store(folder: Path) -> Iterator[InputStore]:
    opened = InputStore(folder, 2**24)
    yield opened
    opened.close()


def picture(number: int = 0, side: int = 20) -> bytes:
    return encoded(Image.new("RGB", (side, side), (number % 256, number // 256, 77)), "PNG")


def upload(store: InputStore, data: bytes, name: str = "cat.png") -> Input:
    return store.receive(io.BytesIO(data), len(data), name)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_an_upload_and_everything_one_can_ask_of_it(store: InputStore, folder: Path) -> None:
    pixels = colours(900, 1200)
    data = encoded(Image.fromarray(pixels), "PNG", exif=orientation_exif(6))
    found = upload(store, data, "../holiday.png")
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", found.key)
    assert (found.name, found.width, found.height) == ("holiday.png", 900, 1200)
    assert found.notes == ("turned as its EXIF orientation says",)
    assert store.get(found.key) == found
    with rows.picture(store.pixels(found.digest)) as image:
        assert image.mode == "RGB"
        shown = np.asarray(image)
    assert np.array_equal(shown, pixels.transpose(1, 0, 2)[:, ::-1])
    assert found.digest == hashlib.sha256(b"900 1200 RGB " + shown.tobytes()).hexdigest()
    with Image.open(io.BytesIO(store.preview(found.key))) as preview:
        assert (preview.format, preview.size) == ("JPEG", (480, 640))
    assert files(folder) == sorted([f"{found.digest}.jpg", f"{found.digest}.rgb", f"{found.key}.json"])


def test_uploaded_bytes_are_not_kept(store: InputStore, folder: Path) -> None:
    upload(store, picture() + b"<script>alert(1)</script>", "<script>.png")
    kept = b"".join(path.read_bytes() for path in (folder / "pixels").iterdir())
    assert b"script" not in kept


def test_the_same_pixels_are_kept_once_and_have_two_keys(store: InputStore, folder: Path) -> None:
    image = Image.fromarray(colours())
    first, second = upload(store, encoded(image, "PNG"), "a.png"), upload(store, encoded(image, "BMP"), "b.bmp")
    assert first.key != second.key and first.digest == second.digest
    assert len(list((folder / "pixels").iterdir())) == 2
    assert [store.get(one.key).name for one in (first, second)] == ["a.png", "b.bmp"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name", ["../../../x", "/etc/passwd", "<script>alert(1)</script>", "a\0b", "x" * 10_000, "\u202egnp.exe", "", "."]
)
def test_a_hostile_name_is_a_label_and_no_path(store: InputStore, folder: Path, tmp_path: Path, name: str) -> None:
    found = upload(store, picture(), name)
    assert found.name and len(found.name) <= 80 and "/" not in found.name and found.name.isprintable()
    assert store.get(found.key) == found
    assert {path.name for path in tmp_path.iterdir()} == {"inputs"}
    assert all(re.fullmatch(r"[0-9a-f]{64}\.(rgb|jpg)|[A-Za-z0-9_-]{22}\.json", file) for file in files(folder))


@pytest.mark.parametrize(
    "key", ["", ".", "../keys/x", "x" * 22, "a" * 21, "a" * 23, "/etc/passwd", "sample-", "sample-x", "\0" * 22]
)
def test_a_key_that_nobody_was_given(store: InputStore, key: str) -> None:
    upload(store, picture())
    assert store.get(key) is None
    with pytest.raises(InputMissing, match="upload it again"):
        store.preview(key)


@pytest.mark.parametrize("digest", ["", "../keys/x", "0" * 63, "0" * 64, "A" * 64, "/etc/passwd"])
def test_a_digest_that_is_not_there(store: InputStore, digest: str) -> None:
    with pytest.raises(InputMissing):
        store.pixels(digest)


@pytest.mark.parametrize("data", [b"", b"<html></html>", picture()[:60], b"x" * 3000])
def test_a_refusal_leaves_nothing(folder: Path, data: bytes) -> None:
    store = InputStore(folder, 2**24, max_upload_bytes=2000)
    for length in (len(data), None):
        with pytest.raises(InputRefused) as caught:
            store.receive(io.BytesIO(data), length, "x.png")
        assert str(caught.value).endswith(".")
    assert files(folder) == []
    store.close()


def test_a_decoder_that_crashes_is_a_sentence(store: InputStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "_START", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(InputRefused, match="decoder crashed"):
        upload(store, picture())
    monkeypatch.undo()
    assert files(folder) == []
    assert upload(store, picture()).width == 20


def test_it_survives_a_restart(store: InputStore, folder: Path) -> None:
    first, second = upload(store, picture(1)), upload(store, picture(2), "b.png")
    size = store.size_bytes()
    store.close()
    again = InputStore(folder, 2**24)
    assert (again.get(first.key), again.get(second.key)) == (first, second)
    assert again.pixels(first.digest) and again.preview(second.key)
    assert again.size_bytes() == size
    again.close()


def test_what_is_damaged_on_disk_is_forgotten(store: InputStore, folder: Path) -> None:
    kept = [upload(store, picture(number)) for number in range(6)]
    store.close()
    keys = folder / "keys"
    (keys / f"{kept[0].key}.json").write_bytes(b"{")
    (keys / f"{kept[1].key}.json").write_bytes(b"[1, 2]")
    (keys / f"{kept[2].key}.json").write_bytes((keys / f"{kept[3].key}.json").read_bytes())
    (folder / "pixels" / f"{kept[4].digest}.rgb").unlink()
    (keys / "not a key.json").write_bytes(b"{}")
    again = InputStore(folder, 2**24)
    assert [again.get(one.key) for one in kept] == [None, None, None, kept[3], None, kept[5]]
    assert len(list(keys.iterdir())) == 2
    again.close()


def test_the_least_recently_used_go_first(folder: Path) -> None:
    store = InputStore(folder, 60_000)  # a picture of 100 x 100 takes 30 kB
    one, two = upload(store, picture(1, 60)), upload(store, picture(2, 60))
    assert store.get(one.key)
    three, four = upload(store, picture(3, 60)), upload(store, picture(4, 60))
    five = upload(store, picture(5, 60))
    assert store.get(two.key) is None and store.get(one.key) == one
    assert store.get(three.key) and store.get(four.key) and store.get(five.key)
    assert store.size_bytes() <= 60_000
    assert len(list((folder / "pixels").iterdir())) == 8
    large = upload(store, picture(6, 200))
    assert store.get(large.key) == large  # the newest stays, whatever it takes
    assert store.get(five.key) is None
    with pytest.raises(InputMissing, match="upload it again"):
        store.pixels(five.digest)
    store.close()


def test_pixels_stay_while_one_key_leads_to_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs_module, "MAX_KEYS", 2)
    store = InputStore(folder, 2**24)
    first, second, third = upload(store, picture(1)), upload(store, picture(1)), upload(store, picture(2))
    assert store.get(first.key) is None
    assert store.get(second.key) == second and store.pixels(second.digest) and store.get(third.key)
    store.close()


def test_the_order_of_use_survives_a_restart(store: InputStore, folder: Path) -> None:
    kept = [upload(store, picture(number)) for number in range(4)]
    for age, one in enumerate(kept):
        os.utime(folder / "keys" / f"{one.key}.json", (1_000_000 - age,) * 2)
    assert store.get(kept[3].key)
    store.close()
    again = InputStore(folder, 1)
    assert [again.get(one.key) is not None for one in kept] == [False, False, False, True]
    again.close()


def test_two_servers_share_a_folder(store: InputStore, folder: Path) -> None:
    other = InputStore(folder, 2**24)
    found = upload(store, picture())
    assert other.get(found.key) == found
    other.close()
    assert store.get(found.key) == found


def test_many_uploads_at_once(store: InputStore, folder: Path) -> None:
    found: dict[int, Input] = {}

    def one(number: int) -> None:
        found[number] = upload(store, picture(number % 6))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.key for one in found.values()}) == 12
    for number, one in found.items():
        with rows.picture(store.pixels(one.digest)) as image:
            assert image.getpixel((0, 0)) == (number % 6, 0, 77)
    assert len(list((folder / "pixels").iterdir())) == 12
    assert [path for path in (folder / "incoming").rglob("*") if path.is_file() and path.name != "lock"] == []


def test_only_we_can_open_the_folders(store: InputStore, folder: Path) -> None:
    upload(store, picture())
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))


def test_stopping_leaves_the_pictures_and_nothing_else(store: InputStore, folder: Path) -> None:
    upload(store, picture())
    store.close()
    store.close()
    assert not list((folder / "incoming").iterdir())
    assert len(files(folder)) == 3
    with pytest.raises(InputRefused):
        upload(store, picture())


def test_every_sample_has_the_pixels_of_its_file(store: InputStore) -> None:
    names = [sample.name for sample in store.samples()]
    assert names[:5] == ["coffee", "chelsea", "rocket", "astronaut", "camera"] and len(names) == len(SAMPLE_FILES)
    for sample in store.samples():
        found = store.sample(sample.name)
        assert found.key == f"sample-{sample.name}" and found.notes == ()
        assert store.get(found.key) is found and store.sample(sample.name) is found
        with Image.open(SAMPLES / sample.file) as image, rows.picture(store.pixels(found.digest)) as kept:
            assert np.array_equal(np.asarray(kept), np.asarray(image.convert("RGB")))
        assert store.preview(found.key)[:3] == b"\xff\xd8\xff"
    with pytest.raises(InputRefused, match="the samples are coffee, chelsea"):
        store.sample("../coffee.png")


def test_a_sample_is_found_again_when_its_pixels_are_gone(store: InputStore, folder: Path) -> None:
    found = store.sample("camera")
    uploaded = upload(store, (SAMPLES / "camera.png").read_bytes())
    assert uploaded.digest == found.digest
    for path in (folder / "pixels").iterdir():
        path.unlink()
    assert store.pixels(found.digest)
    assert store.get(found.key) == found and store.preview(found.key)


def test_sample_pixels_do_not_go_with_the_last_key(folder: Path) -> None:
    store = InputStore(folder, 1)
    sample = store.sample("camera")
    upload(store, (SAMPLES / "camera.png").read_bytes())
    upload(store, picture())
    assert (folder / "pixels" / f"{sample.digest}.rgb").exists()
    store.close()


def test_the_samples_are_the_published_files_with_their_credits() -> None:
    credits = (SAMPLES / "CREDITS.md").read_text(encoding="utf-8")
    assert {path.name for path in SAMPLES.iterdir()} == {*SAMPLE_FILES, "CREDITS.md"}
    for file, digest in SAMPLE_FILES.items():
        assert hashlib.sha256((SAMPLES / file).read_bytes()).hexdigest() == digest
        assert f"`{file}`" in credits
    for sample in SAMPLE_BY_NAME.values():
        author = re.split(r"[,;]", sample.credit)[0]
        assert author in credits


def test_the_photographs_are_different_and_the_crops_are_parts_of_one() -> None:
    assert len(PHOTOGRAPHS) >= 16
    kinds = {name: Image.open(SAMPLES / SAMPLE_BY_NAME[name].file).convert("RGB") for name in PHOTOGRAPHS}
    grey = [name for name, image in kinds.items() if np.ptp(np.asarray(image), axis=2).max() < 2]
    assert 6 <= len(grey) <= len(PHOTOGRAPHS) - 6
    small = [np.asarray(image.convert("L").resize((32, 32)), np.float64).ravel() for image in kinds.values()]
    assert np.triu(np.corrcoef(small), 1).max() < 0.9
    for crop in (sample for sample in SAMPLE_BY_NAME.values() if sample.crop_of):
        assert crop.crop_of in PHOTOGRAPHS
        whole, part = np.asarray(kinds[crop.crop_of]), np.asarray(Image.open(SAMPLES / crop.file).convert("RGB"))
        rows, columns = whole.shape[0] - part.shape[0], whole.shape[1] - part.shape[1]
        corners = np.argwhere((whole[: rows + 1, : columns + 1] == part[0, 0]).all(axis=2))
        assert any(np.array_equal(whole[y : y + part.shape[0], x : x + part.shape[1]], part) for y, x in corners)


def test_pictures_that_an_earlier_version_kept_as_png_are_still_there(tmp_path: Path) -> None:
    store = InputStore(tmp_path / "inputs", 2**24)
    found = upload(store, picture(7))
    whole = store.pixels(found.digest)
    store.close()
    for path in (tmp_path / "inputs" / "pixels").iterdir():
        path.unlink()
    with rows.picture(whole) as image:
        image.save(tmp_path / "inputs" / "pixels" / f"{found.digest}.png")
    again = InputStore(tmp_path / "inputs", 2**24)
    kept = again.get(found.key)
    assert kept is not None and kept.digest == found.digest
    assert again.pixels(found.digest) == whole and again.preview(found.key)
    again.close()


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 7, b"\0" * 8, rows.head(2, 2) + b"\0" * 11, rows.head(2, 2) + b"\0" * 13]
)
def test_what_is_no_kept_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="the file"):
        rows.picture(data)
    with pytest.raises(PreparationError, match="cannot be read"):
        open_pixels(data)
