"""SHA-256, without loading OpenSSL's library, which takes longer than all that a start has to hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256  # Python 3.12 and later
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:  # a Python that was built without its own
            from hashlib import sha256

__all__ = ["sha256"]
