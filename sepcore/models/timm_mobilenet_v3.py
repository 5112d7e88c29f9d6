"""timm's MobileNetV3: large, small, their minimal forms, and ``rw`` (Howard et al. 2019, tables 1 and 2).

It must not know how a state dict is chosen for it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sepcore.models.blocks import SqueezeKind
from sepcore.models.conventions import Conventions
from sepcore.models.family import INCEPTION_MEAN, INCEPTION_STD, Family, Stage, Variant, timm_preprocess
from sepcore.models.timm_layout import INVERTED_RESIDUAL_KEYS, build, pooled_head

LARGE = (
    Stage("ds", stride=1, channels=16, blocks=1, kernel=3, squeeze=False, activation="relu"),
    Stage("ir", stride=2, channels=24, blocks=2, kernel=3, squeeze=False, activation="relu"),
    Stage("ir", stride=2, channels=40, blocks=3, kernel=5, squeeze=True, activation="relu"),
    Stage("ir", stride=2, channels=80, blocks=4, kernel=3, squeeze=False),
    Stage("ir", stride=1, channels=112, blocks=2, kernel=3, squeeze=True),
    Stage("ir", stride=2, channels=160, blocks=3, kernel=5, squeeze=True),
    Stage("cn", stride=1, channels=960, blocks=1, kernel=1, skip=False),
)
LARGE_RW = (
    Stage("ds", stride=1, channels=16, blocks=1, kernel=3, squeeze=False, activation="relu", skip=False),
    *LARGE[1:],
)
LARGE_MINIMAL = (
    Stage("ds", stride=1, channels=16, blocks=1, kernel=3, squeeze=False),
    Stage("ir", stride=2, channels=24, blocks=2, kernel=3, squeeze=False),
    Stage("ir", stride=2, channels=40, blocks=3, kernel=3, squeeze=False),
    Stage("ir", stride=2, channels=80, blocks=4, kernel=3, squeeze=False),
    Stage("ir", stride=1, channels=112, blocks=2, kernel=3, squeeze=False),
    Stage("ir", stride=2, channels=160, blocks=3, kernel=3, squeeze=False),
    Stage("cn", stride=1, channels=960, blocks=1, kernel=1, skip=False),
)
SMALL = (
    Stage("ds", stride=2, channels=16, blocks=1, kernel=3, squeeze=True, activation="relu"),
    Stage("ir", stride=2, channels=24, blocks=2, kernel=3, squeeze=False, activation="relu"),
    Stage("ir", stride=2, channels=40, blocks=3, kernel=5, squeeze=True),
    Stage("ir", stride=1, channels=48, blocks=2, kernel=5, squeeze=True),
    Stage("ir", stride=2, channels=96, blocks=3, kernel=5, squeeze=True),
    Stage("cn", stride=1, channels=576, blocks=1, kernel=1, skip=False),
)
SMALL_MINIMAL = (
    Stage("ds", stride=2, channels=16, blocks=1, kernel=3, squeeze=False),
    Stage("ir", stride=2, channels=24, blocks=2, kernel=3, squeeze=False),
    Stage("ir", stride=2, channels=40, blocks=3, kernel=3, squeeze=False),
    Stage("ir", stride=1, channels=48, blocks=2, kernel=3, squeeze=False),
    Stage("ir", stride=2, channels=96, blocks=3, kernel=3, squeeze=False),
    Stage("cn", stride=1, channels=576, blocks=1, kernel=1, skip=False),
)

_SQUEEZE = SqueezeKind("relu", "hardsigmoid")
_SQUEEZE_RW = SqueezeKind(None, "hardsigmoid")

_variant = partial(Variant, preprocess=timm_preprocess(), conventions=Conventions(activation="hardswish"))
_rw_variant = partial(_variant, conventions=Conventions(activation="hardswish", bn_eps=1e-3))
_tf_variant = partial(
    Variant,
    preprocess=timm_preprocess(interpolation="bilinear", mean=INCEPTION_MEAN, std=INCEPTION_STD),
    conventions=Conventions(activation="hardswish", bn_eps=1e-3, padding="same"),
)
_tf_minimal = partial(_tf_variant, conventions=Conventions(activation="relu", bn_eps=1e-3, padding="same"))
_PREPROCESS_150D = timm_preprocess(256, 0.95, "bilinear", INCEPTION_MEAN, INCEPTION_STD)


def _family(
    name: str,
    stages: tuple[Stage, ...],
    variants: tuple[Variant, ...],
    squeeze: SqueezeKind = _SQUEEZE,
    **head: Any,
) -> Family:
    build_family = partial(build, stages=stages, head=partial(pooled_head, **head), squeeze=squeeze)
    return Family(f"timm MobileNetV3-{name}", INVERTED_RESIDUAL_KEYS, build_family, variants)


FAMILIES = (
    _family(
        "Large",
        LARGE,
        (
            _variant("mobilenetv3_large_075", preprocess=timm_preprocess(interpolation="bilinear"), width=0.75),
            _variant("mobilenetv3_large_100", width=1.0),
            _variant("mobilenetv3_large_150d", preprocess=_PREPROCESS_150D, width=1.5, depth=1.2),
            _tf_variant("tf_mobilenetv3_large_075", width=0.75, named_only=True),
            _tf_variant("tf_mobilenetv3_large_100", width=1.0, named_only=True),
            _variant("mobilenetv3_large"),
        ),
        bias=True,
    ),
    _family(
        "Small",
        SMALL,
        (
            _variant("mobilenetv3_small_050", width=0.5),
            _variant("mobilenetv3_small_075", width=0.75),
            _variant("mobilenetv3_small_100", width=1.0),
            _tf_variant("tf_mobilenetv3_small_075", width=0.75, named_only=True),
            _tf_variant("tf_mobilenetv3_small_100", width=1.0, named_only=True),
            _variant("mobilenetv3_small"),
        ),
        bias=True,
    ),
    _family(
        "Large-RW",
        LARGE_RW,
        (_rw_variant("mobilenetv3_rw", width=1.0), _rw_variant("mobilenetv3_large_rw")),
        _SQUEEZE_RW,
        bias=False,
    ),
    _family("Large-Minimal", LARGE_MINIMAL, (_tf_minimal("tf_mobilenetv3_large_minimal_100"),), bias=True),
    _family("Small-Minimal", SMALL_MINIMAL, (_tf_minimal("tf_mobilenetv3_small_minimal_100"),), bias=True),
)
