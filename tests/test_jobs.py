"""How calls travel, as far as it can be seen without a server."""

import subprocess
import sys
from pathlib import Path

import pytest

import steerlab as sl
from steerlab.jobs import Local


@pytest.mark.slow
def test_a_local_user_imports_nothing_of_the_remote_parts() -> None:
    program = """
import sys
import steerlab as sl
sl.load()
remote = ("steerlab.remote", "httpx", "websocket", "nnsight.intervention.backends.remote")
print([name for name in remote if name in sys.modules])
print(sl.Remote.__name__, sl.RemoteError.__name__)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "Remote RemoteError"]


def test_an_unknown_name_is_none_of_the_package() -> None:
    with pytest.raises(AttributeError, match="no attribute 'remotes'"):
        _ = sl.remotes  # type: ignore[attr-defined]


def test_a_local_model_has_no_jobs(gpt2: sl.SteerableModel, tmp_path: Path) -> None:
    def call(lm: sl.SteerableModel) -> object:
        return lm.generate("He said", max_new_tokens=2)

    assert isinstance(gpt2.runner, Local) and gpt2.noting(tmp_path / "jobs").runner is gpt2.runner
    with pytest.raises(ValueError, match="runs in this process, not on a server: load it with remote=True"):
        gpt2.submit(call, tmp_path / "jobs")
    assert gpt2.collect(call, tmp_path / "jobs").equals(call(gpt2))  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_memory_is_told_for_one_batch(gpt2: sl.SteerableModel) -> None:
    assert 0 < gpt2.runner.free_bytes() < 2**45
