"""What of a checkpoint's generation config holds, which options are open, and that padding is only padding."""

from typing import Any

import pytest
from families import BUNDLED, fresh, steerable, tokenizer
from test_bad_input import quiet, refused  # noqa: F401
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase
from trials import complete, trial

import steerlab as sl
from steerlab.sampling import ALLOWED

PROMPTS = ["The wedding was very fine", "He said"]
STEER = trial("resid_pre", 1, "shift", when="all")[0]
OPTIONS: dict[str, Any] = {"n": 2, "max_new_tokens": 5}
MANY = list(range(1, 4000))


def completions(lm: sl.SteerableModel) -> list[str]:
    """Sampled and greedy, with shared prompts and without."""
    drawn = lm.generate(PROMPTS, STEER, **OPTIONS)
    best = lm.generate(PROMPTS, STEER, temperature=0, max_new_tokens=5)
    return [*drawn.completion, *best.completion]


def configured(**config: Any) -> sl.SteerableModel:
    model = fresh("llama")
    for name, value in config.items():
        setattr(model.generation_config, name, value)
    return sl.load(model, tokenizer=tokenizer())


CONFIGS: list[dict[str, Any]] = [
    {"use_cache": False},
    {"repetition_penalty": 5.0},
    {"temperature": 0.1, "do_sample": True, "top_k": 1, "top_p": 0.1, "min_p": 0.9},
    {"typical_p": 0.2, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1, "do_sample": True},
    {"num_beams": 4, "length_penalty": 3.0, "early_stopping": True},
    {"forced_eos_token_id": 5},
    {"forced_bos_token_id": 5},
    {"suppress_tokens": MANY},
    {"begin_suppress_tokens": MANY},
    {"bad_words_ids": [[token] for token in MANY]},
    {"sequence_bias": [[[5], 9.0]]},
    {"max_length": 3},
    {"max_new_tokens": 2},
    {"min_length": 50, "min_new_tokens": 50},
    {"return_dict_in_generate": True, "output_scores": True, "output_hidden_states": True},
    {"stop_strings": ["a"]},
    {"no_repeat_ngram_size": 1, "encoder_repetition_penalty": 3.0},
    {"exponential_decay_length_penalty": (1, 2.0)},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"guidance_scale": 3.0},
    {"prompt_lookup_num_tokens": 3},
    {"prefill_chunk_size": 2},
    {"cache_implementation": "static"},
    {"dola_layers": "high"},
    {"max_time": 1e-4},
    {"pad_token_id": 99999},
    {"pad_token_id": None},
    {"eos_token_id": None},  # the tokenizer's holds
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: ", ".join(config))
def test_nothing_of_a_checkpoints_config_but_its_ends_holds(config: dict[str, Any]) -> None:
    assert completions(configured(**config)) == completions(steerable("llama"))


def test_a_config_without_cache() -> None:
    model = fresh("llama")
    model.config.use_cache = False
    assert completions(sl.load(model, tokenizer=tokenizer())) == completions(steerable("llama"))


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_checkpoint_may_have_several_ends(kind: Any) -> None:
    full = complete(steerable("llama"), PROMPTS, STEER, samples=[0, 0], max_new_tokens=6)
    ends = [full[0][2], full[1][4]]
    expected = [row[: min([row.index(end) for end in ends if end in row], default=len(row))] for row in full]
    assert expected != full
    lm = configured(eos_token_id=kind(ends))
    assert complete(lm, PROMPTS, STEER, samples=[0, 0], max_new_tokens=6) == expected


DANGEROUS: dict[str, Any] = {
    **{"assistant_model": 1, "assistant_tokenizer": 1, "prompt_lookup_num_tokens": 3, "custom_generate": "x"},
    **{"prefill_chunk_size": 4, "use_cache": False, "past_key_values": 1, "cache": 1, "inputs_embeds": 1},
    **{"input_ids": 1, "attention_mask": 1, "position_ids": 1, "logits_to_keep": 1, "labels": 1},
    **{"num_beams": 2, "num_return_sequences": 2, "do_sample": True, "top_k": 3, "min_p": 0.1, "typical_p": 0.1},
    **{"penalty_alpha": 0.6, "dola_layers": "low", "guidance_scale": 2.0, "negative_prompt_ids": 1},
    **{"logits_processor": [], "prefix_allowed_tokens_fn": 1, "watermarking_config": {}, "renormalize_logits": True},
    **{"generation_config": {}, "max_length": 3, "return_dict_in_generate": True, "output_scores": True},
    **{"pad_token_id": 3, "bos_token_id": 3, "decoder_start_token_id": 3, "forced_bos_token_id": 3},
    **{"token_healing": True, "continuous_batching": True, "synced_gpus": True, "trust_remote_code": True},
    **{"remote": True, "scan": True, "validate": True, "backend": "x", "blocking": False, "steering": 1},
}


@pytest.mark.parametrize("name", DANGEROUS)
def test_an_option_that_changes_what_a_pass_or_a_sample_is(quiet: sl.SteerableModel, name: str) -> None:  # noqa: F811
    assert name not in ALLOWED
    refused(lambda: quiet.generate(PROMPTS, STEER, **{name: DANGEROUS[name]}), ValueError, f"{name}=")


def test_the_open_options_are_those_of_transformers() -> None:
    objects = {"tokenizer", "stopping_criteria", "streamer"}  # arguments of `generate` that no config can hold
    newer = {"max_cache_len"}
    assert not ALLOWED - set(vars(GenerationConfig())) - objects - newer


# --- padding -------------------------------------------------------------------------------------------------------


def own_tokenizer(**tokens: str | None) -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(BUNDLED)
    for name, token in tokens.items():
        if token is None:
            setattr(loaded, name, None)
        else:
            loaded.add_special_tokens({name: token})
    return loaded


def test_a_padding_token_outside_of_the_vocabulary() -> None:
    lm = sl.load(fresh("llama"), tokenizer=own_tokenizer(pad_token="[PAD]"))
    assert lm.tokenizer.pad_token_id >= lm.n_vocab > lm.filler
    assert lm.logits(PROMPTS).equal(steerable("llama").logits(PROMPTS))
    assert completions(lm) == completions(steerable("llama"))


def test_a_padding_token_that_is_a_word_ends_nothing() -> None:
    plain = complete(steerable("llama"), PROMPTS, STEER, samples=[0, 0], temperature=0, max_new_tokens=6)
    word = plain[0][2]
    model = fresh("llama")
    model.generation_config.pad_token_id = word  # type: ignore[union-attr]
    lm = sl.load(model, tokenizer=own_tokenizer(pad_token=str(tokenizer().convert_ids_to_tokens(word))))
    assert lm.filler == word
    assert complete(lm, PROMPTS, STEER, samples=[0, 0], temperature=0, max_new_tokens=6) == plain


def test_neither_padding_nor_an_end() -> None:
    model = fresh("llama")
    model.generation_config.update(eos_token_id=None, pad_token_id=None)  # type: ignore[union-attr]
    lm = sl.load(model, tokenizer=own_tokenizer(eos_token=None, pad_token=None))
    frame = lm.generate(PROMPTS, n=3, max_new_tokens=9)
    assert frame.n_tokens.tolist() == [9] * 6
