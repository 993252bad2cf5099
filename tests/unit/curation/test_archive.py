"""Archives are unpacked whole or not at all, within limits, and no trick leads out of the folder."""

import bz2
import functools
import gzip
import hashlib
import http.server
import io
import lzma
import stat
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rfdetr_hwd.curation.archive import Limits, new_folder, safe_parts, unpack
from rfdetr_hwd.curation.fetch import fetch, fetch_and_unpack
from rfdetr_hwd.data.findings import DatasetError

FILES = {"train/a.jpg": b"first", "train/b.jpg": b"", "data.yaml": b"names: [x]\n"}


def write_zip(path: Path, files: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as contents:
        for name, text in files.items():
            contents.writestr(name, text)
    return path


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w", **options: Any) -> Path:
    with tarfile.open(path, mode, **options) as contents:  # type: ignore[call-overload]
        for info, text in members:
            info.size = len(text)
            contents.addfile(info, io.BytesIO(text))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o4777
    return info


def plain(path: Path, mode: str = "w") -> Path:
    return write_tar(path, [(entry("./", tarfile.DIRTYPE), b""), *((entry(n), t) for n, t in FILES.items())], mode)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, message: str, limits: Limits | None = None) -> None:
    """Unpacking is refused, and leaves nothing but what was there."""
    target, before = archive.parent / "out", set(archive.parent.iterdir())
    with pytest.raises(DatasetError, match=message) as caught:
        unpack(archive, target, limits or Limits())
    assert archive.name in str(caught.value)
    assert set(archive.parent.iterdir()) == before


@pytest.mark.parametrize("kind", ["stored", "deflated", "bzip2", "tar", "gz", "bz2", "xz"])
def test_every_kind_comes_out_as_it_went_in(tmp_path: Path, kind: str) -> None:
    methods = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2}
    archive = tmp_path / "data.bin"  # the name does not matter
    if kind in methods:
        write_zip(archive, {**FILES, "empty/": b""}, compression=methods[kind])
    else:
        plain(archive, "w" if kind == "tar" else f"w:{kind}")
    assert unpack(archive, tmp_path / "new" / "out") == (3, 16)
    assert tree(tmp_path / "new" / "out") == FILES
    assert not (tmp_path / "new/out/train/a.jpg").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"out"}


TRICKS = {
    "/etc/passwd": "is absolute",
    "../evil": "contains [.][.]",
    "a/../../evil": "contains [.][.]",
    "a\\..\\..\\evil": "contains a backslash",
    "C:evil": "is absolute",
    "a\nb": "contains a control character",
    "a/" * 65 + "b": "is deeper than 64 directories",
}


@pytest.mark.parametrize(("name", "message"), TRICKS.items(), ids=lambda value: repr(value)[:30])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str, message: str) -> None:
    refused(write_zip(tmp_path / "x.zip", {"ok": b"1", name: b"x"}), message)
    refused(write_tar(tmp_path / "x.tar", [(entry("ok"), b"1"), (entry(name), b"x")]), message)
    assert not (tmp_path.parent / "evil").exists()


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a.jpg_/../evil": b"x"})
    path.write_bytes(path.read_bytes().replace(b"a.jpg_", b"a.jpg\0"))
    refused(path, "contains [.][.]|control character")
    path = write_zip(tmp_path / "y.zip", {"a.jpg_b": b"x"})
    path.write_bytes(path.read_bytes().replace(b"a.jpg_", b"a.jpg\0"))
    refused(path, "contains a control character")


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"?"):
        refused(write_tar(tmp_path / "x.tar", [(entry("a", kind, "/etc"), b"")]), "neither a file nor a directory")
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK):
        info = zipfile.ZipInfo("a")
        info.external_attr = (kind | 0o777) << 16
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as contents:
            contents.writestr(info, "/etc")
        refused(tmp_path / "x.zip", "neither a file nor a directory")


def test_a_write_through_a_link_stops_at_the_link(tmp_path: Path) -> None:
    refused(
        write_tar(tmp_path / "x.tar", [(entry("a", tarfile.SYMTYPE, ".."), b""), (entry("a/evil"), b"x")]),
        "member 'a': it is neither",
    )


def test_sparse_members_are_refused(tmp_path: Path) -> None:
    info = entry("a")
    info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 50), "GNU.sparse.name": "a"}
    refused(write_tar(tmp_path / "x.tar", [(info, b"x")], format=tarfile.PAX_FORMAT), "neither a file nor a directory")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_stand_twice_are_refused(tmp_path: Path) -> None:
    for twice in ("a/b", "a//b", "./a/b"):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as contents:
            contents.writestr("a/b", "1")
            contents.writestr(twice, "2")
        refused(tmp_path / "x.zip", "is in the archive twice")
        refused(write_tar(tmp_path / "x.tar", [(entry("a/b"), b"1"), (entry(twice), b"2")]), "is in the archive twice")
    refused(write_zip(tmp_path / "y.zip", {"a": b"1", "a/b": b"2"}), "'a/b': its directory is also a file")
    refused(write_zip(tmp_path / "z.zip", {"a/b": b"1", "a": b"2"}), "'a': the archive already has a file of that name")


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    limits = Limits(max_members=2)
    refused(write_zip(tmp_path / "x.zip", FILES), "more than 2 members", limits)
    refused(plain(tmp_path / "x.tar"), "more than 2 members", limits)


def test_bytes_are_counted_and_not_believed(tmp_path: Path) -> None:
    limits = Limits(max_bytes=100_000)
    bomb = write_zip(tmp_path / "x.zip", {"a": bytes(90_000), "b": bytes(90_000)}, compression=zipfile.ZIP_DEFLATED)
    refused(bomb, "more than 100000 bytes", limits)
    lying = bytearray(bomb.read_bytes())  # both headers of both members say 10 bytes
    for at in range(len(lying)):
        if lying[at : at + 4] == struct.pack("<I", 90_000):
            lying[at : at + 4] = struct.pack("<I", 10)
    (tmp_path / "y.zip").write_bytes(lying)
    refused(tmp_path / "y.zip", "corrupt", limits)  # cut at 10 bytes, whose checksum is another
    for mode in ("w:gz", "w:bz2", "w:xz"):
        tar = write_tar(tmp_path / "x.tar", [(entry("a"), bytes(90_000)), (entry("b"), bytes(90_000))], mode)
        refused(tar, "more than 100000 bytes", limits)


def test_a_high_ratio_is_refused(tmp_path: Path) -> None:
    limits = Limits(ratio_from=1000)
    refused(write_zip(tmp_path / "x.zip", {"a": bytes(1 << 20)}, compression=8), "more than 100 times its size", limits)
    refused(write_tar(tmp_path / "x.tar", [(entry("a"), bytes(1 << 20))], "w:xz"), "more than 100 times", limits)
    assert unpack(tmp_path / "x.zip", tmp_path / "out", Limits()) == (1, 1 << 20)  # small: not looked at


def test_one_piece_of_data_under_many_names_is_refused(tmp_path: Path) -> None:
    """A bomb of overlapping members: the directory names one member twenty times."""
    write_zip(tmp_path / "x.zip", {"a": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    whole = (tmp_path / "x.zip").read_bytes()
    end = whole.rindex(b"PK\5\6")
    start = whole.rindex(b"PK\1\2")
    record = whole[start:end]
    directory = b"".join(record[:-1] + bytes([ord("a") + i]) for i in range(20))  # the name is the record's end
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 20, 20, len(directory), start, 0)
    (tmp_path / "x.zip").write_bytes(whole[:start] + directory + tail)
    refused(tmp_path / "x.zip", "corrupt")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    whole = bytearray(write_zip(tmp_path / "x.zip", {"a": b"x"}).read_bytes())
    whole[6] |= 1
    whole[whole.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(whole)
    refused(tmp_path / "x.zip", "'a': it is encrypted")


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_tar_headers_are_not_read_into_memory(tmp_path: Path, kind: int) -> None:
    refused(write_tar(tmp_path / "x.tar", [(entry("a/" * 600000 + "b"), b"x")], format=kind), "a header of")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_damaged_archives_are_refused(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "x.tar"
    tar = plain(path).read_bytes()
    whole = pack(tar)
    for size in {*range(0, 64, 7), *range(0, len(whole), max(1, len(whole) // 40))}:
        path.write_bytes(whole[:size] if pack is not bytes else whole[: min(size, len(tar) - 10240 + 2560)])
        if pack is bytes and size > 3072:
            continue  # all members are there, and padding after them
        refused(path, "corrupt or not a zip or tar")
    broken = bytearray(tar)
    broken[1024 + 512] ^= 255  # within the second header
    path.write_bytes(pack(bytes(broken)))
    refused(path, "corrupt or not a zip or tar")
    path.write_bytes(pack(tar[:2048]))  # ends between two members
    refused(path, "corrupt or not a zip or tar")


def test_damaged_zips_and_other_files_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a": bytes(range(256)) * 20}, compression=zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    for at in range(40, 200, 13):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        refused(path, "corrupt or not a zip or tar")
    path.write_bytes(whole[:-30])
    refused(path, "corrupt or not a zip or tar")
    path.write_bytes(b"<html>404</html>" * 100)
    refused(path, "corrupt or not a zip or tar")
    with pytest.raises(DatasetError, match="cannot read .*none"):
        unpack(tmp_path / "none", tmp_path / "out")


def test_the_target_must_not_exist(tmp_path: Path) -> None:
    archive = plain(tmp_path / "x.tar")
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match="out already exists"):
        unpack(archive, tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="link already exists"):
        unpack(archive, tmp_path / "link")


def test_a_new_folder_is_whole_or_absent(tmp_path: Path) -> None:
    def fill(error: BaseException) -> None:
        with new_folder(tmp_path / "deep" / "out") as folder:
            (folder / "a").touch()
            raise error

    for error, seen in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left"), DatasetError)):
        with pytest.raises(seen):
            fill(error)
        assert list((tmp_path / "deep").iterdir()) == []


def test_safe_parts() -> None:
    assert safe_parts("./a//b.jpg") == ("a", "b.jpg")
    for name in ("", ".", "/"):
        with pytest.raises(DatasetError):
            safe_parts(name)


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802
        if self.path.startswith("/short"):
            self.send_response(200)
            self.send_header("Content-Length", "40")
            self.end_headers()
            self.wfile.write(b"half")
        elif self.path.startswith("/to-file"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd?secret")
            self.end_headers()
        elif self.path.startswith("/to-ftp"):
            self.send_response(302)
            self.send_header("Location", "ftp://host/?secret")
            self.end_headers()
        elif self.path.startswith("/to-data"):
            self.send_response(302)
            self.send_header("Location", "/data.zip?key=secret")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    write_zip(tmp_path / "www" / "data.zip", FILES)
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path / "www"))
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()
    thread.join()


def test_fetch_checks_the_sum(tmp_path: Path, server: str) -> None:
    whole = (tmp_path / "www" / "data.zip").read_bytes()
    digest = hashlib.sha256(whole).hexdigest()
    for number, url in enumerate((f"{server}/data.zip", f"{server}/to-data", (tmp_path / "www/data.zip").as_uri())):
        assert fetch(url, tmp_path / f"{number}.zip", digest.upper()) == digest
        assert (tmp_path / f"{number}.zip").read_bytes() == whole
    with pytest.raises(DatasetError, match=f"its sha256 is {digest}, not {'0' * 64}"):
        fetch(f"{server}/data.zip", tmp_path / "bad.zip", "0" * 64)
    assert {path.name for path in tmp_path.iterdir()} == {"www", "0.zip", "1.zip", "2.zip"}
    assert fetch_and_unpack(f"{server}/data.zip", tmp_path / "new" / "out", digest) == (3, 16)
    assert tree(tmp_path / "new") == {f"out/{name}": text for name, text in FILES.items()}


def test_fetch_refuses_and_leaves_nothing(tmp_path: Path, server: str) -> None:
    for url, message in {
        f"{server}/none?key=secret": "404",
        f"{server}/short?key=secret": "ended after 4 of 40 bytes",
        f"{server}/to-file?key=secret": "the server answers 302",
        f"{server}/to-ftp?key=secret": "redirects from http to ftp",
        f"{server}/data.zip?key=secret": "has more than 50 bytes",
        "http://user:secret@127.0.0.1:1/x?key=secret": "cannot download http://127.0.0.1:1/x",
        "ftp://host/secret_": "must begin with https://",
        "http://host/a b?key=secret": "a space or a control character",
        "http://[/?key=secret": "the URL is not valid",
        "http://host:port/?key=secret": "cannot download",
        "http://a..b/?key=secret": "cannot download",
        "file:///none/such": "No such file",
    }.items():
        with pytest.raises(DatasetError, match=message) as caught:
            fetch(url, tmp_path / "x", max_bytes=50)
        assert "secret" not in str(caught.value).replace("secret_", "")
    with pytest.raises(DatasetError, match="is not a sha256"):
        fetch(f"{server}/data.zip", tmp_path / "x", "abc")
    with pytest.raises(DatasetError, match="www already exists"):
        fetch(f"{server}/data.zip", tmp_path / "www")
    assert {path.name for path in tmp_path.iterdir()} == {"www"}
