"""sepcore.image.sources: what files, folders, globs, lists and ``-`` stand for."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from sepcore.errors import OptionError
from sepcore.image.sources import list_pictures

STDIN = io.BytesIO()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pictures in ``p``; the files are empty, as nobody opens them."""
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "sub/c.WebP", ".git/d.jpg", "x[1].gif", "README"):
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_means_its_pictures_sorted(folder: Path) -> None:
    expected = [os.path.join("p", name) for name in ("a.png", "b.JPG", "sub/c.WebP", "x[1].gif")]
    assert list_pictures(["p"], STDIN) == expected
    assert list_pictures([str(folder / "p")], STDIN) == [str(folder / name) for name in expected]


def test_files_are_taken_as_they_are_and_need_not_exist(folder: Path) -> None:
    arguments = ["p/notes.txt", "absent.jpg", "p/a.png", "p/a.png", "p/.hidden.jpg"]
    assert list_pictures(arguments, STDIN) == arguments


def test_globs_that_no_shell_has_expanded(folder: Path) -> None:
    assert list_pictures(["p/*.???"], STDIN) == ["p/a.png", "p/b.JPG", "p/notes.txt", "p/x[1].gif"]
    assert list_pictures(["p/**/*.WebP"], STDIN) == ["p/sub/c.WebP"]
    # A name that looks like a glob but exists is that file.
    assert list_pictures(["p/x[1].gif"], STDIN) == ["p/x[1].gif"]


def test_standard_input_stands_where_it_was_named(folder: Path) -> None:
    assert list_pictures(["p/a.png", "-"], STDIN) == ["p/a.png", STDIN]


def test_a_list_names_paths_folders_and_globs(folder: Path) -> None:
    (folder / "list.txt").write_bytes("p/b.JPG\r\n\n  \np/sub\n#1.jpg\nÄ.png\np/*.png\n".encode())
    expected = ["p/b.JPG", os.path.join("p/sub", "c.WebP"), "#1.jpg", "Ä.png", "p/a.png"]
    assert list_pictures(["@list.txt"], STDIN) == expected


def test_names_that_are_no_text_survive_a_list(folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"p/\xff.png\n")
    (found,) = list_pictures(["@list.txt"], STDIN)
    assert os.fsencode(found) == b"p/\xff.png"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("empty", r"^empty: expected pictures \(.*\) in this folder, found none"),
        ("p/*.bmp", r"^p/\*\.bmp: expected files that match this pattern, found none"),
        ("@absent.txt", r"^@absent\.txt: expected a list of pictures, one per line: No such file"),
        ("@p/README", r"^@p/README: .* found no line"),
    ],
)
def test_arguments_that_name_nothing_are_errors(folder: Path, argument: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        list_pictures([argument], STDIN)
