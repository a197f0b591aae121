import os
import subprocess
import sys

import pytest

from maskseg.core.errors import InputError
from maskseg.core.locks import alone_in


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    out = tmp_path / "new" / "out"
    with alone_in(out):
        with pytest.raises(InputError, match="another run is writing into this folder"), alone_in(out):
            pass
        assert (out / ".lock").exists()
    assert list(out.iterdir()) == []
    with alone_in(out):
        pass


def test_a_process_that_is_killed_lets_go(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom maskseg.core.locks import alone_in\n"
        "with alone_in(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(InputError), alone_in(tmp_path):
        pass
    process.kill()
    process.communicate()
    assert (tmp_path / ".lock").exists()
    with alone_in(tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), alone_in(tmp_path / "file" / os.curdir / "out"):
        pass
