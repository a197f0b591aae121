"""What setup.cfg cannot say: the top-level configs/ and a patched Detectron2 travel in the wheel."""

import shutil
import sys
from pathlib import Path
from typing import ClassVar

from setuptools import Command, find_packages, setup
from setuptools.command.build import build
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))
import vendor_detectron2  # noqa: E402

INSIDE = "maskseg/_vendor/detectron2"


class VendorDetectron2(Command):
    """Make maskseg/_vendor/detectron2, and copy it into the wheel.

    A part of `build`, with the attributes and methods that setuptools asks of such a part. Nothing is fetched where
    the copy is there and current, as in a source distribution.
    """

    description = "make the copy of Detectron2 that maskseg carries"
    user_options: ClassVar[list] = []

    def initialize_options(self):
        """What setuptools sets later."""
        self.build_lib = None
        self.editable_mode = False

    def finalize_options(self):
        """Where `build` writes."""
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self):
        """Make and copy."""
        vendor_detectron2.make()
        # An editable install imports it from the source folder.
        if not self.editable_mode:
            for target, source in self.get_output_mapping().items():
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def get_source_files(self):
        """What a source distribution needs for it."""
        # Relative to the source folder, with "/". None before it is made: to read the metadata nothing is fetched.
        inside = (path.relative_to(ROOT) for path in sorted((ROOT / INSIDE).rglob("*")) if path.is_file())
        return [
            "tools/vendor_detectron2.py",
            *(path.as_posix() for path in inside if "__pycache__" not in path.parts),
        ]

    def get_output_mapping(self):
        """Each file of the wheel with its source."""
        return {
            str(Path(self.build_lib, source)): source for source in self.get_source_files() if source.startswith(INSIDE)
        }

    def get_outputs(self):
        """Each file of the wheel."""
        return list(self.get_output_mapping())


class Build(build):
    """With Detectron2."""

    sub_commands: ClassVar[list] = [*build.sub_commands, ("vendor_detectron2", None)]


class Sdist(sdist):
    """With Detectron2, so that an install of the source distribution fetches nothing."""

    def run(self):
        """Make it first, so that it is among the files."""
        vendor_detectron2.make()
        super().run()


setup(
    packages=[*find_packages(include=["maskseg", "maskseg.*"]), "maskseg.configs"],
    package_dir={"maskseg.configs": "configs"},
    cmdclass={"build": Build, "sdist": Sdist, "vendor_detectron2": VendorDetectron2},
)
