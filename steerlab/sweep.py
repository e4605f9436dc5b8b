"""A grid of settings to a tidy DataFrame: one setting per batch row, resumable, and safe to stop at any moment.

What has been computed lies in one SQLite file, a row per result, under a key that hashes all that the result depends
on: model, prompt, the intervention's tensors, sample and options. So a changed setting or model finds nothing of the
old, a wider grid finds all of it, and two processes may write to the same file.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from itertools import groupby, product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from .completions import Sampling, completed, completion_call
from .intervention import Intervention
from .metrics import entropy, kl
from .model import SteerableModel, finite
from .passes import Call, Tap, like, logits
from .prompts import Plain, Prompt
from .site import Site

FORMAT = 2  # part of every key: raise it when the same setting comes to mean another result
Result = dict[str, Any]
Compute = Callable[[list[list[int]]], list[Result]]


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
    _need_settings(settings)
    sampling = Sampling(max_new_tokens, temperature, top_p, frequency_penalty, seed)
    jobs = [(setting, sample) for setting in settings for sample in range(n)]
    hashes = [_hash(_content(lm, setting)) for setting in settings]
    drawn = {**sampling.settings, "max_new_tokens": max_new_tokens, "seed": seed}
    base = _hash({"what": "completion", "model": identity(lm), **drawn})
    keys = [_hash([base, own, sample]) for own in hashes for sample in range(n)]
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

    size = rows or batch_rows(lm, max(map(len, ids.values())) + max_new_tokens)
    _check(lm, [setting for setting in settings for _ in range(min(n, 2))], size, max_new_tokens)
    with noted(lm, file) as lm:
        found = _run(keys, [range(len(keys))], size, compute, file, progress, lm.runner.at_once, lm.runner.made_up)
    return pd.DataFrame(
        [
            {**setting.columns, "prompt": lm.text(setting.prompt), "sample": sample, **found[key], "seed": seed}
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

    Settings that share a prompt and their lowest steered layer are run together from that layer on: what lies below is
    computed once for all of them.

    Args:
        lm: the model.
        settings: the grid.
        tokens: whose log-probabilities are wanted, each a single token such as " wedding".
        file: where results are kept as they come, and found again.
        rows: of one batch; found from the free memory by default.
        progress: whether to show a bar with the time left.

    Returns:
        One row per setting and token: the settings' columns, `prompt`, `kl` (of the steered from the unsteered
        distribution, in nats: KL(steered ‖ unsteered)), `entropy` (of the steered, in nats), `top` (its most probable
        token), and `token` and `logprob` where tokens are wanted.

    Raises:
        ValueError: there are no settings, a wanted token is several, the file is not one of ours, or what `lm.logits`
            refuses.
    """
    _need_settings(settings)
    ids = [_single(lm, token) for token in tokens]
    base = _hash({"what": "next token", "model": identity(lm), "tokens": ids})
    keys = [_hash([base, _content(lm, setting)]) for setting in settings]
    prompts = [tuple(lm.batch(setting.prompt).ids[0].tolist()) for setting in settings]
    size = rows or batch_rows(lm, max(map(len, prompts)))
    _check(lm, settings, size)
    compare = Comparison(lm, sorted({_lowest(setting) for setting in settings}))

    def call(picked: list[int]) -> Call:
        return compared_call(lm, [prompts[i] for i in picked], [settings[i].steer for i in picked], ids)

    def compute(chunks: list[list[int]]) -> list[Result]:
        if lm.runner.at_once:
            found = lm.run([call(picked) for picked in chunks])
        else:
            pairs = (compare([prompts[i] for i in chunk], [settings[i].steer for i in chunk]) for chunk in chunks)
            found = [measured(*pair, ids) for pair in pairs]
        return [row for chunk in found for row in _rows(lm, chunk)]

    def group(i: int) -> tuple[tuple[int, ...], int]:
        return prompts[i], _lowest(settings[i])

    order = sorted(range(len(settings)), key=group)
    groups = [list(members) for _, members in groupby(order, key=group)]
    if len(order) < 4 * len(groups):  # too few that share a prompt and a layer: fill the batches with all kinds
        groups = [order]
    with noted(lm, file) as lm:
        found = _run(keys, groups, size, compute, file, progress, lm.runner.at_once, lm.runner.made_up)
    return pd.DataFrame(
        [
            {**setting.columns, "prompt": lm.text(setting.prompt), **row}
            for setting, key in zip(settings, keys, strict=True)
            for row in _unfold(found[key], tokens)
        ]
    )


class Comparison:
    """Steered and unsteered next-token logits, where what settings share is computed once.

    Args:
        lm: the model.
        layers: the lowest edited layers of the settings to come (0 for one that edits nothing).
    """

    def __init__(self, lm: SteerableModel, layers: Sequence[int]) -> None:
        """Keep what the latest prompt needs: its unsteered logits, and the stream that enters each of the layers."""
        self.lm = lm
        self.sites = [Site("resid_pre", layer) for layer in layers]
        self.prompt: tuple[int, ...] = ()

    def __call__(
        self, prompts: Sequence[tuple[int, ...]], steer: Sequence[Intervention | None]
    ) -> tuple[Float[Tensor, "batch vocab"], Float[Tensor, "#batch vocab"]]:
        """Steered and unsteered logits of prompts, given as token ids."""
        once = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        if len(once) > 1 or self.lm.runner.at_once:
            bare, batch = (self.lm.batch([torch.tensor(prompt) for prompt in each]) for each in (once, prompts))
            calls = [
                self.lm.logits_call(bare, {}, "last"),
                self.lm.logits_call(batch, self.lm.check(steer, batch), "last"),
            ]
            plain, steered = (found[:, -1].float() for found in self.lm.run(calls))
            return finite(steered), plain[[once[prompt] for prompt in prompts]]
        text = torch.tensor(prompts[0])
        if self.prompt != prompts[0]:
            self.prompt = prompts[0]
            self.plain = self.lm.logits(text)
            self.streams = self.lm.activations(text, self.sites)
        layer = min((one.sites[0].layer for one in steer if one is not None and one.edits), default=0)
        entering = self.streams[Site("resid_pre", layer)][0]
        return self.lm.logits_from(layer, entering, text, steer), self.plain


def compared_call(
    lm: SteerableModel, prompts: Sequence[tuple[int, ...]], steer: Sequence[Intervention | None], ids: list[int]
) -> Call:
    """What `measured` finds for each row, computed beside the model: the logits stay there."""
    once = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
    bare, batch = (lm.batch([torch.tensor(prompt) for prompt in each]) for each in (once, prompts))
    index = torch.tensor([once[prompt] for prompt in prompts])
    taps, rows = lm.taps(lm.check(steer, batch)), len(prompts)
    gives = {"kl": like(rows), "entropy": like(rows), "top": like(rows, dtype=torch.long)}
    gives["logprobs"] = like(rows, len(ids))
    return Call(compared, (bare.plain, index, batch.plain, taps, ids), gives)


def compared(
    model: Any, bare: Plain, index: Tensor, batch: Plain, taps: Sequence[Tap], ids: list[int]
) -> dict[str, Tensor]:
    """`measured`, of each row of a batch against its row of the unsteered batch; travels, as `passes.py` says."""
    plain, steered = (logits(model, *each, True, False)[:, -1].float() for each in ((bare, []), (batch, taps)))
    return measured(steered, plain[index.to(plain.device)], ids)


def measured(steered: Tensor, plain: Tensor, ids: list[int]) -> dict[str, Tensor]:
    """What is kept of each row's next-token logits."""
    found = {"kl": kl(steered, plain), "entropy": entropy(steered), "top": steered.argmax(-1)}
    return {**found, "logprobs": steered.log_softmax(-1)[:, ids]}


def _rows(lm: SteerableModel, found: Mapping[str, Tensor]) -> list[Result]:
    """What was measured, a result for each row."""
    finite(found["entropy"])
    tops = [lm.tokenizer.decode([token]) for token in found["top"].tolist()]
    measures = zip(*(found[name].tolist() for name in ("kl", "entropy", "logprobs")), tops, strict=True)
    return [{"kl": far, "entropy": spread, "top": top, "logprobs": own} for far, spread, own, top in measures]


def _unfold(result: Result, tokens: Sequence[str]) -> Iterator[Result]:
    """One frame row per token, or one where no tokens are wanted."""
    rest = {name: value for name, value in result.items() if name != "logprobs"}
    if not tokens:
        yield rest
    for token, score in zip(tokens, result["logprobs"], strict=True):
        yield {**rest, "token": token, "logprob": score}


# --- the engine --------------------------------------------------------------------------------------------------


def _run(
    keys: Sequence[str],
    groups: Sequence[Sequence[int]],
    size: int,
    compute: Compute,
    file: str | Path | None,
    progress: bool,
    at_once: bool = False,
    dry: bool = False,
) -> dict[str, Result]:
    """All results by key: those found in the file, and those computed now, chunk by chunk, or in one remote job.

    Args:
        keys: one per job; jobs with the same key are computed once.
        groups: numbers of the jobs that may share a batch.
        size: of a batch. A sweep that goes on keeps the size that it began with: other batches round otherwise.
        compute: from numbers of jobs, by chunks, to their results.
        file: of the results.
        progress: whether to show a bar.
        at_once: whether all chunks go to one call of `compute`, which is one remote job.
        dry: whether the results are made up, and not to be kept.
    """
    with closing(_open(file, dry)) as store:
        found = _read(store, set(keys))
        size = int(_write(store, {_hash([*keys]): size})[_hash([*keys])])
        chunks = [group[i : i + size] for group in groups for i in range(0, len(group), size)]
        if at_once:
            lacking = [[i for i in {keys[i]: i for i in chunk}.values() if keys[i] not in found] for chunk in chunks]
            if left := [chunk for chunk in lacking if chunk]:
                wanted = [keys[i] for chunk in left for i in chunk]
                found |= _write(store, dict(zip(wanted, compute(left), strict=True)))
            return found
        bar = tqdm(total=len(keys), initial=sum(key in found for key in keys), disable=not progress, unit="row")
        with bar:
            for chunk in chunks:
                bar.update(-sum(keys[i] in found for i in chunk))
                if any(keys[i] not in found for i in chunk):
                    found |= _read(store, {keys[i] for i in chunk})  # another process may have done it meanwhile
                    missing = list({keys[i]: i for i in reversed(chunk) if keys[i] not in found}.values())[::-1]
                    fresh = _halving(compute, missing) if missing else []
                    found |= _write(store, {keys[i]: result for i, result in zip(missing, fresh, strict=True)})
                bar.update(len(chunk))
    return found


def _halving(compute: Compute, jobs: list[int]) -> list[Result]:
    """Compute one chunk; where memory does not suffice, one half after the other."""
    try:
        return compute([jobs])
    except torch.OutOfMemoryError:
        if len(jobs) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(jobs) // 2
    return _halving(compute, jobs[:middle]) + _halving(compute, jobs[middle:])


@contextmanager
def noted(lm: SteerableModel, file: str | Path | None) -> Iterator[SteerableModel]:
    """The model; with a remote one and a file of results, the ids of its jobs lie beside the file until all is done."""
    jobs = Path(f"{file}.jobs")
    noting = lm if file is None else lm.noting(jobs)
    yield noting
    if noting is not lm:
        jobs.unlink(missing_ok=True)


def _open(file: str | Path | None, dry: bool = False) -> sqlite3.Connection:
    """The file of results, made where it is missing; in memory without a file, and a copy for a dry run."""
    unread = file is None or (dry and not Path(file).exists())
    store = sqlite3.connect(":memory:" if unread else str(file), timeout=60)  # seconds to wait for another process
    try:
        if dry:
            with closing(store):
                copied = sqlite3.connect(":memory:")
                store.backup(copied)
            store = copied
        with store:
            store.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, result TEXT NOT NULL)")
    except sqlite3.DatabaseError as error:
        store.close()
        raise ValueError(f"{file} is no file of sweep results ({error}): give a new name") from None
    return store


def _read(store: sqlite3.Connection, keys: Iterable[str]) -> dict[str, Any]:
    """Those of the keys that are there, with their results."""
    wanted = sorted(keys)
    rows: list[tuple[str, str]] = []
    for start in range(0, len(wanted), 500):  # SQLite allows 999 question marks
        part = wanted[start : start + 500]
        marks = ",".join("?" * len(part))
        rows += store.execute(f"SELECT key, result FROM results WHERE key IN ({marks})", part).fetchall()
    return {key: json.loads(result) for key, result in rows}


def _write(store: sqlite3.Connection, results: Mapping[str, Any]) -> dict[str, Any]:
    """Keep results, all or none of them; the first to write a key wins, and its result is what is returned."""
    with store:
        rows = [(key, json.dumps(result)) for key, result in results.items()]
        store.executemany("INSERT OR IGNORE INTO results VALUES (?, ?)", rows)
    return _read(store, results)


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


def identity(lm: SteerableModel) -> str:
    """Sixteen hex digits that tell one model from another: name, revision, tokenizer, dtype and weights.

    Of each weight tensor it takes its shape, the sum of its bits read as integers (which any order of summing gives
    alike), and some of its values, so that a change of a single number is seen. It is the same whatever `FORMAT`: kept
    tables know their model by it.
    """
    weights = [(name, list(tensor.shape), _bits(tensor)) for name, tensor in lm.hf.named_parameters()]
    return _hash([lm.name, lm.revision, lm.tokenizer_hash, str(lm.dtype), weights], version=1)[:16]


def _bits(tensor: Tensor) -> list[int]:
    """A sum and a sample of a tensor's bits; nothing for one whose values are elsewhere."""
    if tensor.is_meta or not tensor.numel():
        return []
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    flat = tensor.detach().contiguous().flatten().view(integer)
    sample = flat[:: max(1, len(flat) // 16)]
    return [int(flat.sum(dtype=torch.int64)), *sample.tolist()]


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


def _hash(value: Any, version: int = FORMAT) -> str:
    """SHA-256 of a value's JSON, in hex."""
    return hashlib.sha256(json.dumps([version, value], sort_keys=True).encode()).hexdigest()


# --- small checks ------------------------------------------------------------------------------------------------


def _need_settings(settings: Sequence[Setting]) -> None:
    if not settings:
        raise ValueError("the sweep has no settings: give at least one")


def _check(lm: SteerableModel, settings: Sequence[Setting], size: int, new: int = 1) -> None:
    """Check all batches before the first one runs."""
    for start in range(0, len(settings), size):
        part = settings[start : start + size]
        lm.check([setting.steer for setting in part], lm.batch([setting.prompt for setting in part], new))


def _single(lm: SteerableModel, token: str) -> int:
    """The id of a string that is one token."""
    ids = lm.encode(token)
    if len(ids) != 1:
        shown = " + ".join(repr(lm.tokenizer.decode([part])) for part in ids)
        raise ValueError(f"{token!r} is {len(ids)} tokens ({shown}): give single tokens, such as ' the'")
    return ids[0]


def _lowest(setting: Setting) -> int:
    """The lowest steered layer; 0 where nothing is steered."""
    return setting.steer.sites[0].layer if setting.steer is not None and setting.steer.edits else 0
