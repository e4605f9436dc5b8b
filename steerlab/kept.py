"""What has been computed is kept, and not computed again: one SQLite file, a row per result, under a hash as its key.

The key hashes all that the result depends on, so that a changed question finds nothing of the old, and a wider one all
of it. Results are written chunk by chunk, all of a chunk or none: a run may be killed at any moment, and two processes
may write to the same file.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

Compute = Callable[[list[list[int]]], list[Any]]
"""From numbers of jobs, by chunks, to the results of all, in their order."""


def digest(value: Any) -> str:
    """SHA-256 of a value's JSON, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def compute_missing(
    keys: Sequence[str],
    groups: Sequence[Sequence[int]],
    size: int,
    compute: Compute,
    file: str | Path | None,
    *,
    progress: bool = False,
    at_once: bool = False,
    made_up: bool = False,
) -> dict[str, Any]:
    """All results by key: those found in the file, and those computed now.

    Args:
        keys: one per job; jobs with the same key are computed once.
        groups: numbers of the jobs that may share a chunk.
        size: of a chunk. A run that goes on keeps the size that it began with: other batches round otherwise.
        compute: called with one chunk at a time; where memory does not suffice, with one half after the other.
        file: of the results, which JSON can write; nothing is kept without one.
        progress: whether to show a bar.
        at_once: give all chunks to one call of `compute`, which is then one remote job.
        made_up: the results are not to be kept.

    Raises:
        ValueError: the file is none of kept results.
    """
    with closing(_open(file, made_up)) as store:
        run = digest([*keys])
        size = int(_write(store, {run: size})[run])
        chunks = [list(group[i : i + size]) for group in groups for i in range(0, len(group), size)]
        results = _read(store, set(keys))
        with tqdm(total=len(keys), disable=at_once or not progress, unit="row") as bar:
            for turn in [chunks] if at_once else [[chunk] for chunk in chunks]:
                if _missing(turn, keys, results):  # another process may have done it meanwhile
                    results |= _read(store, {keys[i] for chunk in turn for i in chunk})
                if missing := _missing(turn, keys, results):
                    computed = compute(missing) if at_once else _halving(compute, *missing)
                    names = [keys[i] for chunk in missing for i in chunk]
                    results |= _write(store, dict(zip(names, computed, strict=True)))
                bar.update(sum(key in results for key in keys) - bar.n)
    return results


def _missing(chunks: Sequence[Sequence[int]], keys: Sequence[str], results: Mapping[str, Any]) -> list[list[int]]:
    """The jobs of some chunks that have no result, one of each key; no chunk of them is empty."""
    jobs: dict[str, int] = {}
    for chunk in chunks:
        for job in chunk:
            jobs.setdefault(keys[job], job)
    missing = [[i for i in chunk if keys[i] not in results and jobs[keys[i]] == i] for chunk in chunks]
    return [chunk for chunk in missing if chunk]


def _halving(compute: Compute, jobs: list[int]) -> list[Any]:
    """Compute one chunk; where memory does not suffice, one half after the other."""
    try:
        return compute([jobs])
    except torch.OutOfMemoryError:
        if len(jobs) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(jobs) // 2
    return _halving(compute, jobs[:middle]) + _halving(compute, jobs[middle:])


def _open(file: str | Path | None, made_up: bool) -> sqlite3.Connection:
    """The file, made where it is missing; in memory without one, and a copy in memory where nothing is to be kept."""
    nowhere = file is None or (made_up and not Path(file).exists())
    store = sqlite3.connect(":memory:" if nowhere else str(file), timeout=60)  # seconds to wait for another process
    try:
        if made_up:
            with closing(store) as source:
                store = sqlite3.connect(":memory:")
                source.backup(store)
        with store:
            store.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, result TEXT NOT NULL)")
    except sqlite3.DatabaseError as error:
        store.close()
        raise ValueError(f"{file} is no file of kept results ({error}): give a new name") from None
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
