"""A grid of settings to a tidy DataFrame: one setting per batch row, resumable, and safe to stop at any moment.

Results are kept as `kept.py` says, under the model, the prompt, the intervention's tensors, the sample and the options.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import groupby, product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from .completions import Sampling, completed, completion_call
from .identity import identity
from .intervention import Intervention
from .kept import compute_missing, digest
from .metrics import entropy, kl
from .model import SteerableModel
from .passes import Call, Tap, block_output, like, logits, pick, rows_of
from .prompts import Plain, Prompt
from .sampling import finite
from .site import Site
from .tasks.frames import single_token

FORMAT = 2  # part of every key: raise it when the same setting comes to mean another result
Result = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One point of a grid.

    Args:
        columns: what names it in the frame, such as layer and strength; no result depends on them.
        prompt: what the model reads.
        steer: what edits it, or nothing.
    """

    columns: Mapping[str, Any]
    prompt: Prompt
    steer: Intervention | None = None


def grid(**axes: Iterable[Any]) -> list[dict[str, Any]]:
    """All combinations of some axes, the last axis fastest: `grid(layer=range(8), coefficient=(1, 2))`."""
    return [dict(zip(axes, point, strict=True)) for point in product(*axes.values())]


def completions(
    lm: SteerableModel,
    settings: Sequence[Setting],
    *,
    n: int = 1,
    max_new_tokens: int = 40,
    temperature: float = 1.0,
    top_p: float = 1.0,
    frequency_penalty: float = 0.0,
    seed: int = 0,
    file: str | Path | None = None,
    rows: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """`n` completions for each setting.

    Args:
        lm: the model.
        settings: the grid.
        n: samples of each setting; sample i of a prompt has the same noise in every setting.
        max_new_tokens: length at which a completion is cut.
        temperature: of the softmax; 0 is greedy.
        top_p: nucleus.
        frequency_penalty: as in `lm.generate`.
        seed: of the sampling.
        file: where results are kept as they come, and found again.
        rows: of one batch; found from the free memory by default.
        progress: whether to show a bar with the time left.

    Returns:
        One row per completion: the settings' columns, `prompt`, `sample`, `completion`, `n_tokens`, `seed`.

    Raises:
        ValueError: there are no settings, the file is not one of ours, or what `lm.generate` refuses.
    """
    sampling = Sampling(max_new_tokens, temperature, top_p, frequency_penalty, seed)
    jobs = [(setting, sample) for setting in settings for sample in range(n)]
    hashes = [_hash(_content(lm, setting)) for setting in settings]
    drawn = {**sampling.settings, "max_new_tokens": max_new_tokens, "seed": seed}
    base = _hash({"what": "completion", "model": identity(lm), **drawn})
    keys = [_hash([base, content, sample]) for content in hashes for sample in range(n)]
    ids = {id(setting): lm.batch(setting.prompt, max_new_tokens).rows[0] for setting in settings}

    def call(picked: list[int]) -> Call:
        chosen = [jobs[i][0] for i in picked]
        rows, steer = [ids[id(setting)] for setting in chosen], [setting.steer for setting in chosen]
        return completion_call(lm, rows, steer, [jobs[i][1] for i in picked], sampling)

    def compute(chunks: list[list[int]]) -> list[Result]:
        batches = lm.run([call(picked) for picked in chunks])
        new = [row for batch in batches for row in completed(lm, batch, sampling)]
        texts = [lm.tokenizer.decode(row, skip_special_tokens=True) for row in new]
        return [{"completion": text, "n_tokens": len(row)} for text, row in zip(texts, new, strict=True)]

    size = rows or batch_rows(lm, max(map(len, ids.values()), default=0) + max_new_tokens)
    _check(lm, [setting for setting in settings for _ in range(min(n, 2))], size, max_new_tokens)
    with noted(lm, file) as lm:
        how = {"progress": progress, "at_once": lm.runner.at_once, "made_up": lm.runner.made_up}
        results = compute_missing(keys, [range(len(keys))], size, compute, file, **how)
    return pd.DataFrame(
        [
            {**setting.columns, "prompt": lm.text(setting.prompt), "sample": sample, **results[key], "seed": seed}
            for (setting, sample), key in zip(jobs, keys, strict=True)
        ]
    )


def next_tokens(
    lm: SteerableModel,
    settings: Sequence[Setting],
    tokens: Sequence[str] = (),
    *,
    file: str | Path | None = None,
    rows: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The next token's distribution for each setting.

    Settings that share their lowest steered layer are run together from that layer on: what lies below is computed once
    for each of their prompts.

    Args:
        lm: the model.
        settings: the grid.
        tokens: whose log-probabilities are wanted, each a single token such as " wedding".
        file: where results are kept as they come, and found again.
        rows: of one batch, to which its prompts are added unsteered; found from the free memory by default.
        progress: whether to show a bar with the time left.

    Returns:
        One row per setting and token: the settings' columns, `prompt`, `kl` (of the steered from the unsteered
        distribution, in nats: KL(steered ‖ unsteered)), `entropy` (of the steered, in nats), `top` (its most probable
        token), and `token` and `logprob` where tokens are wanted.

    Raises:
        ValueError: there are no settings, a wanted token is several, the file is not one of ours, or what `lm.logits`
            refuses.
    """
    ids = [single_token(lm, token) for token in tokens]
    base = _hash({"what": "next token", "model": identity(lm), "tokens": ids})
    keys = [_hash([base, _content(lm, setting)]) for setting in settings]
    prompts = [tuple(lm.batch(setting.prompt).ids[0].tolist()) for setting in settings]
    size = rows or batch_rows(lm, max(map(len, prompts), default=0))
    _check(lm, settings, size)

    def call(picked: list[int]) -> Call:
        return compared_call(lm, [prompts[i] for i in picked], [settings[i].steer for i in picked], ids)

    def compute(chunks: list[list[int]]) -> list[Result]:
        return [row for batch in lm.run([call(picked) for picked in chunks]) for row in _rows(lm, batch)]

    lowest = [_lowest(setting) for setting in settings]
    order = sorted(range(len(settings)), key=lambda i: (lowest[i], prompts[i]))
    groups = [list(members) for _, members in groupby(order, key=lowest.__getitem__)]
    if len(order) < 4 * len(groups):  # too few that share a layer: fill the batches with all
        groups = [order]
    with noted(lm, file) as lm:
        how = {"progress": progress, "at_once": lm.runner.at_once, "made_up": lm.runner.made_up}
        results = compute_missing(keys, groups, size, compute, file, **how)
    return pd.DataFrame(
        [
            {**setting.columns, "prompt": lm.text(setting.prompt), **row}
            for setting, key in zip(settings, keys, strict=True)
            for row in _unfold(results[key], tokens)
        ]
    )


def compared_call(
    lm: SteerableModel, prompts: Sequence[tuple[int, ...]], steer: Sequence[Intervention | None], ids: list[int]
) -> Call:
    """What `measured` finds for each row, computed beside the model: the logits stay there.

    The unsteered prompts are rows of the same batch, behind the steered ones. Below the lowest edited layer rows of one
    prompt do not differ yet: those blocks are run once for each prompt, and skipped in the batch.
    """
    distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    bare, steered = (lm.batch([torch.tensor(prompt) for prompt in listed]) for listed in (distinct, prompts))
    stacks, count = lm.check(steer, steered), len(prompts)
    for stack in (stack for stacked in stacks.values() for stack in stacked if stack["rows"] is None):
        stack["rows"] = torch.arange(count)
    below = lm.taps({}, [Site("resid_post", layer) for layer in range(min((s.layer for s in stacks), default=0))])
    index = torch.tensor([*(distinct[prompt] for prompt in prompts), *distinct.values()])
    gives = {"kl": like(count), "entropy": like(count), "top": like(count, dtype=torch.long)}
    gives["logprobs"] = like(count, len(ids))
    return Call(compared, (bare.plain, index, count, lm.taps(stacks), below, not lm.runner.at_once, ids), gives)


def compared(
    model: Any,
    bare: Plain,
    index: Tensor,
    count: int,
    taps: Sequence[Tap],
    below: Sequence[Tap],
    stop: bool,
    ids: list[int],
) -> dict[str, Tensor]:
    """`measured` of the first `count` rows, each against the unsteered row of its prompt; travels, as `passes.py` says.

    Row i is prompt `index[i]` of `bare`; the blocks of `below` are not run again, of which the last is read.
    """
    entering = rows_of(block_output(model, bare, below[-1][0], stop), index) if below else None
    skipped = [(block, entering) for block, *_ in below]
    scores = logits(model, pick(bare, index), taps, True, False, skipped)[:, -1].float()
    plain = scores[count:]
    return measured(scores[:count], plain if len(plain) == 1 else plain[index[:count]], ids)


def measured(steered: Tensor, plain: Tensor, ids: list[int]) -> dict[str, Tensor]:
    """What is kept of each row's next-token logits."""
    measures = {"kl": kl(steered, plain), "entropy": entropy(steered), "top": steered.argmax(-1)}
    return {**measures, "logprobs": steered.log_softmax(-1)[:, ids]}


def _rows(lm: SteerableModel, measures: Mapping[str, Tensor]) -> list[Result]:
    """What was measured, a result for each row."""
    finite(measures["entropy"])
    rows = zip(*(measure.tolist() for measure in measures.values()), strict=True)
    results = [dict(zip(measures, row, strict=True)) for row in rows]
    return [result | {"top": lm.tokenizer.decode([result["top"]])} for result in results]


def _unfold(result: Result, tokens: Sequence[str]) -> Iterator[Result]:
    """One frame row per token, or one where no tokens are wanted."""
    rest = {name: value for name, value in result.items() if name != "logprobs"}
    if not tokens:
        yield rest
    for token, score in zip(tokens, result["logprobs"], strict=True):
        yield {**rest, "token": token, "logprob": score}


@contextmanager
def noted(lm: SteerableModel, file: str | Path | None) -> Iterator[SteerableModel]:
    """The model; with a remote one and a file of results, the ids of its jobs lie beside the file until all is done."""
    jobs = Path(f"{file}.jobs")
    noting = lm if file is None else lm.noting(jobs)
    yield noting
    if noting is not lm:
        jobs.unlink(missing_ok=True)


def batch_rows(lm: SteerableModel, tokens: int) -> int:
    """How many rows of `tokens` tokens one batch may have: a power of two, at most 256.

    Counts the key-value cache, the widest activations of one block and a few copies of the logits, and takes a quarter
    of the free memory.
    """
    size = lm.dtype.itemsize
    cache = 2 * lm.n_layers * lm.d_model * size
    block = 16 * lm.d_model * size
    logits = 8 * 4 * lm.n_vocab
    fits = lm.runner.free_bytes() // 4 // (tokens * (cache + block) + logits)
    return int(min(256, 2 ** max(0, int(fits).bit_length() - 1)))


# --- keys --------------------------------------------------------------------------------------------------------


def _content(lm: SteerableModel, setting: Setting) -> list[Any]:
    """What a setting's result depends on: the prompt's tokens, and all fields of all edits."""
    edits = [] if setting.steer is None else setting.steer.edits
    content = [
        (str(site), {field.name: _plain(getattr(edit, field.name)) for field in fields(edit)}) for site, edit in edits
    ]
    return [lm.batch(setting.prompt).ids[0].tolist(), content]


def _plain(value: Any) -> Any:
    """A field as JSON can write it: of a tensor its shape, dtype and hash."""
    if not isinstance(value, Tensor):
        return value
    tensor = value.detach().cpu().contiguous()
    content = hashlib.sha256(tensor.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
    return [list(tensor.shape), str(tensor.dtype), content]


def _hash(value: Any) -> str:
    """A key of this format."""
    return digest([FORMAT, value])


# --- small checks ------------------------------------------------------------------------------------------------


def _check(lm: SteerableModel, settings: Sequence[Setting], size: int, new: int = 1) -> None:
    """Check all batches before the first one runs."""
    if not settings:
        raise ValueError("the sweep has no settings: give at least one")
    for start in range(0, len(settings), size):
        part = settings[start : start + size]
        lm.check([setting.steer for setting in part], lm.batch([setting.prompt for setting in part], new))


def _lowest(setting: Setting) -> int:
    """The lowest steered layer; 0 where nothing is steered."""
    return setting.steer.sites[0].layer if setting.steer is not None and setting.steer.edits else 0
