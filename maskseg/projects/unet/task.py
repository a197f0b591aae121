"""Nuclei as the foreground of a U-Net."""

from maskseg.models.tasks import Task, register

register(
    Task(
        network="maskseg.projects.unet.network:UNet",
        samples="maskseg.projects.unet.samples:PixelSamples",
        validation_sample="maskseg.projects.unet.samples:validation_sample",
        predictor="maskseg.projects.unet.predictor:PixelPredictor",
    )
)
