"""Packages as pip leaves them where it installs them, for tests that bring them to nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

from asparkle.backends.ssh.wheels import Package, installed, wheel_name, write_wheel

PURE = "py3-none-any"
NEEDED = ("anyio", "cloudpickle", "idna", "msgpack", "pluggy", "sniffio", "structlog", "typing_extensions")
"""What asparkle requires."""


def install(
    site: Path, name: str, files: Mapping[str, str | bytes], version: str = "1.5", tag: str = PURE, by: str = "pip"
) -> None:
    """A package with these files."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    told: dict[str, str | bytes] = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: {tag}\n",
        f"{info}/INSTALLER": f"{by}\n",
    }
    rows = []
    for path, content in {**files, **told}.items():
        data = content.encode() if isinstance(content, str) else content
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(data)
        rows.append(f"{path},sha256={urlsafe_b64encode(sha256(data).digest()).decode().rstrip('=')},{len(data)}\n")
    (site / info / "RECORD").write_text("".join([*rows, f"{info}/RECORD,,\n"]))


def wheel_of(package: Package, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / wheel_name(package)
    for _ in write_wheel(package, path):
        pass
    return path


def pip_install(target: Path, wheels: Iterable[Path]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--target", target]
    environment = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull}
    subprocess.run([*command, *wheels], check=True, capture_output=True, env=environment)


def copy_installed(site: Path, names: Iterable[str]) -> None:
    """Packages of this environment, as pip installs them there."""
    pip_install(site, [wheel_of(installed(distribution(name)), site.parent / "wheels") for name in names])
