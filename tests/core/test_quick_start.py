"""The compiler of torch is left out of what predicts, and is there for who wants it."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_what_predicts_imports_no_compiler_and_roi_align_is_torchvisions():
    code = (
        "import sys, maskseg.inference.api, maskseg.inference.run, torch, torchvision\n"
        "print('torch._dynamo' in sys.modules, 'torch._dynamo.utils' in sys.modules)\n"
        "boxes = torch.tensor([[0, 0.0, 0, 4, 4]])\n"
        "print(torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2).tolist())\n"
        "print(torchvision.ops.roi_align.__module__, 'def roi_align' in __import__('inspect').getsource("
        "torchvision.ops.roi_align))\n"
        # The one question is still answered by the compiler itself.
        "answer = sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu')\n"
        "import torch._dynamo.utils\n"
        "print(answer == torch._dynamo.utils.is_compile_supported('cpu'))\n"
        "print(callable(torch._dynamo.utils.is_compile_supported), callable(torch._dynamo.optimize))\n"
    )
    assert run(code).splitlines() == [
        "False False",
        "[[[[1.0, 1.0], [1.0, 1.0]]]]",
        "torchvision.ops.roi_align True",
        "True",
        "True True",
    ]


def test_the_package_alone_imports_no_torch():
    assert run("import sys, maskseg; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("wants", ["is_compile_supported", "something_else"])
def test_a_torchvision_that_wants_more_has_it(tmp_path, wants):
    """A made-up torchvision and compiler: what the stand-in lacks comes from the compiler itself."""
    ops = tmp_path / "torchvision" / "ops"
    compiler = tmp_path / "torch" / "_dynamo"
    for folder in (ops, compiler):
        folder.mkdir(parents=True)
        for package in (folder, folder.parent):
            (package / "__init__.py").write_text("")
    (ops / "roi_align.py").write_text(f"from torch._dynamo.utils import {wants} as found\n")
    (compiler / "utils.py").write_text("is_compile_supported = something_else = len\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import maskseg, torchvision.ops.roi_align as it\n"
        "print(it.found is len, 'torch._dynamo.utils' in sys.modules)"
    )
    assert run(code) == ("False False" if wants == "is_compile_supported" else "True True")
