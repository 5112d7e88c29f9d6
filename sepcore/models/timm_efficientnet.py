"""timm's EfficientNet B0 to B8 and EfficientNet-Lite (Tan and Le 2019, table 1; TensorFlow's TPU models for Lite).

It must not know how a state dict is chosen for it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sepcore.models.conventions import Conventions
from sepcore.models.family import INCEPTION_MEAN, INCEPTION_STD, Family, Stage, Variant, timm_preprocess
from sepcore.models.timm_layout import INVERTED_RESIDUAL_KEYS, build, efficient_head

STAGES = (
    Stage("ds", stride=1, channels=16, blocks=1, kernel=3, squeeze=True),
    Stage("ir", stride=2, channels=24, blocks=2, kernel=3, squeeze=True),
    Stage("ir", stride=2, channels=40, blocks=2, kernel=5, squeeze=True),
    Stage("ir", stride=2, channels=80, blocks=3, kernel=3, squeeze=True),
    Stage("ir", stride=1, channels=112, blocks=3, kernel=5, squeeze=True),
    Stage("ir", stride=2, channels=192, blocks=4, kernel=5, squeeze=True),
    Stage("ir", stride=1, channels=320, blocks=1, kernel=3, squeeze=True),
)
LITE_STAGES = tuple(
    replace(stage, squeeze=False, fixed_depth=index in (0, len(STAGES) - 1)) for index, stage in enumerate(STAGES)
)

_inception = partial(timm_preprocess, mean=INCEPTION_MEAN, std=INCEPTION_STD)
_b = partial(Variant, conventions=Conventions(activation="silu"))
_tf_b = partial(Variant, conventions=Conventions(activation="silu", bn_eps=1e-3, padding="same"), named_only=True)
_pruned = partial(_tf_b, named_only=False)
_blur = partial(Variant, conventions=Conventions(activation="silu", downsampling="blur"), named_only=True)
_lite = partial(Variant, conventions=Conventions(activation="relu6"))
_tf_lite = partial(Variant, conventions=Conventions(activation="relu6", bn_eps=1e-3, padding="same"), named_only=True)

FAMILIES = (
    Family(
        name="timm EfficientNet",
        keys=INVERTED_RESIDUAL_KEYS,
        build=partial(build, stages=STAGES, head=efficient_head),
        variants=(
            _b("efficientnet_b0", timm_preprocess(), width=1.0, depth=1.0),
            _b("efficientnet_b1", _inception(240, 0.9), width=1.0, depth=1.1),
            _b("efficientnet_b2", timm_preprocess(256), width=1.1, depth=1.2),
            _b("efficientnet_b3", timm_preprocess(288), width=1.2, depth=1.4),
            _b("efficientnet_b4", timm_preprocess(320), width=1.4, depth=1.8),
            _b("efficientnet_b5", timm_preprocess(448, 1.0), width=1.6, depth=2.2),
            _b("efficientnet_b6", timm_preprocess(528, 0.942), width=1.8, depth=2.6),
            _b("efficientnet_b7", timm_preprocess(600, 0.949), width=2.0, depth=3.1),
            _b("efficientnet_b8", timm_preprocess(672, 0.954), width=2.2, depth=3.6),
            _pruned("efficientnet_b1_pruned", _inception(240, 0.882), stage_channels=(16, 12, 35, 74, 67, 192, 320)),
            _pruned("efficientnet_b2_pruned", _inception(260, 0.89), stage_channels=(16, 17, 42, 85, 116, 208, 352)),
            _pruned("efficientnet_b3_pruned", _inception(300, 0.904), stage_channels=(24, 12, 40, 93, 120, 232, 384)),
            _blur("efficientnet_blur_b0", timm_preprocess(), width=1.0, depth=1.0),
            _tf_b("tf_efficientnet_b0", timm_preprocess(), width=1.0, depth=1.0),
            _tf_b("tf_efficientnet_b1", timm_preprocess(240, 0.882), width=1.0, depth=1.1),
            _tf_b("tf_efficientnet_b2", timm_preprocess(260, 0.89), width=1.1, depth=1.2),
            _tf_b("tf_efficientnet_b3", timm_preprocess(300, 0.904), width=1.2, depth=1.4),
            _tf_b("tf_efficientnet_b4", timm_preprocess(380, 0.922), width=1.4, depth=1.8),
            _tf_b("tf_efficientnet_b5", timm_preprocess(456, 0.934), width=1.6, depth=2.2),
            _tf_b("tf_efficientnet_b6", timm_preprocess(528, 0.942), width=1.8, depth=2.6),
            _tf_b("tf_efficientnet_b7", timm_preprocess(600, 0.949), width=2.0, depth=3.1),
            _tf_b("tf_efficientnet_b8", _inception(672, 0.954), width=2.2, depth=3.6),
            _b("efficientnet", timm_preprocess()),
        ),
    ),
    Family(
        name="timm EfficientNet-Lite",
        keys=INVERTED_RESIDUAL_KEYS,
        build=partial(build, stages=LITE_STAGES, head=efficient_head),
        variants=(
            _lite("efficientnet_lite0", timm_preprocess(), width=1.0, depth=1.0),
            _lite("efficientnet_lite1", timm_preprocess(240, 0.882), width=1.0, depth=1.1),
            _lite("efficientnet_lite2", timm_preprocess(260, 0.89), width=1.1, depth=1.2),
            _lite("efficientnet_lite3", timm_preprocess(300, 0.904), width=1.2, depth=1.4),
            _lite("efficientnet_lite4", timm_preprocess(380, 0.922), width=1.4, depth=1.8),
            _tf_lite("tf_efficientnet_lite0", _inception(), width=1.0, depth=1.0),
            _tf_lite("tf_efficientnet_lite1", _inception(240, 0.882), width=1.0, depth=1.1),
            _tf_lite("tf_efficientnet_lite2", _inception(260, 0.89), width=1.1, depth=1.2),
            _tf_lite("tf_efficientnet_lite3", _inception(300, 0.904, "bilinear"), width=1.2, depth=1.4),
            _tf_lite("tf_efficientnet_lite4", _inception(380, 0.92, "bilinear"), width=1.4, depth=1.8),
            _lite("efficientnet_lite", timm_preprocess()),
        ),
    ),
)
