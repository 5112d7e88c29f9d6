"""timm's MobileNetV2 (Sandler et al. 2018, table 2), also deepened (``d``).

It must not know how a state dict is chosen for it.
"""

from __future__ import annotations

from functools import partial

from sepcore.models.conventions import Conventions
from sepcore.models.family import Family, Stage, Variant, timm_preprocess
from sepcore.models.timm_layout import INVERTED_RESIDUAL_KEYS, build, efficient_head

STAGES = (
    Stage("ds", stride=1, channels=16, blocks=1, kernel=3, squeeze=False, fixed_depth=True),
    Stage("ir", stride=2, channels=24, blocks=2, kernel=3, squeeze=False),
    Stage("ir", stride=2, channels=32, blocks=3, kernel=3, squeeze=False),
    Stage("ir", stride=2, channels=64, blocks=4, kernel=3, squeeze=False),
    Stage("ir", stride=1, channels=96, blocks=3, kernel=3, squeeze=False),
    Stage("ir", stride=2, channels=160, blocks=3, kernel=3, squeeze=False),
    Stage("ir", stride=1, channels=320, blocks=1, kernel=3, squeeze=False, fixed_depth=True),
)

_variant = partial(Variant, preprocess=timm_preprocess(), conventions=Conventions(activation="relu6"))

FAMILIES = (
    Family(
        name="timm MobileNetV2",
        keys=INVERTED_RESIDUAL_KEYS,
        build=partial(build, stages=STAGES, head=efficient_head),
        variants=(
            _variant("mobilenetv2_035", width=0.35),
            _variant("mobilenetv2_050", width=0.5),
            _variant("mobilenetv2_075", width=0.75),
            _variant("mobilenetv2_100", width=1.0),
            _variant("mobilenetv2_110d", width=1.1, depth=1.2),
            _variant("mobilenetv2_120d", width=1.2, depth=1.4),
            _variant("mobilenetv2_140", width=1.4),
            _variant("mobilenetv2"),
        ),
    ),
)
