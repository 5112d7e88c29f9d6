"""Every family a state dict is held against, in this order; a new family's file is added here.

It must not know anything else of them.
"""

from __future__ import annotations

from sepcore.models import (
    mcunet,
    mobilenet_v1_stages,
    timm_efficientnet,
    timm_ghostnet,
    timm_mobilenet_v1,
    timm_mobilenet_v2,
    timm_mobilenet_v3,
    timm_mobilenet_v4,
    timm_mobileone,
    torchvision_efficientnet,
    torchvision_mnasnet,
    torchvision_mobilenet_v2,
    torchvision_mobilenet_v3,
    torchvision_shufflenet_v2,
)
from sepcore.models.family import Family

FAMILIES: tuple[Family, ...] = (
    *torchvision_mobilenet_v2.FAMILIES,
    *torchvision_mobilenet_v3.FAMILIES,
    *torchvision_mnasnet.FAMILIES,
    *torchvision_efficientnet.FAMILIES,
    *torchvision_shufflenet_v2.FAMILIES,
    *mobilenet_v1_stages.FAMILIES,
    *mcunet.FAMILIES,
    *timm_mobilenet_v1.FAMILIES,
    *timm_mobilenet_v2.FAMILIES,
    *timm_mobilenet_v3.FAMILIES,
    *timm_mobilenet_v4.FAMILIES,
    *timm_efficientnet.FAMILIES,
    *timm_mobileone.FAMILIES,
    *timm_ghostnet.FAMILIES,
)
