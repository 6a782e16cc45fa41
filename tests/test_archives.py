"""Archives: unpacked whole or not at all, nothing outside of the folder; fetched on from any byte, and checked."""

import base64
import hashlib
import io
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sfhelpers.datasets import archives, published
from sfhelpers.datasets.__main__ import main
from tests.backbone_fixtures import refused

BODY = bytes(range(256)) * 40
BAD = ["../out.txt", "a/../../out.txt", "/out.txt", "C:/out.txt", "a\\..\\out.txt"]


def zipped(path, *members, **more):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content, **more)
    return path


def tarred(path, *members):
    with tarfile.open(path, "w:gz") as file:
        for info, content in members:
            info = tarfile.TarInfo(info) if isinstance(info, str) else info
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def left(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("make", [zipped, tarred])
def test_what_is_packed_comes_out_as_it_was_and_nothing_beside_it(make, tmp_path):
    archive = make(tmp_path / "a", ("png/caf\u00e9/1.png", b"one"), ("png/filelist.txt", b"two"))
    (new,) = archives.unpack(archive, tmp_path / "out")
    assert new == tmp_path / "out" / "png" and (new / "caf\u00e9" / "1.png").read_bytes() == b"one"
    assert left(tmp_path / "out") == ["png", "png/caf\u00e9", "png/caf\u00e9/1.png", "png/filelist.txt"]
    with refused("png is there already", FileExistsError):
        archives.unpack(archive, tmp_path / "out")
    assert main(["unpack", str(archive), str(tmp_path / "second")]) == 0 and left(tmp_path / "second")


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_member_that_would_leave_the_folder_stops_all(make, name, tmp_path):
    archive = make(tmp_path / "a", ("fine.txt", b"fine"), (name, b"bad"))
    with refused("would be written outside of its folder"):
        archives.unpack(archive, tmp_path / "in" / "out")
    assert left(tmp_path / "in" / "out") == [] and not list(tmp_path.rglob("out.txt"))


def test_links_devices_and_names_that_differ_in_case_alone_are_refused(tmp_path):
    members = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        members.append(info)
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    made = [tarred(tmp_path / f"{k}.tar", (info, b"")) for k, info in enumerate(members)]
    for archive in [*made, zipped(tmp_path / "l.zip", (link, "/etc/passwd"))]:
        with refused("is a link or a device"):
            archives.unpack(archive, tmp_path / "out")
    for twins in (("a/B.png", "A/b.png"), ("caf\u00e9", "cafe\u0301")):
        with refused("is named as"):
            archives.unpack(zipped(tmp_path / "t.zip", *((name, b"x") for name in twins)), tmp_path / "out")
    assert left(tmp_path / "out") == []


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_bomb_is_refused_before_it_fills_the_disk(make, tmp_path):
    archive = make(tmp_path / "a", ("fine.txt", b"fine"), ("zeros", bytes(30_000_000)))
    with refused("as a bomb does"):
        archives.unpack(archive, tmp_path / "out")
    assert left(tmp_path / "out") == []


@pytest.mark.parametrize("make", [zipped, tarred])
def test_what_is_cut_or_no_archive_is_told(make, tmp_path):
    noise = b"".join(hashlib.sha256(bytes([k])).digest() for k in range(200))
    whole = make(tmp_path / "a", ("one", noise), ("two", noise)).read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        (tmp_path / "cut").write_bytes(whole[:size])
        with refused("no zip or tar archive|is encrypted, cut or damaged"):
            archives.unpack(tmp_path / "cut", tmp_path / "out")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    (tmp_path / "flipped").write_bytes(flipped)
    with refused("is encrypted, cut or damaged"):
        archives.unpack(tmp_path / "flipped", tmp_path / "out")
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    with refused("unpack it with 7z x"):
        archives.unpack(tmp_path / "a.7z", tmp_path / "out")
    assert left(tmp_path / "out") == []


class Handler(BaseHTTPRequestHandler):
    """Serves BODY, from `Range` on, `cut` bytes at most, with Google's header."""

    cut, told, ranges = len(BODY), "", True

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.ranges else 0
        if start >= len(BODY) or self.path != "/full/cat%20nap.ndjson":
            self.send_error(416 if start else 404)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(BODY) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        if self.told:
            self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={self.told}")
        self.end_headers()
        self.wfile.write(BODY[start : start + self.cut])

    def log_message(self, *said):
        pass


@pytest.fixture
def served(monkeypatch):
    kind = type("Served", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield kind, f"http://127.0.0.1:{server.server_port}/full/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_fetch_cut_at_any_byte_goes_on_there(served, tmp_path):
    kind, base = served
    kind.told = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    path = tmp_path / "a"
    for size in (0, 1, 2, 255, len(BODY) - 1, len(BODY)):
        (tmp_path / "a.part").write_bytes(BODY[:size])
        assert archives.fetch(f"{base}cat%20nap.ndjson", path) == hashlib.sha256(BODY).hexdigest()
        assert path.read_bytes() == BODY and left(tmp_path) == ["a"]
    kind.cut, calls = 3000, 0
    while calls < 9:
        calls += 1
        try:
            archives.fetch(f"{base}cat%20nap.ndjson", tmp_path / "b")
            break
        except OSError as error:
            assert "call again to go on" in str(error)
    assert calls == 4 and (tmp_path / "b").read_bytes() == BODY
    kind.ranges = False
    kind.cut = len(BODY)
    (tmp_path / "c.part").write_bytes(b"of another file")
    archives.fetch(f"{base}cat%20nap.ndjson", tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == BODY, "a server that knows no ranges sends all of it"


def test_another_checksum_or_length_is_told_and_nothing_is_kept(served, tmp_path):
    kind, base = served
    kind.told = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    with refused("another length or checksum"):
        archives.fetch(f"{base}cat%20nap.ndjson", tmp_path / "a")
    kind.told = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    (tmp_path / "a.part").write_bytes(b"x" * 50)
    with refused("another length or checksum"):
        archives.fetch(f"{base}cat%20nap.ndjson", tmp_path / "a")
    (tmp_path / "a.part").write_bytes(b"x" * (len(BODY) + 9))
    with refused("416", OSError):
        archives.fetch(f"{base}cat%20nap.ndjson", tmp_path / "a")
    assert left(tmp_path) == []
    with refused("404", OSError):
        archives.fetch(f"{base}none", tmp_path / "a")


def test_only_what_a_licence_allows_is_fetched(served, tmp_path, monkeypatch, capsys):
    for name, entry in published.DATASETS.items():
        assert ("download" in entry) == entry["licence"].startswith("CC BY 4.0")
        if "download" not in entry:
            with refused("is not fetched: ask where it is kept .*licence: "):
                archives.addresses(name)
    for wrong in ((), ("unicorn",)):
        with refused("name some, as cat 'hot air balloon'"):
            archives.addresses("quickdraw", wrong)
    assert (
        archives.addresses("quickdraw", ["Hot_air balloon"])
        .popitem()[1]
        .endswith("/simplified/hot%20air%20balloon.ndjson")
    )
    _, base = served
    monkeypatch.setitem(published.DATASETS["quickdraw"], "download", {"base": base, "files": ["cat nap.ndjson"]})
    assert main(["fetch", "quickdraw", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "cat nap.ndjson").read_bytes() == BODY
    assert hashlib.sha256(BODY).hexdigest() in capsys.readouterr().out
