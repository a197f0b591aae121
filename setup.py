"""What setup.cfg cannot say: the top-level configs/ travels in the wheel as maskseg/configs/."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["maskseg", "maskseg.*"]), "maskseg.configs"],
    package_dir={"maskseg.configs": "configs"},
)
