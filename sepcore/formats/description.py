"""What a .sep file says of its network beside the graph; it must not read files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sepcore.image.preprocess import Preprocess


@dataclass(frozen=True)
class Description:
    """What is known of a network beside its graph; the fields are those that ``sep_manifest.SepNetwork`` has."""

    preprocess: Preprocess
    family: str
    arch: str
    num_classes: int
    labels: Sequence[str] | None
    writer: str

    def to_json(self) -> bytes:
        """What :func:`from_json` reads."""
        return json.dumps(asdict(self), separators=(",", ":")).encode("ascii")


def from_json(text: bytes | memoryview) -> Description:
    """The description that ``to_json`` wrote."""
    fields: Mapping[str, Any] = json.loads(bytes(text))
    preprocess: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in fields["preprocess"].items()
    }
    return Description(**{**fields, "preprocess": Preprocess(**preprocess)})
