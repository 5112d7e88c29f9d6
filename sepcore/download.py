"""One file from one address, checked; does not choose what is fetched, or where it is kept."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import os
import secrets
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO

from sepcore.errors import DownloadError
from sepcore.progress import ProgressBar

MAX_BYTES = 1 << 30
TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 18


def is_safe(url: str) -> bool:
    """Whether nobody on the way can exchange what is fetched: https, or plain http that does not leave this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "http":
            return parts.scheme == "https" and host != ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections only to addresses that could have been asked for in the first place."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not is_safe(newurl):
            raise urllib.error.URLError(f"redirected to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(name: str, url: str, path: Path, checksum: str, progress: bool = True) -> None:
    """Fetch a file, check it, and only then give it its name: no reader sees half a file, and two writers never meet.

    Parameters
    ----------
    name : what messages and the progress bar call it.
    url : an address that `is_safe`.
    path : where to keep it; its folder is made if it is not there.
    checksum : first hexadecimal digits of its SHA-256.
    progress : whether to draw a progress bar on stderr; drawn only on a terminal.

    Raises
    ------
    DownloadError
        The address cannot be reached, the file cannot be written, or its length or checksum is wrong.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "xb") as file:
            digest = _receive(name, url, file, progress)
        if not digest.startswith(checksum):
            raise DownloadError(
                f"{name}: {url}: expected a SHA-256 that starts with {checksum}, found {digest}; the file was not kept"
            )
        os.replace(partial, path)
    except (OSError, http.client.HTTPException) as error:
        reason: object = error
        if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
            # A plain URLError only wraps what happened; an HTTPError's own text has the status in it.
            reason = error.reason
        raise DownloadError(
            f"{name}: {url} cannot be fetched to {path.parent}: {reason}. Without a network, put that file "
            f"at {path}, name a mirror with SEPCORE_WEIGHTS_URL, or give the path of a file instead of a name"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _receive(name: str, url: str, file: IO[bytes], progress: bool) -> str:
    """Write what the address serves to ``file``; returns its SHA-256 in hexadecimal digits."""
    opener = urllib.request.build_opener(_SafeRedirects)
    request = urllib.request.Request(url, headers={"User-Agent": "sepcore"})
    with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        declared = response.headers.get("Content-Length", "")
        total = int(declared) if declared.isascii() and declared.isdigit() else None
        digest = hashlib.sha256()
        received = 0
        with ProgressBar(f"fetching {name}", total, _megabytes, wanted=progress) as bar:
            while chunk := response.read(_CHUNK_BYTES):
                received += len(chunk)
                if max(received, total or 0) > MAX_BYTES:
                    raise DownloadError(f"{name}: {url}: expected at most {MAX_BYTES} bytes, found more")
                file.write(chunk)
                digest.update(chunk)
                bar.update(received)
    if total is not None and received != total:
        raise DownloadError(f"{name}: {url}: expected {total} bytes, the connection ended after {received}; try again")
    return digest.hexdigest()


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
