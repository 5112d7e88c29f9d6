"""timm's MobileNetV1 (Howard et al. 2017, table 1).

It must not know how a state dict is chosen for it.
"""

from __future__ import annotations

from functools import partial

from sepcore.models.conventions import Conventions
from sepcore.models.family import INCEPTION_MEAN, INCEPTION_STD, Family, Stage, Variant, timm_preprocess
from sepcore.models.timm_layout import INVERTED_RESIDUAL_KEYS, build, efficient_head

STAGES = (
    Stage("dsa", stride=1, channels=64, blocks=1, skip=False),
    Stage("dsa", stride=2, channels=128, blocks=2, skip=False),
    Stage("dsa", stride=2, channels=256, blocks=2, skip=False),
    Stage("dsa", stride=2, channels=512, blocks=6, skip=False),
    Stage("dsa", stride=2, channels=1024, blocks=2, kernel=3, squeeze=False, skip=False),
)

_variant = partial(Variant, conventions=Conventions(activation="relu6"))
_PREPROCESS = timm_preprocess(mean=INCEPTION_MEAN, std=INCEPTION_STD)
_PREPROCESS_125 = timm_preprocess(crop_pct=0.9, mean=INCEPTION_MEAN, std=INCEPTION_STD)

FAMILIES = (
    Family(
        name="timm MobileNetV1",
        keys=INVERTED_RESIDUAL_KEYS,
        build=partial(build, stages=STAGES, head=efficient_head),
        variants=(
            _variant("mobilenetv1_100", _PREPROCESS, width=1.0, features=0),
            _variant("mobilenetv1_100h", _PREPROCESS, width=1.0, features=1024),
            _variant("mobilenetv1_125", _PREPROCESS_125, width=1.25, features=0),
            _variant("mobilenetv1", _PREPROCESS),
        ),
    ),
)
