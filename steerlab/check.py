"""Does this installation work? `python -m steerlab.check` says so, a line each, with and without a network.

`python -m steerlab.check https://host` asks that server in place of NDIF, and lists its models.
"""

import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch
from transformers.utils import logging

from . import loading
from .methods.own import add

GIB = 2**30


class NotNeeded(Exception):
    """Something is missing that most of the course does without."""


def package() -> str:
    """This package, and the Python that runs it."""
    return f"{version('steerlab')}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"


def nnsight() -> str:
    """The version of nnsight, of which each 0.x is a rewrite.

    Raises:
        RuntimeError: it is not 0.8.
    """
    installed = version("nnsight")
    if not installed.startswith("0.8."):
        raise RuntimeError(f"{installed}, but 0.8 is needed: pip install 'nnsight>=0.8.1,<0.9'")
    return installed


def transformers() -> str:
    """The version of transformers.

    Raises:
        RuntimeError: it is older than 5.2, which goes on from a given cache at wrong positions where a batch is padded.
    """
    installed = version("transformers")
    if tuple(map(int, installed.split(".")[:2])) < (5, 2):
        raise RuntimeError(f"{installed}, it completes padded batches wrongly: pip install 'transformers>=5.8'")
    return installed


def device() -> str:
    """Where models are put by default."""
    if not torch.cuda.is_available():
        return "CPU"
    card = torch.cuda.get_device_properties(0)
    return f"CUDA, {card.name}, {card.total_memory / GIB:.0f} GiB"


def threads() -> str:
    """How many threads a pass takes, and of what: models that each take all cores slow each other manyfold."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    taken, setting = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS", "not set")
    line = f"{taken} for {cores} cores (OMP_NUM_THREADS: {setting})"
    if taken > cores:
        return f"{line}; more threads than cores are slow: start with OMP_NUM_THREADS={cores}"
    return line if taken == 1 else f"{line}; beside other models start each with OMP_NUM_THREADS=1"


def memory() -> str:
    """The computer's memory.

    Raises:
        NotNeeded: this system does not tell.
    """
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        raise NotNeeded("this system does not tell") from None
    return f"{page * pages / GIB:.0f} GiB; a model in float32 takes 4 GiB for a billion parameters"


def bundled() -> str:
    """The model that ships with the package."""
    started = time.perf_counter()
    lm = loading.load(device="cpu")
    return f"{lm.n_params / 1e6:.0f}M parameters, {lm.n_layers} layers, loaded in {time.perf_counter() - started:.1f} s"


def steering() -> str:
    """An edit of strength 0 must change nothing, one of strength 1 something.

    Raises:
        RuntimeError: it is not so.
    """
    lm = loading.load(device="cpu")
    push = add(torch.ones(lm.d_model), layer=1)
    plain, zero, pushed = (lm.logits("Once upon a time", steer) for steer in (None, 0 * push, push))
    if not torch.equal(plain, zero) or torch.equal(plain, pushed):
        raise RuntimeError("an edit does not do what it should: please report this, with the lines above")
    return "an edit of strength 0 changes nothing, one of strength 1 does"


def notebooks() -> str:
    """What opens the notebooks.

    Raises:
        NotNeeded: JupyterLab is not installed.
    """
    try:
        return f"JupyterLab {version('jupyterlab')}, ipywidgets {version('ipywidgets')}"
    except PackageNotFoundError as error:
        raise NotNeeded(f"{error.name} is not installed: pip install 'steerlab[lab]'") from None


def ndif(host: str | None = None) -> str:
    """The service that runs models too large for this computer: what it runs, and what your key may do.

    Raises:
        NotNeeded: it cannot be reached.
        ValueError: the host is no address, or a key would be sent there unencrypted.
    """
    from .remote import Remote, RemoteError  # which needs more of nnsight than a local user does

    server = Remote(host).server()
    try:
        levels = Counter(str(entry.get("deployment_level")) for entry in server.served())
        differences, key = server.differences(), server.key_said()
    except RemoteError as error:
        raise NotNeeded(f"only remote models need it: {error}") from None
    models = ", ".join(f"{count} {level}" for level, count in sorted(levels.items())) or "none"
    versions = [f"{name} {there} there, {here} here" for name, (here, there) in differences.items()]
    return "; ".join([f"up; models: {models}", *([key] if key else []), *versions])


CHECKS: dict[str, Callable[[], str]] = {
    "steerlab": package,
    "torch": lambda: version("torch"),
    "transformers": transformers,
    "nnsight": nnsight,
    "device": device,
    "threads": threads,
    "memory": memory,
    "bundled model": bundled,
    "steering": steering,
    "notebooks": notebooks,
    "NDIF": ndif,
}


def run(check: Callable[[], str]) -> tuple[str, str]:
    """A mark (`ok`, `--` for what is not needed, `BAD`) and one line."""
    try:
        return "ok", check()
    except NotNeeded as error:
        return "--", str(error)
    except Exception as error:  # each line stands for itself: the others are still wanted
        return "BAD", (str(error).strip() or type(error).__name__).splitlines()[0]


def main(host: str | None = None) -> int:
    """Print a line for each check, and for each model of a host; returns the exit status, 1 if a check is bad."""
    logging.disable_progress_bar()
    marks = []
    for name, check in (CHECKS | {"NDIF": lambda: ndif(host)}).items():
        mark, line = run(check)
        marks.append(mark)
        print(f"{mark:<4}{name:<14}{line}", flush=True)
    if host is not None and mark == "ok":
        from .remote import ndif_models

        print(ndif_models(host).to_string(index=False, na_rep="-"))
    return int("BAD" in marks)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
