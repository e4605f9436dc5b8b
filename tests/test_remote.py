"""Every call on a server as here: through real HTTP and a websocket, in a process that cannot import steerlab."""

import ast
import io
import json
import math
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pandas as pd
import pytest
import torch
import zstandard
from families import fresh, tokenizer
from ndif.double import KEY, Double
from nnsight.intervention.serialization import CustomCloudUnpickler
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel, Status
from torch import Tensor

import steerlab as sl
from steerlab import ActivScalar, DynScalar, Objective, Site, SteerVec, remote, strength, sweep
from steerlab.experiments.sara import dilemma_study
from steerlab.remote import Remote, RemoteError, ndif_models

SERVED = ("gpt2", "llama", "gpt_neox")
PROMPTS = ["Once upon a time there was a", "He said"]
DUTY, RESULTS = "An action is right when it is done from duty.", "What brings the most joy is right."
DILEMMAS = pd.DataFrame(
    {
        "id": ["clerk", "girl"],
        "prompt": [
            "Should the young clerk keep the secret of his old friend, or may he tell it?",
            "May a girl lie to the angry men at the gate of her father's house by the sea?",
        ],
    }
)
QUICK: dict[str, Any] = {"steps": 6, "patience": 3, "batch_size": 4, "lr": 0.05, "progress": False}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny random models, saved."""
    found = {}
    for family in SERVED:
        found[family] = tmp_path_factory.mktemp(family)
        fresh(family).save_pretrained(found[family])
        tokenizer().save_pretrained(found[family])
    return found


@pytest.fixture(scope="module")
def server(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    """A server that has them."""
    double = Double(tmp_path_factory.mktemp("server"), {str(folder): folder for folder in folders.values()})
    yield double
    double.stop()


@pytest.fixture(autouse=True)
def well_behaved(server: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, a server without faults, and short waits."""
    server.switch()
    monkeypatch.setenv("NDIF_API_KEY", KEY)
    monkeypatch.setattr(remote, "WAITS", (0.05, 0.05))
    monkeypatch.setattr(nnsight.CONFIG.APP, "REMOTE_LOGGING", False)


@pytest.fixture
def here(folders: dict[str, Path]) -> sl.SteerableModel:
    return sl.load(folders["llama"])


@pytest.fixture
def there(folders: dict[str, Path], server: Double) -> sl.SteerableModel:
    return sl.load(folders["llama"], remote=server.url)


# --- the same as here ----------------------------------------------------------------------------------------------


def shift(lm: sl.SteerableModel, **fields: Any) -> sl.Intervention:
    """A fixed edit, so that no request is needed to make it."""
    drawn = torch.randn(1, lm.d_model, generator=torch.Generator().manual_seed(0))
    return sl.Intervention(((Site("resid_pre", 1), sl.Edit(shift=drawn, **fields)),))


def ioi(lm: sl.SteerableModel) -> sl.tasks.Task:
    return sl.tasks.ioi(lm, 16, orders=["ABBA"])


def settings(lm: sl.SteerableModel, layers: int = 3, strengths: int = 4) -> list[sweep.Setting]:
    drawn = torch.randn(2, lm.d_model, generator=torch.Generator().manual_seed(0))
    grid = sweep.grid(layer=range(layers), coefficient=range(strengths))
    edits = [((Site("resid_pre", point["layer"]), sl.Edit(shift=drawn, anchor="front")),) for point in grid]
    return [
        sweep.Setting(point, PROMPTS[0], point["coefficient"] * sl.Intervention(edit))
        for point, edit in zip(grid, edits, strict=True)
    ]


def study(lm: sl.SteerableModel, **options: Any) -> pd.DataFrame:
    """Two dilemmas at two layers, both ways, by all methods."""
    pair: dict[str, Any] = {"duty": DUTY, "consequence": RESULTS, "layers": [0, 2]}
    return dilemma_study(lm, DILEMMAS, **pair | {"repeats": 2, "max_new_tokens": 3, "progress": False} | options)


Work = Callable[[sl.SteerableModel], Any]

CALLS: dict[str, tuple[int, Work]] = {
    "activations": (1, lambda lm: lm.activations(PROMPTS, [Site("resid_pre", 1), Site("mlp_out", 2)], shift(lm))),
    "logits": (1, lambda lm: lm.logits(PROMPTS, [shift(lm), None])),
    "all logits": (1, lambda lm: lm.logits(PROMPTS, shift(lm, anchor="front", start=1), position="all")),
    "logprobs": (1, lambda lm: lm.logprobs(PROMPTS * 3, shift(lm), given=["I", "you"] * 3, batch_size=2)),
    "greedy": (1, lambda lm: lm.generate(PROMPTS, shift(lm), temperature=0, max_new_tokens=4)),
    "samples": (
        1,
        lambda lm: lm.generate(
            PROMPTS, shift(lm, when="all"), n=3, top_p=0.9, temperature=0.7, frequency_penalty=0.5, batch_size=2
        ),
    ),
    "actadd": (1, lambda lm: sl.actadd(lm, " weddings", layer=1)),
    "sara": (1, lambda lm: sl.sara(lm, PROMPTS, attract=DUTY, repel=RESULTS, layer=[0, 2])),
    "released sara": (
        2,
        lambda lm: lm.generate(
            PROMPTS[0],
            sl.sara(lm, PROMPTS[0], attract=DUTY, repel=RESULTS, layer=1, variant="released"),
            temperature=0,
            max_new_tokens=4,
        ),
    ),
    "evaluate": (1, lambda lm: sl.evaluate(lm, ioi(lm).test, shift(lm))),
    "fit": (1, lambda lm: sl.fit(lm, ioi(lm).train, ActivScalar(), **QUICK)),
    "fit vectors": (1, lambda lm: sl.fit(lm, ioi(lm).train, SteerVec(("resid_post",)), **QUICK)),
    "fit probes": (1, lambda lm: sl.fit(lm, ioi(lm).train, DynScalar(), **QUICK)),
    "fit forward": (1, lambda lm: sl.fit(lm, ioi(lm).train, ActivScalar(), gradient="spsa", **QUICK)),
    "fit grid": (
        1,
        lambda lm: sl.fit_grid(
            lm, ioi(lm).train, ActivScalar(), [Objective(1), Objective(5, 0)], seeds=(0, 1), **QUICK
        ),
    ),
    "next tokens": (1, lambda lm: sweep.next_tokens(lm, settings(lm), [" the", "."], progress=False)),
    "completions": (1, lambda lm: sweep.completions(lm, settings(lm), n=2, max_new_tokens=3, progress=False, rows=8)),
    "study": (2, study),
    "released study": (2, lambda lm: study(lm, variant="released", methods=("sara", "actadd"), repeats=1)),
    "mean KL": (1, lambda lm: strength.mean_kl(lm, shift(lm), [0.5, 1, 2], PROMPTS[0])),
}


def assert_same(found: Any, expected: Any) -> None:
    """Equal but for rounding, whatever it is."""
    assert type(found) is type(expected)
    if isinstance(found, Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    elif isinstance(found, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5, atol=1e-5)
    elif isinstance(found, np.ndarray):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    elif isinstance(found, sl.Activations):
        assert list(found) == list(expected)
        for site in found:
            assert_same(found[site], expected[site])
    elif isinstance(found, sl.Intervention):
        assert found.sites == expected.sites
        for (_, one), (_, other) in zip(found.edits, expected.edits, strict=True):
            for name, tensor in (one.tensors | one.references).items():
                assert_same(tensor, getattr(other, name))
    elif isinstance(found, sl.Fit):
        assert_same(found.intervention, expected.intervention)
        assert_same(found.history, expected.history)
    else:
        assert isinstance(found, list) and len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize("family", SERVED)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_gives_there_what_it_gives_here(
    family: str, name: str, server: Double, folders: dict[str, Path]
) -> None:
    requests, call = CALLS[name]
    expected = call(sl.load(folders[family]))
    lm = sl.load(folders[family], remote=server.url)
    assert_same(call(lm), expected)
    assert {parameter.device.type for parameter in lm.hf.parameters()} == {"meta"}
    seen = server.seen()
    assert len(seen) == requests
    assert all(one["key"] and not one["leaks"] for one in seen)


@pytest.mark.parametrize("name", ["activations", "samples", "fit", "next tokens"])
def test_results_may_come_on_the_socket(name: str, server: Double, here: Any, there: Any) -> None:
    server.switch(inline=True)
    assert_same(CALLS[name][1](there), CALLS[name][1](here))


@pytest.mark.parametrize("name", CALLS)
def test_the_way_without_a_server_gives_the_same(name: str, here: Any, folders: dict[str, Path]) -> None:
    lm = sl.load(folders["llama"], remote="local")
    assert_same(CALLS[name][1](lm), CALLS[name][1](here))


# --- one job per study, and what it weighs -------------------------------------------------------------------------


def test_a_layer_sweep_is_one_request(there: sl.SteerableModel, server: Double) -> None:
    frame = sweep.next_tokens(there, settings(there, 3, 84), [" the"], progress=False)  # 252, as 12 layers x 21
    assert len(frame) == 252
    (seen,) = server.seen()
    assert seen["result"] < 252 * 100  # numbers came back, not 252 rows of logits
    assert seen["result"] < 252 * len(tokenizer()) * 4 / 100


def test_a_fit_of_two_hundred_steps_is_one_request(here: Any, there: Any, server: Double) -> None:
    options: dict[str, Any] = QUICK | {"steps": 200, "patience": 200, "batch_size": 2}
    found = sl.fit(there, ioi(there).train, ActivScalar(layers=(1,)), **options)
    assert len(found.history) == 200
    assert len(server.seen()) == 1
    assert_same(found, sl.fit(here, ioi(here).train, ActivScalar(layers=(1,)), **options))


def test_calls_that_do_not_wait_for_each_other_share_a_request(here: Any, there: Any, server: Double) -> None:
    def study(layer: int) -> Work:
        def answers(lm: sl.SteerableModel) -> pd.DataFrame:
            gains = sl.sara(lm, PROMPTS[0], attract=DUTY, repel=RESULTS, layer=layer)
            return lm.generate([PROMPTS[0]] * 3, [gains, None, -gains], n=2, seed=layer, max_new_tokens=3)

        return answers

    works = [study(layer) for layer in range(3)]
    found = there.together(works)
    assert len(server.seen()) == 2  # the gains of all layers, then all answers
    assert_same(found, [work(here) for work in works])
    assert_same(found, here.together(works))
    assert len(there.dry_run(lambda lm: lm.together(works))) == 2
    with pytest.raises(ValueError, match="layer 3 is out of range"):
        there.together([works[0], study(3)])


def test_results_beyond_the_limit_are_asked_for_in_several(folders: Any, server: Double, here: Any) -> None:
    one = 2 * 8 * len(tokenizer()) * 4  # bytes of one batch of logits, and a bit
    lm = sl.load(folders["llama"], remote=Remote(server.url, limit=2 * one))
    expected = here.generate(PROMPTS[0], n=6, batch_size=1, max_new_tokens=3)
    assert_same(lm.generate(PROMPTS[0], n=6, batch_size=1, max_new_tokens=3), expected)
    assert len(server.seen()) == 1
    small = sl.load(folders["llama"], remote=Remote(server.url, limit=2 * 3 * 8))
    assert_same(small.generate(PROMPTS[0], n=6, batch_size=1, max_new_tokens=3), expected)
    assert len(server.seen()) == 1 + 3  # two batches of three token ids in each


# --- what travels --------------------------------------------------------------------------------------------------

ALLOWED = {"builtins", "cloudpickle", "collections", "math", "nnsight", "time", "torch", "transformers", "typing"}
"""What a server lets a request import, of what we need: NDIF's list has more."""

FORBIDDEN = {
    "__import__",
    "compile",
    "eval",
    "exec",
    "getattr",
    "globals",
    "input",
    "locals",
    "open",
    "setattr",
    "vars",
}


class Recorder(CustomCloudUnpickler):
    """Notes what a request asks for while it is restored."""

    asked: list[tuple[str, str]]
    sources: list[str]

    def find_class(self, module: str, name: str) -> Any:
        self.asked.append((module, name))
        found = super().find_class(module, name)
        if name != "_load_function":
            return found

        def load(source: str, *rest: Any) -> Any:
            self.sources.append(source)
            return found(source, *rest)

        return load


@pytest.mark.parametrize("name", CALLS)
def test_what_travels_is_plain(name: str, here: Any, folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Recorder.asked, Recorder.sources = [], []
    lm, serialized = sl.load(folders["llama"], remote="local"), remote.serialized

    def recorded(tracer: Any) -> bytes:
        blob = serialized(tracer)
        RequestModel.deserialize(blob, lm._traced._remoteable_persistent_objects(), True, Recorder)
        return blob

    monkeypatch.setattr(remote, "serialized", recorded)
    CALLS[name][1](lm)
    assert {module.split(".")[0] for module, _ in Recorder.asked} <= ALLOWED
    assert Recorder.sources
    for source in Recorder.sources:
        tree = list(ast.walk(ast.parse(source)))
        assert not [node for node in tree if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {node.id for node in tree if isinstance(node, ast.Name)}
        assert not names & FORBIDDEN
        assert not [node.attr for node in tree if isinstance(node, ast.Attribute) and node.attr.startswith("_")]


def test_edit_runs_where_steerlab_is_not() -> None:
    source = Path(sl.__file__).with_name("edit.py").read_text()
    program = f"""
import sys
sys.modules["steerlab"] = None
exec(compile({source!r}, "edit.py", "exec"))
h, shift = torch.ones(2, 3, 4), torch.ones(1, 1, 4)
stack = dict(shift=shift, gain=None, probe=None, length=1, start=1, rows=None, anchor="front", when="prompt")
print(edit(h, [stack]).sum().item(), edit(h, [stack], step=1).sum().item())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["32.0", "24.0"]
    tree = ast.parse(source)
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imports == {"torch"}


def test_a_gradient_does_not_travel(there: sl.SteerableModel, server: Double) -> None:
    steer = sl.Intervention(((Site("resid_pre", 1), sl.Edit(shift=torch.zeros(1, there.d_model, requires_grad=True))),))
    with pytest.raises(ValueError, match=r"requires a gradient, which does not travel: use steerlab\.fit"):
        there.logits(PROMPTS, steer)
    assert server.seen() == []


# --- weights stay away ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_of_seventy_billion_takes_no_memory(tmp_path: Path) -> None:
    config = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
    config |= {"num_key_value_heads": 8, "vocab_size": 128256, "model_type": "llama", "torch_dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForCausalLM"]}))
    tokenizer().save_pretrained(tmp_path)
    program = f"""
import resource, time
import steerlab as sl
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
sl.load({str(Path(sl.__file__).parent / "bundled")!r}, remote="https://nowhere.invalid")
before = peak()
lm = sl.load({str(tmp_path)!r}, remote="https://nowhere.invalid")
began = time.perf_counter()
frame = lm.dry_run(lambda lm: lm.logits("Hello", sl.Intervention()))
print(lm.n_params, lm.dtype, peak() - before, time.perf_counter() - began, len(frame))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    params, dtype, grown, seconds, requests = run.stdout.split()
    assert int(params) > 70e9
    assert dtype == "torch.bfloat16"
    assert float(grown) < 300
    assert float(seconds) < 2
    assert requests == "1"


# --- dry runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_a_dry_run_counts_what_a_run_sends(name: str, there: sl.SteerableModel, server: Double) -> None:
    requests, call = CALLS[name]
    dry = there.dry_run(call)
    assert server.seen() == []
    assert len(dry) == requests
    assert (dry["problem"] == "").all()
    call(there)
    for row, real in zip(dry.itertuples(), server.seen(), strict=True):
        most = 1.2 if row.Index == 0 else 2  # what the model says twice compresses better than noise
        assert real["payload"] / 1.2 < row.payload_bytes < most * real["payload"]
        assert real["result"] < row.result_bytes + 4096  # the estimate is the most that can come


def test_a_dry_run_keeps_nothing_that_it_made_up(here: Any, there: Any, server: Double, tmp_path: Path) -> None:
    file, few, many = tmp_path / "sweep.sqlite", settings(here, 2, 3), settings(here, 3, 3)

    def call(lm: sl.SteerableModel, settings: list[sweep.Setting] = many) -> list[pd.DataFrame]:
        fits = sl.fit_grid(lm, ioi(lm).train, ActivScalar(), [Objective(1)], folder=tmp_path / "fits", **QUICK)
        return [sweep.next_tokens(lm, settings, file=file, progress=False), fits[0].history]

    there.dry_run(call)
    assert list(tmp_path.iterdir()) == []
    sweep.next_tokens(there, few, file=file, progress=False)
    before = file.read_bytes()
    dry = [there.dry_run(lambda lm, one=one: call(lm, one)) for one in (few, many)]
    assert [*map(len, dry)] == [1, 2]  # what the file has is not counted, and what it lacks is
    assert file.read_bytes() == before
    assert_same(call(there), call(here))


def test_a_dry_run_needs_neither_server_nor_key(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NDIF_API_KEY")
    lm = sl.load(folders["llama"], remote="https://nowhere.invalid")
    dry = lm.dry_run(lambda lm: lm.logits(PROMPTS, position="all"))
    assert dry["runs"].tolist() == ["logits"]
    assert dry["largest"].tolist() == [(2, len(lm.tokens(PROMPTS[0])), len(tokenizer()))]
    assert dry["result_bytes"].tolist() == [math.prod(dry["largest"][0]) * 4]
    with pytest.raises(ValueError, match="layer 9 is out of range"):
        lm.dry_run(lambda lm: lm.activations(PROMPTS, Site("resid_pre", 9)))
    lm = sl.load(folders["llama"], remote=Remote("https://nowhere.invalid", limit=100))
    dry = lm.dry_run(lambda lm: lm.logits(PROMPTS))
    assert dry["problem"].tolist() == ["the result passes the limit of one request"]


# --- jobs that outlive the kernel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["logits", "samples", "fit", "next tokens", "sara"])
def test_a_job_is_collected_by_another_kernel(
    name: str, server: Double, folders: Any, here: Any, there: Any, tmp_path: Path
) -> None:
    requests, call = CALLS[name]
    file = tmp_path / "study.jobs"
    while (job := there.submit(call, file)) is not None:
        kept = file.read_text()
        assert job in kept and KEY not in kept
        time.sleep(0.05)
    assert len(server.seen()) == requests
    other = sl.load(folders["llama"], remote=server.url)
    assert_same(other.collect(call, file), call(here))
    assert len(server.seen()) == requests  # nothing was begun anew


def test_a_job_that_hangs_is_pending_and_a_failed_one_is_forgotten(there: Any, server: Double, tmp_path: Path) -> None:
    server.switch(hang=1)
    file = tmp_path / "jobs"
    job = there.submit(CALLS["logits"][1], file)
    assert job is not None and there.submit(CALLS["logits"][1], file) == job
    server.switch(rejected="The model is being moved.")
    with pytest.raises(RemoteError, match=r"rejected the job: The model is being moved\."):
        there.collect(CALLS["samples"][1], file)
    assert list(json.loads(file.read_text())["jobs"].values()) == [job]


def test_only_a_remote_model_is_asked_later(here: Any, there: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="runs in this process, not on a server"):
        here.submit(CALLS["logits"][1], tmp_path / "jobs")
    (tmp_path / "jobs").write_text("[1, 2]")
    with pytest.raises(ValueError, match="is no file of jobs: give a new name"):
        there.submit(CALLS["logits"][1], tmp_path / "jobs")


def test_a_sweep_that_was_stopped_goes_on(
    here: Any, there: Any, server: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many, file = settings(here, 2, 3), settings(here, 3, 3), tmp_path / "sweep.sqlite"
    sweep.next_tokens(there, few, file=file, progress=False)
    assert len(server.seen()) == 1

    def stopped(self: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(remote.Client, "wait", stopped)
        with pytest.raises(KeyboardInterrupt):
            sweep.next_tokens(there, many, file=file, progress=False)
    assert len(server.seen()) == 2
    found = sweep.next_tokens(there, many, file=file, progress=False)
    assert len(server.seen()) == 2  # the job that ran while nobody waited
    assert server.seen()[1]["result"] < server.seen()[0]["result"]  # and it was the new settings only
    assert_same(found, sweep.next_tokens(here, many, progress=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.sqlite"]


def test_a_study_that_was_stopped_between_its_requests_goes_on(
    here: Any, there: Any, server: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, expected = tmp_path / "study.sqlite", study(here)

    def stopping(name: str, turn: int) -> Any:
        """A function of `remote.Client` that is interrupted at its first or second call."""
        real, calls = getattr(remote.Client, name), []

        def stopped(self: Any, *given: Any) -> Any:
            calls.append(1)
            if len(calls) == turn:
                raise KeyboardInterrupt
            return real(self, *given)

        return stopped

    for name, turn, requests in [("wait", 1, 1), ("_post", 1, 1), ("wait", 2, 2)]:
        with monkeypatch.context() as patch:
            patch.setattr(remote.Client, name, stopping(name, turn))
            with pytest.raises(KeyboardInterrupt):
                study(there, file=file)
        assert len(server.seen()) == requests
    assert_same(study(there, file=file), expected)
    assert len(server.seen()) == 2  # the vectors, then the answers: neither was begun anew
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.sqlite"]
    assert_same(study(there, file=file, repeats=3), study(here, repeats=3))
    assert server.seen()[3]["result"] < server.seen()[1]["result"]  # the third answers only


# --- faults --------------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "401": (
        {"refused": "Missing API key.", "status": 401},
        r"wants a key \(401: Missing API key\.\): set the variable",
    ),
    "403": (
        {"refused": "Unknown API key.", "status": 403},
        r"refuses your key \(403: Unknown API key\.\): see whether",
    ),
    "500": ({"refused": "Oh dear.", "status": 500}, r"cannot take the job now \(500: Oh dear\.\): nothing was begun"),
    "503": ({"busy": True}, r"cannot take the job now \(503: The queue is full\.\): nothing was begun; try again"),
    "version": (
        {"refused": "Client version 0.8.1 is not supported, upgrade to 0.9."},
        r"refuses the request \(400: Client version 0.8.1 .*compare\(\)\)' shows which packages differ",
    ),
    "not deployed": (
        {"rejected": "big/model is not deployed."},
        r"rejected the job: big/model .*ndif_models\(\) names",
    ),
    "time limit": (
        {"rejected": "The time limit of 60 s was reached."},
        "rejected the job: .*: ask for fewer rows or steps",
    ),
    "memory": (
        {"rejected": "Traceback (most recent call last):\n  ...\ntorch.OutOfMemoryError: CUDA out of memory."},
        r"the job failed on the server: torch\.OutOfMemoryError: .*: take fewer rows at a time",
    ),
    "malformed": ({"malformed": True}, r"came back for job .* is damaged \(it is not what was asked for\): run"),
    "damaged": ({"damaged": True}, "came back for job .* is damaged .*: run the call again"),
    "cut for good": ({"cut": True}, r"the result of job .* could not be fetched \(RemoteProtocolError\)"),
    "dropped and forgotten": ({"drop": True, "forget": True}, "dropped, and it has no record of job .*: run the call"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_clear_line(
    fault: str, there: sl.SteerableModel, server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    switches, line = FAULTS[fault]
    monkeypatch.setattr(remote, "LOST", 0.3)
    server.switch(**switches)
    with pytest.raises(RemoteError, match=line) as caught:
        there.logits(PROMPTS)
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None  # nothing on which a frame with the key hangs
    safe = {"503": 3}  # only a server that has not begun is asked again
    assert len(server.seen()) == safe.get(fault, 1)


@pytest.mark.parametrize("switches", [{"busy": 2}, {"cut": 2}, {"drop": True}])
def test_what_passes_is_tried_again(switches: Any, here: Any, there: Any, server: Double) -> None:
    server.switch(**switches)
    assert_same(there.logits(PROMPTS), here.logits(PROMPTS))
    assert len(server.seen()) == (3 if "busy" in switches else 1)


def test_a_job_error_shows_the_traceback(there: sl.SteerableModel) -> None:
    def work(model: Any) -> Any:
        return 1 / 0

    with pytest.raises(
        RemoteError, match="the job failed on the server: ZeroDivisionError: division by zero"
    ) as caught:
        there.run([sl.passes.Call(work, (), None)])
    assert "return 1 / 0" in caught.value.detail
    assert "return 1 / 0" in "".join(caught.value.__notes__)


def test_a_server_that_is_not_there(folders: Any) -> None:
    lm = sl.load(folders["llama"], remote="http://127.0.0.1:1")
    with pytest.raises(
        RemoteError, match=r"cannot reach http://127\.0\.0\.1:1 \(.*refused.*\): is the address right\?"
    ):
        lm.logits(PROMPTS)


def test_a_wait_has_an_end(folders: Any, server: Double) -> None:
    server.switch(hang=True)
    lm = sl.load(folders["llama"], remote=Remote(server.url, timeout=0.3))
    with pytest.raises(RemoteError, match=r"no result of job .* in time, but it goes on: the same call") as caught:
        lm.logits(PROMPTS)
    assert caught.value.job is not None


def test_a_wait_that_is_stopped_names_its_job_which_the_same_call_collects(
    here: Any, there: Any, server: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: Any) -> None:
        raise KeyboardInterrupt

    def noting(lm: sl.SteerableModel) -> Any:
        return lm.collect(CALLS["samples"][1], tmp_path / "jobs")

    for call, how in ((CALLS["logits"][1], "in this kernel"), (noting, "with the same file")):
        server.switch()
        with monkeypatch.context() as patch:
            patch.setattr(remote.Client, "still", stopped)
            patch.setattr(remote.Client, "poll", lambda self: None)
            line = rf"^stopped waiting, but job (\S+) goes on at {server.url}: the same call {how} collects it$"
            with pytest.raises(KeyboardInterrupt, match=line) as caught:
                call(there)
        assert caught.value.__context__ is None  # one line, and no frame with the key
        assert_same(there.logits("He"), here.logits("He"))  # another call leaves it be
        assert_same(call(there), CALLS["logits" if how == "in this kernel" else "samples"][1](here))
        assert len(server.seen()) == 2  # it was not begun anew
        call(there)
        assert len(server.seen()) == (3 if how == "in this kernel" else 2)  # what was collected is done with


def test_a_job_that_the_server_forgets_while_it_runs_is_lost(there: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter([Status.RUNNING, None, Status.RUNNING])

    def poll(self: Any) -> None:
        self.status = next(said, None)

    monkeypatch.setattr(remote, "LOST", 0.5)
    monkeypatch.setattr(remote.Client, "poll", poll)
    monkeypatch.setattr(
        remote.Client, "request", lambda self, request, tracer: self._post(request, self._serialize(tracer))
    )
    with pytest.raises(RemoteError, match=r"dropped, and it has no record of job .*: run the call again"):
        there.logits(PROMPTS)
    assert next(said, None) is None and there.runner.jobs == {}


def test_a_stop_before_there_is_a_job_is_just_that(there: Any, server: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: Any, *given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(remote.Client, "_post", stopped)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        there.logits(PROMPTS)


def test_a_file_that_cannot_be_written_is_found_before_a_job_is_begun(
    there: Any, server: Double, tmp_path: Any
) -> None:
    with pytest.raises(FileNotFoundError):
        there.submit(CALLS["logits"][1], tmp_path / "nowhere" / "jobs")
    assert server.seen() == []


def test_a_sandbox_has_no_gradients_and_spsa_needs_none(here: Any, there: Any, server: Double) -> None:
    server.switch(sandbox=True)
    with pytest.raises(RemoteError, match='no gradient comes back from the model here: fit with gradient="spsa"'):
        sl.fit(there, ioi(there).train, ActivScalar(), **QUICK)
    assert len(server.seen()) == 1
    call = CALLS["fit forward"][1]
    assert_same(call(there), call(here))
    assert len(server.seen()) == 2


def test_a_model_that_is_not_served(folders: Any, server: Double, tmp_path: Path) -> None:
    fresh("llama").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(RemoteError, match=r"rejected the job: .* is not deployed on this server.*ndif_models\(\)"):
        sl.load(tmp_path, remote=server.url).logits(PROMPTS)


def test_what_runs_on_a_server(server: Double, folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nnsight.CONFIG.API, "HOST", server.url)
    assert ndif_models() == sorted(map(str, folders.values()))
    lm = sl.load(folders["llama"], remote=True)
    assert server.url in repr(lm)
    assert lm.logits("Hello").shape == (1, len(tokenizer()))


# --- the key -------------------------------------------------------------------------------------------------------


def test_the_key_is_nowhere_but_in_the_header(
    there: sl.SteerableModel, server: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nnsight.CONFIG.APP, "REMOTE_LOGGING", True)
    there.logits(PROMPTS)
    errors = []
    for switches in ({"refused": f"Bad key {KEY}", "status": 403}, {"rejected": f"{KEY} may not"}, {"cut": True}):
        server.switch(**switches)
        with pytest.raises(RemoteError) as caught:
            there.logits(PROMPTS)
        error = caught.value
        errors += [str(error), repr(error), error.detail, str(error.args), str(getattr(error, "__notes__", ""))]
    captured = capsys.readouterr()
    assert "RUNNING" in captured.out
    assert "***" in errors[0]
    shown = [repr(there), repr(there.runner), str(vars(there)), captured.out, captured.err, *errors]
    assert not [text for text in shown if KEY in text]


def test_the_key_comes_from_nnsight_too(there: Any, server: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NDIF_API_KEY")
    with pytest.raises(RemoteError, match=r"wants a key \(401: Missing API key\.\)"):
        there.logits(PROMPTS)
    monkeypatch.setattr(nnsight.CONFIG.API, "APIKEY", KEY)
    there.logits(PROMPTS)
    assert server.seen()[-1]["key"]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("http://ndif.example.org", "would send your key unencrypted: use https://, or Remote"),
        ("http://10.0.0.7:5001", "would send your key unencrypted"),
        ("ndif.example.org", "is no address: give True, 'local', or https://host"),
        ("https://me:secret@example.org", "is no address"),
        ("ftp://example.org", "is no address"),
    ],
)
def test_an_address_is_checked_before_anything_is_sent(address: str, line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        sl.load(remote=address)
    assert "secret" not in str(caught.value)


def test_plain_http_goes_to_this_computer_or_by_force() -> None:
    for address in ("http://127.0.0.1:5001", "http://localhost:5001", "http://[::1]:5001", "https://example.org"):
        assert Remote(address).address() == address
    assert Remote("http://10.0.0.7", plain_http=True).address() == "http://10.0.0.7"


def test_no_key_is_said_before_a_far_server_is_asked(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NDIF_API_KEY")
    monkeypatch.setattr(nnsight.CONFIG.API, "APIKEY", None)
    lm = sl.load(folders["llama"], remote="https://nowhere.invalid")
    with pytest.raises(RemoteError, match=r"https://nowhere\.invalid wants a key: set the variable NDIF_API_KEY"):
        lm.logits(PROMPTS)


def test_a_result_is_data_and_never_code(tmp_path: Path) -> None:
    frame = ResponseModel(id="job", status=Status.COMPLETED, data=Spring(tmp_path / "sprung")).pickle()
    with io.BytesIO() as file:
        torch.save({"found": [Spring(tmp_path / "sprung")]}, file)
        content = zstandard.ZstdCompressor().compress(file.getvalue())
    client = remote.Client("key", host="http://127.0.0.1:1")
    for read, given in ((client.finalize, content), (client.parse, frame)):
        with pytest.raises(pickle.UnpicklingError):
            read(given)
    assert not (tmp_path / "sprung").exists()
    ResponseModel.unpickle(frame)  # as nnsight itself would read it
    assert (tmp_path / "sprung").exists()


class Spring:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)
