"""What a study costs on a server: requests and bytes, against one trace per setting.

    python benchmarks/remote.py                 counted on the bundled model, without a server
    python benchmarks/remote.py --config FOLDER  of a larger model: its config.json and tokenizer, without weights

The naive loop sends what a reader of nnsight's documentation would write: a request for each setting, or each step,
with the logits of the last position as its result. Both are dry runs, whose payloads are the real ones (compressed) and
whose results are the largest that can come back (before compression). `seconds` are those of the dry run itself; a
request to NDIF adds its own time in the queue, once per request.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

import steerlab as sl
from steerlab import Remote, Site, sweep
from steerlab.experiments import sara
from steerlab.methods.sara import shuffled

PROMPT = "I went up to my friend and said"
STEPS = 200


def steered(lm: sl.SteerableModel, layer: int, strength: float) -> sl.Intervention:
    """A vector at four positions."""
    return strength * sl.Intervention(
        ((Site("resid_pre", layer), sl.Edit(shift=torch.randn(4, lm.d_model), anchor="front")),)
    )


def grid(lm: sl.SteerableModel) -> list[sweep.Setting]:
    """Twelve layers (or all that there are) by 21 strengths."""
    points = sweep.grid(layer=range(min(12, lm.n_layers)), strength=range(-10, 11))
    return [sweep.Setting(point, PROMPT, steered(lm, **point)) for point in points]


def naive_sweep(lm: sl.SteerableModel) -> None:
    for setting in grid(lm):
        lm.logits(PROMPT, setting.steer)


def task(lm: sl.SteerableModel) -> pd.DataFrame:
    """Sixteen prompts of one length, whose answers are single tokens."""
    words = ("she", "he", "we", "I", "you", "they", "it", "one", "this", "that", "what", "who", "all", "so", "then")
    words += ("now", "here", "there", "yes", "no")
    prompts = [f"{PROMPT} {word}" for word in words if len(lm.encode(f" {word}")) == 1][:16]
    return pd.DataFrame({"prompt": prompts, "correct": " the", "wrong": " a"})


def naive_fit(lm: sl.SteerableModel) -> None:
    """A request per step: both signs of the scalars, whose loss is computed here."""
    sites = sl.ActivScalar().sites(lm)
    prompts = [prompt for prompt in task(lm)["prompt"] for _ in range(2)]
    length = len(lm.tokens(prompts[0]))
    both = sl.Intervention(tuple((site, sl.Edit(gain=torch.zeros(length, 1), anchor="front")) for site in sites))
    for _ in range(STEPS):
        lm.logits(prompts, [both, -both] * (len(prompts) // 2))


def sara_study(lm: sl.SteerableModel) -> None:
    """Answers to one dilemma at every layer, by all methods, both ways and unsteered: the vectors, then the answers."""
    dilemma = pd.DataFrame({"id": ["parent"], "prompt": [sara.PARENT]})
    sara.dilemma_study(lm, dilemma, repeats=5, max_new_tokens=40, progress=False)


def naive_sara(lm: sl.SteerableModel) -> None:
    """A request for each vector, and one for each setting's answers."""
    for layer in range(lm.n_layers):
        lm.generate(sara.PARENT, n=5)
        for attract, repel in ((sara.DUTY, sara.CONSEQUENCES), (sara.CONSEQUENCES, sara.DUTY)):
            gains = sl.sara(lm, sara.PARENT, attract=attract, repel=repel, layer=layer)
            for steer in (gains, shuffled(gains), sl.actadd(lm, attract, repel, layer=layer)):
                lm.generate(sara.PARENT, steer, n=5)
            lm.generate(f"{attract} {sara.PARENT}", n=5)


STUDIES: dict[str, Callable[[sl.SteerableModel], object]] = {
    "sweep, one job": lambda lm: sweep.next_tokens(lm, grid(lm), progress=False),
    "sweep, naive": naive_sweep,
    "fit, one job": lambda lm: sl.fit(lm, task(lm), sl.ActivScalar(), steps=STEPS, progress=False),
    "fit, naive": naive_fit,
    "SARA, two jobs": sara_study,
    "SARA, naive": naive_sara,
}


def main() -> None:
    """A line for each study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", type=Path, help="folder with config.json and tokenizer; the bundled model's if none"
    )
    lm = sl.load(parser.parse_args().config, remote=Remote("https://nowhere.invalid"))
    print(f"{lm.name}: {lm.n_params / 1e9:.2f}B parameters, {lm.n_layers} layers x {lm.d_model}")
    rows = []
    for name, study in STUDIES.items():
        began = time.perf_counter()
        dry = lm.dry_run(study)
        sums = dry[["payload_bytes", "result_bytes"]].sum()
        rows.append((name, len(dry), *sums, time.perf_counter() - began))
    frame = pd.DataFrame(rows, columns=["study", "requests", "payload_bytes", "result_bytes", "seconds"])
    print(frame.to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    main()
