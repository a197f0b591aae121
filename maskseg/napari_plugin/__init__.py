"""The plugin for napari: a widget that finds nuclei, a reader and writers of their files, sample images.

``napari.yaml`` tells napari of them. Nothing here is imported unless napari asks for it.
"""
