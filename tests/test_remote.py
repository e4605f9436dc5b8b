"""Every call on a server as here: through real HTTP, in a process that cannot import steerlab."""

import ast
import json
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pandas as pd
import pytest
import torch
from double import KEY, ORDINARY, PROMPTS, Double, distant, hub_cache
from families import fresh, tokenizer
from nnsight.intervention.serialization import CustomCloudUnpickler
from nnsight.schema.request import RequestModel
from tiers import few
from torch import Tensor

import steerlab as sl
from steerlab import ActivScalar, DynScalar, Objective, Site, SteerVec, remote, strength, sweep
from steerlab.experiments.sara import dilemma_study
from steerlab.judges import word_judge
from steerlab.remote import Remote, RemoteError, ndif_models

pytest_plugins = ("remote_fixtures",)
pytestmark = pytest.mark.usefixtures("well_behaved")

FAST = ("activations", "samples", "sara", "fit")  # of the calls below, those of the fast tests
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
QUICK: dict[str, Any] = {"steps": 6, "patience": 3, "batch_size": 4, "lr": 0.05, "progress": False, "gradient": "exact"}


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
    pair: dict[str, Any] = {"duty": DUTY, "consequence": RESULTS, "layers": [0, 2], "judge": word_judge()}
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
    "fit forward": (1, lambda lm: sl.fit(lm, ioi(lm).train, ActivScalar(), **QUICK | {"gradient": "spsa"})),
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


def assert_same(actual: Any, expected: Any) -> None:
    """Equal but for rounding, whatever it is."""
    assert type(actual) is type(expected)
    if isinstance(actual, Tensor):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    elif isinstance(actual, pd.DataFrame):
        pd.testing.assert_frame_equal(actual, expected, rtol=1e-5, atol=1e-5)
    elif isinstance(actual, np.ndarray):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    elif isinstance(actual, sl.Activations):
        assert list(actual) == list(expected)
        for site in actual:
            assert_same(actual[site], expected[site])
    elif isinstance(actual, sl.Intervention):
        assert actual.sites == expected.sites
        for (_, edit), (_, other) in zip(actual.edits, expected.edits, strict=True):
            for name, tensor in (edit.tensors | edit.references).items():
                assert_same(tensor, getattr(other, name))
    elif isinstance(actual, sl.Fit):
        assert_same(actual.intervention, expected.intervention)
        assert_same(actual.history, expected.history)
    else:
        assert isinstance(actual, list) and len(actual) == len(expected)
        for item, other in zip(actual, expected, strict=True):
            assert_same(item, other)


def ask_there_and_here(family: str, name: str, server: Double) -> sl.SteerableModel:
    """The same answer from both, by as many requests as the table says, with no weights here."""
    requests, call = CALLS[name]
    expected = call(sl.load(fresh(family), tokenizer=tokenizer()))
    lm = distant(family, server.url)
    assert_same(call(lm), expected)
    assert {parameter.device.type for parameter in lm.hf.parameters()} == {"meta"}
    seen = server.seen()
    assert len(seen) == requests
    assert all(request["key"] and not request["leaks"] for request in seen)
    return lm


@pytest.mark.parametrize("name", few(CALLS, *FAST))
def test_a_call_gives_there_what_it_gives_here_and_a_dry_run_counts_what_it_sends(name: str, server: Double) -> None:
    lm = ask_there_and_here("llama", name, server)
    seen = server.seen()
    dry = lm.dry_run(CALLS[name][1])
    assert len(server.seen()) == len(seen) == len(dry)
    assert (dry["problem"] == "").all()
    for number, (sent, back, real) in enumerate(zip(dry["payload_bytes"], dry["result_bytes"], seen, strict=True)):
        most = 1.2 if number == 0 else 2  # what the model says twice compresses better than noise
        assert real["payload"] / 1.2 < sent < most * real["payload"]
        assert real["result"] < back + 4096  # the estimate is the most that can come


@pytest.mark.parametrize("family", few(("gpt2", "gpt_neox"), "gpt2"))
@pytest.mark.parametrize("name", ["activations", "all logits", "samples", "released sara", "fit"])
def test_so_it_does_in_other_families(family: str, name: str, server: Double) -> None:
    """What reaches into the model in ways of its own: by reading, editing, generating, neurons, and gradients."""
    ask_there_and_here(family, name, server)


@pytest.mark.parametrize("name", few(["all logits", "samples", "sara", "fit", "next tokens"], "samples"))
def test_the_servers_own_precision_gives_what_it_gives_here(
    name: str, server: Double, folders: dict[str, Path]
) -> None:
    server.switch(dtype="bfloat16")
    expected = CALLS[name][1](sl.load(folders["llama"], dtype=torch.bfloat16))  # as a server loads it
    assert_same(CALLS[name][1](distant("llama", server.url, torch.bfloat16)), expected)


# --- one job per study, and what it weighs -------------------------------------------------------------------------


def test_a_layer_sweep_is_one_request(there: sl.SteerableModel, server: Double) -> None:
    frame = sweep.next_tokens(there, settings(there, 3, 84), [" the"], progress=False)  # 252, as 12 layers x 21
    assert len(frame) == 252
    (seen,) = server.seen()
    assert seen["result"] < 252 * 100  # numbers came back, not 252 rows of logits
    assert seen["result"] < 252 * len(tokenizer()) * 4 / 100


@pytest.mark.slow
def test_a_fit_of_two_hundred_steps_is_one_request(here: Any, there: Any, server: Double) -> None:
    options: dict[str, Any] = QUICK | {"steps": 200, "patience": 200, "batch_size": 2}
    fit = sl.fit(there, ioi(there).train, ActivScalar(layers=(1,)), **options)
    assert len(fit.history) == 200
    assert len(server.seen()) == 1
    assert_same(fit, sl.fit(here, ioi(here).train, ActivScalar(layers=(1,)), **options))


def test_calls_that_do_not_wait_for_each_other_share_a_request(here: Any, there: Any, server: Double) -> None:
    def study(layer: int) -> Work:
        def answers(lm: sl.SteerableModel) -> pd.DataFrame:
            gains = sl.sara(lm, PROMPTS[0], attract=DUTY, repel=RESULTS, layer=layer)
            return lm.generate([PROMPTS[0]] * 3, [gains, None, -gains], n=2, seed=layer, max_new_tokens=3)

        return answers

    works = [study(layer) for layer in range(3)]
    frames = there.together(works)
    assert len(server.seen()) == 2  # the gains of all layers, then all answers
    assert_same(frames, [work(here) for work in works])
    assert_same(frames, here.together(works))
    assert len(there.dry_run(lambda lm: lm.together(works))) == 2
    with pytest.raises(ValueError, match="layer 3 is out of range"):
        there.together([works[0], study(3)])


def test_results_beyond_the_limit_are_asked_for_in_several(server: Double, here: Any) -> None:
    size = 2 * 8 * len(tokenizer()) * 4  # bytes of one batch of logits, and a bit
    lm = distant("llama", Remote(server.url, limit=2 * size))
    expected = here.generate(PROMPTS[0], n=6, batch_size=1, max_new_tokens=3)
    assert_same(lm.generate(PROMPTS[0], n=6, batch_size=1, max_new_tokens=3), expected)
    assert len(server.seen()) == 1
    small = distant("llama", Remote(server.url, limit=2 * 3 * 8))
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
        value = super().find_class(module, name)
        if name != "_load_function":
            return value

        def load(source: str, *rest: Any) -> Any:
            self.sources.append(source)
            return value(source, *rest)

        return load


@pytest.mark.parametrize("name", few(CALLS, *FAST))
def test_without_a_server_the_same_comes_and_what_travels_is_plain(
    name: str, here: Any, folders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Recorder.asked, Recorder.sources = [], []
    lm, serialized = sl.load(folders["llama"], remote="local"), remote.serialized

    def recorded(tracer: Any) -> bytes:
        blob = serialized(tracer)
        RequestModel.deserialize(blob, lm._traced._remoteable_persistent_objects(), True, Recorder)
        return blob

    monkeypatch.setattr(remote, "serialized", recorded)
    assert_same(CALLS[name][1](lm), CALLS[name][1](here))
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
def test_a_model_of_seventy_billion_takes_no_memory() -> None:
    program = f"""
import resource, time
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
import steerlab as sl
config = LlamaConfig(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
                     num_key_value_heads=8, vocab_size=128256)
config._name_or_path = "meta-llama/Llama-3.1-70B"
tokenizer = AutoTokenizer.from_pretrained({str(Path(sl.__file__).parent / "bundled")!r})
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
from steerlab import remote
before = peak()
began = time.perf_counter()
with torch.device("meta"):
    hf = LlamaForCausalLM(config).to(torch.bfloat16)
lm = sl.load(hf, tokenizer=tokenizer, remote="https://nowhere.invalid")
frame = lm.dry_run(lambda lm: lm.logits("Hello", sl.Intervention()))
print(lm.n_params, lm.dtype, peak() - before, time.perf_counter() - began, len(frame))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    params, dtype, grown, seconds, requests = run.stdout.split()
    assert int(params) > 70e9
    assert dtype == "torch.bfloat16"
    assert float(grown) < 300
    assert float(seconds) < 10
    assert requests == "1"


# --- dry runs ------------------------------------------------------------------------------------------------------


def test_a_dry_run_keeps_nothing_that_it_made_up(here: Any, there: Any, server: Double, tmp_path: Path) -> None:
    file, few, many = tmp_path / "sweep.sqlite", settings(here, 2, 3), settings(here, 3, 3)

    def call(lm: sl.SteerableModel, settings: list[sweep.Setting] = many) -> list[pd.DataFrame]:
        fits = sl.fit_grid(lm, ioi(lm).train, ActivScalar(), [Objective(1)], folder=tmp_path / "fits", **QUICK)
        return [sweep.next_tokens(lm, settings, file=file, progress=False), fits[0].history]

    there.dry_run(call)
    assert list(tmp_path.iterdir()) == []
    sweep.next_tokens(there, few, file=file, progress=False)
    before = file.read_bytes()
    dry = [there.dry_run(lambda lm, settings=settings: call(lm, settings)) for settings in (few, many)]
    assert [*map(len, dry)] == [1, 2]  # what the file has is not counted, and what it lacks is
    assert file.read_bytes() == before
    assert_same(call(there), call(here))


def test_a_dry_run_needs_neither_server_nor_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NDIF_API_KEY")
    lm = distant("llama", "https://nowhere.invalid")
    dry = lm.dry_run(lambda lm: lm.logits(PROMPTS, position="all"))
    assert dry["runs"].tolist() == ["logits"]
    assert dry["largest"].tolist() == [(2, len(lm.tokens(PROMPTS[0])), len(tokenizer()))]
    assert dry["result_bytes"].tolist() == [math.prod(dry["largest"][0]) * 4]
    with pytest.raises(ValueError, match="layer 9 is out of range"):
        lm.dry_run(lambda lm: lm.activations(PROMPTS, Site("resid_pre", 9)))
    lm = distant("llama", Remote("https://nowhere.invalid", limit=100))
    dry = lm.dry_run(lambda lm: lm.logits(PROMPTS))
    assert dry["problem"].tolist() == ["the result passes the limit of one request"]


# --- what runs there -----------------------------------------------------------------------------------------------


def test_what_runs_on_a_server(server: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = ndif_models(server.url)
    assert frame["model"].tolist() == [f"tiny/{family}" for family in ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3")]
    assert set(frame["level"]) == {"HOT"} and set(frame["dtype"]) == {"float32"}
    monkeypatch.setattr(nnsight.CONFIG.API, "HOST", server.url)
    assert ndif_models().equals(frame)
    lm = distant("llama", True)
    assert server.url in repr(lm)
    assert lm.logits("Hello").shape == (1, len(tokenizer()))
    with pytest.raises(RemoteError, match=r"cannot reach http://127\.0\.0\.1:1 \(ConnectError.*is the address right"):
        ndif_models("http://127.0.0.1:1")


@pytest.fixture
def hub(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process finds the models of the server in the Hub's cache."""
    home = hub_cache(tmp_path, {"tiny/llama": folders["llama"]}) / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(home))
    return home


def test_a_model_is_loaded_in_the_precision_that_is_served_and_knows_its_commit(hub: Path, server: Double) -> None:
    server.switch(dtype="bfloat16")
    lm = sl.load("tiny/llama", remote=server.url)
    assert lm.dtype == torch.bfloat16 and "bfloat16" in repr(lm)
    assert lm.revision == "0" * 40 and lm.info()["revision"] == "0" * 40
    assert lm.logits(PROMPTS).shape == (2, len(tokenizer()))
    (seen,) = server.seen()
    assert re.search(r'revision\\+": null', json.dumps(seen["data"]))  # not another deployment than that of NDIF


def test_other_versions_on_the_server_are_said(hub: Path, server: Double) -> None:
    server.switch(packages={"nnsight": "0.7.3", "transformers": "4.57.1"})
    with pytest.warns(UserWarning, match=r"runs other versions \(nnsight 0\.8.* here and 0\.7\.3 there, transformers"):
        sl.load("tiny/llama", remote=server.url)
    server.switch(packages={"nnsight": nnsight.__version__})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sl.load("tiny/llama", remote=server.url)


@pytest.mark.parametrize(("key", "kind"), [(KEY, "trusted"), (ORDINARY, r"ordinary, .*\(fits by SPSA\)")])
def test_load_says_how_the_model_is_served_and_what_the_key_may_do(
    key: str, kind: str, hub: Path, server: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nnsight.CONFIG.APP, "REMOTE_LOGGING", True)
    monkeypatch.setenv("NDIF_API_KEY", key)
    sl.load("tiny/llama", remote=server.url)
    assert re.search(rf"{server.url}: tiny/llama HOT, float32; key: {kind}", capsys.readouterr().err)
    sl.load("tiny/llama", remote=Remote(server.url, progress=False))
    assert server.url not in capsys.readouterr().err


def test_a_folder_is_no_name_for_a_server(folders: dict[str, Path], server: Double) -> None:
    for model in (folders["llama"], None):
        with pytest.raises(ValueError, match="is a folder on this computer, which no server sees: give"):
            sl.load(model, remote=server.url)
    assert server.seen() == []
