"""Bad input: one line that names the value and what is allowed, before the model runs."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import CONTEXT, D_MODEL, N_LAYERS, bare, fresh, steerable, tokenizer
from tiers import few
from torch import nn
from trials import complete, edit, random, tensors

import steerlab as sl

TEXT = "He said no and went home"
SHIFT = edit("resid_pre", 1, shift=random(1, D_MODEL))
LONG = edit("resid_pre", 1, shift=random(9, D_MODEL), anchor="front")
LATE = edit("resid_pre", 1, shift=random(2, D_MODEL), anchor="front", start=8)
BACK = edit("resid_pre", 1, shift=random(9, D_MODEL), anchor="back")
TOO_HIGH = edit("resid_pre", N_LAYERS, shift=random(1, D_MODEL))
NARROW = edit("resid_pre", 1, shift=random(1, 16))
NAN = edit("resid_pre", 1, shift=torch.full((1, D_MODEL), torch.nan))
INFINITE = edit("resid_pre", 1, shift=random(1, D_MODEL), gain=torch.full((1, 1), torch.inf))
HIGH = f"layer {N_LAYERS} is out of range: GPT2LMHeadModel has layers 0 to {N_LAYERS - 1}"
WIDTH = f"intervention at resid_pre.1 has width 16, GPT2LMHeadModel has {D_MODEL}: it was made for another model"
SHORT = "prompt {} has 2 tokens, fewer than the {} positions of the intervention at resid_pre.1: use a longer prompt"
COUNT = "{} interventions for {} prompts: give one, or one per prompt"
NOT_FINITE = "the intervention at resid_pre.1 holds NaN or infinite values: all must be finite"
IDS = "prompt {} holds token id {}: GPT2LMHeadModel has ids 0 to"

Call = Callable[[Any], Any]

STEERED: list[tuple[str, Any, Any]] = [
    (HIGH, TEXT, TOO_HIGH),
    (HIGH, [TEXT, TEXT], [None, TOO_HIGH]),
    (SHORT.format(0, 9), "No", LONG),
    (SHORT.format(0, 10), "No", LATE),
    (SHORT.format(0, 9), "No", BACK),
    (SHORT.format(1, 9), [TEXT * 2, "No"], LONG),
    (SHORT.format(0, 9), ["No", "No"], [LONG, None]),
    (COUNT.format(1, 2), [TEXT, "No"], [SHIFT]),
    (COUNT.format(3, 2), [TEXT, "No"], [SHIFT, None, SHIFT]),
    (COUNT.format(0, 2), [TEXT, "No"], []),
    (WIDTH, TEXT, NARROW),
    (WIDTH, [TEXT, TEXT], [SHIFT, NARROW]),
    (NOT_FINITE, TEXT, NAN),
    (NOT_FINITE, TEXT, INFINITE),
    ("prompt 0 is empty ('')", "", None),
    ("prompt 1 is empty ('')", [TEXT, ""], SHIFT),
    ("prompt 0 is empty (tensor([], dtype=torch.int64))", torch.tensor([], dtype=torch.long), None),
    ("no prompts given: one at least is needed", [], None),
    (IDS.format(0, 90000), torch.tensor([0, 90000]), None),
    (IDS.format(1, -5), torch.tensor([[0, 1], [-5, 1]]), None),
    (f"{CONTEXT + 1} tokens: GPT2LMHeadModel has a context of {CONTEXT}", torch.ones(CONTEXT + 1).long(), None),
]
READS: dict[str, Callable[[sl.SteerableModel, Any, Any], Any]] = {
    "activations": lambda lm, prompts, steer: lm.activations(prompts, sl.Site("resid_post", 0), steer),
    "logits": lambda lm, prompts, steer: lm.logits(prompts, steer),
    "logprobs": lambda lm, prompts, steer: lm.logprobs(prompts, steer, batch_size=1),
    "generate": lambda lm, prompts, steer: lm.generate(prompts, steer, max_new_tokens=1, batch_size=1),
    "complete": lambda lm, prompts, steer: complete(lm, prompts, steer, samples=[0, 0], max_new_tokens=1),
}
NEGATIVE = (
    f"layer -9 is out of range: GPT2LMHeadModel has layers 0 to {N_LAYERS - 1}, or -{N_LAYERS} to -1 from the end"
)
PLACE = "place 'resid' is unknown: choose one of resid_pre, attn_out, mlp_out, resid_post"
TAKEN = "{} is not open here: sampling is set by n, seed, temperature (0 is greedy), top_p and frequency_penalty"
WRONG_VALUES: list[tuple[str, Call]] = [
    # reading
    (HIGH, lambda lm: lm.activations(TEXT, sl.Site("mlp_out", N_LAYERS))),
    ("no sites given: name at least one", lambda lm: lm.activations(TEXT, [])),
    ("position='first' is unknown: choose last or all", lambda lm: lm.logits(TEXT, position="first")),
    ("strength nan is not a finite number", lambda lm: lm.logits(TEXT, float("nan") * SHIFT)),
    ("strength -inf is not a finite number", lambda lm: lm.logits(TEXT, SHIFT * -float("inf"))),
    ("1 prompts for 2 texts: give one for each", lambda lm: lm.logprobs(["a", "b"], given="c")),
    ("prompt 1 is empty ('')", lambda lm: lm.logprobs(["a", ""], given=[TEXT, TEXT])),
    ("batch_size=-1 is out of range: it counts from 1", lambda lm: lm.logprobs(TEXT, batch_size=-1)),
    # generating
    (f"and {CONTEXT} new ones: GPT2LMHeadModel has a cont", lambda lm: lm.generate(TEXT, max_new_tokens=CONTEXT)),
    ("temperature -0.5 is out of range: 0 is greedy", lambda lm: lm.generate(TEXT, temperature=-0.5)),
    ("temperature nan is", lambda lm: lm.generate(TEXT, temperature=float("nan"))),
    ("top_p 0 is out of range: it is a share, above 0 and at most 1", lambda lm: lm.generate(TEXT, top_p=0)),
    ("top_p 1.2 is out of range: it is a share, above 0 and at most 1", lambda lm: lm.generate(TEXT, top_p=1.2)),
    ("frequency_penalty inf is not a finite", lambda lm: lm.generate(TEXT, frequency_penalty=float("inf"))),
    ("seed -3 is negative: seeds count from 0", lambda lm: lm.generate(TEXT, seed=-3)),
    ("n=0 is out of range: it counts from 1", lambda lm: lm.generate(TEXT, n=0)),
    ("max_new_tokens=0 is out of range: it counts from 1", lambda lm: lm.generate(TEXT, max_new_tokens=0)),
    ("batch_size=0 is out of range: it counts from 1", lambda lm: lm.generate(TEXT, batch_size=0)),
    (TAKEN.format("num_beams=3"), lambda lm: lm.generate(TEXT, num_beams=3)),
    (TAKEN.format("num_return_sequences=2"), lambda lm: lm.generate(TEXT, num_return_sequences=2)),
    (TAKEN.format("do_sample=True"), lambda lm: lm.generate(TEXT, do_sample=True)),
    (TAKEN.format("use_cache=False"), lambda lm: lm.generate(TEXT, use_cache=False)),
    ("frequency=1 is not open here", lambda lm: lm.generate(TEXT, SHIFT, frequency=1)),
    ("did you mean frequency_penalty?", lambda lm: lm.generate(TEXT, SHIFT, frequency=1)),
    # steering vectors
    ("both steering prompts are ' a': their difference is zero", lambda lm: sl.actadd(lm, " a", " a", layer=1)),
    (HIGH, lambda lm: sl.actadd(lm, " a", " b", layer=N_LAYERS)),
    (NEGATIVE, lambda lm: sl.actadd(lm, " a", " b", layer=-9)),
    (PLACE, lambda lm: steering(lm, place="resid")),
    ("coefficient nan is not a finite number", lambda lm: steering(lm, coefficient=float("nan"))),
    ("vector='first' is unknown: choose positions, mean or last", lambda lm: steering(lm, vector="first")),
    ("position='pad' is unknown: choose front or back (or make_room for pad)", lambda lm: steering(lm, position="pad")),
    ("when='later' is unknown: choose prompt, decode or all", lambda lm: steering(lm, when="later", vector="mean")),
    ("when='decode' needs the anchor all", lambda lm: steering(lm, when="decode")),
    ("-2 spaces cannot be put in: 0 or more can", lambda lm: sl.make_room(lm, TEXT, -2)),
    ("prompt 0 is empty ('')", lambda lm: sl.make_room(lm, "", 2)),
]
WRONG_TYPES: list[tuple[str, Call]] = [
    ("cannot steer by Edit: give an Intervention, or a list of one per", lambda lm: lm.logits(TEXT, SHIFT.edits[0][1])),
    ("cannot steer by Tensor: give an Intervention", lambda lm: lm.logits([TEXT], [random(1, D_MODEL)])),
    ("cannot steer by int: give an Intervention", lambda lm: lm.generate(TEXT, 4)),
    ("prompt 0 is 5 (int): give text, token ids (a 1-d tensor or array of integers)", lambda lm: lm.logits([5, 6])),
    ("layer '1' is no whole number: layers count 0, 1, 2", lambda lm: sl.actadd(lm, " a", " b", layer="1")),  # type: ignore[arg-type]
]
MATRIX = "it is a matrix, [positions or 1, width or 1]"
FRONT: dict[str, Any] = {"anchor": "front", "shift": torch.ones(3, 4)}
EDITS: list[tuple[str, dict[str, Any]]] = [
    ("an edit needs a shift, a gain or a probe", {}),
    (f"shift has shape [4]: {MATRIX}", {"shift": torch.ones(4)}),
    (f"gain has shape [1, 2, 4]: {MATRIX}", {"gain": torch.ones(1, 2, 4)}),
    ("which does not fit the others: [1 or 1, 8 or 1]", {"shift": torch.ones(1, 4), "probe": torch.ones(1, 8)}),
    ("gain has shape [2, 1], which does not fit the others: [3 or 1, 4 or 1]", FRONT | {"gain": torch.ones(2, 1)}),
    ("when='later' is unknown: choose prompt, decode or all", FRONT | {"when": "later"}),
    ("anchor='middle' is unknown: choose all, front or back", FRONT | {"anchor": "middle"}),
    ("tensors for 3 positions need the anchor front or back, not all", FRONT | {"anchor": "all"}),
    ("when='decode' needs the anchor all", FRONT | {"when": "decode"}),
    ("start=-1 is negative: positions count from 0", FRONT | {"start": -1}),
]


def steering(lm: sl.SteerableModel, **options: Any) -> sl.Intervention:
    return sl.actadd(lm, " a", " b", layer=1, **options)


@pytest.fixture
def quiet(gpt2: sl.SteerableModel) -> Iterator[sl.SteerableModel]:
    """A model that must not run."""
    passes = []
    handle = gpt2.hf.register_forward_pre_hook(lambda module, arguments: passes.append(1))
    yield gpt2
    handle.remove()
    assert not passes, "the model ran"


def refused(call: Callable[[], Any], kind: type[Exception], says: str) -> None:
    """The exception of exactly this kind, whose message is one line and says so."""
    with pytest.raises(kind, match=re.escape(says)) as caught:
        call()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", few(READS, "logits", "generate"))
@pytest.mark.parametrize(("says", "prompts", "steer"), STEERED, ids=range(len(STEERED)))
def test_prompts_and_interventions(quiet: sl.SteerableModel, read: str, says: str, prompts: Any, steer: Any) -> None:
    refused(lambda: READS[read](quiet, prompts, steer), ValueError, says)


@pytest.mark.parametrize(("says", "call"), WRONG_VALUES, ids=range(len(WRONG_VALUES)))
def test_wrong_values(quiet: sl.SteerableModel, says: str, call: Call) -> None:
    refused(lambda: call(quiet), ValueError, says)


@pytest.mark.parametrize(("says", "call"), WRONG_TYPES, ids=range(len(WRONG_TYPES)))
def test_wrong_types(quiet: sl.SteerableModel, says: str, call: Call) -> None:
    refused(lambda: call(quiet), TypeError, says)


@pytest.mark.parametrize(("says", "fields"), EDITS, ids=range(len(EDITS)))
def test_edits(says: str, fields: dict[str, Any]) -> None:
    refused(lambda: sl.Edit(**fields), ValueError, says)


def test_the_hook_of_these_tests_sees_the_model_run(gpt2: sl.SteerableModel) -> None:
    passes = []
    handle = gpt2.hf.register_forward_pre_hook(lambda module, arguments: passes.append(1))
    for read, expected in (("logits", 1), ("activations", 1), ("logprobs", 1), ("generate", 1)):
        passes.clear()
        READS[read](gpt2, TEXT, SHIFT)
        assert len(passes) == expected, read
    handle.remove()


# --- loading -------------------------------------------------------------------------------------------------------


def t5() -> transformers.PreTrainedModel:
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=99)
    return transformers.T5ForConditionalGeneration(config)


def bert() -> transformers.PreTrainedModel:
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=99
    )
    return transformers.BertForMaskedLM(config)


@pytest.mark.parametrize("make", [t5, bert, lambda: bare("gpt2").transformer], ids=["t5", "bert", "headless"])
def test_a_loaded_model_that_is_no_causal_lm(make: Callable[[], Any]) -> None:
    model = make()
    says = f"{type(model).__name__} is not a causal language model"
    refused(lambda: sl.load(model, tokenizer=tokenizer()), ValueError, says)


def test_a_folder_with_a_model_that_is_no_causal_lm(tmp_path: Path) -> None:
    t5().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    refused(lambda: sl.load(tmp_path), ValueError, f"{tmp_path} (t5) is not a causal language model")


def test_a_loaded_model_without_its_tokenizer() -> None:
    says = "a loaded model needs its tokenizer: load(model, tokenizer=...)"
    refused(lambda: sl.load(fresh("gpt2")), ValueError, says)


def test_what_is_no_model_at_all() -> None:
    says = "cannot load a Linear: give a folder, a Hub name, or a transformers model"
    refused(lambda: sl.load(nn.Linear(2, 2)), TypeError, says)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["openai-community/gpt2-xl", "gpt2", "no/such/folder", "/no/such/folder"])
def test_a_hub_name_without_network_says_what_to_do_instead(name: str) -> None:
    with pytest.raises(
        OSError, match=f"^cannot load '{name}': no such folder, not in the Hugging Face cache"
    ) as caught:
        sl.load(name)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(
        "Give a local folder, download the model once with a network, or use load() for the bundled model"
    )


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))) as caught:
        sl.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_every_family_says_its_own_range(family: str, lm: sl.SteerableModel) -> None:
    says = f"layer {N_LAYERS} is out of range: {lm.name} has layers 0 to {N_LAYERS - 1}"
    refused(lambda: lm.logits(TEXT, TOO_HIGH), ValueError, says)
    refused(lambda: steerable(family).logits(TEXT, edit("attn_out", 99, **tensors("probe"))), ValueError, "layer 99 is")
