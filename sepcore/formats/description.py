"""What a .sep file says of its network beside the graph; it must not read files."""

from __future__ import annotations

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

    def to_fields(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def from_fields(fields: Mapping[str, Any]) -> Description:
    """The description that ``to_fields`` gave, also after JSON has made lists of its tuples."""
    preprocess: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in fields["preprocess"].items()
    }
    return Description(**{**fields, "preprocess": Preprocess(**preprocess)})
