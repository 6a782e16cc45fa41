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
SETTINGS = {"@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False}}


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
    port, token = _free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    command += ["--expose-app-in-browser"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    log = home / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=_environment(home), cwd=home
        )
        try:
            server = Server(f"http://127.0.0.1:{port}", token, folder)
            _wait(server, process, log)
            yield server
        finally:
            process.terminate()  # it ends its kernels too
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(home: Path) -> dict[str, str]:
    folders = {f"JUPYTER_{name}_DIR": home / name.lower() for name in ("CONFIG", "DATA", "RUNTIME")}
    folders["IPYTHONDIR"] = home / "ipython"
    for path in folders.values():
        path.mkdir()
    for name, values in SETTINGS.items():
        path = folders["JUPYTER_CONFIG_DIR"] / "lab" / "user-settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    variables = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "JUPYTER_PATH")}
    return variables | {key: str(path) for key, path in folders.items()} | {"HF_HUB_OFFLINE": "1"}


def _wait(server: Server, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + DEADLINE
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{server.address}/api/status?token={server.token}", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab does not answer; its last words:\n{log.read_text(errors='replace')[-2000:]}")
