"""Tasks beside nuclei by Mask R-CNN, one package each."""
