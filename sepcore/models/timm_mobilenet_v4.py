"""timm's MobileNetV4 of convolutions: small, medium, large (Qin et al. 2024, tables 11 to 13).

It must not know the hybrid networks: their attention blocks are no convolutions.
"""

from __future__ import annotations

from functools import partial

from sepcore.models.conventions import Conventions
from sepcore.models.family import INCEPTION_MEAN, INCEPTION_STD, Family, Stage, Variant, timm_preprocess
from sepcore.models.timm_layout import UNIVERSAL_KEYS, build, normed_head

SMALL = (
    Stage("cn", stride=2, channels=32, blocks=2, kernel=3, skip=False),
    Stage("cn", stride=2, channels=64, blocks=2, kernel=3, skip=False),
    Stage("uir", stride=2, channels=96, blocks=6),
    Stage("uir", stride=2, channels=128, blocks=6),
    Stage("cn", stride=1, channels=960, blocks=1, kernel=1, skip=False),
)
LARGER = (
    Stage("er", stride=2, channels=48, blocks=1, kernel=3),
    Stage("uir", stride=2, channels=80, blocks=2),
    Stage("uir", stride=2, channels=160, blocks=8),
    Stage("uir", stride=2, channels=256, blocks=11),
    Stage("cn", stride=1, channels=960, blocks=1, kernel=1, skip=False),
)

_variant = partial(Variant, conventions=Conventions(activation="relu"))
_average = partial(Variant, conventions=Conventions(activation="relu", downsampling="average"), named_only=True)
_blur = partial(Variant, conventions=Conventions(activation="relu", downsampling="blur"), named_only=True)
_LARGE_CHANNELS = (48, 96, 192, 512, 960)
_INCEPTION = timm_preprocess(mean=INCEPTION_MEAN, std=INCEPTION_STD)

FAMILIES = (
    Family(
        name="timm MobileNetV4-Conv-Small",
        keys=UNIVERSAL_KEYS,
        build=partial(build, stages=SMALL, head=normed_head),
        variants=(
            _variant("mobilenetv4_conv_small_035", _INCEPTION, width=0.35),
            _variant("mobilenetv4_conv_small_050", _INCEPTION, width=0.5),
            _variant("mobilenetv4_conv_small", timm_preprocess(), width=1.0),
            _variant("mobilenetv4_small", timm_preprocess()),
        ),
    ),
    Family(
        name="timm MobileNetV4-Conv",
        keys=UNIVERSAL_KEYS,
        build=partial(build, stages=LARGER, head=normed_head),
        variants=(
            _variant("mobilenetv4_conv_medium", timm_preprocess(256, 0.95), width=1.0),
            _variant("mobilenetv4_conv_large", timm_preprocess(384, 0.95), stage_channels=_LARGE_CHANNELS),
            _average("mobilenetv4_conv_aa_medium", timm_preprocess(256, 0.95), width=1.0),
            _average("mobilenetv4_conv_aa_large", timm_preprocess(448, 0.95), stage_channels=_LARGE_CHANNELS),
            _blur("mobilenetv4_conv_blur_medium", timm_preprocess(224, 0.95), width=1.0),
            _variant("mobilenetv4", timm_preprocess(256, 0.95)),
        ),
    ),
)
