"""What the tests of remote models share: tiny models that a stand-in for NDIF serves, and models without weights."""

from collections.abc import Iterator
from pathlib import Path

import nnsight
import pytest
from double import KEY, Double, distant
from families import fresh, tokenizer

import steerlab as sl
from steerlab import server as http

SERVED = ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny random models, saved."""
    made = {}
    for family in SERVED:
        made[family] = tmp_path_factory.mktemp(family)
        fresh(family).save_pretrained(made[family])
        tokenizer().save_pretrained(made[family])
    return made


@pytest.fixture(scope="session")
def server(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    """A server that has them."""
    named = {f"tiny/{family}": folder for family, folder in folders.items()}
    double = Double(tmp_path_factory.mktemp("server"), named)
    yield double
    double.stop()


@pytest.fixture
def well_behaved(server: Double, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A trusted key, a server without faults, short waits, and no jobs of other tests."""
    server.switch()
    monkeypatch.setenv("NDIF_API_KEY", KEY)
    monkeypatch.setenv("STEERLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(http, "WAITS", (0.05, 0.05))
    monkeypatch.setattr(nnsight.CONFIG.APP, "REMOTE_LOGGING", False)


@pytest.fixture
def here() -> sl.SteerableModel:
    return sl.load(fresh("llama"), tokenizer=tokenizer())


@pytest.fixture
def there(server: Double) -> sl.SteerableModel:
    return distant("llama", server.url)
