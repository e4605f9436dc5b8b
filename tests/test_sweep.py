"""The sweep engine: the same numbers as single runs, nothing computed twice, nothing stale, nothing lost or corrupt."""

import json
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

import steerlab as sl
from steerlab import jobs, metrics, sweep
from steerlab.identity import identity
from steerlab.kept import compute_missing
from steerlab.passes import Call
from steerlab.sweep import Setting

PROMPT = "I went up to my friend and said"


@pytest.fixture(scope="module")
def lm(tiny: Callable[..., sl.SteerableModel]) -> sl.SteerableModel:
    return tiny()


@pytest.fixture
def settings(lm: sl.SteerableModel) -> list[Setting]:
    vectors = {layer: sl.actadd(lm, " weddings", " ", layer=layer) for layer in range(3)}
    steered = [
        Setting(point, PROMPT, point["c"] * vectors[point["layer"]]) for point in sweep.grid(layer=range(3), c=(1, 4))
    ]
    return [Setting({"layer": None, "c": 0}, PROMPT), *steered]


class Counter:
    """Counts the completions that the model makes; the batch after the last that is allowed is interrupted.

    Memory suffices for batches of `most`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int = 10**9, most: int = 10**9) -> None:
        self.batches: list[int] = []
        run = jobs.Local.run

        def counted(runner: jobs.Local, model: Any, calls: Iterable[Call]) -> list[Any]:
            if len(self.batches) == allowed:
                raise KeyboardInterrupt
            results = run(runner, model, calls)
            if max(map(len, results)) > most:
                raise torch.OutOfMemoryError
            self.batches += [len(result) for result in results]
            return results

        monkeypatch.setattr(jobs.Local, "run", counted)

    @property
    def made(self) -> int:
        """How many completions."""
        return sum(self.batches)


def complete(lm: sl.SteerableModel, settings: list[Setting], **options: object) -> pd.DataFrame:
    return sweep.completions(lm, settings, max_new_tokens=5, progress=False, **{"n": 3, "rows": 4, **options})


def test_grid_has_all_points() -> None:
    assert sweep.grid(a=(1, 2), b="xy") == [{"a": a, "b": b} for a in (1, 2) for b in "xy"]


def test_completions_equal_generate(lm: sl.SteerableModel, settings: list[Setting]) -> None:
    frame = complete(lm, settings, seed=7)
    assert len(frame) == 3 * len(settings)
    for i, setting in enumerate(settings):
        alone = lm.generate(PROMPT, setting.steer, n=3, max_new_tokens=5, seed=7)
        mine = frame.iloc[3 * i : 3 * i + 3].reset_index(drop=True)
        assert mine["completion"].tolist() == alone["completion"].tolist()
        assert mine["sample"].tolist() == [0, 1, 2]
        assert (mine["c"] == setting.columns["c"]).all()
    assert frame["completion"].nunique() > len(settings)  # steering and samples do something to this model


@pytest.mark.parametrize("mixed", [False, True])
def test_next_tokens_equal_single_passes(lm: sl.SteerableModel, settings: list[Setting], mixed: bool) -> None:
    if mixed:  # several prompts with few settings each share batches; of one prompt, each layer is a batch of its own
        settings = [*settings, Setting({"layer": 1, "c": 9}, "It was a " + PROMPT, settings[3].steer)]
    else:
        scales = [0.5, 1, 2, 3, 4]
        settings = [
            Setting(setting.columns, PROMPT, s * setting.steer) for setting in settings if setting.steer for s in scales
        ]
    frame = sweep.next_tokens(lm, settings, [" the", " and"], rows=4, progress=False)
    assert len(frame) == 2 * len(settings)
    for i, setting in enumerate(settings):
        logits, plain = lm.logits(setting.prompt, setting.steer), lm.logits(setting.prompt)
        rows = frame.iloc[2 * i : 2 * i + 2]
        expected = logits.log_softmax(-1)[0, [lm.encode(" the")[0], lm.encode(" and")[0]]]
        assert rows["logprob"].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
        assert rows["token"].tolist() == [" the", " and"]
        assert rows["kl"].iloc[0] == pytest.approx(metrics.kl(logits, plain).item(), abs=1e-4)
        assert rows["entropy"].iloc[0] == pytest.approx(metrics.entropy(logits).item(), abs=1e-4)
        assert rows["top"].iloc[0] == lm.tokenizer.decode([logits.argmax().item()])
    assert frame["kl"].max() > 1e-3


def test_nothing_below_the_lowest_layer_is_run_for_each_setting(lm: sl.SteerableModel) -> None:
    vectors = [sl.actadd(lm, " weddings", " ", layer=layer) for layer in (1, 2)]
    settings = [Setting({}, prompt, c * v) for v in vectors for c in range(5) for prompt in (PROMPT, "The ship sailed")]
    rows = dict.fromkeys(range(3), 0)

    def count(layer: int, hidden: torch.Tensor) -> None:
        rows[layer] += len(hidden)

    hooks = [
        block.self_attn.register_forward_pre_hook(
            lambda module, args, kwargs, i=i: count(i, kwargs["hidden_states"]), with_kwargs=True
        )
        for i, block in enumerate(lm.hf.model.layers)
    ]
    try:
        sweep.next_tokens(lm, settings, progress=False)
    finally:
        for hook in hooks:
            hook.remove()
    assert rows[0] < len(settings) / 2 < rows[1] < rows[2]
    assert rows[2] >= len(settings)


class Tupled(LlamaDecoderLayer):
    """A block as those of GPT-2 before transformers 5.3, and of much remote code: it gives a tuple."""

    def forward(self, *given: Any, **named: Any) -> Any:
        return super().forward(*given, **named), None


def test_blocks_that_give_tuples_are_skipped_alike(lm: sl.SteerableModel) -> None:
    model = LlamaForCausalLM(lm.hf.config)
    model.load_state_dict(lm.hf.state_dict())
    blocks = model.model.layers
    for block, after in zip(blocks, [*blocks[1:], model.model.norm], strict=True):
        block.__class__ = Tupled
        after.register_forward_pre_hook(lambda module, given: (given[0][0], *given[1:]))
    steer = sl.actadd(lm, " weddings", " ", layer=2)
    settings = [Setting({"c": c}, prompt, c * steer) for c in (1, 4) for prompt in ("A king", "The old dog said")]
    frame, other = (
        sweep.next_tokens(each, settings, progress=False) for each in (lm, sl.load(model, tokenizer=lm.tokenizer))
    )
    assert_frame_equal(frame, other)


def test_a_method_that_steers_one_row_at_a_time(lm: sl.SteerableModel) -> None:
    sara = sl.sara(lm, PROMPT, attract="duty", repel="pleasure", layer=1, variant="released")
    settings = [Setting({"c": c}, PROMPT, c * sara) for c in range(3)]
    frame = sweep.next_tokens(lm, settings, rows=1, progress=False)
    assert frame["kl"].iloc[0] == pytest.approx(0, abs=1e-6) and frame["kl"].iloc[2] > 1e-4
    with pytest.raises(ValueError, match="one prompt at a time"):
        sweep.next_tokens(lm, settings, rows=2, progress=False)
    with pytest.raises(ValueError, match="one prompt at a time"):
        complete(lm, [*[Setting({}, PROMPT)] * 4, settings[2]])


def test_next_tokens_without_wanted_tokens_has_a_row_per_setting(
    lm: sl.SteerableModel, settings: list[Setting]
) -> None:
    frame = sweep.next_tokens(lm, settings, progress=False)
    assert len(frame) == len(settings)
    assert "token" not in frame


def test_the_same_setting_is_computed_once(
    lm: sl.SteerableModel, settings: list[Setting], monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    frame = complete(lm, [settings[0], settings[0], Setting({"c": -1}, PROMPT)], n=2, rows=100)
    assert counter.made == 2
    assert frame["completion"].tolist() == frame["completion"].tolist()[:2] * 3


def test_a_stopped_sweep_recomputes_nothing_that_was_kept_and_ends_the_same(
    lm: sl.SteerableModel, settings: list[Setting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = complete(lm, settings)
    file = tmp_path / "sweep.sqlite"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Counter(patch, allowed=3)
        complete(lm, settings, file=file)
    counter = Counter(monkeypatch)
    for _ in range(2):  # the second time all is there
        assert_frame_equal(complete(lm, settings, file=file), whole)
        assert counter.made == len(whole) - 3 * 4


def test_a_sweep_goes_on_with_the_batches_it_began_with(
    lm: sl.SteerableModel, settings: list[Setting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sweep.sqlite"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Counter(patch, allowed=1)
        complete(lm, settings, file=file, rows=8)
    counter = Counter(monkeypatch)
    complete(lm, settings, file=file, rows=16)  # as if more memory were free now
    assert max(counter.batches) == 8 and counter.made == 3 * len(settings) - 8


def test_a_wider_grid_finds_what_is_there(
    lm: sl.SteerableModel, settings: list[Setting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sweep.sqlite"
    complete(lm, settings[:2], n=2, file=file)
    counter = Counter(monkeypatch)
    complete(lm, settings[:3], n=3, file=file)
    assert counter.made == 3 * 3 - 2 * 2


@pytest.mark.parametrize("change", ["strength", "prompt", "when", "seed", "temperature", "length"])
def test_a_changed_setting_reads_nothing_old(
    lm: sl.SteerableModel, settings: list[Setting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    file, old = tmp_path / "sweep.sqlite", settings[1]
    assert old.steer is not None
    complete(lm, [old], file=file)
    site, edit = old.steer.edits[0]
    longer = sl.Edit(shift=edit.shift[-1:], anchor="all", when="prompt")  # type: ignore[index]
    always = sl.Edit(shift=edit.shift[-1:], anchor="all", when="all")  # type: ignore[index]
    complete(lm, [Setting({}, PROMPT, sl.Intervention({site: longer}))], file=file)
    new, options = {
        "strength": (Setting(old.columns, PROMPT, 1.001 * old.steer), {}),
        "prompt": (Setting(old.columns, PROMPT + ",", old.steer), {}),
        "when": (Setting(old.columns, PROMPT, sl.Intervention({site: always})), {}),
        "seed": (old, {"seed": 1}),
        "temperature": (old, {"temperature": 0.5}),
        "length": (old, {"top_p": 0.9}),
    }[change]
    counter = Counter(monkeypatch)
    complete(lm, [new], file=file, **options)
    assert counter.made == 3


def test_columns_are_names_only(
    lm: sl.SteerableModel, settings: list[Setting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sweep.sqlite"
    complete(lm, settings[:1], file=file)
    counter = Counter(monkeypatch)
    frame = complete(lm, [Setting({"name": "plain"}, PROMPT)], file=file)
    assert counter.made == 0 and (frame["name"] == "plain").all()


def test_another_model_reads_nothing_old(
    tiny: Callable[..., sl.SteerableModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, file = tiny(), tmp_path / "sweep.sqlite"
    setting = Setting({}, PROMPT)
    before = complete(lm, [setting], file=file)
    same = tiny()
    unused = Counter(monkeypatch)
    assert_frame_equal(complete(same, [setting], file=file), before)
    assert unused.made == 0
    with torch.no_grad():
        lm.hf.model.layers[2].mlp.down_proj.weight[7, 13] += 1e-6  # a single number of a single weight
    counter = Counter(monkeypatch)
    complete(lm, [setting], file=file)
    assert counter.made == 3


def test_identity_sees_dtype_and_name(tiny: Callable[..., sl.SteerableModel]) -> None:
    lm = tiny()
    before = identity(lm)
    assert before == identity(tiny())
    assert before != identity(tiny(seed=1))
    lm.name = "another"
    assert before != identity(lm)
    lm = tiny()
    lm.hf.to(torch.bfloat16)
    assert before != identity(lm)


def test_too_little_memory_halves_the_batch(
    lm: sl.SteerableModel, settings: list[Setting], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = complete(lm, settings)
    counter = Counter(monkeypatch, most=3)
    assert_frame_equal(complete(lm, settings, rows=12), whole)
    assert counter.made == len(whole)


def test_batch_rows_follow_the_memory(lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    for gib in (0.0001, 0.01, 1000):
        monkeypatch.setattr(jobs.Local, "free_bytes", lambda self, gib=gib: int(gib * 2**30))
        sizes.append(sweep.batch_rows(lm, 50))
    assert sizes[0] == 1 < sizes[1] < sizes[2] == 256
    assert sizes[1] & (sizes[1] - 1) == 0


# --- several processes; the work is a stand-in, the file is real -------------------------------------------------

KEYS = [f"key {i:03}" for i in range(60)]


def work(file: Path, log: Path, delay: float) -> None:
    def compute(chunks: list[list[int]]) -> list[dict[str, object]]:
        (jobs,) = chunks
        time.sleep(delay)
        with log.open("a") as out:
            out.writelines(f"{job}\n" for job in jobs)
        return [{"value": job, "by": os.getpid()} for job in jobs]

    compute_missing(KEYS, [range(60)], 4, compute, file)


def start(file: Path, log: Path, delay: float) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=work, args=(file, log, delay))
    process.start()
    return process


def kept(file: Path) -> dict[str, str]:
    """What stands in the file, by key."""
    if not file.exists():
        return {}
    try:
        with sqlite3.connect(file) as store:
            return dict(store.execute("SELECT key, result FROM results WHERE key LIKE 'key%' ORDER BY key").fetchall())
    except sqlite3.OperationalError:  # the table is not there yet
        return {}


def wait_for(file: Path, count: int, process: multiprocessing.process.BaseProcess) -> None:
    """Until so many results are kept."""
    while len(kept(file)) < count:
        assert process.is_alive(), "the process ended before it had kept enough"
        time.sleep(0.005)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_and_started_again(tmp_path: Path) -> None:
    file, log = tmp_path / "sweep.sqlite", tmp_path / "log"
    process = start(file, log, 0.02)
    wait_for(file, 12, process)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert 12 <= len(kept(file)) < 60 and len(kept(file)) % 4 == 0  # whole chunks only
    work(file, log, 0)
    assert list(kept(file)) == KEYS
    assert len(log.read_text().split()) <= 60 + 4  # at most one chunk twice


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_share_a_file(tmp_path: Path) -> None:
    file, log = tmp_path / "sweep.sqlite", tmp_path / "log"
    processes = [start(file, log, 0.003) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert list(kept(file)) == KEYS
    with sqlite3.connect(file) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    work(file, log, 0)  # which computes nothing any more
    assert len(log.read_text().split()) <= 2 * 60
    assert [json.loads(result)["value"] for result in kept(file).values()] == list(range(60))


# --- what is refused ---------------------------------------------------------------------------------------------


def test_refusals(lm: sl.SteerableModel, settings: list[Setting], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no settings"):
        sweep.completions(lm, [])
    with pytest.raises(ValueError, match=r"' weddingses' is \d tokens"):
        sweep.next_tokens(lm, settings, [" weddingses"])
    text = tmp_path / "notes.txt"
    text.write_text("these are notes, not results" * 100)
    with pytest.raises(ValueError, match=r"notes\.txt is no file of kept results"):
        sweep.next_tokens(lm, settings, file=text)
    assert text.read_text().startswith("these are notes")
    far = sl.Intervention({sl.Site("resid_pre", 9): sl.Edit(shift=torch.ones(1, 16))})
    with pytest.raises(ValueError, match="layers 0 to 2"):
        complete(lm, [Setting({}, PROMPT, far)])
