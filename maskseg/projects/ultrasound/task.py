"""The nerve in ultrasound images: a U-Net that is scored by Dice and submits one row a frame."""

from maskseg.models.tasks import Task, register

register(
    Task(
        network="maskseg.projects.ultrasound.network:NerveUNet",
        samples="maskseg.projects.unet.samples:PixelSamples",
        validation_sample="maskseg.projects.unet.samples:validation_sample",
        evaluator="maskseg.projects.ultrasound.evaluator:NerveEvaluator",
        predictor="maskseg.projects.unet.predictor:PixelPredictor",
        submission="maskseg.formats.kaggle:ONE_ROW",
    )
)
