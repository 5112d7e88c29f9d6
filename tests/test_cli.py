"""The command line: arguments, output formats, exit codes, and what it does not import; the network is a fake one."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import sepcore
from sepcore.cli import main
from sepcore.cli.infer import infer
from sepcore.errors import DownloadError, FormatError, OptionError, UnsupportedModelError
from sepcore.image.preprocess import Preprocess
from sepcore.kernels import isa
from sepcore.models import families

CHECKOUT = Path(__file__).parent.parent


class FakeNet:
    """Twelve classes; the best is the red value of the picture's first pixel."""

    preprocess = Preprocess((4, 4), resize=None, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))

    def __init__(self, labels: Sequence[str] | None) -> None:
        self.labels = labels

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = np.zeros((len(x), 12), np.float32)
        logits[np.arange(len(x)), np.rint(x[:, 0, 0, 0]).astype(int)] = 3.0
        return logits


class FakeApi(types.ModuleType):
    """Stands in for sepcore.api: remembers what was asked for, or raises ``error``."""

    def __init__(self) -> None:
        super().__init__("sepcore.api")
        self.asked: dict[str, object] = {}
        self.error: BaseException | None = None

    def load(self, path_or_name: str, labels: Sequence[str] | None = None, **options: object) -> FakeNet:
        self.asked = {"model": path_or_name, "labels": labels, **options}
        if self.error is not None:
            raise self.error
        return FakeNet(labels)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    monkeypatch.setitem(sys.modules, "sepcore.api", fake)
    monkeypatch.setattr(sepcore, "api", fake, raising=False)
    return fake


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: ``p`` holds three pictures of classes 7, 10 and 2, ``broken.png`` is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").mkdir()
    for name, level in (("a.png", 7), ("b, c.png", 10), ("d.PNG", 2)):
        Image.new("RGB", (4, 4), (level, 0, 0)).save(tmp_path / "p" / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "labels.txt").write_text("\n".join(f"class {i}" for i in range(12)))
    return tmp_path


# The fake network's softmax: one class at 3, eleven at 0.
BEST = float(np.exp(3.0) / (np.exp(3.0) + 11))
REST = float(1 / (np.exp(3.0) + 11))


def test_csv_has_a_row_per_picture_and_rank(api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "p", "--results-format", "csv", "--topk", "2", "--labels", "labels.txt"]) == 0
    captured = capsys.readouterr()
    rows = list(csv.reader(io.StringIO(captured.out)))
    assert rows[0] == ["filename", "index", "label", "prob"]
    assert [row[:3] for row in rows[1:]] == [
        ["p/a.png", "7", "class 7"],
        ["p/a.png", "0", "class 0"],
        ["p/b, c.png", "10", "class 10"],
        ["p/b, c.png", "0", "class 0"],
        ["p/d.PNG", "2", "class 2"],
        ["p/d.PNG", "0", "class 0"],
    ]
    assert [float(row[3]) for row in rows[1:3]] == pytest.approx([BEST, REST], rel=1e-5)
    assert captured.err == ""


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_json_and_json_lines(api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str], batch_size: int) -> None:
    common = ["infer", "p", "-k", "1", "-b", str(batch_size)]
    assert main([*common, "--results-format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main([*common, "--results-format", "jsonl"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == found
    assert [picture["filename"] for picture in found] == ["p/a.png", "p/b, c.png", "p/d.PNG"]
    assert found[0]["predictions"] == [{"index": 7, "label": None, "prob": pytest.approx(BEST, rel=1e-5)}]
    assert [picture["predictions"][0]["index"] for picture in found] == [7, 10, 2]


def test_the_table(api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "p/a.png", "p/d.PNG", "-k", "2", "--labels", "labels.txt"]) == 0
    assert capsys.readouterr().out == textwrap.dedent(
        f"""\
        p/a.png
            {BEST:.2%}  7  class 7
             {REST:.2%}  0  class 0
        p/d.PNG
            {BEST:.2%}  2  class 2
             {REST:.2%}  0  class 0
        """
    )


def test_names_cannot_play_tricks_on_a_terminal(
    api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "evil\x1b[2Jname\n.png"
    os.rename("p/a.png", name)
    (pictures / "\x1b[31m.png").write_bytes(b"")
    assert main(["infer", name, "\x1b[31m.png", "-k", "1"]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == r"evil\x1b[2Jname\n.png"
    assert "\x1b" not in captured.out + captured.err
    assert main(["infer", name, "-k", "1", "--results-format", "csv"]) == 0
    assert list(csv.reader(io.StringIO(capsys.readouterr().out)))[1][0] == name


def test_results_can_go_to_a_file(api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "p/a.png", "--results-format", "jsonl", "--results-file", "out.jsonl"]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads((pictures / "out.jsonl").read_text())["filename"] == "p/a.png"
    assert main(["infer", "p/a.png", "--results-file", "absent/out.csv"]) == 2
    assert "absent/out.csv" in capsys.readouterr().err


def test_broken_pictures_are_named_and_the_rest_written(
    api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["infer", "p/a.png", "broken.png", "absent.png", "p/d.PNG", "-k", "1", "--results-format", "csv"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert [row[0] for row in csv.reader(io.StringIO(captured.out))] == ["filename", "p/a.png", "p/d.PNG"]
    errors = captured.err.splitlines()
    assert errors[0].startswith("sepcore: error: broken.png: not a picture of a known format")
    assert errors[1] == "sepcore: error: absent.png: No such file or directory"
    assert errors[2] == "sepcore: 2 of 4 pictures failed"


def test_the_options_reach_the_loader(api: FakeApi, pictures: Path) -> None:
    assert main(["infer", "p/a.png"]) == 0
    assert api.asked == {"model": "mobilenet_v2", "arch": None, "num_threads": None, "labels": None, "input_size": None}
    arguments = ["infer", "p/a.png", "--model", "w.pth", "--arch", "x", "--threads", "3", "--labels", "labels.txt"]
    arguments += ["--padding", "same", "--leaky-slope", "0.1", "--bn-eps", "1e-3", "--activation", "relu6"]
    assert main([*arguments, "--input-size", "192"]) == 0
    assert api.asked == {
        "model": "w.pth",
        "arch": "x",
        "num_threads": 3,
        "labels": [f"class {i}" for i in range(12)],
        "padding": "same",
        "leaky_slope": 0.1,
        "bn_eps": 0.001,
        "activation": "relu6",
        "input_size": 192,
    }


def test_every_override_of_a_state_dict_is_an_option() -> None:
    options = {parameter.name for parameter in infer.params}
    for family in families():
        assert set(family.overrides) <= options


def test_a_picture_on_standard_input(
    api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (pictures / "p" / "a.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))
    assert main(["infer", "-", "-k", "1", "--results-format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("<stream>,7,")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["infer"], "Missing argument 'IMAGE...'"),
        (["infre", "a.png"], "No such command 'infre'"),
        (["infer", "a.png", "--topk", "0"], "--topk"),
        (["infer", "a.png", "--threads", "many"], "--threads"),
        (["infer", "a.png", "--batch-size", "-1"], "--batch-size"),
        (["infer", "a.png", "--results-format", "xml"], "xml"),
        (["infer", "a.png", "--leaky-slope", "steep"], "--leaky-slope"),
        (["infer", "a.png", "--labels", "absent.txt"], "absent.txt"),
        (["infer", "no*.png"], r"no*.png: expected files that match this pattern"),
        (["infer", "@absent.txt"], "@absent.txt: expected a list"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert api.asked == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FormatError("w.pth", "byte 3", "a tensor", "text"), 3),
        (UnsupportedModelError("w.pth", ["no family has this key: x"]), 3),
        (DownloadError("mobilenet_v2: offline"), 3),
        (FileNotFoundError("w.pth: no such file"), 3),
        (OptionError("padding: expected same, found 'some'"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_model_that_does_not_load(
    api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    api.error = error
    assert main(["infer", "p/a.png"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ("" if code == 130 else f"sepcore: error: {error}\n")


def test_labels_that_do_not_fit_the_network(api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "p/a.png", "--labels", "digits"]) == 2
    assert "expected 12 names, one per class of the model, found 10" in capsys.readouterr().err


def test_an_interruption_keeps_what_was_written(
    api: FakeApi, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def call(net: FakeNet, x: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return np.zeros((len(x), 12), np.float32)

    monkeypatch.setattr(FakeNet, "__call__", call)
    assert main(["infer", "p", "-b", "1", "--results-format", "json"]) == 130
    assert [picture["filename"] for picture in json.loads(capsys.readouterr().out)] == ["p/a.png"]


def run(script: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("arguments", [["--help"], ["infer", "--help"], ["infer"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = run(
        f"""
        import sys
        from sepcore.cli import main
        main({arguments!r})
        heavy = {{"numpy", "PIL", "numba", "llvmlite", "safetensors", "urllib.request", "torch"}} & set(sys.modules)
        print("heavy:", sorted(heavy))
        """
    )
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stderr


def test_without_a_command_the_commands_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    # click before 8.2 calls this help, later ones wrong usage.
    assert main([]) in (0, 2)
    captured = capsys.readouterr()
    assert "Commands:" in captured.out + captured.err


def test_help_names_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for command in ("infer", "models", "doctor"):
        assert re.search(rf"^  {command} ", listed, re.MULTILINE)
    assert main(["infer", "-h"]) == 0
    assert "130 interrupted" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # A checkout that is not installed has no version of its own.
    monkeypatch.setitem(vars(sepcore), "__version__", "9.8.7")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "sepcore 9.8.7\n"


def test_the_doctor_explains_what_was_chosen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEPCORE_CACHE_DIR", str(tmp_path / "c\x1bache"))
    monkeypatch.setenv("SEPCORE_CPU_ISA", isa.available()[-1].name)
    monkeypatch.setenv("SEPCORE_NUM_THREADS", "3")
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert f"\n  numpy {np.__version__}\n" in report
    assert f"\n  chosen: {isa.available()[-1].name}\n" in report
    assert "threads: 3, as SEPCORE_NUM_THREADS says" in report
    assert report.endswith(f"\n  {tmp_path}/c\\x1bache\n")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("SEPCORE_CPU_ISA", "mmx")
    assert main(["doctor"]) == 2
    assert "found 'mmx'" in capsys.readouterr().err


def test_the_models_that_can_be_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"^  mobilenet_v2 +fetched on first use, the default$", listed, re.MULTILINE)
    assert re.search(r"^  digits +in the package$", listed, re.MULTILINE)
    for family in families():
        assert f"\n  {family.family}\n" in listed
        for arch in family.archs:
            assert re.search(rf"\b{re.escape(arch)}\b", listed)


FAKE_MAIN = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_cli import FakeApi
sys.modules["sepcore.api"] = FakeApi()
from sepcore.cli import main
"""


def test_a_broken_pipe_is_silent(pictures: Path) -> None:
    script = FAKE_MAIN + "sys.exit(main(['infer', '--results-format', 'csv', *['p/a.png'] * 3000]))"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"filename,index,label,prob\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 128 + signal.SIGPIPE


def test_control_c_is_exit_code_130(pictures: Path) -> None:
    script = FAKE_MAIN + textwrap.dedent(
        """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
        def wait(net, x):
            print("waiting", flush=True)
            time.sleep(60)
        import test_cli
        test_cli.FakeNet.__call__ = wait
        sys.exit(main(["infer", "p/a.png"]))
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""
