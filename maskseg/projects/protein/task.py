"""Protein localisation: classes of an image, and a table of them in place of masks."""

from maskseg.models.tasks import Task, register

register(
    Task(
        network="maskseg.projects.protein.network:ProteinClassifier",
        records="maskseg.projects.protein.data:protein_dicts",
        samples="maskseg.projects.protein.samples:ProteinSamples",
        validation_sample="maskseg.projects.protein.samples:validation_sample",
        evaluator="maskseg.projects.protein.evaluator:ProteinEvaluator",
        predictor="maskseg.projects.protein.predictor:ProteinPredictor",
        predict="maskseg.projects.protein.predictor:predict_proteins",
    )
)
