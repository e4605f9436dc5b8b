"""What a study costs on a server: requests and bytes, against one trace per setting.

    python benchmarks/remote.py                 counted on the bundled model, without a server
    python benchmarks/remote.py --model NAME    of a larger model of the Hub: its config and tokenizer, without weights
    python benchmarks/remote.py --host ADDRESS --model NAME    the sweep for real, on a server

The naive loop sends what a reader of nnsight's documentation would write: a request for each setting, or each step,
with the logits of the last position as its result. Both are dry runs, whose payloads are the real ones (compressed) and
whose results are the largest that can come back (before compression). `seconds` are those of the dry run itself; a
request to NDIF adds its own time in the queue, once per request.
"""

import argparse
import copy
import time
from collections.abc import Callable

import pandas as pd
import torch

import steerlab as sl
from steerlab import Remote, Site, sweep
from steerlab.experiments import sara
from steerlab.judges import word_judge
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
    sara.dilemma_study(lm, dilemma, judge=word_judge(), repeats=5, max_new_tokens=40, progress=False)


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


def model(name: str | None, remote: Remote) -> sl.SteerableModel:
    """A model without weights; the bundled one's shape where none is named."""
    if name is not None:
        return sl.load(name, remote=remote)
    own = sl.load()
    config = copy.deepcopy(own.hf.config)
    config._name_or_path = "bundled"  # as if a server had it under this name
    with torch.device("meta"):
        shape = type(own.hf)(config)
    return sl.load(shape, tokenizer=own.tokenizer, remote=remote)


def dry(lm: sl.SteerableModel, studies: dict[str, Callable[[sl.SteerableModel], object]]) -> pd.DataFrame:
    """What each study would send."""
    rows = []
    for name, study in studies.items():
        began = time.perf_counter()
        counted = lm.dry_run(study)
        sums = counted[["payload_bytes", "result_bytes"]].sum()
        rows.append((name, len(counted), *sums, time.perf_counter() - began))
    return pd.DataFrame(rows, columns=["study", "requests", "payload_bytes", "result_bytes", "seconds"])


def real(lm: sl.SteerableModel) -> pd.DataFrame:
    """The sweep both ways, as it is sent."""
    studies = {name: study for name, study in STUDIES.items() if name.startswith("sweep")}
    frame = dry(lm, studies)
    lm.logits(PROMPT)  # may load the model there
    seconds = []
    for study in studies.values():
        began = time.perf_counter()
        study(lm)
        seconds.append(time.perf_counter() - began)
    return frame.assign(seconds=seconds)


def main() -> None:
    """A line for each study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a name on the Hub; the bundled model's shape if none")
    parser.add_argument("--host", help="a server, to run the sweep there")
    args = parser.parse_args()
    lm = model(args.model, Remote(args.host or "https://nowhere.invalid", progress=False))
    print(f"{lm.name}: {lm.n_params / 1e9:.2f}B parameters, {lm.n_layers} layers x {lm.d_model}")
    frame = dry(lm, STUDIES) if args.host is None else real(lm)
    print(frame.to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    main()
