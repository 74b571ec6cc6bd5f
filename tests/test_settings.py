"""Settings: what is accepted, what is refused and in which words, and that the documentation names them all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.settings.models import options_for
from hookscope.dashboard.settings.parse import default_cache_dir, markdown, parse
from hookscope.dashboard.settings.table import TABLE, Settings

ROOT = Path(__file__).parent.parent


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], environ: dict[str, str] | None = None) -> str:
    """The one sentence on stderr with which these settings are refused."""
    with pytest.raises(SystemExit) as ended:
        parse(argv, environ or {})
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "Traceback" not in err
    return err


def test_without_arguments_the_embedded_model_is_served_on_loopback() -> None:
    settings = parse([], {"HOME": "/home/someone"})
    assert (settings.models, settings.host, settings.port, settings.token) == (("embedded",), "127.0.0.1", 8050, "")
    assert settings.url_prefix == "/" and settings.max_streams == 40 and settings.max_upload_mb == 50
    assert not settings.open_browser


def test_every_default_is_what_its_reader_gives_or_nothing() -> None:
    """Else a setting could have a default that nobody can write."""
    made = Settings(cache_dir=Path("/nowhere"))
    for setting in TABLE:
        value = getattr(made, setting.name, None)
        if value not in (None, (), "", made.cache_dir) and not setting.is_switch:
            texts = value if isinstance(value, tuple) else [str(value)]
            assert [setting.read(text) for text in texts] == list(value if isinstance(value, tuple) else [value])


def test_a_flag_wins_over_its_variable_and_an_empty_variable_is_not_set() -> None:
    environ = {"HOOKSCOPE_PORT": "9000", "HOOKSCOPE_HOST": "", "HOOKSCOPE_DEVICE": "  "}
    assert parse(["--port", "9001"], environ).port == 9001
    settings = parse([], environ)
    assert (settings.port, settings.host, settings.device) == (9000, "127.0.0.1", "auto")


def test_a_wrong_variable_does_not_matter_under_a_right_flag() -> None:
    assert parse(["--port=8060"], {"HOOKSCOPE_PORT": "tcp://10.0.0.1:8050"}).port == 8060


@pytest.mark.parametrize(
    "text", ["torchvision:resnet50,timm:resnet18.a1_in1k", "torchvision:resnet50  timm:resnet18.a1_in1k"]
)
def test_models_from_flags_and_from_a_variable(text: str) -> None:
    wanted = ("torchvision:resnet50", "timm:resnet18.a1_in1k")
    assert parse([], {"HOOKSCOPE_MODEL": text}).models == wanted
    assert parse(["--model", wanted[0], "--model", wanted[1], "--model", wanted[0]], {}).models == wanted


@pytest.mark.parametrize(
    "spec",
    [
        "embedded",
        "torchvision:resnet50@IMAGENET1K_V2",
        "timm:hf-hub/model-1.x",
        "timm:resnet18@random",
        "zoo.nets:Net.small",
        "zoo:net",
    ],
)
def test_a_models_spec(spec: str) -> None:
    assert parse(["--model", spec], {}).models == (spec,)


def test_numbers_of_a_model_of_ones_own(tmp_path: Path) -> None:
    weights, labels = tmp_path / "net.safetensors", tmp_path / "labels.txt"
    weights.write_bytes(b"x")
    labels.write_text("cat\ndog\n")
    argv = ["--model", "zoo:net", "--model", "torchvision:alexnet", "--weights", str(weights), "--labels", str(labels)]
    argv += ["--factory-arg", "classes=2", "--factory-arg", "name=a=b", "--input-size", "96x128"]
    argv += ["--mean", "0.5", "--std", "0.1,0.2, 0.3", "--interpolation", "Bicubic"]
    settings = parse(argv, {})
    net, other = options_for(settings)
    assert (net.weights, net.labels) == (str(weights), str(labels))
    assert json.loads(net.arguments) == {"classes": 2, "name": "a=b"}
    assert net.input_size == (96, 128)  # height first
    assert net.mean == (0.5, 0.5, 0.5) and net.std == (0.1, 0.2, 0.3)
    assert net.interpolation == "bicubic"
    assert other == ModelOptions("torchvision:alexnet")


def test_options_for_a_model_of_ones_own_need_to_know_which(capsys: pytest.CaptureFixture[str]) -> None:
    assert "name it with --model" in refused(capsys, ["--output", "logits"])
    assert options_for(parse(["--mean", "0.5"], {}))[0].mean == (0.5,) * 3  # of the default model
    two = ["--model", "torchvision:alexnet", "--model", "torchvision:vgg16"]
    said = refused(capsys, [*two, "--input-size", "64"])
    assert "--input-size could be meant for torchvision:alexnet or torchvision:vgg16" in said
    assert "write whose it is, as in --input-size torchvision:alexnet=64." in said
    assert options_for(parse([*two, "--input-size", "torchvision:vgg16=64"], {}))[1].input_size == (64, 64)
    (alone,) = options_for(parse(["--model", "timm:resnet18", "--input-size", "64"], {}))
    assert alone == ModelOptions("timm:resnet18", input_size=(64, 64))


def test_two_of_one_kind_under_names_of_their_own_and_each_with_its_own_options(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a.pt", "b=c.pt")]
    for path in paths:
        path.write_bytes(b"x")
    argv = ["--model", "old=zoo:net", "--model", "new=zoo:net", "--model", "zoo:net"]
    argv += ["--weights", f"new={paths[0]}", "--weights", f"old={paths[1]}", "--factory-arg", "old:classes=2"]
    argv += ["--factory-arg", "old:deep=true", "--factory-arg", "zoo:net:classes=3", "--mean", "new=0.5"]
    settings = parse(argv, {})
    assert settings.names == ("old", "new", "zoo:net")
    assert options_for(settings) == (
        ModelOptions("zoo:net", "old", weights=str(paths[1]), arguments='{"classes": 2, "deep": true}'),
        ModelOptions("zoo:net", "new", weights=str(paths[0]), mean=(0.5, 0.5, 0.5)),
        ModelOptions("zoo:net", arguments='{"classes": 3}'),
    )
    assert parse([], {"HOOKSCOPE_MODEL": "old=zoo:net zoo:net", "HOOKSCOPE_MEAN": "old=0.1,0.2,0.3"}).mean == (
        ("old", (0.1, 0.2, 0.3)),
    )
    said = refused(capsys, ["--model", "old=zoo:net", "--model", "old=zoo:other"])
    assert "Two models are called old: give one of them another name" in said
    assert "before the =" in refused(capsys, ["--model", "a b=zoo:net"])
    assert "there is no such file" in refused(capsys, ["--model", "old=zoo:net", "--weights", "old=nowhere.pt"])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "/"),
        ("/", "/"),
        ("x", "/x/"),
        ("/x", "/x/"),
        ("x/", "/x/"),
        ("//a//b/", "/a/b/"),
        ("/~me/h-1", "/~me/h-1/"),
    ],
)
def test_the_prefix_begins_and_ends_with_a_slash(text: str, wanted: str) -> None:
    assert parse(["--url-prefix", text], {}).url_prefix == wanted


def test_only_a_network_address_makes_a_token() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.0.0.9"):
        assert parse(["--host", host], {}).token == "", host
    made = {parse(["--host", host], {}).token for host in ("0.0.0.0", "::", "192.168.1.5", "gpu-box")}
    assert len(made) == 4 and min(map(len, made)) >= 32
    assert parse(["--host", "0.0.0.0", "--behind-auth-proxy"], {}).token == ""
    assert parse(["--host", "0.0.0.0", "--token", "a" * 16], {}).token == "a" * 16
    assert parse(["--token", "a" * 16], {}).token == "a" * 16  # on loopback too, if asked


def test_the_token_is_in_no_printed_settings_and_in_no_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a" * 16 not in repr(parse(["--token", "a" * 16], {}))
    assert "s3cret" not in refused(capsys, ["--token", "s3cret"])


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--port", "abc"], "--port is 'abc': a whole number from 0 to 65535 is needed."),
        (["--port", "65536"], "from 0 to 65535"),
        (["--port", "-1"], "from 0 to 65535"),
        (["--port", "٣"], "whole number"),
        (["--port"], "--port needs a value."),
        (["--prot", "1"], "There is no option --prot. Did you mean --port?"),
        (["--mode", "timm:x"], "Did you mean --model?"),
        (["serve"], "There is no option serve."),
        (["--open=yes"], "--open takes no value."),
        (["--model", "resnet50"], "torchvision:resnet50 or timm:resnet50"),
        (["--model", "zoo/net.py:f"], "package.module:factory"),
        (["--model", "torchvision:../x"], "a model is named like"),
        (["--weights", "no-such-file.pt"], "there is no such file"),
        (["--labels", "."], "that is a folder"),
        (["--weights", "a\0b"], "cannot be read"),
        (["--labels", "no-such-file.txt"], "there is no such file"),
        (["--factory-arg", "classes"], "NAME=VALUE"),
        (["--input-size", "0"], "size in pixels"),
        (["--input-size", "224x"], "size in pixels"),
        (["--mean", "1,x"], "one number, or one per channel"),
        (["--mean", "nan"], "one number, or one per channel"),
        (["--std", "0.5,0,0.5"], "above 0"),
        (["--interpolation", "cubic"], "one of nearest, bilinear, bicubic, lanczos"),
        (["--device", "gpu"], "cuda:N or mps"),
        (["--device", "cuda:x"], "cuda:N or mps"),
        (["--workers", "0"], "from 1 to 64"),
        (["--threads", "1.5"], "whole number"),
        (["--host", "http://localhost"], "without http://"),
        (["--host", "localhost:8050"], "without http://"),
        (["--host", ""], "an address or a name"),
        (["--allowed-host", "a b"], "an address or a name"),
        (["--url-prefix", "/a/../b"], "a path of letters"),
        (["--url-prefix", "/a?b"], "a path of letters"),
        (["--url-prefix", "/" + "a" * 100_000], "a path of at most 200 characters"),
        (["--model", "zoo:" + "f" * 100_000], "a model's name has at most 400 characters"),
        (["--token", "short"], "16 to 200"),
        (["--token", "semi;colon" * 3], "16 to 200"),
        (["--cache-dir", __file__], "that is a file"),
        (["--cache-limit-mb", "0"], "whole number"),
        (["--max-streams", "64"], "from 1 to 56"),
    ],
)
def test_a_bad_value_is_one_sentence(capsys: pytest.CaptureFixture[str], argv: list[str], part: str) -> None:
    assert part in refused(capsys, argv)


def test_a_bad_variable_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, [], {"HOOKSCOPE_OPEN": "maybe"}).startswith(
        "hookscope: HOOKSCOPE_OPEN is 'maybe': yes or no"
    )
    assert "Kubernetes" in refused(capsys, [], {"HOOKSCOPE_PORT": "tcp://10.0.0.1:8050"})


@pytest.mark.parametrize(("text", "wanted"), [("1", True), ("Yes", True), ("off", False), ("false", False)])
def test_a_switch_as_a_variable(text: str, wanted: bool) -> None:
    assert parse([], {"HOOKSCOPE_OPEN": text}).open_browser is wanted


def test_help_lists_every_setting_with_default_unit_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"], {})
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for setting in TABLE:
        about = text.split(f" {setting.help}", 1)[1].split(f"{setting.variable})", 1)[0]
        assert setting.flag in text
        assert setting.shown_default in about and setting.unit in about, setting.flag


def test_the_documentation_holds_the_table() -> None:
    assert markdown() in (ROOT / "docs" / "settings.md").read_text(), "run: python app.py settings"


def test_the_documentation_command_prints_the_table() -> None:
    ran = subprocess.run(
        [sys.executable, "app.py", "settings"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == markdown()


def test_the_cache_lies_where_the_platform_wants_it() -> None:
    assert default_cache_dir({"HOME": "/home/a"}, "linux") == Path("/home/a/.cache/hookscope")
    assert default_cache_dir({"HOME": "/home/a", "XDG_CACHE_HOME": "/big"}, "linux") == Path("/big/hookscope")
    assert default_cache_dir({"HOME": "/home/a", "XDG_CACHE_HOME": "big"}, "linux") == Path("/home/a/.cache/hookscope")
    assert default_cache_dir({"HOME": "/Users/a"}, "darwin") == Path("/Users/a/Library/Caches/hookscope")
    assert parse(["--cache-dir", "here"], {}).cache_dir == Path.cwd() / "here"
