"""Downloads from a server on the loopback, and archives good and bad."""

import contextlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data.archives import (
    ArchiveError,
    DownloadError,
    download,
    download_official,
    unpack,
    unpack_stanford,
)

CONTENT = bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    """Serves files, with ranges; the first `broken` answers stop half way."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.broken, self.ranges = files, 0, True
        self.announced = None
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(self.server.announced or len(body)))
        self.end_headers()
        if self.server.broken:
            self.server.broken -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server({"a.tar": CONTENT})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(server, path, **more):
    return download(f"{server.url}/a.tar", path, sleep=lambda seconds: None, **more)


def test_a_file_is_downloaded(server, tmp_path):
    assert fetch(server, tmp_path / "sub" / "a.tar").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.tar"]


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    server.broken = 2
    assert fetch(server, tmp_path / "a.tar").read_bytes() == CONTENT
    starts = [int(wanted[6:-1]) for wanted in server.requests[1:]]
    assert server.requests[0] is None and 0 < starts[0] < starts[1] < len(CONTENT)


def test_a_later_run_goes_on_with_what_an_earlier_one_left(server, tmp_path):
    server.broken = 1
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "a.tar", attempts=1)
    assert not (tmp_path / "a.tar").exists()
    assert fetch(server, tmp_path / "a.tar").read_bytes() == CONTENT
    assert server.requests[1].startswith("bytes=4")  # near the half, 512000


def test_a_server_without_ranges_sends_everything_again(server, tmp_path):
    server.broken, server.ranges = 1, False
    assert fetch(server, tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_complete_part_is_taken_without_a_byte_more(server, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "a.tar").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_part_longer_than_the_file_starts_anew(server, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT + b"more")
    assert fetch(server, tmp_path / "a.tar").read_bytes() == CONTENT


def test_a_size_that_is_never_reached_is_an_error(server, tmp_path):
    server.announced, server.ranges = len(CONTENT) + 10, False
    with pytest.raises(DownloadError, match="a.tar"):
        fetch(server, tmp_path / "a.tar", attempts=2)
    assert not (tmp_path / "a.tar").exists()


def test_an_absent_file_is_an_error_that_names_the_address(server, tmp_path):
    with pytest.raises(DownloadError, match=f"{server.url}/none.tar"):
        download(f"{server.url}/none.tar", tmp_path / "x", attempts=2, sleep=lambda seconds: None)


def test_a_file_that_is_there_is_not_asked_for(server, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"mine")
    assert fetch(server, tmp_path / "a.tar").read_bytes() == b"mine"
    assert server.requests == []


def test_the_official_download_fetches_all_three(server, tmp_path):
    server.files = {name: name.encode() for name in ("images.tar", "annotation.tar", "lists.tar")}
    download_official(tmp_path, server.url)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == server.files


def make_tar(path, files, **member):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in member.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return path


def make_archives(folder):
    folder.mkdir()
    make_tar(folder / "images.tar", {"Images/n1-a/1.jpg": b"photo"})
    make_tar(folder / "annotation.tar", {"Annotation/n1-a/1": b"xml"})
    make_tar(folder / "lists.tar", {"train_list.mat": b"list"})


def test_the_three_archives_become_the_datasets_layout(tmp_path):
    make_archives(tmp_path / "tars")
    source = unpack_stanford(tmp_path / "tars", tmp_path / "cache")
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert files == {"Images/n1-a/1.jpg", "Annotation/n1-a/1", "lists/train_list.mat"}


def test_archives_are_unpacked_once(tmp_path):
    make_archives(tmp_path / "tars")
    source = unpack_stanford(tmp_path / "tars", tmp_path / "cache")
    (source / "mark").touch()
    assert (unpack_stanford(tmp_path / "tars", tmp_path / "cache") / "mark").exists()


def test_an_absent_archive_is_named(tmp_path):
    make_tar(tmp_path / "images.tar", {})
    with pytest.raises(ArchiveError, match="annotation.tar"):
        unpack_stanford(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/etc/outside"])
def test_nothing_is_unpacked_outside_the_folder(tmp_path, name):
    archive = make_tar(tmp_path / "a.tar", {name: b"x"})
    with contextlib.suppress(ArchiveError):
        unpack(archive, tmp_path / "deep" / "in")
    inside = {path.name for path in (tmp_path / "deep" / "in").rglob("*")}
    assert not (tmp_path / "outside").exists() and not (tmp_path / "deep" / "outside").exists()
    assert inside <= {"etc", "outside"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    archive = make_tar(tmp_path / "a.tar", {"x": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(ArchiveError, match="'x'"):
        unpack(archive, tmp_path / "in")


@pytest.mark.parametrize("content", [b"no tar at all" * 100, b""])
def test_what_is_no_archive_is_an_error(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ArchiveError, match="a.tar"):
        unpack(tmp_path / "a.tar", tmp_path / "in")


def test_a_truncated_archive_leaves_nothing_behind(tmp_path):
    make_archives(tmp_path / "tars")
    make_tar(tmp_path / "tars" / "images.tar", {"Images/n1-a/1.jpg": b"x" * 100_000})
    with (tmp_path / "tars" / "images.tar").open("r+b") as file:
        file.truncate(50_000)
    with pytest.raises(ArchiveError, match="images.tar"):
        unpack_stanford(tmp_path / "tars", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
