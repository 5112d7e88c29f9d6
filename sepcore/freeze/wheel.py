"""Writes a wheel of a frozen network: the same bytes for the same network. It must not know what is in the files.

Format: Python Packaging User Guide, "Binary distribution format".
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)
_NUMPY = "numpy>=1.26"
_PYTHON = ">=3.10"


def write_wheel(folder: Path, package: str, contents: Mapping[str, bytes], machines: Sequence[str]) -> Path:
    """Write the wheel of ``package`` into ``folder`` and return its path.

    The version is 1.0+ and the first digits of the contents' SHA-256, so that pip tells two networks apart.

    Parameters
    ----------
    contents : the package's files by their names in it.
    machines : what the machine code is for, as ``platform.machine()`` says on Linux.
    """
    total = hashlib.sha256()
    for name, content in sorted(contents.items()):
        total.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    version = f"1.0+{total.hexdigest()[:12]}"
    tags = ".".join(f"linux_{machine}" for machine in machines)
    info = f"{package}-{version}.dist-info"
    files = {f"{package}/{name}": content for name, content in sorted(contents.items())}
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        f"Summary: A network frozen by sepcore\nRequires-Python: {_PYTHON}\nRequires-Dist: {_NUMPY}\n"
    ).encode("ascii")
    tag_lines = "".join(f"Tag: py3-none-linux_{machine}\n" for machine in machines)
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: sepcore\nRoot-Is-Purelib: false\n{tag_lines}".encode(
        "ascii"
    )
    record = f"{info}/RECORD"
    lines = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items()]
    files[record] = "".join([*lines, f"{record},,\n"]).encode("ascii")
    path = folder / f"{package}-{version}-py3-none-{tags}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode("ascii")
