"""torchvision without torch's compiler, whose import takes longer than a small image."""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_WANTS, _COMPILER = "torchvision.ops.roi_align", "torch._dynamo.utils"


def leave_out_compiler() -> None:
    """From now on ROIAlign of torchvision is imported without ``torch._dynamo``.

    It asks it one question, on a GPU and on the first call only; then it is imported after all. Importing it took a
    third of the time in which a small image is predicted. A torchvision that wants more of it has it as ever.
    """
    if _WANTS not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module itself, loaded by `_Loader`; nothing of any other name."""
        if fullname != _WANTS or _COMPILER in sys.modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the plain loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module with a stand-in for the compiler, and with the compiler if that will not do."""
        stand_in = ModuleType(_COMPILER)
        vars(stand_in)["is_compile_supported"] = _is_compile_supported
        sys.modules[_COMPILER] = stand_in
        try:
            self._loader.exec_module(module)
            return
        except ImportError:
            pass
        finally:
            if sys.modules.get(_COMPILER) is stand_in:
                del sys.modules[_COMPILER]
        self._loader.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        """Whatever else is asked of the plain loader, such as the source."""
        return getattr(self._loader, name)


def _is_compile_supported(device: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device))
