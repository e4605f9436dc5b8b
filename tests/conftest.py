"""Offline, on one thread, and with the shapes in the core's annotations checked while the tests run."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# All before the hook, under which imports are compiled anew, and beartype before nnsight, which gives every object a
# `save` that beartype does not expect.
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import beartype  # noqa: F401
import matplotlib.pyplot as plt
import nnsight  # noqa: F401
import pytest
import torch
from jaxtyping import install_import_hook
from transformers import (
    AutoModelForCausalLM,  # noqa: F401
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,  # noqa: F401
    PreTrainedModel,  # noqa: F401
)

# Without `sampling`, where checks took a fifth of all the time of a draw: see tests/test_sampling.py.
CORE = ("edit", "edits", "intervention", "methods.actadd", "model", "prompts")
install_import_hook([f"steerlab.{name}" for name in CORE], "shapes.check")

from families import FAMILIES, steerable  # noqa: E402
from kernels import forked  # noqa: E402
from tiers import few  # noqa: E402

import steerlab as sl  # noqa: E402
from steerlab.loading import BUNDLED  # noqa: E402

KERNELS = "STEERLAB_TESTS_KERNELS"
LONGEST = (
    *("bottom[05", "bottom[03", "bottom[02", "bottom[07", "test_panels.py", "bottom[", "test_notebooks.py"),
    *("test_remote", "test_docs_site", "test_memory", "test_model", "test_generate", "test_exercises", "test_actadd"),
)
"""What takes longest, by a part of its name: processes that begin with it end at about the same time."""


def pytest_configure(config: pytest.Config) -> None:
    """The order of `LONGEST`, and the package's own filter, which pytest resets: a loop ends when generation does."""
    config.option.loadscopereorder = False  # xdist's order has a file of many short tests before one long notebook
    config.addinivalue_line("filterwarnings", "ignore:.*was never reached. the loop asked for a step:UserWarning")
    if not hasattr(config, "workerinput"):  # one for all processes, which inherit the environment
        stack = ExitStack()
        os.environ[KERNELS] = stack.enter_context(forked())
        config.add_cleanup(stack.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first."""
    items.sort(key=lambda item: next((i for i, part in enumerate(LONGEST) if part in item.nodeid), len(LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the tests: whole notebooks one by one, of other files all tests together."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if "runs_from_top_to_bottom" in nodeid else nodeid.partition("::")[0]

    return ByFile(config, log)


@pytest.fixture(params=few(FAMILIES, "gpt2", "llama", "gemma2"))  # three ways to build a block
def family(request: pytest.FixtureRequest) -> str:
    """Each family in turn."""
    return str(request.param)


@pytest.fixture
def lm(family: str) -> sl.SteerableModel:
    """A tiny model of the family."""
    return steerable(family)


@pytest.fixture
def gpt2() -> sl.SteerableModel:
    """A tiny model, for what does not depend on the family."""
    return steerable("gpt2")


@pytest.fixture(scope="session")
def tiny() -> Callable[..., sl.SteerableModel]:
    """Makes a tiny model with random weights and the bundled tokenizer, the same for the same seed."""

    def make(seed: int = 0) -> sl.SteerableModel:
        tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
            bos_token_id=0,
            eos_token_id=None,
            pad_token_id=0,
            initializer_range=0.5,
        )
        return sl.load(LlamaForCausalLM(config), tokenizer=tokenizer)

    return make


@pytest.fixture(scope="session")
def kernels() -> dict[str, str]:
    """The environment in which Jupyter's kernels are forked from one that has imported the libraries."""
    return {"JUPYTER_PATH": os.environ[KERNELS]}


@pytest.fixture
def closed_figures() -> Iterator[None]:
    """Closes what a test has drawn."""
    yield
    plt.close("all")


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """The one line that a checker has printed."""

    def read() -> str:
        out = capsys.readouterr().out
        assert out.endswith("\n")
        assert out.count("\n") == 1
        return out

    return read
