"""The command line: `python -m steerlab.experiments.side_by_side` keeps all methods on the same tasks."""

import argparse

from ...model import SteerableModel
from .. import results
from ..results import Ask, Frames
from .comparison import compare, default_layer


def _run(lm: SteerableModel, ask: Ask) -> Frames:
    """A third of the depth where no layer is asked for."""
    ask.layer = default_layer(lm) if ask.layer is None else ask.layer
    asked = {name: getattr(ask, name) for name in ("n", "steps", "layer", "seed", "sentences", "facts")}
    return compare(lm, **asked)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=int, default=16, help="prompts to train on, and as many to test on")
    parser.add_argument("--steps", type=int, default=60, help="of a fit")
    parser.add_argument("--layer", type=int, help="of the methods that have one; a third of the depth by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sentences", type=int, default=8, help="for the perplexity of unrelated text")
    parser.add_argument("--facts", type=int, default=24, help="for P@10")


EXPERIMENTS = {"side_by_side": results.Experiment(_run)}
ABOUT = "All methods on the same tasks, at matched KL."
PAPER = results.Paper("side_by_side", ABOUT, EXPERIMENTS, _options, ("n", "steps", "layer", "seed"))
main = PAPER.main

if __name__ == "__main__":
    raise SystemExit(main())
