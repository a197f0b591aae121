"""The network of ultrasound frames."""

from __future__ import annotations

from detectron2.modeling import META_ARCH_REGISTRY

from maskseg.projects.unet.network import UNet


@META_ARCH_REGISTRY.register()
class NerveUNet(UNet):
    """The U-Net of ultrasound frames, under a name of its own since it has a task of its own."""
