"""Every family a state dict is held against, in this order; a new family's file is added here.

It must not know anything else of them.
"""

from __future__ import annotations

from sepcore.models import (
    mobilenet_v1_stages,
    timm_efficientnet,
    timm_mobilenet_v1,
    timm_mobilenet_v2,
    timm_mobilenet_v3,
    torchvision_mobilenet_v2,
    torchvision_mobilenet_v3,
)
from sepcore.models.family import Family

FAMILIES: tuple[Family, ...] = (
    *torchvision_mobilenet_v2.FAMILIES,
    *torchvision_mobilenet_v3.FAMILIES,
    *mobilenet_v1_stages.FAMILIES,
    *timm_mobilenet_v1.FAMILIES,
    *timm_mobilenet_v2.FAMILIES,
    *timm_mobilenet_v3.FAMILIES,
    *timm_efficientnet.FAMILIES,
)
