"""Many pictures through one network, batch by batch; a broken picture is reported in its place and stops none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sepcore.errors import ImageError, OptionError
from sepcore.image.normalize import prepare_into
from sepcore.image.read import Picture, picture_name
from sepcore.labels import Prediction, predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sepcore.image.preprocess import Preprocess


class Classifier(Protocol):
    """What is needed of a network: its preprocessing, its class names, and logits (n, classes) for (n, 3, h, w)."""

    @property
    def preprocess(self) -> Preprocess: ...

    @property
    def labels(self) -> Sequence[str] | None: ...

    def __call__(self, x: NDArray[np.float32], /) -> NDArray[np.float32]: ...


def classify_files(
    net: Classifier, pictures: Iterable[Picture], k: int = 5, batch_size: int = 1
) -> Iterator[tuple[str, list[Prediction] | ImageError]]:
    """Classify pictures in the order given.

    Parameters
    ----------
    net : the network.
    pictures : anything that `sepcore.image.read.read_image` takes; read one batch at a time.
    k : how many classes per picture.
    batch_size : how many pictures one call of ``net`` takes; the last batch may be smaller.

    Yields
    ------
    (name, predictions), best class first, or (name, error) where the picture could not be read.

    Raises
    ------
    OptionError
        ``batch_size`` or ``k`` is less than 1, or ``net.labels`` does not fit the number of classes.
    """
    if type(batch_size) is not int or batch_size < 1:
        raise OptionError(f"batch_size: expected an integer of at least 1, found {batch_size!r}")
    remaining = iter(pictures)
    while batch := list(islice(remaining, batch_size)):
        yield from _classify_batch(net, batch, k)


def _classify_batch(
    net: Classifier, batch: Sequence[Picture], k: int
) -> Iterator[tuple[str, list[Prediction] | ImageError]]:
    x = np.empty((len(batch), 3, *net.preprocess.input_size), np.float32)
    errors: dict[int, ImageError] = {}
    readable = 0
    for position, picture in enumerate(batch):
        try:
            prepare_into(picture, net.preprocess, x[readable])
            readable += 1
        except ImageError as error:
            errors[position] = error
    results = iter(predictions(net(x[:readable]), k, net.labels) if readable else ())
    for position, picture in enumerate(batch):
        if position in errors:
            yield errors[position].name, errors[position]
        else:
            yield picture_name(picture), next(results)
