"""How quickly the panels answer, and whether they keep memory.

    python benchmarks/widgets.py                  the bundled model, all panels
    python benchmarks/widgets.py playground --moves 50

For each panel: seconds to open it; from a slider's move to the new picture, the median and the 95th percentile over 200
moves, no two of them alike in a row; resident memory before and after them. In this process, so without the way to the
browser and back. Wanted: under 2 s to open, under 300 ms a move, flat memory.

Memory is counted from the 50th move on. Until then that of playground and scalar_panel grows, and then no more, however
many follow (`--moves 600` shows it): a move leaves objects that refer to each other until the garbage collector comes,
and the room that they took is kept for the next ones.
"""

import argparse
import gc
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import torch

import steerlab as sl
from steerlab.widgets import Panel, compare, playground, sara_panel, scalar_panel, sweep_browser
from steerlab.widgets.comparison import TARGETS

WARM_UP = 50  # moves
Opened = tuple[Callable[[], Panel], str, list[float]]
"""How to open a panel, the slider to move, and the values to move it over, in turn."""


def panels(lm: sl.SteerableModel) -> dict[str, Opened]:
    """Every panel as a workshop would open it."""
    ships, weddings = (sl.actadd(lm, word, layer=2, vector="mean") for word in (" ships", " weddings"))
    three = {"ships": ships, "weddings": weddings, "random": sl.random_like(ships)}
    frame = sl.tasks.ioi(lm, n=20, seed=0).test
    lengths = frame["prompt"].map(lambda prompt: len(lm.tokens(prompt)))
    frame = frame[lengths == lengths.iloc[0]]
    method = sl.ActivScalar(("resid_post",))
    drawn = 0.3 * torch.randn(lm.n_layers, int(lengths.iloc[0]), 1, generator=torch.Generator().manual_seed(0))
    scalars = method.intervention(method.sites(lm), drawn, {"length": int(lengths.iloc[0])})
    cells = pd.DataFrame(itertools.product(range(8), range(5), range(10)), columns=["layer", "coefficient", "sample"])
    cells["hit"] = np.random.default_rng(0).random(len(cells)) < cells["layer"] / 8
    cells["completion"] = "It was a fine day for a wedding, and they went down to the church. " * 2
    strengths, coefficients = [i / 2 for i in range(-16, 17)], [round(i / 10, 1) for i in range(-40, 41)]
    betas, targets = [round(i / 10, 1) for i in range(-10, 11)], list(TARGETS[10:20])
    return {
        "playground": (lambda: playground(lm), "strength", strengths),
        "sweep_browser": (lambda: sweep_browser(cells), "at_x", [float(layer) for layer in range(8)]),
        "scalar_panel": (lambda: scalar_panel(lm, scalars, frame), "beta", betas),
        "scalar_panel, threshold": (
            lambda: scalar_panel(lm, scalars, frame),
            "threshold",
            [i / 100 for i in range(100)],
        ),
        "sara_panel": (lambda: sara_panel(lm), "coefficient", coefficients),
        "compare": (lambda: compare(lm, three), "target", targets),
    }


def resident() -> float:
    """Megabytes of this process; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def measure(name: str, opened: Opened, moves: int) -> None:
    """Open one panel, move its slider, print a line."""
    build, control, values = opened
    start = time.perf_counter()
    panel = build()
    seconds = time.perf_counter() - start
    there_and_back = itertools.cycle([*values, *values[-2:0:-1]])
    for value in itertools.islice(there_and_back, WARM_UP):
        panel.controls[control].value = value
    gc.collect()
    before, times, cpu = resident(), [], []
    for value in itertools.islice(there_and_back, moves):
        start, own = time.perf_counter(), time.process_time()
        panel.controls[control].value = value
        times.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - own))
    gc.collect()
    median, high = np.percentile(times, [50, 95])
    grown = f"memory {before:.0f} -> {resident():.0f} MB"
    print(f"{name:22} open {seconds:5.2f} s   {control:11} {median:6.0f} ms (95 %: {high:.0f})", end="   ")
    print(f"CPU {np.median(cpu):.0f} ms   {grown}   {panel.message.value}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panels", nargs="*", help="some of them; all by default")
    parser.add_argument("--model", help="folder or Hub name; the bundled model by default")
    parser.add_argument("--moves", type=int, default=200)
    args = parser.parse_args()
    lm = sl.load(args.model)
    print(f"{lm}, {torch.get_num_threads()} threads, {args.moves} moves", flush=True)
    for name, opened in panels(lm).items():
        if not args.panels or name in args.panels:
            measure(name, opened, args.moves)


if __name__ == "__main__":
    main()
