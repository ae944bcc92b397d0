import pytest

from dynamic_exit.core.file_archive import pack_files, read_archive, unpack_files, write_archive


@pytest.mark.parametrize("files", [{}, {"a": b""}, {"a": b"\0\1", "b/ü.bin": bytes(1000), "c": b""}], ids=len)
def test_files_come_out_as_they_went_in(files, tmp_path):
    assert unpack_files(pack_files(files)) == files
    write_archive(tmp_path / "a.zip", "key", files)
    assert read_archive(tmp_path / "a.zip", "key") == files
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_archive_of_another_key_or_none_is_not_taken(tmp_path):
    write_archive(tmp_path / "a.zip", "key", {"a": b"1"})
    assert read_archive(tmp_path / "a.zip", "another") is None
    (tmp_path / "b.zip").write_bytes(b"no archive")
    assert read_archive(tmp_path / "b.zip", "key") is None
