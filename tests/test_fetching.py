"""Weights come from a hub whole or not at all; what was cut is gone on from. The hub is one on this machine."""

import hashlib
import json
import shutil
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from sfhelpers.backbones.__main__ import main
from sfhelpers.backbones.fetching import fetch
from tests.backbone_fixtures import load, refused
from tests.test_halves import UNET, plain, same, sharded, written  # noqa: F401  a fixture

BASE, DINO, TUNED = "stabilityai/stable-diffusion-2-1", "timm/vit_small_patch8_224.dino", "CompVis/cleandift"
SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """What of a hub's interface a fetch uses: the list of a repository's files, and their bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        place = self.path.partition("?")[0].lstrip("/")
        name = place.removeprefix("api/models/").partition("/resolve/")[0]
        if name not in self.server.repos:
            return self.answer(404, b"{}")
        folder = self.server.repos[name]
        if place.startswith("api/"):
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            listed = [self.told(path, path.relative_to(folder).as_posix()) for path in paths]
            return self.answer(200, json.dumps({"id": name, "sha": SHA, "siblings": listed}).encode())
        file = place.partition(f"/resolve/{SHA}/")[2]
        self.server.asked[file] += 1
        content = (folder / file).read_bytes()
        if file == self.server.flipped:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        end = self.server.cut if file.endswith(".safetensors") and self.server.cut is not None else len(content)
        self.server.sent[file] += max(0, end - start)
        self.answer(206 if start else 200, content[start:end], len(content) - start)

    def told(self, path, name):
        content = path.read_bytes()
        known = {"rfilename": name, "size": len(content)}
        known["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        large = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
        return known | ({"lfs": large} if path.suffix == ".safetensors" else {})

    def answer(self, code, content, length=None):
        self.send_response(code)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True  # in the middle of a file, where it was cut

    def log_message(self, *given):
        pass


@pytest.fixture
def hub(plain, tmp_path, monkeypatch):  # noqa: F811
    """A server, and an empty cache."""
    sharded(plain)
    (plain / "unet/diffusion_pytorch_model.bin").write_bytes(b"pickled")
    shutil.copy(
        plain / "vae/diffusion_pytorch_model.safetensors", plain / "vae/diffusion_pytorch_model.fp16.safetensors"
    )
    shutil.rmtree(plain / "again")
    (tmp_path / "tuned").mkdir()
    _, dino = written("dino-s8", tmp_path / "dino", monkeypatch)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repos, server.asked, server.sent = {BASE: plain, DINO: dino, TUNED: tmp_path / "tuned"}, Counter(), Counter()
    server.cut, server.flipped, server.url = None, "", f"http://127.0.0.1:{server.server_port}"
    for name, value in {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": False}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_backbone_that_was_fetched_is_read_and_nothing_is_brought_twice(hub, tiny_backbone, capsys):
    fetch("sd21+dino-s8", hub.url)  # of two ids the first is not there
    kept = hub.asked.copy()
    assert set(kept.values()) == {1} and not any(name.endswith((".bin", ".fp16.safetensors")) for name in kept)
    assert sum("-of-" in name for name in kept) > 2 and "model.safetensors" in kept
    fetch("sd21+dino-s8", hub.url)
    assert hub.asked == kept and main(["check", "sd21+dino-s8"]) == 0
    assert "GB  sd21+dino-s8 is here" in capsys.readouterr().out
    backbone = load("sd21+dino-s8")
    backbone.diffusion.size = 96
    assert same(backbone, tiny_backbone)


def test_a_file_that_was_cut_is_gone_on_from_and_never_read(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)  # what was received of one is lost
    hub.cut, name = 1000, "model.safetensors"
    with refused(f"{name} was cut off .*: run this again", ConnectionError):
        fetch("dino-s8", hub.url)
    (part,) = tmp_path.glob("cache/*/snapshots/*/*")
    assert part.name == f"{name}.part" and part.stat().st_size == 1000 and main(["check", "dino-s8"]) == 1
    hub.cut, hub.sent[name] = None, 0
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10**6)
    fetch("dino-s8", hub.url)
    assert hub.sent[name] == (hub.repos[DINO] / name).stat().st_size - 1000 and main(["check", "dino-s8"]) == 0


@pytest.mark.parametrize("name", ["model.safetensors", "vae/config.json"])
def test_other_bytes_than_the_hub_describes_are_not_kept(hub, name):
    hub.flipped, half = name, "dino-s8" if name == "model.safetensors" else "sd21+dino-s8"
    with refused(f"{name} came with other bytes than the hub describes"):
        fetch(half, hub.url)
    hub.flipped = ""
    fetch(half, hub.url)
    assert main(["check", half]) == 0


def test_cleandift_is_fetched_without_the_unet_that_it_replaces(hub, tmp_path, tiny_folder):
    with refused("lacks cleandift_sd21_unet.safetensors|tried CompVis/cleandift", FileNotFoundError):
        fetch("cleandift-sd21+dino-s8", hub.url)
        load("cleandift-sd21+dino-s8")
    shutil.copy(tiny_folder / UNET, tmp_path / "tuned/cleandift_sd21_unet.safetensors")
    fetch("cleandift-sd21+dino-s8", hub.url)
    assert not any("unet/diffusion" in name for name in hub.asked) and load("cleandift-sd21+dino-s8").diffusion.clean


def test_what_no_hub_gives_is_refused_in_one_sentence(hub, tmp_path):
    for name, kind, said in (
        ("sd22", ValueError, "there is no half 'sd22': choose from pocket, sd14"),
        ("sd15", ConnectionError, "no hub gives stable-diffusion-v1-5/.*: connect, unset HF_HUB_OFFLINE, or name"),
        ("sd21:nobody/model", ConnectionError, r"no hub gives nobody/model \("),
    ):
        with refused(said, kind):
            fetch(name, hub.url)
    fetch(f"pocket+dino-s8:{hub.repos[DINO]}", "http://127.0.0.1:9")  # where all is here, no hub is asked
