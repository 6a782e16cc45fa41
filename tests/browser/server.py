"""A JupyterLab of its own: a free port of 127.0.0.1, a random token, settings and notebooks in a temporary folder."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 60  # seconds until it must answer
SETTINGS = {"fetchNews": "false", "checkForUpdates": False}


@dataclass(frozen=True)
class Server:
    """A running JupyterLab: its address, its token, and the folder it shows."""

    address: str
    token: str
    folder: Path

    def lab(self, notebook: str) -> str:
        """The address of a notebook in its folder, without what an earlier visit left open."""
        return f"{self.address}/lab/tree/{notebook}?token={self.token}&reset"


@contextmanager
def running(folder: Path, home: Path) -> Iterator[Server]:
    """Serve `folder`; settings, runtime files and the log go into `home`. It ends, with its kernels, with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Server(f"http://127.0.0.1:{probe.getsockname()[1]}", secrets.token_hex(16), folder)
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", "--ServerApp.port_retries=0"]
    command += [f"--port={server.address.rpartition(':')[2]}", f"--IdentityProvider.token={server.token}"]
    command += [f"--ServerApp.root_dir={folder}", "--expose-app-in-browser", "--allow-root"]
    log = home / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=_environment(home), cwd=home
        )
        try:
            _wait(server, process, log)
            yield server
        finally:
            process.terminate()  # it ends its kernels too
            process.wait(timeout=30)


def _environment(home: Path) -> dict[str, str]:
    folders = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    settings = home / "config/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
    variables = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "JUPYTER_PATH")}
    return variables | folders | {"IPYTHONDIR": str(home / "ipython"), "HF_HUB_OFFLINE": "1"}


def _wait(server: Server, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + DEADLINE
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{server.address}/api/status?token={server.token}", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab does not answer; its last words:\n{log.read_text(errors='replace')[-2000:]}")
