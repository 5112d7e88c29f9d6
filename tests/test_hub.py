"""sepcore.hub and sepcore.cache: downloads from a local server, good and bad, and where they are kept."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sepcore import cache, download, hub, progress
from sepcore.errors import DownloadError, OptionError, UnsupportedModelError
from sepcore.image.preprocess import Preprocess
from sepcore.labels import read_labels
from sepcore.models import families

WEIGHTS = bytes(range(256)) * 3000
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
FILE = f"tiny_net-{DIGEST[:8]}.pth"


class Server:
    """Serves what ``answer`` writes, and counts the requests."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = send_weights
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/models"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


def send(handler: BaseHTTPRequestHandler, body: bytes, length: int | None) -> None:
    handler.send_response(200)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(body)


def send_weights(handler: BaseHTTPRequestHandler) -> None:
    send(handler, WEIGHTS, len(WEIGHTS))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server = Server()
    monkeypatch.setenv("SEPCORE_WEIGHTS_URL", server.url)
    model = hub.NamedModel("tiny", "tiny_net", FILE, "digits", Preprocess())
    monkeypatch.setattr(hub, "MODELS", {"tiny": model})
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_first_use_downloads_and_later_uses_do_not(server: Server, tmp_path: Path) -> None:
    path = hub.fetch("tiny", tmp_path)
    assert path == tmp_path / "weights" / FILE
    assert path.read_bytes() == WEIGHTS
    assert hub.fetch("tiny", tmp_path) == path
    assert server.requests == [f"/models/{FILE}"]
    assert [entry.name for entry in path.parent.iterdir()] == [FILE]


def test_a_length_need_not_be_declared(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler: send(handler, WEIGHTS, None)
    assert hub.fetch("tiny", tmp_path).read_bytes() == WEIGHTS


def test_other_users_may_read_what_was_fetched(server: Server, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        assert hub.fetch("tiny", tmp_path).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def assert_refused(tmp_path: Path, message: str) -> None:
    with pytest.raises(DownloadError, match=message) as caught:
        hub.fetch("tiny", tmp_path)
    assert str(caught.value).startswith("tiny: ")
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_wrong_checksum_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    changed = b"x" + WEIGHTS[1:]
    server.answer = lambda handler: send(handler, changed, len(changed))
    assert_refused(tmp_path, f"starts with {DIGEST[:8]}, found {hashlib.sha256(changed).hexdigest()}")


def test_an_interrupted_download_can_be_tried_again(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler: send(handler, WEIGHTS[:300_000], len(WEIGHTS))
    assert_refused(tmp_path, rf"expected {len(WEIGHTS)} bytes, the connection ended after 300000; try again")
    server.answer = send_weights
    assert hub.fetch("tiny", tmp_path).read_bytes() == WEIGHTS


def test_a_cut_that_nothing_declares_is_caught_by_the_checksum(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler: send(handler, WEIGHTS[:-1], None)
    assert_refused(tmp_path, "SHA-256")


def test_a_cut_chunked_body_is_refused(server: Server, tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n" % len(WEIGHTS) + WEIGHTS[:5000])
        handler.close_connection = True

    server.answer = answer
    assert_refused(tmp_path, "IncompleteRead")


def test_a_missing_file_says_so_and_what_to_do(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler: handler.send_error(404)
    place = re.escape(str(tmp_path / "weights" / FILE))
    assert_refused(tmp_path, rf"404.*Without a network, put that file at {place}, .*SEPCORE_WEIGHTS_URL")


def test_what_is_too_large_is_refused(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 500_000)
    assert_refused(tmp_path, "expected at most 500000 bytes")
    server.answer = lambda handler: send(handler, WEIGHTS, None)
    assert_refused(tmp_path, "expected at most 500000 bytes")


def test_offline_says_what_to_do(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.http.shutdown()
    server.http.server_close()
    place = re.escape(str(tmp_path / "weights" / FILE))
    assert_refused(tmp_path, rf"{re.escape(server.url)}/{FILE} cannot be fetched .*refused.* put that file at {place}")
    (tmp_path / "weights" / FILE).write_bytes(WEIGHTS)
    assert hub.fetch("tiny", tmp_path).read_bytes() == WEIGHTS


def test_a_damaged_copy_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / FILE).write_bytes(WEIGHTS[:1000])
    assert hub.fetch("tiny", tmp_path).read_bytes() == WEIGHTS
    assert len(server.requests) == 1


def test_many_at_once_all_get_the_whole_file(server: Server, tmp_path: Path) -> None:
    barrier = threading.Barrier(6)
    found: list[bytes] = []

    def fetch() -> None:
        barrier.wait()
        found.append(hub.fetch("tiny", tmp_path).read_bytes())

    threads = [threading.Thread(target=fetch) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [WEIGHTS] * 6
    assert [entry.name for entry in (tmp_path / "weights").iterdir()] == [FILE]


def test_a_stop_in_the_middle_leaves_nothing_behind(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(bar: progress.ProgressBar, done: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress.ProgressBar, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hub.fetch("tiny", tmp_path)
    assert list((tmp_path / "weights").iterdir()) == []


def test_redirections_stay_safe(server: Server, tmp_path: Path) -> None:
    def redirect_to(url: str) -> Callable[[BaseHTTPRequestHandler], None]:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            if handler.path.startswith("/elsewhere"):
                send_weights(handler)
                return
            handler.send_response(302)
            handler.send_header("Location", url)
            handler.end_headers()

        return answer

    for url in ("http://192.0.2.1/w.pth", "ftp://127.0.0.1/w.pth"):
        server.answer = redirect_to(url)
        assert_refused(tmp_path, f"redirected to {re.escape(url)}, which is not https")
    server.answer = redirect_to(server.url.replace("models", "elsewhere"))
    assert hub.fetch("tiny", tmp_path).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "url",
    ["http://example.org/m", "ftp://localhost/m", "file:///tmp", "example.org", "https://", "http://10.0.0.1/", "h["],
)
def test_mirrors_must_be_https_or_local(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPCORE_WEIGHTS_URL", url)
    with pytest.raises(OptionError, match=r"^SEPCORE_WEIGHTS_URL: expected https"):
        hub.fetch("mobilenet_v2", tmp_path)


def test_mirrors_and_the_published_address(monkeypatch: pytest.MonkeyPatch) -> None:
    model = hub.find("mobilenet_v2@v1")
    for base in ("https://mirror.example/a/", "http://localhost:8000", "http://127.0.0.9", "http://[::1]:80"):
        monkeypatch.setenv("SEPCORE_WEIGHTS_URL", base)
        assert hub.weights_url(model) == f"{base.rstrip('/')}/mobilenet_v2-b0353104.pth"
    monkeypatch.delenv("SEPCORE_WEIGHTS_URL")
    assert hub.weights_url(model) == "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"


def test_only_models_that_a_family_builds_are_offered() -> None:
    assert hub.DEFAULT_MODEL in hub.MODELS
    archs = {arch for row in families() if row.family.startswith("torchvision ") for arch in row.archs}
    assert {model.arch for model in hub.MODELS.values()} <= archs


def test_every_named_model_is_fully_described() -> None:
    for name, model in hub.MODELS.items():
        assert model.name == name and "@" not in model.arch
        if not model.embedded:
            assert re.fullmatch(r"[0-9a-f]{8,}", model.checksum), model.file
        assert read_labels(model.labels)


def test_embedded_models_need_neither_network_nor_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPCORE_WEIGHTS_URL", "https://192.0.2.1")
    path = hub.fetch("digits", tmp_path / "cache")
    assert path.is_file() and path.name == "digits.pth"
    assert not (tmp_path / "cache").exists()


def test_unknown_names_are_told_the_nearest() -> None:
    with pytest.raises(UnsupportedModelError, match=r"mobilenet_v2,.*found 'mobilnet_v2'"):
        hub.fetch("mobilnet_v2")


@pytest.fixture
def no_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No SEPCORE_CACHE_DIR, a home and temporary folder of the test's own; returns the home."""
    for variable in ("SEPCORE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(cache.sys, "platform", "linux")
    return tmp_path / "home"


def test_the_users_cache_folder(no_choice: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "temporary" / f"sepcore-{os.getuid()}"
    assert cache.cache_candidates() == [str(no_choice / ".cache" / "sepcore"), str(own)]
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_candidates()[0] == str(no_choice / ".cache" / "sepcore")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_candidates()[0] == str(tmp_path / "xdg" / "sepcore")
    monkeypatch.setattr(cache.sys, "platform", "darwin")
    assert cache.cache_candidates()[0] == str(no_choice / "Library" / "Caches" / "sepcore")
    monkeypatch.setenv("SEPCORE_CACHE_DIR", str(tmp_path / "chosen"))
    assert cache.cache_candidates() == [str(tmp_path / "chosen")]
    assert cache.cache_candidates(tmp_path / "argument") == [str(tmp_path / "argument")]


def test_without_a_home_weights_go_to_temporary_files_with_a_warning(
    no_choice: Path, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.warns(RuntimeWarning, match=rf"{FILE} \(the weights of tiny\) is kept in .*SEPCORE_CACHE_DIR"):
        path = hub.fetch("tiny")
    assert path.is_relative_to(tmp_path / "temporary") and path.read_bytes() == WEIGHTS
    assert (tmp_path / "temporary" / f"sepcore-{os.getuid()}").stat().st_mode & 0o077 == 0
    assert hub.fetch("tiny") == path
    assert len(server.requests) == 1


def test_a_home_that_cannot_be_made_is_passed_over(
    no_choice: Path, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning):
        assert hub.fetch("tiny").is_relative_to(tmp_path / "temporary")


def test_a_chosen_folder_that_cannot_be_written_is_an_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DownloadError, match=rf"tried {re.escape(str(tmp_path / 'file'))}"):
        hub.fetch("tiny", tmp_path / "file")
    assert server.requests == []


def test_a_folder_that_others_can_write_is_not_trusted(
    no_choice: Path, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    planted = tmp_path / "temporary" / f"sepcore-{os.getuid()}"
    (planted / "weights").mkdir(parents=True)
    (planted / "weights" / FILE).write_bytes(WEIGHTS)
    planted.chmod(0o777)
    with pytest.raises(DownloadError, match="expected a cache folder that can be written, found none"):
        hub.fetch("tiny")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_on_terminals_only_and_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    for stream, wanted in ((io.StringIO(), True), (Terminal(), False), (Terminal(), True)):
        clock[0] = 0.0
        with progress.ProgressBar("fetching", 4, wanted=wanted, stream=stream) as bar:
            bar.update(1)
            assert stream.getvalue() == ""
            clock[0] = 1.0
            bar.update(2)
            bar.update(3)
        if wanted and stream.isatty():
            assert stream.getvalue() == f"\r\x1b[Kfetching  [{'#' * 15}{'.' * 15}]  2 of 4\r\x1b[K"
        else:
            assert stream.getvalue() == ""


def test_the_bar_without_a_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", -1.0)
    stream = Terminal()
    progress.ProgressBar("fetching", None, lambda n: f"{n} MB", stream=stream).update(7)
    assert stream.getvalue() == "\r\x1b[Kfetching  7 MB"
