"""Every form of a prompt gives the same ids everywhere, BOS stands there once, and the rest is one line."""

from collections import UserDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from families import BUNDLED, fresh, steerable
from test_bad_input import quiet, refused  # noqa: F401
from tiers import few
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import steerlab as sl
from steerlab import sweep
from steerlab.strength import mean_kl, relative_size

TEXTS = ["The wedding was very fine", "He said"]
IDS = [[0, *steerable("llama").encode(text)] for text in TEXTS]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{{ m['content'][0]['text'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
HELLO = [{"role": "user", "content": "Hello there"}]
KIND = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
HELLO_TEXT, KIND_TEXT = "<|endoftext|><user>Hello there<assistant>", "<|endoftext|><system>Be kind<user>Hi<assistant>"
SITE = sl.Site("resid_post", 1)


def own_tokenizer(special: str = "<|endoftext|>", **fields: Any) -> PreTrainedTokenizerBase:
    """A tokenizer of its own, which puts `special` in front of text."""
    loaded: Any = AutoTokenizer.from_pretrained(BUNDLED)
    ids = [(token, loaded.convert_tokens_to_ids(token)) for token in special.split()]
    loaded.backend_tokenizer.post_processor = TemplateProcessing(single=f"{special} $A".strip(), special_tokens=ids)
    for name, value in fields.items():
        setattr(loaded, name, value)
    return loaded  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load(fresh("llama"), tokenizer=own_tokenizer(chat_template=TEMPLATE))


def encoded(side: str, kind: str | None, **more: Any) -> Any:
    return own_tokenizer(padding_side=side)(TEXTS, padding=True, return_tensors=kind, **more)


def objects(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


ONE: dict[str, Any] = {
    "text": TEXTS[0],
    "NumPy's text": np.str_(TEXTS[0]),
    "int64": torch.tensor(IDS[0]),
    "int32": torch.tensor(IDS[0], dtype=torch.int32),
    "array": np.array(IDS[0]),
    "unsigned array": np.array(IDS[0], dtype=np.uint16),
    "row of a tensor": torch.tensor(IDS[:1]),
    "row of an array": np.array(IDS[:1]),
    "list of one": [TEXTS[0]],
    "encoding of one": own_tokenizer()(TEXTS[0]),
    "tensors of one": own_tokenizer()(TEXTS[0], return_tensors="pt"),
    "encoding in a list": [own_tokenizer()(TEXTS[0])],
}
SEVERAL: dict[str, Any] = {
    "texts": TEXTS,
    "tuple": tuple(TEXTS),
    "tensors": [torch.tensor(ids) for ids in IDS],
    "arrays": [np.array(ids) for ids in IDS],
    "lists": IDS,
    "tuples": tuple(map(tuple, IDS)),
    "mixed": [TEXTS[0], torch.tensor(IDS[1])],
    "Series": pd.Series(TEXTS),
    "Series with its own index": pd.Series(TEXTS, index=[9, 4]),
    "Series of strings": pd.Series(TEXTS, dtype="string"),
    "Series of categories": pd.Series(TEXTS, dtype="category"),
    "Series of ids": pd.Series(IDS),
    "objects": objects(TEXTS),
    "array of texts": np.array(TEXTS),
    "objects of ids": objects(IDS),
    "unpadded": own_tokenizer()(TEXTS),
    "encodings": [own_tokenizer()(text) for text in TEXTS],
    "tensor encodings": [own_tokenizer()(text, return_tensors="pt") for text in TEXTS],
    "mask of booleans": dict(encoded("left", "pt"), attention_mask=encoded("left", "pt")["attention_mask"].bool()),
} | {
    f"{name} padded on the {side}, {kind or 'lists'}": make(encoded(side, kind))
    for side in ("left", "right")
    for kind in ("pt", "np", None)
    for name, make in {"encoding": lambda value: value, "dict": dict, "mapping": UserDict}.items()
}


@pytest.mark.parametrize("form", SEVERAL)
def test_forms_of_several_prompts(lm: sl.SteerableModel, form: str) -> None:
    assert lm.batch(SEVERAL[form]).rows == IDS


@pytest.mark.parametrize("form", ONE)
def test_forms_of_one_prompt(lm: sl.SteerableModel, form: str) -> None:
    prompt = ONE[form]
    assert lm.batch(prompt).rows == IDS[:1]
    assert lm.ids(prompt) == IDS[0]
    assert lm.tokens(prompt) == lm.tokens(TEXTS[0])
    assert lm.text(prompt) in (TEXTS[0], f"<|endoftext|>{TEXTS[0]}")


def calls(lm: sl.SteerableModel, prompts: Any) -> list[torch.Tensor]:
    """Numbers from everything that reads prompts."""
    shift = sl.add(torch.ones(lm.d_model), layer=1, when="all")
    drawn = lm.generate(prompts, n=2, max_new_tokens=3)
    lengths = lm.batch(prompts).lengths
    return [
        lm.logits(prompts, shift),
        torch.cat([lm.activations(prompts, SITE).row(i, SITE) for i in range(len(lengths))]),
        torch.tensor(lm.logprobs(prompts).logprob),
        torch.tensor(lm.logprobs([" yes"] * len(lengths), given=prompts).logprob),
        torch.tensor(lm.logprobs(prompts, given=["I went"] * len(lengths)).logprob),
        torch.tensor([lm.encode(text)[:1] for text in drawn.completion]),
        torch.cat([own.edits[0][1].gain for own in sl.sara(lm, as_several(prompts), attract="a", repel="b", layer=1)]),
        sl.actadd(lm, prompts, " no", layer=1, vector="mean").edits[0][1].shift,
        sl.actadd(lm, " no", prompts, layer=1, vector="last").edits[0][1].shift
        if len(lengths) == 1
        else sl.actadd(lm, [" no"] * len(lengths), prompts, layer=1, vector="last").edits[0][1].shift,
        torch.tensor(list(relative_size(lm, shift, prompts).values())),
        torch.tensor(mean_kl(lm, shift, [1.0], prompts)),
        torch.cat(sl.make_room(lm, prompts, 2)),
    ]


def as_several(prompts: Any) -> Any:
    return prompts if isinstance(prompts, dict | UserDict) else list(prompts)


@pytest.mark.parametrize("form", ["Series with its own index", "lists", "objects", "dict padded on the right, pt"])
def test_every_call_takes_every_form(lm: sl.SteerableModel, form: str) -> None:
    for mine, expected in zip(calls(lm, SEVERAL[form]), calls(lm, [torch.tensor(ids) for ids in IDS]), strict=True):
        torch.testing.assert_close(mine, expected)


# --- chats ---------------------------------------------------------------------------------------------------------


def test_a_chat_is_what_its_template_writes(lm: sl.SteerableModel) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hello there"}]}]
    ids = [lm.tokenizer.encode(text, add_special_tokens=False) for text in (HELLO_TEXT, KIND_TEXT)]
    assert ids[0].count(0) == 1
    assert lm.text(HELLO) == lm.text(parts) == HELLO_TEXT
    for form in (HELLO, tuple(HELLO), [HELLO], parts, HELLO_TEXT):
        assert lm.batch(form).rows == ids[:1]
    both = [HELLO, KIND]
    for several in (both, (tuple(HELLO), KIND), pd.Series(both, index=[3, 1]), objects(both)):
        assert lm.batch(several).rows == ids
    assert lm.batch([HELLO, TEXTS[0]]).rows == [ids[0], IDS[0]]
    assert lm.generate(HELLO, max_new_tokens=1).prompt.tolist() == [HELLO_TEXT]


def test_a_last_turn_of_the_assistant_opens_the_answer(lm: sl.SteerableModel) -> None:
    begun = [*HELLO, {"role": "assistant", "content": "They should"}]
    assert lm.text(begun) == "<|endoftext|><user>Hello there<assistant>They should"
    ended = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</end>{% endfor %}"
    other = sl.load(fresh("llama"), tokenizer=own_tokenizer(chat_template=ended))
    assert other.text(begun) == "<user>Hello there</end><assistant>They should"


def test_every_call_takes_chats(lm: sl.SteerableModel) -> None:
    expected = calls(lm, [HELLO_TEXT, KIND_TEXT])
    for mine, other in zip(calls(lm, [HELLO, KIND]), expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_steering_prompts_and_settings_may_be_chats_and_encodings(lm: sl.SteerableModel) -> None:
    chats, texts = (HELLO, KIND), (HELLO_TEXT, KIND_TEXT)
    encodings = [lm.tokenizer(text, add_special_tokens=False) for text in texts]
    results = []
    for near, far in (chats, texts, encodings):
        gain = sl.sara(lm, TEXTS[0], attract=near, repel=far, layer=1)
        released = sl.sara(lm, TEXTS[0], attract=near, repel=far, layer=1, variant="released")
        pair = sl.actadd(lm, near, far, layer=1)
        table = sweep.next_tokens(lm, [sweep.Setting({}, far, pair)], [" the"], progress=False)
        written = sweep.completions(lm, [sweep.Setting({}, near, gain)], max_new_tokens=3, progress=False)
        results.append([*table.logprob, *table.kl, *written.completion, lm.logits(near, released)[0, 7].item()])
    assert results[0] == results[1] == results[2]


def test_tasks_may_hold_chats(lm: sl.SteerableModel) -> None:
    frame = pd.DataFrame({"prompt": [HELLO, KIND], "correct": [" the", " a"], "wrong": [" a", " the"]}, index=[7, 3])
    texts = frame.assign(prompt=[HELLO_TEXT, KIND_TEXT])
    fits = [sl.fit(lm, some, sl.DynScalar(), steps=2, progress=False) for some in (frame, texts)]
    assert fits[0].history.loss.tolist() == fits[1].history.loss.tolist()
    scores = [sl.score(lm, some, fits[0]) for some in (frame, texts)]
    pd.testing.assert_frame_equal(*scores)
    assert len(sl.tasks.from_frame(lm, frame).train) == 1
    refused(lambda: sl.tasks.from_frame(lm, frame.assign(prompt=[HELLO, HELLO_TEXT])), ValueError, "more than once")


# --- BOS -----------------------------------------------------------------------------------------------------------


def with_tokenizer(tokenizer: PreTrainedTokenizerBase, **options: Any) -> sl.SteerableModel:
    return sl.load(fresh("llama"), tokenizer=tokenizer, **options)


@pytest.mark.parametrize(
    ("special", "bos", "prefix"),
    [
        ("<|endoftext|>", None, "<|endoftext|>"),
        ("<|endoftext|>", True, "<|endoftext|>"),
        ("<|endoftext|>", False, ""),
        ("", None, ""),
        ("", True, "<|endoftext|>"),
        ("", False, ""),
        ("A B", None, "A B"),  # two special tokens, as GLM's
        ("A B", False, ""),
    ],
)
def test_the_tokenizers_habit_decides_and_an_argument_overrules_it(special: str, bos: bool | None, prefix: str) -> None:
    lm = with_tokenizer(own_tokenizer(special), bos=bos)
    assert lm.prefix == [lm.tokenizer.convert_tokens_to_ids(token) for token in prefix.split()]
    assert lm.ids(TEXTS[0]) == lm.batch(TEXTS).rows[0] == [*lm.prefix, *IDS[0][1:]]


@pytest.mark.parametrize(("special", "bos"), [("<|endoftext|>", None), ("", True), ("", None)])
def test_text_that_begins_with_bos_gets_no_second(special: str, bos: bool | None) -> None:
    lm = with_tokenizer(own_tokenizer(special), bos=bos)
    assert lm.ids(f"<|endoftext|>{TEXTS[0]}") == IDS[0]
    assert lm.ids(torch.tensor(IDS[0])) == IDS[0]


def test_text_that_begins_with_a_prefix_of_two_gets_no_second() -> None:
    lm = with_tokenizer(own_tokenizer("A B"))
    assert len(lm.prefix) == 2
    assert lm.ids(torch.tensor([*lm.prefix, 9, 8])) == [*lm.prefix, 9, 8]
    assert lm.ids("AB") == lm.prefix
    assert lm.batch("He said").content(lm.prefix)[0].tolist() == [False, False, *[True] * len(lm.encode("He said"))]
    assert [int(token) for token in sl.make_room(lm, "He", 1)[0]][:3] == [*lm.prefix, lm.encode(" ")[0]]


def test_continuations_get_no_bos(lm: sl.SteerableModel) -> None:
    plain = lm.logprobs(" said no", given="He").logprob.tolist()
    for text in ("<|endoftext|> said no", lm.tokenizer(" said no"), torch.tensor([0, *lm.encode(" said no")])):
        assert lm.logprobs(text, given="He").logprob.tolist() == plain
    assert lm.logprobs("<|endoftext|>", given="He").token.tolist() == ["<|endoftext|>"]  # an end is scored


def test_bos_that_the_tokenizer_does_not_have() -> None:
    without = own_tokenizer("", bos_token=None)
    assert with_tokenizer(without).ids("He said") == IDS[1][1:]
    refused(lambda: with_tokenizer(without, bos=True), ValueError, "the tokenizer has no BOS token: leave bos out")


def test_methods_without_a_prefix() -> None:
    lm = with_tokenizer(own_tokenizer(""))
    with_bos = steerable("llama")
    ids = [torch.tensor(ids[1:]) for ids in IDS]
    single = sl.actadd(lm, *TEXTS, layer=1, vector="mean").edits[0][1].shift
    torch.testing.assert_close(single, sl.actadd(with_bos, *ids, layer=1, vector="mean").edits[0][1].shift)
    gain = sl.sara(lm, TEXTS[0], attract=TEXTS[1], repel="a b", layer=1).edits[0][1].gain
    other = sl.sara(with_bos, ids[0], attract=ids[1], repel=torch.tensor(lm.encode("a b")), layer=1).edits[0][1].gain
    torch.testing.assert_close(gain, other)
    assert sl.make_room(lm, "He said", 2)[0].tolist() == [*lm.encode(" ") * 2, *lm.encode("He said")]
    assert sl.make_room(with_bos, ids[1], 2)[0].tolist() == [*lm.encode(" ") * 2, *lm.encode("He said")]


# --- what is refused -----------------------------------------------------------------------------------------------

ALLOWED = "give text, token ids (a 1-d tensor or array of integers), chat messages, or a list of these"
HOLE = "attention_mask hides tokens between real ones"
MASK = "the encoding's attention_mask is not a 0 or 1 for each of its input_ids"
NO_PROMPTS: list[tuple[str, type[Exception], Any]] = [
    ("None (NoneType) is no prompt: " + ALLOWED, TypeError, None),
    ("1.5 (float) is no prompt", TypeError, 1.5),
    ("b'abc' (bytes) is no prompt", TypeError, b"abc"),
    ("{'a'} (set) is no prompt", TypeError, {"a"}),
    ("can be read only once: give a list of it", TypeError, (text for text in TEXTS)),
    ("can be read only once: give a list of it", TypeError, map(str, TEXTS)),
    ("a table is no prompt: give one of its columns (prompt, n)", TypeError, pd.DataFrame({"prompt": TEXTS, "n": 1})),
    ("a mapping with the keys 'text' is no prompt", TypeError, {"text": "a"}),
    ("a message stands in a list", TypeError, HELLO[0]),
    ("prompt 1 is nan (float): " + ALLOWED, TypeError, pd.Series(["a", np.nan])),
    ("prompt 1 is None (NoneType)", TypeError, ["a", None]),
    ("prompt 0 is 3 (int)", TypeError, [3, 4]),
    ("prompt 0 is 3 (int)", TypeError, pd.Series([3, 4])),
    ("prompt 0 is b'abc' (bytes)", TypeError, [b"abc"]),
    ("prompt 0 is ['a', 'b'] (list)", TypeError, [["a", "b"]]),
    ("prompt 0 is [[0, 1]] (list)", TypeError, [[[0, 1]]]),
    ("prompt 0 is [True, False] (list)", TypeError, [[True, False]]),
    ("prompt 1 is 1 b", TypeError, ["a", pd.Series(["b"], index=[1])]),
    ("ids of 3 dimensions are no prompts: give [pos] for one or [batch, pos]", TypeError, torch.zeros(1, 1, 2).long()),
    ("ids of 0 dimensions are no prompts", TypeError, np.array(3)),
    ("a 0-d Tensor of torch.bool", TypeError, torch.tensor([True, False])),
    ("a 0-d Tensor of torch.float32", TypeError, torch.ones(2)),
    ("a 1-d Tensor of torch.float32", TypeError, [torch.ones(2)]),
    ("no prompts given: one at least is needed", ValueError, []),
    ("prompt 0 is empty", ValueError, [[]]),
    ("prompt 0 is empty", ValueError, {"input_ids": [[3, 4]], "attention_mask": [[0, 0]]}),
    (HOLE, ValueError, {"input_ids": [[3, 4, 5]], "attention_mask": [[1, 0, 1]]}),
    (MASK, ValueError, {"input_ids": [[3, 4, 5]], "attention_mask": [[1, 1]]}),
    (MASK, ValueError, {"input_ids": [[3, 4], [5, 6]], "attention_mask": [[1, 1]]}),
    (MASK, ValueError, {"input_ids": torch.tensor([[3, 4]]), "attention_mask": torch.tensor([[-1e9, 0.0]])}),
    (MASK, ValueError, {"input_ids": torch.tensor([[3, 4]]), "attention_mask": torch.tensor([[np.nan, 1.0]])}),
    ("an encoding's field is None (NoneType)", TypeError, {"input_ids": None}),
    ("an encoding's field is 1 (int)", TypeError, {"input_ids": [[3]], "attention_mask": 1}),
    ("[1.0, 1.0] (list) is no prompt", TypeError, {"input_ids": [torch.ones(2)], "attention_mask": None}),
    ("the encoding has 'pixel_values': text alone is read here", ValueError, {"input_ids": [[3]], "pixel_values": 0}),
    ("the encoding has 'inputs_embeds'", ValueError, {"input_ids": [[3]], "inputs_embeds": 0}),
]
READERS: dict[str, Callable[[sl.SteerableModel, Any], Any]] = {
    "batch": lambda lm, prompts: lm.batch(prompts),
    "logits": lambda lm, prompts: lm.logits(prompts),
    "generate": lambda lm, prompts: lm.generate(prompts, max_new_tokens=1),
    "logprobs": lambda lm, prompts: lm.logprobs(prompts),
    "activations": lambda lm, prompts: lm.activations(prompts, SITE),
    "relative_size": lambda lm, prompts: relative_size(lm, sl.add(torch.ones(lm.d_model), layer=1), prompts),
}


@pytest.mark.parametrize("read", few(READERS, "batch", "generate"))
@pytest.mark.parametrize(("says", "kind", "prompts"), NO_PROMPTS, ids=range(len(NO_PROMPTS)))
def test_what_is_no_prompt(quiet: sl.SteerableModel, read: str, says: str, kind: Any, prompts: Any) -> None:  # noqa: F811
    refused(lambda: READERS[read](quiet, prompts), kind, says)


SINGLE: dict[str, Callable[[sl.SteerableModel, Any], Any]] = {
    "ids": lambda lm, prompt: lm.ids(prompt),
    "tokens": lambda lm, prompt: lm.tokens(prompt),
    "attract": lambda lm, prompt: sl.sara(lm, "a b", attract=prompt, repel="c", layer=1),
    "repel": lambda lm, prompt: sl.sara(lm, "a b", attract="c", repel=prompt, layer=1, variant="released"),
}


@pytest.mark.parametrize("read", SINGLE.values(), ids=SINGLE)
def test_where_one_prompt_is_read(quiet: sl.SteerableModel, read: Any) -> None:  # noqa: F811
    refused(lambda: read(quiet, TEXTS), ValueError, "2 prompts where one is needed")
    refused(lambda: read(quiet, own_tokenizer()(TEXTS)), ValueError, "2 prompts where one is needed")
    refused(lambda: read(quiet, None), TypeError, "None (NoneType) is no prompt")


@pytest.mark.parametrize("prompt", [None, 5, TEXTS, pd.DataFrame({"a": TEXTS})], ids=["None", "5", "list", "table"])
def test_settings_of_a_sweep(quiet: sl.SteerableModel, prompt: Any) -> None:  # noqa: F811
    for run in (sweep.completions, sweep.next_tokens):
        with pytest.raises((TypeError, ValueError)) as caught:
            run(quiet, [sweep.Setting({}, prompt)], progress=False)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("says", "template", "chat"),
    [
        ("the tokenizer has no chat template: give text, or a chat model", None, HELLO),
        ("the chat template refuses these messages (odd roles)", "{{ raise_exception('odd roles') }}", HELLO),
        ("the chat template refuses these messages (", "{% for %}", HELLO),
        ("text alone is read here, without images", TEMPLATE, [{"role": "user", "content": [{"type": "image"}]}]),
    ],
)
def test_chats_that_cannot_be_read(says: str, template: str | None, chat: Any) -> None:
    lm = with_tokenizer(own_tokenizer(chat_template=template))
    for read in READERS.values():
        refused(lambda read=read: read(lm, chat), ValueError, says)  # type: ignore[misc]
