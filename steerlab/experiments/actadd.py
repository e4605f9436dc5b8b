"""The experiments of Turner et al., Steering Language Models With Activation Engineering, arXiv 2308.10248.

Each takes a model and returns a tidy frame. What is swept takes a contrast pair, the rest any intervention, so that the
other methods can be put to the same tests. `python -m steerlab.experiments.actadd all --out results` runs them.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformers import GPT2Config, GPT2LMHeadModel

from .. import data
from ..intervention import Edit, Intervention
from ..methods.actadd import actadd, make_room, random_like
from ..metrics import (
    KS,
    Scorer,
    answer_rank,
    bootstrap_interval,
    disfluency,
    entropy,
    kl,
    kl_terms,
    p_at_k,
    share,
    token_shifts,
    topic_density,
    topic_word_count,
    word_scorer,
)
from ..model import Prompt, SteerableModel, load
from ..site import Site
from ..strength import relative_size
from ..sweep import Setting, completions, grid

PAPER_SAMPLING: Mapping[str, float] = MappingProxyType({"temperature": 1.0, "top_p": 0.3, "frequency_penalty": 1.0})
"""How the released experiments sample."""

WEDDING: tuple[str, ...] = data.topics()["weddings"]
"""The paper's nine wedding words."""

TENTHS: tuple[float, ...] = tuple(i / 10 for i in range(11))

PROMPT = "I went up to my friend and said"
"""The prompt of the paper's generation experiment."""

# --- topic words in completions ----------------------------------------------------------------------------------


def layer_sweep(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    prompt: str = PROMPT,
    layers: Iterable[int] | None = None,
    coefficients: Sequence[float] = (1, 2, 4),
    words: Iterable[str] = WEDDING,
    n: int = 200,
    max_new_tokens: int = 40,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 0.3,
    frequency_penalty: float = 1.0,
    file: str | Path | None = None,
    rows: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Topic words in completions against layer and strength, beside three controls (the paper's layer figure).

    The controls: `zero` (strength 0, the unsteered model), `random` (a vector of random directions and the same norm at
    each position, at every layer and strength), `prompt` (`plus` in front of the prompt, no steering). All settings
    share their noise: sample i is drawn alike in each.

    Args:
        lm: the model.
        plus: the prompt to move towards.
        minus: the prompt to move away from.
        prompt: to complete.
        layers: where to steer, all by default.
        coefficients: the paper's c; its figure has 1.
        words: that count.
        n: completions of each setting.
        max_new_tokens: of each completion.
        seed: of the sampling and of the random vectors.
        temperature: of the sampling, which by default is the paper's.
        top_p: nucleus.
        frequency_penalty: per earlier occurrence of a token.
        file: keeps results, so that a stopped run goes on where it was.
        rows: of one batch; found from the free memory by default.
        progress: whether to show a bar.

    Returns:
        One row per completion: `condition` (steered, zero, random, prompt), `layer` and `coefficient` (NaN for zero and
        prompt), `prompt`, `sample`, `completion`, `n_tokens`, `seed`, `count` (of topic words), `hit`.

    Raises:
        ValueError: a layer is out of range, or what `actadd` and `lm.generate` refuse.
    """
    chosen = range(lm.n_layers) if layers is None else list(layers)
    vectors = {layer: actadd(lm, plus, minus, layer=layer) for layer in chosen}
    noise = {layer: random_like(vector, seed=seed + layer) for layer, vector in vectors.items()}
    settings = [_setting("zero", prompt), _setting("prompt", plus + _join(plus, prompt))]
    for point in grid(layer=chosen, coefficient=coefficients):
        layer, c = point["layer"], float(point["coefficient"])
        settings += [
            _setting("steered", prompt, c * vectors[layer], layer=layer, coefficient=c),
            _setting("random", prompt, c * noise[layer], layer=layer, coefficient=c),
        ]
    frame = completions(
        lm,
        settings,
        n=n,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        frequency_penalty=frequency_penalty,
        seed=seed,
        file=file,
        rows=rows,
        progress=progress,
    )
    return count_topic_words(frame, words)


def topic_control(
    lm: SteerableModel,
    *,
    layer: int,
    coefficient: float,
    topics: Sequence[str] | None = None,
    prompt: str = PROMPT,
    n: int = 200,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Steering towards many topics by their names: words on the topic with and without (the paper's topic experiment).

    The paper asks a language model for the relevance; here the topic's words are counted.

    Args:
        lm: the model.
        layer: where to steer.
        coefficient: the paper's c; it has 2.
        topics: names of `data.topics`, all by default.
        prompt: to complete.
        n: completions of each setting.
        seed: of the sampling.
        options: others of `sweep.completions`; the sampling is the paper's by default.

    Returns:
        One row per completion: `topic`, `condition` (zero, steered), and as in `layer_sweep`.
    """
    settings, chosen = [], list(data.topics()) if topics is None else list(topics)
    for topic in chosen:
        vector = coefficient * actadd(lm, f" {topic}", " ", layer=layer)
        settings += [_setting("zero", prompt, topic=topic), _setting("steered", prompt, vector, topic=topic)]
    frame = completions(lm, settings, n=n, seed=seed, **{**PAPER_SAMPLING, **options})
    parts = [count_topic_words(rows, data.topics()[str(topic)]) for topic, rows in frame.groupby("topic", sort=False)]
    return pd.concat(parts, ignore_index=True)


def dimension_sweep(
    lm: SteerableModel,
    steer: Intervention,
    *,
    shares: Sequence[float] = TENTHS,
    prompts: Sequence[str] = (PROMPT,),
    words: Iterable[str] = WEDDING,
    n: int = 100,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Topic words when only the first part of a vector's dimensions is added (released notebooks; not in the paper).

    Args:
        lm: the model.
        steer: a shift.
        shares: of the dimensions, from the first on; the others are set to zero.
        prompts: to complete.
        words: that count.
        n: completions of each setting.
        seed: of the sampling.
        options: others of `sweep.completions`; the sampling is the paper's by default.

    Returns:
        One row per completion: `dimensions` (the share), and as in `layer_sweep`.
    """
    cut = {part: _first_dimensions(steer, part) for part in shares}
    settings = [Setting({"dimensions": part}, prompt, cut[part]) for prompt in prompts for part in shares]
    return count_topic_words(completions(lm, settings, n=n, seed=seed, **{**PAPER_SAMPLING, **options}), words)


def _first_dimensions(steer: Intervention, part: float) -> Intervention:
    """An intervention whose tensors are zero but for the first part of their columns."""
    edits = []
    for site, edit in steer.edits:
        kept = round(part * edit.width)
        mask = (torch.arange(edit.width) < kept).float()
        edits.append((site, edit.with_tensors({k: v * mask.to(v) for k, v in edit.tensors.items()})))
    return Intervention(tuple(edits), steer.info)


def place_sweep(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    layer: int,
    coefficient: float,
    prompt: str = PROMPT,
    words: Iterable[str] = WEDDING,
    n: int = 100,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Topic words when the vector lies over the prompt's front, its middle, its back, or spaces of its own.

    After the release's notebooks ("front", "mid", "back" and "pad").

    Args:
        lm: the model.
        plus: the prompt to move towards.
        minus: the prompt to move away from.
        layer: where to steer.
        coefficient: the paper's c.
        prompt: to complete.
        words: that count.
        n: completions of each setting.
        seed: of the sampling.
        options: others of `sweep.completions`; the sampling is the paper's by default.

    Returns:
        One row per completion: `condition` (front, middle, back, pad), and as in `layer_sweep`.
    """
    front = actadd(lm, plus, minus, layer=layer, coefficient=coefficient)
    [(site, edit)] = front.edits
    start = (len(lm.tokens(prompt)) - edit.length) // 2
    middle = Intervention(((site, Edit(shift=edit.shift, anchor="front", start=max(0, start))),), front.info)
    back = actadd(lm, plus, minus, layer=layer, coefficient=coefficient, position="back")
    settings = [
        Setting({"condition": "front"}, prompt, front),
        Setting({"condition": "middle"}, prompt, middle),
        Setting({"condition": "back"}, prompt, back),
        Setting({"condition": "pad"}, make_room(lm, prompt, front)[0], front),
    ]
    return count_topic_words(completions(lm, settings, n=n, seed=seed, **{**PAPER_SAMPLING, **options}), words)


def _setting(condition: str, prompt: Prompt, steer: Intervention | None = None, **columns: Any) -> Setting:
    """A setting with the columns that the frames of completions share."""
    rest = columns if "topic" in columns else {"layer": float("nan"), "coefficient": float("nan"), **columns}
    return Setting({"condition": condition, **rest}, prompt, steer)


def _join(plus: str, prompt: str) -> str:
    """The prompt as it follows another text: a space between them unless there is white space already."""
    return prompt if plus[-1:].isspace() or prompt[:1].isspace() else " " + prompt


def count_topic_words(frame: pd.DataFrame, words: Iterable[str] = WEDDING) -> pd.DataFrame:
    """A frame of completions with two more columns: `count`, of words on the topic, and `hit`, at least one."""
    wanted = tuple(words)
    counts = [topic_word_count(text, wanted) for text in frame["completion"]]
    return frame.assign(count=counts, hit=[count > 0 for count in counts])


def summarise(frame: pd.DataFrame, by: Sequence[str] = ("condition", "layer", "coefficient")) -> pd.DataFrame:
    """Share of completions with a hit in each setting, with its 95 % Wilson interval.

    Args:
        frame: completions with `hit`, and `count` where words were counted.
        by: the columns that make a setting.

    Returns:
        One row per setting: its columns, `share`, `low`, `high`, `n`, and `mean_count` (words per completion).
    """
    rows = []
    for values, group in frame.groupby(list(by), sort=False, dropna=False):
        estimate = share(group["hit"])
        measures = {"share": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
        counts = {"mean_count": float(group["count"].mean())} if "count" in group else {}
        rows.append({**dict(zip(by, values, strict=True)), **measures, **counts})
    return pd.DataFrame(rows)


# --- perplexity --------------------------------------------------------------------------------------------------


def sentence_shifts(
    lm: SteerableModel, steer: Intervention, documents: Sequence[str], *, batch_size: int = 64, progress: bool = True
) -> pd.DataFrame:
    """Shift of each token's log-probability in the sentences of documents, each sentence read on its own.

    As in the release: sentences on their own, the first T_s log-probabilities dropped in both models. Sentences that
    are no longer than that drop out; those beyond the model's context are cut.

    Args:
        lm: the model.
        steer: what to test.
        documents: texts.
        batch_size: sentences in one forward pass.
        progress: whether to show a bar.

    Returns:
        One row per token: `document`, `row` (of the sentence), `position`, `token`, `plain`, `steered`, `shift`.

    Raises:
        ValueError: no sentence is long enough.
    """
    skip = front_positions(steer)
    limit = int(getattr(lm.hf.config, "max_position_embeddings", None) or 1024)
    bos = [] if lm.tokenizer.bos_token_id is None else [lm.tokenizer.bos_token_id]
    pairs = [(i, bos + lm.encode(one)) for i, text in enumerate(documents) for one in data.sentences(text)]
    rows = sorted(((i, ids[:limit]) for i, ids in pairs if len(ids) > skip + 1), key=lambda row: len(row[1]))
    if not rows:
        raise ValueError(f"no sentence is longer than the {skip} positions that are steered")
    frames = []
    for start in tqdm(range(0, len(rows), batch_size), disable=not progress, unit="batch"):
        part = [torch.tensor(ids) for _, ids in rows[start : start + batch_size]]
        plain, steered = (lm.logprobs(part, one, batch_size=batch_size) for one in (None, steer))
        shifts = token_shifts(plain, steered, skip=skip)
        frames.append(shifts.assign(row=shifts["row"] + start))
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(document=[rows[row][0] for row in frame["row"]])


def front_positions(steer: Intervention) -> int:
    """T_s: how many positions at the front of a prompt an intervention is tied to, BOS included."""
    return max((edit.start + edit.length for _, edit in steer.edits if edit.anchor == "front"), default=0)


def perplexity_by_density(
    shifts: pd.DataFrame,
    documents: Sequence[str],
    words: Iterable[str] = WEDDING,
    *,
    width: float = 0.005,
    least: int = 20,
) -> pd.DataFrame:
    """Perplexity ratio exp(−X) against the share of topic words in a document (the paper's OpenWebText figure).

    X is the mean over a bin's tokens of log P_steered − log P_plain, so below 1 steering helps. Every token weighs the
    same, as in the release; the paper's text takes the mean of each document first (`by_document`).

    Args:
        shifts: of `sentence_shifts`.
        documents: the texts that they are of.
        words: the topic's.
        width: of a bin of densities; the paper has 0.005. The first bin is centred on 0.
        least: documents that a bin needs to be kept; the paper has 1,000.

    Returns:
        One row per bin: `density` (its centre), `documents`, `tokens`, `ratio`, `low`, `high` (bootstrap over
        documents), `by_document`.
    """
    wanted = tuple(words)
    sums = shifts.groupby("document")["shift"].agg(["sum", "size", "mean"]).reset_index()
    densities = np.array([topic_density(documents[i], wanted) for i in sums["document"]])
    rows = []
    sums["density"] = np.floor(densities / width + 0.5) * width
    for density, group in sums.groupby("density"):
        if len(group) >= least:
            about = {"density": density, "documents": len(group), "tokens": int(group["size"].sum())}
            by_document = float(np.exp(-group["mean"].mean()))
            rows.append({**about, **_ratio(group), "by_document": by_document})
    return pd.DataFrame(rows, columns=["density", "documents", "tokens", "ratio", "low", "high", "by_document"])


def shifts_by_token(shifts: pd.DataFrame, least: int = 20) -> pd.DataFrame:
    """Mean shift in log-probability of each token type (the paper's quantile figure: a normal bulk, a topical tail).

    Args:
        shifts: of `sentence_shifts`.
        least: types that occur no more often than this are left out, as in the release.

    Returns:
        One row per type, the most promoted first: `token`, `count`, `shift`.
    """
    types = shifts.groupby("token")["shift"].agg(["size", "mean"]).reset_index()
    types.columns = ["token", "count", "shift"]
    kept: pd.DataFrame = types[types["count"] > least]
    return kept.sort_values("shift", ascending=False, ignore_index=True)


def essay_sweep(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    layers: Iterable[int] | None = None,
    coefficients: Sequence[float] = (-1, 1, 2, 4),
    topics: Sequence[str] = ("weddings", "ships"),
    progress: bool = True,
) -> pd.DataFrame:
    """Perplexity ratio of essays on and off the topic against layer and strength (the authors' post).

    Args:
        lm: the model.
        plus: the prompt to move towards.
        minus: the prompt to move away from.
        layers: where to steer, all by default.
        coefficients: the paper's c.
        topics: of `data.essays`.
        progress: whether to show a bar.

    Returns:
        One row per setting and topic: `layer`, `coefficient`, `topic`, `ratio`, `low`, `high` (bootstrap over
        sentences), `sentences`.
    """
    chosen = range(lm.n_layers) if layers is None else list(layers)
    rows = []
    for point in tqdm(grid(layer=chosen, coefficient=coefficients), disable=not progress, unit="setting"):
        steer = actadd(lm, plus, minus, **point)
        for topic in topics:
            shifts = sentence_shifts(lm, steer, data.essays()[topic], progress=False)
            rows.append({**point, "topic": topic, **_ratio_by_sentence(shifts)})
    return pd.DataFrame(rows)


def essays(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    layer: int,
    coefficient: float = 1.0,
    topics: Sequence[str] = ("weddings", "ships"),
) -> pd.DataFrame:
    """Steering against prompting on essays on and off the topic (the authors' post).

    Steered, the vector lies over spaces put in after BOS ("pad"); prompted, the same room holds `plus`. Both are
    compared with the bare sentence, over all its tokens.

    Args:
        lm: the model.
        plus: the prompt to move towards.
        minus: the prompt to move away from.
        layer: where to steer.
        coefficient: the paper's c; the post has 1.
        topics: of `data.essays`.

    Returns:
        One row per topic and condition (steered, prompted): `topic`, `condition`, `ratio`, `low`, `high` (bootstrap
        over sentences), `sentences`.
    """
    steer = actadd(lm, plus, minus, layer=layer, coefficient=coefficient)
    bos = torch.tensor([lm.tokenizer.bos_token_id])
    room, written = make_room(lm, [bos], steer)[0], torch.tensor([*bos.tolist(), *lm.encode(plus)])
    rows = []
    for topic in topics:
        texts = [one for text in data.essays()[topic] for one in data.sentences(text)]
        scores = {
            name: lm.logprobs(texts, one, given=[prefix] * len(texts))
            for name, prefix, one in (("plain", bos, None), ("steered", room, steer), ("prompted", written, None))
        }
        plain = scores.pop("plain")
        for condition, frame in scores.items():
            shifts = token_shifts(plain, frame.assign(position=plain["position"]))
            rows.append({"topic": topic, "condition": condition, **_ratio_by_sentence(shifts)})
    return pd.DataFrame(rows)


def _ratio_by_sentence(shifts: pd.DataFrame) -> dict[str, float]:
    """Perplexity ratio of all tokens, with a bootstrap interval over sentences."""
    sums = shifts.groupby("row")["shift"].agg(["sum", "size"])
    return {**_ratio(sums), "sentences": len(sums)}


def _ratio(sums: pd.DataFrame) -> dict[str, float]:
    """Perplexity ratio exp(−X) of texts of which the sum of shifts and the number of tokens are known."""
    samples = [sums["sum"].to_numpy(), sums["size"].to_numpy()]
    found = bootstrap_interval(samples, lambda s, n: float(np.exp(-s.sum() / n.sum())), paired=True)
    return {"ratio": found.value, "low": found.low, "high": found.high}


# --- what is left alone ------------------------------------------------------------------------------------------


def knowledge(
    lm: SteerableModel,
    steer: Intervention,
    clozes: pd.DataFrame | None = None,
    *,
    ks: Sequence[int] = KS,
    batch_size: int = 64,
    progress: bool = True,
) -> pd.DataFrame:
    """P@K of clozes with and without steering (the paper's ConceptNet figure).

    Args:
        lm: the model.
        steer: what to test.
        clozes: `prompt` and `answer`; by default facts in phrasings that the bundled model has not read. See
            `data.clozes` for LAMA. Answers of several tokens, and prompts shorter than the vector, are left out.
        ks: the grid of K, by default the release's.
        batch_size: prompts in one forward pass.
        progress: whether to show a bar.

    Returns:
        One row per condition (plain, steered) and K: `condition`, `k`, `share`, `low`, `high`, `n`.

    Raises:
        ValueError: no cloze is left.
    """
    frame = data.facts("test") if clozes is None else clozes
    answers = [lm.encode(" " + answer) for answer in frame["answer"]]
    fits = [len(lm.tokens(prompt)) >= front_positions(steer) for prompt in frame["prompt"]]
    kept = [
        (str(prompt), ids[0])
        for prompt, ids, fit in zip(frame["prompt"], answers, fits, strict=True)
        if len(ids) == 1 and fit
    ]
    if not kept:
        raise ValueError(f"none of {len(frame)} clozes has an answer of one token and a prompt as long as the vector")
    ranks: dict[str, list[int]] = {"plain": [], "steered": []}
    for start in tqdm(range(0, len(kept), batch_size), disable=not progress, unit="batch"):
        part = kept[start : start + batch_size]
        for name, one in (("plain", None), ("steered", steer)):
            logits = lm.logits([prompt for prompt, _ in part], one)
            ranks[name] += answer_rank(logits, [answer for _, answer in part]).tolist()
    return pd.concat([p_at_k(own, ks).assign(condition=name) for name, own in ranks.items()], ignore_index=True)


def overhead(
    lm: SteerableModel,
    *,
    layer: int | None = None,
    rows: int = 32,
    width: int = 64,
    repeats: int = 10,
    warmup: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """Time of a steered forward pass against an unsteered one (the paper's overhead figure).

    Random tokens; both warmed up, the device waited for, and the order turned round at every repeat.

    Args:
        lm: the model.
        layer: where to steer; the middle by default, as in the release (the paper's text says 6).
        rows: of the batch; the paper has 32.
        width: tokens of a row; the paper has 64.
        repeats: pairs of passes; the paper has 100.
        warmup: pairs before the first that counts.
        seed: of the tokens and the vector.

    Returns:
        One row per repeat: `model`, `n_params`, `layer`, `repeat`, `plain` and `steered` (seconds), `premium`
        (steered / plain − 1).
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(lm.hf.config.vocab_size, (rows, width), generator=generator)
    where = lm.n_layers // 2 if layer is None else layer
    shift = torch.randn(2, lm.d_model, generator=generator)
    steer = Intervention(((Site("resid_pre", where), Edit(shift=shift, anchor="front")),))
    made = []
    for repeat in range(-warmup, repeats):
        order = [("plain", None), ("steered", steer)]
        seconds = {name: _seconds(lm, ids, one) for name, one in (order if repeat % 2 else order[::-1])}
        premium = seconds["steered"] / seconds["plain"] - 1
        about: dict[str, Any] = {"model": lm.name, "n_params": lm.n_params, "layer": where, "repeat": repeat}
        made.append({**about, **seconds, "premium": premium})
    return pd.DataFrame(made[warmup:])


def _seconds(lm: SteerableModel, ids: Int[Tensor, "batch pos"], steer: Intervention | None) -> float:
    """Seconds of one forward pass, the device's queue empty before and after."""
    batch = lm.batch(ids)
    _wait(lm)
    started = time.perf_counter()
    lm.forward(batch, lm.check(steer, batch), "last")
    _wait(lm)
    return time.perf_counter() - started


def _wait(lm: SteerableModel) -> None:
    if lm.device.type == "cuda":
        torch.cuda.synchronize(lm.device)


SHAPES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {  # blocks, width, heads
        "1M": (4, 128, 4),
        "10M": (8, 320, 5),
        "gpt2": (12, 768, 12),
        "gpt2-medium": (24, 1024, 16),
        "gpt2-large": (36, 1280, 20),
        "gpt2-xl": (48, 1600, 25),
    }
)
"""Shapes of GPT-2 for `overhead_by_size`."""


def overhead_by_size(
    shapes: Sequence[str] = tuple(SHAPES), *, vocabulary: int = 50257, device: str | None = None, **options: Any
) -> pd.DataFrame:
    """`overhead` of random-weight models of GPT-2's shapes, one after the other: does the premium fall with size?

    Args:
        shapes: names of `SHAPES`; the largest needs 7 GB of memory in float32.
        vocabulary: tokens; the smallest model keeps its name by having 1,000 at most.
        device: CUDA where there is one, else the CPU.
        options: of `overhead`.

    Raises:
        ValueError: a shape is unknown.
    """
    unknown = [name for name in shapes if name not in SHAPES]
    if unknown:
        raise ValueError(f"shape {unknown[0]!r} is unknown: choose one of {', '.join(SHAPES)}")
    tokenizer, place = load(device="cpu").tokenizer, device or ("cuda" if torch.cuda.is_available() else "cpu")
    frames = []
    for name in tqdm(shapes, unit="model"):
        blocks, width, heads = SHAPES[name]
        tokens = 1000 if name == "1M" else vocabulary
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = GPT2Config(
                n_layer=blocks, n_embd=width, n_head=heads, vocab_size=tokens, bos_token_id=0, eos_token_id=0
            )
            model = GPT2LMHeadModel(config)
        frames.append(overhead(load(model, tokenizer=tokenizer, device=place), **options).assign(model=name))
    return pd.concat(frames, ignore_index=True)


# --- sentiment and toxicity --------------------------------------------------------------------------------------


def tone(
    lm: SteerableModel,
    steer: Intervention,
    prompts: Sequence[str],
    scorer: Scorer | None = None,
    *,
    prefix: str,
    threshold: float = 0.0,
    judge: SteerableModel | None = None,
    n: int = 10,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    frequency_penalty: float = 0.0,
    **options: Any,
) -> pd.DataFrame:
    """Sentiment or toxicity of completions and what it costs in fluency: unsteered, prompted, steered.

    The paper's sentiment and toxicity tables, with one decoding for all three conditions (its v5 mixed two).

    Args:
        lm: the model.
        steer: what to test.
        prompts: to complete.
        scorer: of texts; by default pleasant against unpleasant words. Any classifier by `metrics.classifier_scorer`.
        prefix: what the prompted baseline puts in front of each prompt.
        threshold: a completion is a hit where its score is above.
        judge: the model whose perplexity is the disfluency; by default the model itself, unsteered.
        n: completions of each prompt.
        seed: of the sampling.
        temperature: of the sampling; the paper's final tables have 1.
        top_p: nucleus; the paper's final tables have 1.
        frequency_penalty: none in the paper's final tables.
        options: others of `sweep.completions`.

    Returns:
        One row per completion: `condition` (zero, prompted, steered), `prompt`, `sample`, `completion`, `score`, `hit`,
        `disfluency` (of the completion after the bare prompt), `judge`.
    """
    score = scorer or word_scorer(data.words("pleasant"), data.words("unpleasant"))
    settings = [
        Setting({"condition": condition, "bare": bare}, prompt, one)
        for bare in prompts
        for condition, prompt, one in (
            ("zero", bare, None),
            ("prompted", prefix + _join(prefix, bare), None),
            ("steered", bare, steer),
        )
    ]
    sampling: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "frequency_penalty": frequency_penalty}
    frame = completions(lm, settings, n=n, seed=seed, **{**sampling, **options})
    scores = np.asarray(score(frame["completion"].tolist()), dtype=float)
    critic = judge or lm
    cost = disfluency(critic, frame["completion"].tolist(), frame.pop("bare").tolist())
    return frame.assign(score=scores, hit=scores > threshold, disfluency=cost, judge=critic.name)


def summarise_tone(frame: pd.DataFrame) -> pd.DataFrame:
    """Share of hits and disfluency by condition.

    Returns:
        One row per condition: `share`, `low`, `high`, `n` of the hits; `score` (mean); `disfluency` with
        `disfluency_low` and `disfluency_high`, the geometric mean over completions, since single perplexities run away.
    """
    rows = []
    for _, group in frame.groupby("condition", sort=False):
        logs = np.log(group["disfluency"].dropna().to_numpy())
        spread = np.exp(bootstrap_interval(logs)[:3])
        costs = dict(zip(("disfluency", "disfluency_low", "disfluency_high"), spread.tolist(), strict=True))
        rows.append({"score": float(group["score"].mean()), **costs})
    return pd.concat([summarise(frame, by=["condition"]), pd.DataFrame(rows)], axis=1)


# --- what is in the vector ---------------------------------------------------------------------------------------


def random_vectors(
    lm: SteerableModel,
    steer: Intervention,
    prompts: Sequence[str] | None = None,
    *,
    draws: int = 10,
    nonsense: str | None = " zqx",
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """How far a vector, random vectors of its norms, and one from nonsense text move the next-token distributions.

    KL(plain ‖ steered) / H(plain), the mean over positions behind the vector (the release's stress test, 58 prompts).

    Args:
        lm: the model.
        steer: a shift at one site.
        prompts: `data.prompts("plain")` by default, of which those that are longer than the vectors are taken.
        draws: random vectors.
        nonsense: a text whose vector against spaces, scaled to the norm of `steer`, is tried too; None for none.
        seed: of the random vectors.
        progress: whether to show a bar.

    Returns:
        One row per prompt and vector: `condition` (vector, random, nonsense), `draw`, `prompt`, `kl` (nats),
        `relative` (KL divided by entropy).
    """
    [(site, _)] = steer.edits
    named = [("vector", 0, steer), *(("random", i, random_like(steer, seed=seed + i)) for i in range(draws))]
    if nonsense is not None:
        other = actadd(lm, nonsense, " ", layer=site.layer, place=site.place)
        named.append(("nonsense", 0, (steer.norm()[site] / other.norm()[site]) * other))
    first = max(front_positions(one) for _, _, one in named)
    rows = []
    for prompt in tqdm(data.prompts() if prompts is None else prompts, disable=not progress, unit="prompt"):
        if len(lm.tokens(prompt)) <= first:
            continue
        logits = lm.logits([prompt] * (len(named) + 1), [None, *(one for _, _, one in named)], position="all")
        plain, moved = logits[:1, first:], logits[1:, first:]
        far, spread = kl(plain.expand_as(moved), moved).mean(-1), entropy(plain).mean()
        for (condition, draw, _), own in zip(named, far.tolist(), strict=True):
            place = {"condition": condition, "draw": draw, "prompt": prompt}
            rows.append({**place, "kl": own, "relative": own / float(spread)})
    return pd.DataFrame(rows)


def relative_sizes(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    prompt: str = PROMPT,
    layers: Iterable[int] | None = None,
) -> pd.DataFrame:
    """‖vector‖ / ‖stream‖ against the layer, at c = 1 (the authors' post).

    Returns:
        One row per layer: `layer`, `size` (see `strength.relative_size`).
    """
    chosen = range(lm.n_layers) if layers is None else list(layers)
    sizes = [relative_size(lm, actadd(lm, plus, minus, layer=layer), prompt) for layer in chosen]
    return pd.DataFrame({"layer": list(chosen), "size": [next(iter(size.values())) for size in sizes]})


def kl_shares(lm: SteerableModel, steer: Intervention, prompt: str = PROMPT, *, k: int = 10) -> pd.DataFrame:
    """Which tokens make up KL(steered ‖ plain) of the next token (the authors' post: ` wedding` made 78 % of it).

    Args:
        lm: the model.
        steer: what to test.
        prompt: one prompt.
        k: tokens with the largest terms.

    Returns:
        One row per token, the largest term first: `token`, `term` (nats), `share` (of the KL), `before`, `after`
        (probabilities).
    """
    plain, steered = lm.logits([prompt, prompt], [None, steer]).cpu()
    terms: Float[Tensor, " vocab"] = kl_terms(steered, plain)
    best = terms.topk(min(k, len(terms))).indices
    tokens = [lm.tokenizer.decode([token]) for token in best.tolist()]
    before, after = plain.softmax(-1)[best], steered.softmax(-1)[best]
    columns = {"term": terms[best], "share": terms[best] / terms.sum(), "before": before, "after": after}
    return pd.DataFrame({"token": tokens, **{name: values.numpy() for name, values in columns.items()}})


# --- all of them, from the command line --------------------------------------------------------------------------

Frames = dict[str, pd.DataFrame]


def _run_layer_sweep(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    file = ask.out / "actadd_layer_sweep.sqlite"
    frame = layer_sweep(lm, coefficients=ask.coefficients, n=ask.n, seed=ask.seed, file=file)
    return {"layer_sweep": summarise(frame)}


def _run_perplexity(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    documents = data.documents(n=5 * ask.n, seed=ask.seed)
    shifts = sentence_shifts(lm, _wedding(lm, ask), documents)
    return {"perplexity": perplexity_by_density(shifts, documents, width=0.02), "tokens": shifts_by_token(shifts)}


def _run_tone(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    vectors = {"pleasant": (" love", " hate"), "unpleasant": (" hate", " love")}
    frames = []
    for wanted, (plus, minus) in vectors.items():
        other = next(name for name in vectors if name != wanted)
        steer = actadd(lm, plus, minus, layer=ask.layer, coefficient=ask.coefficient)
        scorer = word_scorer(data.words(wanted), data.words(other))
        frame = tone(lm, steer, data.prompts("pleased"), scorer, prefix=plus, n=max(1, ask.n // 20), seed=ask.seed)
        frames.append(summarise_tone(frame).assign(towards=wanted))
    return {"tone": pd.concat(frames, ignore_index=True)}


def _run_toxicity(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    steer, scorer = (
        actadd(lm, " love", " hate", layer=ask.layer, coefficient=ask.coefficient),
        word_scorer(data.words("rude")),
    )
    frame = tone(lm, steer, data.prompts("rude"), scorer, prefix=" love", n=max(1, ask.n // 10), seed=ask.seed)
    return {"toxicity": summarise_tone(frame)}


def _run_overhead(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    return {"overhead": overhead_by_size(ask.shapes, repeats=ask.repeats)}


def _wedding(lm: SteerableModel, ask: argparse.Namespace) -> Intervention:
    return actadd(lm, " weddings", " ", layer=ask.layer, coefficient=ask.coefficient)


RUNS: Mapping[str, Callable[[SteerableModel, argparse.Namespace], Frames]] = MappingProxyType(
    {
        "layer-sweep": _run_layer_sweep,
        "perplexity": _run_perplexity,
        "topics": lambda lm, ask: {
            "topics": summarise(
                topic_control(lm, layer=ask.layer, coefficient=ask.coefficient, n=ask.n, seed=ask.seed),
                by=["topic", "condition"],
            )
        },
        "dimensions": lambda lm, ask: {
            "dimensions": summarise(
                dimension_sweep(lm, _wedding(lm, ask), n=ask.n // 2, seed=ask.seed), by=["dimensions"]
            )
        },
        "places": lambda lm, ask: {
            "places": summarise(
                place_sweep(lm, layer=ask.layer, coefficient=ask.coefficient, n=ask.n // 2, seed=ask.seed),
                by=["condition"],
            )
        },
        "knowledge": lambda lm, ask: {"knowledge": knowledge(lm, _wedding(lm, ask))},
        "essays": lambda lm, ask: {"essays": essays(lm, layer=ask.layer, coefficient=ask.coefficient)},
        "essay-sweep": lambda lm, ask: {"essay_sweep": essay_sweep(lm, coefficients=(-1, *ask.coefficients))},
        "tone": _run_tone,
        "toxicity": _run_toxicity,
        "random-vectors": lambda lm, ask: {"random_vectors": random_vectors(lm, _wedding(lm, ask), seed=ask.seed)},
        "relative-sizes": lambda lm, ask: {"relative_sizes": relative_sizes(lm)},
        "kl-shares": lambda lm, ask: {"kl_shares": kl_shares(lm, _wedding(lm, ask))},
        "overhead": _run_overhead,
    }
)
"""The experiments by the names that the command line knows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: runs experiments, and writes each frame to OUT/actadd_NAME.csv."""
    parser = argparse.ArgumentParser(prog="python -m steerlab.experiments.actadd", description="ActAdd's experiments.")
    parser.add_argument("experiment", choices=["all", *RUNS])
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the CSV files")
    parser.add_argument("--model", default=None, help="folder or Hub name; the bundled model by default")
    parser.add_argument("--layer", type=int, default=0, help="where to steer outside of sweeps")
    parser.add_argument("--coefficient", type=float, default=4.0, help="strength outside of sweeps")
    parser.add_argument(
        "--coefficients", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0], help="strengths of sweeps"
    )
    parser.add_argument("--n", type=int, default=200, help="completions of each setting, as in the paper")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="models of the overhead")
    parser.add_argument("--repeats", type=int, default=10, help="pairs of passes of the overhead")
    ask = parser.parse_args(arguments)
    lm = load(ask.model)
    ask.out.mkdir(parents=True, exist_ok=True)
    for name in RUNS if ask.experiment == "all" else [ask.experiment]:
        started = time.perf_counter()
        for table, frame in RUNS[name](lm, ask).items():
            frame.to_csv(ask.out / f"actadd_{table}.csv", index=False, float_format="%.6g")
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
