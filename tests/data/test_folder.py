from __future__ import annotations

import os
from pathlib import Path

import pytest

from odd_photos import UNICODE_NAME, make_odd_photos
from promptad.data import folder
from promptad.data.folder import find_photos
from promptad.data.photos import read_photo
from promptad.errors import DataError
from promptad.notices import PromptadNotice


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_photos_are_sorted_and_suffixes_have_any_case(tmp_path: Path) -> None:
    wanted = ["a/1.JPEG", "a/2.png", "b.Tif", "c.webp", "d.BMP", "e.gif", "f.PGM", "g.ppm", "h.jpg", "i.TIFF"]
    touch(tmp_path, *reversed(wanted))
    photos, skipped, _ = find_photos(tmp_path)
    assert names(photos, tmp_path) == sorted(wanted)
    assert skipped == []


def test_other_files_are_listed_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "heif_available", lambda: False)
    touch(tmp_path, "ok.jpg", "notes.txt", "README", "phone.HEIC", "camera.CR2")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    photos, skipped, failed = find_photos([tmp_path])
    assert names(photos, tmp_path) == ["ok.jpg"]
    assert [(path.name, reason) for path, reason in skipped] == [
        ("README", "has no suffix"),
        ("notes.txt", "suffix .txt is not a photo's"),
    ]
    assert [path.name for path, _ in failed] == ["camera.CR2", "lost.png", "phone.HEIC"]
    assert all(";" in reason for _, reason in failed), "a way out for each"
    assert "promptad[heif]" in failed[2][1]
    monkeypatch.setattr(folder, "heif_available", lambda: True)
    assert "phone.HEIC" in names(find_photos(tmp_path)[0], tmp_path)


def test_litter_is_passed_over_in_silence(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "ok.jpg",
        ".hidden.jpg",
        "._ok.jpg",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "__MACOSX/x.jpg",
        ".cache/x.jpg",
    )
    photos, skipped, _ = find_photos(tmp_path)
    assert names(photos, tmp_path) == ["ok.jpg"]
    assert skipped == []


def test_a_hidden_file_or_folder_named_outright_counts(tmp_path: Path) -> None:
    touch(tmp_path, ".one.jpg", ".box/two.jpg")
    photos, _, _ = find_photos([tmp_path / ".one.jpg", tmp_path / ".box"])
    assert names(photos, tmp_path) == [".box/two.jpg", ".one.jpg"]


def test_files_and_folders_mixed_without_duplicates(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg")
    (tmp_path / "a" / "again.jpg").symlink_to("1.jpg")
    given = [str(tmp_path / "b" / "3.jpg"), tmp_path / "a", tmp_path / "a" / "1.jpg", tmp_path / "b"]
    photos, skipped, _ = find_photos(given)
    assert names(photos, tmp_path) == ["a/1.jpg", "a/2.jpg", "b/3.jpg"]
    assert skipped == []
    assert find_photos(reversed(given))[0] == photos


def test_recursion_can_be_switched_off(tmp_path: Path) -> None:
    touch(tmp_path, "top.jpg", "deep/down.jpg", "folder.jpg/inside.png")
    assert names(find_photos(tmp_path, recursive=False)[0], tmp_path) == ["top.jpg"]
    assert names(find_photos(tmp_path)[0], tmp_path) == ["deep/down.jpg", "folder.jpg/inside.png", "top.jpg"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/1.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "linked").symlink_to(tmp_path / "a" / "b", target_is_directory=True)
    (tmp_path / "a" / "self.png").symlink_to("self.png")
    photos, skipped, failed = find_photos(tmp_path)
    assert [path.name for path, _ in failed] == ["self", "self.png"] and skipped == []
    assert [photo.resolve() for photo in photos] == [(tmp_path / "a/b/1.jpg").resolve()]


def test_a_link_that_may_have_led_to_a_folder_of_photos_is_failed(tmp_path: Path) -> None:
    touch(tmp_path, "ok.jpg")
    for name in ("photos", "batch.2024", "good"):
        (tmp_path / name).symlink_to(tmp_path / "disk that is not there" / name)
    _, skipped, failed = find_photos(tmp_path)
    assert [path.name for path, _ in failed] == ["batch.2024", "good", "photos"] and skipped == []
    assert {reason for _, reason in failed} == {"broken link; restore what it points to, or remove it"}


def test_a_folder_that_is_only_reached_by_a_link_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "store/1.jpg")
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "photos").symlink_to(tmp_path / "store", target_is_directory=True)
    assert names(find_photos(tmp_path / "view")[0], tmp_path) == ["view/photos/1.jpg"]


def test_an_unreadable_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "ok.jpg", "locked/1.jpg")
    listing = Path.iterdir

    def iterdir(self: Path) -> object:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    photos, skipped, failed = find_photos(tmp_path)
    assert names(photos, tmp_path) == ["ok.jpg"]
    assert skipped == []
    assert failed == [(tmp_path / "locked", "folder cannot be read (Permission denied); change its rights or copy it")]
    with pytest.raises(DataError, match="cannot be read"):
        find_photos(tmp_path / "locked")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "ok.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert find_photos(tmp_path)[1] == [(tmp_path / "pipe.jpg", "not a regular file")]


def test_an_unreadable_photo_is_failed_and_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "ok.jpg", "locked.jpg")
    stat_of = Path.stat

    def stat(self: Path, **options: bool) -> os.stat_result:
        if self.name == "locked.jpg":
            raise PermissionError(13, "Permission denied")
        return stat_of(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    photos, skipped, failed = find_photos(tmp_path)
    assert names(photos, tmp_path) == ["ok.jpg"] and skipped == []
    assert failed == [(tmp_path / "locked.jpg", "cannot be opened (Permission denied); change its rights or copy it")]
    with pytest.raises(DataError, match=r"locked\.jpg: cannot be opened \(Permission denied\); change its rights"):
        find_photos(tmp_path / "locked.jpg")


def test_only_unreadable_photos_is_an_error_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    for given in (tmp_path, tmp_path / "lost.png"):
        with pytest.raises(DataError, match=r"no photo found, 1 file was left out \(lost\.png: broken link"):
            find_photos(given)


def test_what_a_folder_of_good_photos_holds_besides_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "ok.jpg", "notes.txt")
    with pytest.warns(PromptadNotice, match=r"notes\.txt: not used: suffix \.txt is not a photo's"):
        assert list(folder.each_photo(tmp_path)) == [tmp_path / "ok.jpg"]


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no photo found; expected \.jpg, .*; give a folder that holds photos"):
        find_photos(tmp_path)
    touch(tmp_path, "deep/1.jpg")
    with pytest.raises(DataError, match="look into its subfolders too"):
        find_photos(tmp_path, recursive=False)
    touch(tmp_path, "a.txt", "b.txt")
    with pytest.raises(DataError, match=r"no photo found, 2 files were left out \(a\.txt: suffix") as caught:
        find_photos([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no photo was named"):
        find_photos([])


def test_a_missing_path_is_an_error_even_beside_good_ones(tmp_path: Path) -> None:
    touch(tmp_path, "ok.jpg")
    with pytest.raises(DataError, match=r"gone: there is no such file or folder"):
        find_photos([tmp_path / "ok.jpg", tmp_path / "gone"])
    with pytest.raises(DataError, match="cannot be opened"):
        find_photos(tmp_path / "ok.jpg" / "below")


def test_a_folder_of_odd_photos(tmp_path: Path) -> None:
    made = make_odd_photos(tmp_path)
    photos, skipped, failed = find_photos(tmp_path)
    listed = {path.name for path in photos} | {path.name for path, _ in (*skipped, *failed)}
    assert listed == set(made) - {"folder.jpg"}
    assert UNICODE_NAME in {path.name for path in photos}
    assert "notes.txt" in {path.name for path, _ in skipped}
    assert all(made[path.name] == "error" for path, _ in skipped)


def test_real_photos(shared_data: Path) -> None:
    photos, skipped, _ = find_photos(shared_data / "cookies" / "train" / "good")
    assert len(photos) == 31 and skipped == []
    photo = read_photo(photos[0])
    assert sorted(photo.shape) == [3, 576, 768]
    assert 20 < photo.std() < 120
