"""ActAdd's experiments: each row is what a single call of the model gives, and shares are counted right."""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab import data, metrics
from steerlab.experiments import __main__ as overview
from steerlab.experiments import actadd as ex
from steerlab.experiments import results
from steerlab.experiments.actadd import __main__ as command
from steerlab.experiments.actadd import topics, vectors
from steerlab.sweep import Setting


@pytest.fixture(scope="module")
def lm(tiny: Callable[..., sl.SteerableModel]) -> sl.SteerableModel:
    return tiny()


@pytest.fixture(scope="module")
def sweep(lm: sl.SteerableModel) -> pd.DataFrame:
    return ex.layer_sweep(lm, layers=[0, 2], coefficients=(1, 4), n=3, max_new_tokens=6, seed=5, progress=False)


def test_layer_sweep_has_every_setting_and_control(sweep: pd.DataFrame) -> None:
    assert sweep["condition"].value_counts().to_dict() == {"steered": 12, "random": 12, "zero": 3, "prompt": 3}
    settings = sweep[sweep["condition"] == "steered"].groupby(["layer", "coefficient"]).size()
    assert settings.to_dict() == {(layer, c): 3 for layer in (0, 2) for c in (1, 4)}
    assert sweep.loc[sweep["condition"].isin(["zero", "prompt"]), ["layer", "coefficient"]].isna().all(axis=None)


def test_layer_sweep_rows_are_what_generate_gives(lm: sl.SteerableModel, sweep: pd.DataFrame) -> None:
    vector = sl.actadd(lm, " weddings", " ", layer=0)
    expected = {
        "zero": (ex.PROMPT, None),
        "prompt": (" weddings " + ex.PROMPT, None),
        "steered": (ex.PROMPT, 4 * vector),
        "random": (ex.PROMPT, 4 * sl.random_like(vector, seed=5)),
    }
    completions = {}
    for condition, (prompt, steer) in expected.items():
        rows = sweep[sweep["condition"] == condition]
        rows = rows[rows["layer"].isna() | ((rows["layer"] == 0) & (rows["coefficient"] == 4))]
        alone = lm.generate(prompt, steer, n=3, max_new_tokens=6, seed=5, **ex.PAPER_SAMPLING)
        completions[condition] = rows["completion"].tolist()
        assert completions[condition] == alone["completion"].tolist(), condition
        assert (rows["prompt"] == prompt).all()
    assert len({tuple(texts) for texts in completions.values()}) == 4  # the four conditions can be told apart


def test_layer_out_of_range_is_refused_before_anything_runs(lm: sl.SteerableModel) -> None:
    with pytest.raises(ValueError, match="layers 0 to 2"):
        ex.layer_sweep(lm, layers=[3], n=1, progress=False)


@pytest.mark.parametrize(("plus", "prompt", "whole"), [(" a", "b", " a b"), ("a ", "b", "a b"), ("a", "\nb", "a\nb")])
def test_the_prompt_control_puts_one_space_between(plus: str, prompt: str, whole: str) -> None:
    assert plus + topics.join(plus, prompt) == whole


def test_counts_and_shares_by_hand() -> None:
    texts = ["a wedding and a bride", "nothing", "the groom", "said"]
    frame = pd.DataFrame({"condition": ["a", "a", "a", "b"], "layer": [1.0, 1.0, 1.0, np.nan], "completion": texts})
    counted = ex.count_topic_words(frame)
    assert counted["count"].tolist() == [2, 0, 1, 0]
    assert counted["hit"].tolist() == [True, False, True, False]
    summary = ex.summarise(counted, by=["condition", "layer"])
    assert summary["share"].tolist() == pytest.approx([2 / 3, 0])
    assert summary["mean_count"].tolist() == pytest.approx([1, 0])
    assert summary["n"].tolist() == [3, 1]
    assert summary.loc[0, ["low", "high"]].tolist() == pytest.approx(list(metrics.share([1, 0, 1])[1:3]))


def test_shares_are_compared_prompt_by_prompt() -> None:
    """Steering turns one of three prompts, always: sure of these prompts, unsure of others."""
    rows = [(name, prompt, i, name == "steered" and prompt == "a") for name in ("zero", "steered")
            for prompt in "abc" for i in range(20)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["condition", "bare_prompt", "sample", "hit"])
    zero, steered = ex.summarise(frame, by=["condition"], baseline={"condition": "zero"}).to_dict("records")
    assert np.isnan(zero["gain"]) and steered["gain"] == pytest.approx(1 / 3)
    assert steered["gain_low"] < 0 and steered["p"] == pytest.approx(2 * 0.5**20)
    assert (steered["units"], steered["interval"]) == (3, "wilson over bare_prompt")
    alone = ex.summarise(frame[frame["bare_prompt"] == "a"], by=["condition"], baseline={"condition": "zero"})
    assert alone["interval"].tolist() == ["wilson", "wilson"] and alone["gain_low"][1] > 0.7


# --- perplexity --------------------------------------------------------------------------------------------------

TEXTS = [
    "The bride is at the gate. The groom waits there and does not speak.",
    "It is cold. Nobody went out to the wood.",
]


@pytest.fixture(scope="module")
def vector(lm: sl.SteerableModel) -> sl.Intervention:
    return sl.actadd(lm, " weddings", " ", layer=0)


def test_front_positions_are_the_vectors(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    assert ex.front_positions(vector) == 2
    assert ex.front_positions(sl.actadd(lm, " a b c", " ", layer=1)) == 4
    assert ex.front_positions(sl.actadd(lm, " a b c", " ", layer=1, vector="mean")) == 0


def test_sentence_shifts_score_sentences_on_their_own_and_drop_the_vectors_positions(
    lm: sl.SteerableModel, vector: sl.Intervention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("steerlab.experiments.actadd.perplexity"), "BATCH", 3)
    frame = ex.sentence_shifts(lm, vector, TEXTS, progress=False)
    expected = []
    for sentence in ("The groom waits there and does not speak.", "The bride is at the gate."):
        plain, steered = (lm.logprobs(sentence, steer)["logprob"].to_numpy() for steer in (None, vector))
        expected += (steered - plain)[2:].tolist()
    own = frame[frame["document"] == 0]
    assert sorted(own["shift"]) == pytest.approx(sorted(expected), abs=1e-4)
    assert own["position"].min() == 3
    assert np.abs(expected).max() > 1e-3


def test_sentences_beyond_the_context_are_cut(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    lm.hf.config.max_position_embeddings, old = 16, lm.hf.config.max_position_embeddings
    try:
        frame = ex.sentence_shifts(lm, vector, ["a " * 50], progress=False)
    finally:
        lm.hf.config.max_position_embeddings = old
    assert frame["position"].max() == 15


def test_no_sentence_is_long_enough(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    with pytest.raises(ValueError, match="longer than the 2 positions"):
        ex.sentence_shifts(lm, vector, ["a."], progress=False)


def test_perplexity_by_density_bins_and_weighs_by_tokens() -> None:
    documents = ["a b c d"] * 3 + ["wedding b c d e f g h i j"] * 2 + ["wedding bride"]
    rows = [(0, 0, 1.0), (0, 0, 1.0), (0, 0, 1.0), (1, 1, -1.0), (2, 2, 0.0), (3, 3, 2.0), (4, 4, 4.0), (5, 5, 9.0)]
    shifts = pd.DataFrame(rows, columns=["document", "row", "shift"])
    frame = ex.perplexity_by_density(shifts, documents, width=0.1, least=2)
    assert frame["density"].tolist() == pytest.approx([0, 0.1])  # the bin of one document is left out
    assert frame["documents"].tolist() == [3, 2]
    assert frame["tokens"].tolist() == [5, 2]
    assert frame["ratio"].tolist() == pytest.approx([np.exp(-2 / 5), np.exp(-3)])
    assert frame["by_document"].tolist() == pytest.approx([1, np.exp(-3)])
    assert frame.loc[1, "low"] == pytest.approx(np.exp(-4)) and frame.loc[1, "high"] == pytest.approx(np.exp(-2))


def test_documents_that_share_a_sentence_count_it_once_in_the_interval() -> None:
    """Ten documents of the same two sentences know no more than the two sentences do."""
    ten = pd.DataFrame([(i, row, shift) for i in range(10) for row, shift in ((0, 1.0), (1, -1.0))])
    ten.columns = pd.Index(["document", "row", "shift"])
    frame = ex.perplexity_by_density(ten, ["a b"] * 10, least=2)
    assert frame["sentences"].tolist() == [2]
    assert frame.loc[0, ["low", "high"]].tolist() == pytest.approx([np.exp(-1), np.exp(1)])


def test_perplexity_bins_are_those_of_the_release() -> None:
    """Edges at −0.0025, 0.0025, 0.0075, …: a share of 0.3 % lies in the bin that is centred on 0.5 %."""
    documents = [" ".join(["wedding"] * k + ["word"] * (1000 - k)) for k in (0, 2, 3, 7, 8)]
    shifts = pd.DataFrame({"document": range(5), "row": range(5), "shift": 0.0})
    frame = ex.perplexity_by_density(shifts, documents, least=1)
    assert frame["density"].tolist() == pytest.approx([0, 0.005, 0.01])
    assert frame["documents"].tolist() == [2, 2, 1]


def test_real_text_is_told_apart_by_whether_it_is_on_the_topic() -> None:
    texts = [
        "a wedding is long\nno topic here at all\nshort",
        "a wedding is long\nnothing of the kind here\nnor of it here",
    ]
    documents = ex.paragraphs(texts, 2, least=4)
    assert documents[0] == "a wedding is long" and len(set(documents)) == 3
    assert set(documents[1:]) < {"no topic here at all", "nothing of the kind here", "nor of it here"}
    assert documents == ex.paragraphs(texts, 2, least=4) and len(ex.paragraphs(texts, 9, least=4)) == 4
    shifts = pd.DataFrame({"document": [0, 0, 1, 2], "row": [0, 1, 2, 3], "shift": [1.0, 3.0, 0.0, -2.0]})
    frame = ex.perplexity_by_topic(shifts, documents)
    assert frame["topic"].tolist() == [False, True] and frame["documents"].tolist() == [2, 1]
    assert frame["ratio"].tolist() == pytest.approx([np.exp(1), np.exp(-2)])


def test_shifts_by_token_keeps_frequent_types() -> None:
    shifts = pd.DataFrame({"token": ["a"] * 3 + ["b"] * 4 + ["c"], "shift": [1, 2, 3, 0, 0, 0, 2, 9]})
    frame = ex.shifts_by_token(shifts, least=2)
    assert frame.to_dict("list") == {"token": ["a", "b"], "count": [3, 4], "shift": [2.0, 0.5]}


def summed(lm: sl.SteerableModel, sentences: list[str], prefix: list[int], steer: sl.Intervention | None) -> float:
    """The log-probability of sentences after a prefix, one at a time, without their first two tokens."""
    rows = [lm.logprobs(torch.tensor(prefix + lm.encode(text)), steer) for text in sentences]
    return float(sum(row["logprob"].to_numpy()[len(prefix) + 1 :].sum() for row in rows))


def test_essays_compare_steering_and_prompting_on_the_same_tokens(lm: sl.SteerableModel) -> None:
    frame = ex.essays(lm, layer=0, topics=["winter"]).set_index(["topic", "condition"])["ratio"]["winter"]
    bos, word, space = 0, lm.encode(" weddings")[0], lm.encode(" ")[0]
    sentences = [sentence for essay in data.essays()["winter"] for sentence in data.sentences(essay)]
    plain = summed(lm, sentences, [bos], None)
    count = sum(len(lm.encode(text)) - 2 for text in sentences)
    for condition, prefix, steer in (
        ("prompted", [bos, word], None),
        ("steered", [bos, space], sl.actadd(lm, " weddings", " ", layer=0)),
        ("spaces", [bos, space], None),
    ):
        expected = np.exp(-(summed(lm, sentences, prefix, steer) - plain) / count)
        assert frame[condition] == pytest.approx(expected, rel=1e-4), condition
    # At layer 0 the vector over a space is the word itself, so both are the same.
    assert frame["steered"] == pytest.approx(frame["prompted"], rel=1e-4) != frame["spaces"]


def test_room_compares_every_token_with_itself_in_the_bare_sentence(
    lm: sl.SteerableModel, vector: sl.Intervention
) -> None:
    frame = ex.sentence_shifts(lm, vector, TEXTS, room=True, progress=False)
    sentences = data.sentences(TEXTS[0])
    space = lm.encode(" ")[0]
    expected = summed(lm, sentences, [0, space], vector) - summed(lm, sentences, [0], None)
    own = frame[frame["document"] == 0]
    assert own["shift"].sum() == pytest.approx(expected, abs=1e-3) and abs(expected) > 1e-2
    assert own["position"].min() == 3  # the first T_s are dropped, as they are without room


@pytest.fixture(scope="module")
def without_bos(lm: sl.SteerableModel) -> sl.SteerableModel:
    return sl.load(lm.hf, tokenizer=lm.tokenizer, bos=False)


@pytest.mark.parametrize("room", [False, True])
def test_perplexity_without_bos(without_bos: sl.SteerableModel, room: bool) -> None:
    lm, sentence = without_bos, "The bride is at the gate."
    assert lm.prefix == []
    steer = sl.actadd(lm, " weddings", " ", layer=0, coefficient=4)
    frame = ex.sentence_shifts(lm, steer, [sentence], room=room, progress=False)
    ids = [*lm.encode(" ") * room, *lm.encode(sentence)]
    plain = lm.logprobs(torch.tensor(lm.encode(sentence)))["logprob"].to_numpy()
    steered = lm.logprobs(torch.tensor(ids), steer)["logprob"].to_numpy()[room:]
    assert frame["shift"].tolist() == pytest.approx((steered - plain)[1:], abs=1e-4)  # T_s is one position
    assert frame["position"].tolist() == list(range(2, len(lm.encode(sentence))))
    table = ex.essays(lm, layer=0, topics=["winter"])
    assert (table["ratio"] > 0).all() and table["condition"].tolist() == ["steered", "prompted", "spaces"]


def test_whole_documents_are_read_in_one_pass(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    frame = ex.sentence_shifts(lm, vector, TEXTS, whole=True, progress=False)
    plain, steered = (lm.logprobs(TEXTS[1], steer)["logprob"].to_numpy() for steer in (None, vector))
    assert frame.loc[frame["document"] == 1, "shift"].tolist() == pytest.approx((steered - plain)[2:], abs=1e-4)


def test_a_sentence_that_two_documents_share_stands_in_both(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    frame = ex.sentence_shifts(lm, vector, [TEXTS[0], TEXTS[0]], progress=False)
    first, second = (own.drop(columns="document").reset_index(drop=True) for _, own in frame.groupby("document"))
    pd.testing.assert_frame_equal(first, second)
    assert frame["row"].nunique() == 2


@pytest.mark.parametrize("room", [False, True])
def test_essay_sweep_has_a_row_per_setting_and_text(lm: sl.SteerableModel, room: bool) -> None:
    texts = {"a": TEXTS[:1], "b": TEXTS[1:]}
    frame = ex.essay_sweep(lm, layers=[0, 1], coefficients=(0, 4), texts=texts, room=room, progress=False)
    places = frame[["layer", "coefficient", "text"]].to_numpy().tolist()
    assert places == [[layer, c, name] for layer in (0, 1) for c in (0, 4) for name in "ab"]
    assert (frame.loc[frame["coefficient"] == 0, "ratio"] == 1).all() != room  # a space alone does something too
    steer = sl.actadd(lm, " weddings", " ", layer=1, coefficient=4)
    shifts = ex.sentence_shifts(lm, steer, TEXTS[1:], room=room, progress=False)
    assert frame["ratio"].iloc[-1] == pytest.approx(np.exp(-shifts["shift"].mean()), rel=1e-4)


# --- what is left alone ------------------------------------------------------------------------------------------


def test_knowledge_counts_ranks_and_leaves_out_what_does_not_fit(
    lm: sl.SteerableModel, vector: sl.Intervention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("steerlab.experiments.actadd.knowledge"), "BATCH", 2)
    prompts = ["The dog said", "A cat is", "I went to the"]
    answers, ks = ["dog", "home", "king"], [1, 1000, 3000, 5000, 9000]
    clozes = pd.DataFrame({"prompt": [*prompts, "A"], "answer": [*answers, "weddingses"]})
    frame = ex.knowledge(lm, vector, clozes, ks=ks, progress=False)
    ids = [lm.encode(" " + answer)[0] for answer in answers]
    for name, steer in (("plain", None), ("steered", vector)):
        ranks = metrics.answer_rank(lm.logits(prompts, steer), ids)
        share = frame[frame["condition"] == name].set_index("k")["share"]
        assert share.to_dict() == pytest.approx({k: float((ranks < k).float().mean()) for k in ks})
    assert set(frame["n"]) == {3}
    assert 0 < frame["share"].mean() < 1


def test_knowledge_is_compared_cloze_by_cloze(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    clozes = data.facts("test").head(40)
    clozes.loc[0, "prompt"] = " "  # begins with the gap
    frame = ex.knowledge(lm, 4 * vector, clozes, ks=[500, 2000], progress=False)
    kept = [(p, lm.encode(f" {a}")) for p, a in zip(clozes["prompt"], clozes["answer"], strict=True) if p != " "]
    kept = [(prompt, ids[0]) for prompt, ids in kept if len(ids) == 1 and len(lm.tokens(prompt)) >= 2]
    prompts, ids = zip(*kept, strict=True)
    before, after = (metrics.answer_rank(lm.logits(list(prompts), s), ids).numpy() for s in (None, 4 * vector))
    steered = frame[frame["condition"] == "steered"].set_index("k")
    for k in (500, 2000):
        assert steered.loc[k, "lost"] == ((before < k) & (after >= k)).sum()
        assert steered.loc[k, "p"] == metrics.mcnemar(after < k, before < k)
    assert set(steered["worse"]) == {(after > before).sum()} and steered["p_ranks"].nunique() == 1
    assert frame.loc[frame["condition"] == "plain", "p"].isna().all()
    assert set(frame["left_out"]) == {40 - len(kept)} and len(kept) < 40


def test_what_the_spaces_change_is_told_from_what_the_vector_changes(
    lm: sl.SteerableModel, vector: sl.Intervention
) -> None:
    clozes = data.facts("test").head(12)
    frame = ex.knowledge(lm, 4 * vector, clozes, room=True, ks=[2000], progress=False).set_index("condition")
    kept = [(p, lm.encode(f" {a}")) for p, a in zip(clozes["prompt"], clozes["answer"], strict=True)]
    prompts, ids = zip(*((prompt, ids[0]) for prompt, ids in kept if len(ids) == 1), strict=True)
    laid = [ex.topics.lay(lm, prompt, vector, True) for prompt in prompts]
    asked: list[tuple[Any, Any]] = [(list(prompts), None), (laid, None), (laid, 4 * vector)]
    plain, padded, steered = (metrics.answer_rank(lm.logits(*each), ids).numpy() for each in asked)
    assert list(frame.index) == ["plain", "padded", "steered"]
    assert frame.loc["padded", "worse"] == (padded > plain).sum() > 0
    assert frame.loc["steered", "worse"] == (steered > padded).sum() > 0


def test_knowledge_of_nothing_is_refused(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    with pytest.raises(ValueError, match="none of 1 clozes"):
        ex.knowledge(lm, vector, pd.DataFrame({"prompt": ["A"], "answer": ["weddingses"]}), progress=False)


def test_overhead_alternates_and_compares(lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    seconds = {False: 2.0, True: 3.0}

    def fake(lm: sl.SteerableModel, ids: torch.Tensor, steer: sl.Intervention | None) -> float:
        order.append(steer is not None)
        return seconds[steer is not None]

    monkeypatch.setattr(import_module("steerlab.experiments.actadd.overhead"), "_seconds", fake)
    frame = ex.overhead(lm, rows=2, width=4, repeats=4, warmup=1)
    assert frame["premium"].tolist() == [0.5] * 4
    assert frame["repeat"].tolist() == [0, 1, 2, 3]
    firsts = order[::2]
    assert firsts[1:] == [not first for first in firsts[:-1]]
    assert set(frame["layer"]) == {lm.n_layers // 2}


def test_overhead_by_size_names_and_sizes() -> None:
    frame = ex.overhead_by_size(["1M"], rows=1, width=4, repeats=2, warmup=0, device="cpu")
    assert frame["model"].tolist() == ["1M", "1M"]
    assert 0.8e6 < frame["n_params"][0] < 1.3e6
    assert (frame["plain"] > 0).all()
    with pytest.raises(ValueError, match="shape 'gpt5' is unknown"):
        ex.overhead_by_size(["gpt5"])


# --- sentiment and toxicity --------------------------------------------------------------------------------------


def test_tone_compares_three_conditions_under_one_decoding(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    seen = []

    def scorer(texts: list[str]) -> list[float]:
        seen.extend(texts)
        return [float(len(text)) for text in texts]

    prompts = ["The dog said", "A cat is"]
    frame = ex.tone(
        lm, 3 * vector, prompts, scorer, prefix=" weddings", threshold=20, n=2, max_new_tokens=5, progress=False
    )
    assert frame["condition"].tolist() == (["zero"] * 2 + ["prompted"] * 2 + ["steered"] * 2) * 2
    assert seen == frame["completion"].tolist()
    assert frame["score"].tolist() == [len(text) for text in seen]
    assert frame["hit"].tolist() == [len(text) > 20 for text in seen]
    alone = lm.generate(prompts[1], 3 * vector, n=2, max_new_tokens=5)["completion"].tolist()
    assert frame["completion"].tolist()[-2:] == alone
    # The prompted completions are judged after the bare prompt, like all others.
    assert frame["prompt"].tolist()[2] == " weddings The dog said"
    scores = lm.logprobs([seen[2]], given=["The dog said"])
    assert frame["disfluency"][2] == pytest.approx(np.exp(-scores["logprob"].mean()), rel=1e-3)


def test_summarise_tone_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "condition": ["zero", "zero", "steered", "steered"],
            "bare_prompt": ["a", "b", "a", "b"],
            "sample": 0,
            "score": [0.0, 1.0, 1.0, 3.0],
            "hit": [False, True, True, True],
            "disfluency": [2.0, 8.0, 5.0, np.nan],
        }
    )
    table = ex.summarise_tone(frame).set_index("condition")
    assert table["share"].to_dict() == {"zero": 0.5, "steered": 1.0}
    assert table["score"].to_dict() == {"zero": 0.5, "steered": 2.0}
    assert table["disfluency"].to_dict() == pytest.approx({"zero": 4.0, "steered": 5.0})
    half = 12.7062 * np.log(8 / 2) / 2  # Student's, of two logarithms
    low, high = table.loc["zero", ["disfluency_low", "disfluency_high"]]
    assert np.log([low, high]).tolist() == pytest.approx([np.log(4) - half, np.log(4) + half], rel=1e-4)
    assert table.loc["steered", "gain"] == 0.5 and np.isnan(table.loc["zero", "gain"])


# --- what is in the vector ---------------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Setting]:
    """The settings that an experiment asks completions of; each gets the same one."""
    asked: list[Setting] = []

    def fake(lm: sl.SteerableModel, settings: list[Setting], **options: object) -> pd.DataFrame:
        asked.extend(settings)
        return pd.DataFrame([{**setting.columns, "completion": "a bride"} for setting in settings])

    monkeypatch.setattr(topics, "completions", fake)
    return asked


def test_random_vectors_divide_kl_by_entropy_behind_the_vector(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    prompt = "The dog said that it"
    frame = ex.random_vectors(lm, vector, [prompt, "I"], draws=2, nonsense=" qz", progress=False)
    assert frame["condition"].tolist() == ["vector", "random", "random", "nonsense"]  # "I" is too short
    assert frame["draw"].tolist() == [0, 0, 1, 0]
    first = max(2, len(lm.tokens(" qz")))
    other = sl.actadd(lm, " qz", " ", layer=0)
    [site] = vector.sites
    steer = [vector, *(sl.random_like(vector, i) for i in range(2)), (vector.norm()[site] / other.norm()[site]) * other]
    plain = lm.logits(prompt, position="all")[0, first:]
    for row, each in zip(frame.to_dict("records"), steer, strict=True):
        far = metrics.kl(plain, lm.logits(prompt, each, position="all")[0, first:]).mean().item()
        assert row["kl"] == pytest.approx(far, abs=1e-4)
        assert row["relative"] == pytest.approx(far / metrics.entropy(plain).mean().item(), abs=1e-4)
    assert frame["kl"].min() > 1e-3


def test_dimension_sweep_adds_the_first_part(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    [(_, edit)] = vector.edits
    half = vectors._first_dimensions(vector, 0.5).edits[0][1]
    assert half.shift is not None and edit.shift is not None
    assert torch.equal(half.shift[:, :8], edit.shift[:, :8]) and not half.shift[:, 8:].any()
    frame = ex.dimension_sweep(lm, 4 * vector, shares=(0, 1), n=2, max_new_tokens=5, progress=False)
    for part, steer in ((0, None), (1, 4 * vector)):
        alone = lm.generate(ex.PROMPT, steer, n=2, max_new_tokens=5, **ex.PAPER_SAMPLING)
        assert frame.loc[frame["dimensions"] == part, "completion"].tolist() == alone["completion"].tolist()
    assert frame["completion"].nunique() > 2


def test_place_sweep_places(lm: sl.SteerableModel, seen: list[Setting]) -> None:
    frame = ex.place_sweep(lm, layer=1, coefficient=2)
    assert frame["condition"].tolist() == ["front", "middle", "back", "pad"] and frame["hit"].all()
    edits = {setting.columns["condition"]: setting.steer.edits[0][1] for setting in seen if setting.steer}
    length = len(lm.tokens(ex.PROMPT))
    assert (edits["front"].anchor, edits["front"].start) == ("front", 0)
    assert (edits["middle"].anchor, edits["middle"].start) == ("front", (length - 2) // 2)
    assert edits["back"].anchor == "back"
    assert len(seen[3].prompt) == length + 1  # one space of room
    assert all(torch.equal(edit.shift, edits["front"].shift) for edit in edits.values())


def test_just_tokens_moves_the_vectors_of_every_layer(lm: sl.SteerableModel, seen: list[Setting]) -> None:
    frame = ex.just_tokens(lm, layer=2, coefficient=3)
    assert frame["source"].tolist() == [0, 0, 1, 1, 2, 2]
    site = sl.Site("resid_pre", 2)
    own = sl.actadd(lm, " weddings", " ", layer=2, coefficient=3)
    assert all(setting.steer is not None and setting.steer.sites == (site,) for setting in seen)
    for setting in seen:
        other = sl.actadd(lm, " weddings", " ", layer=setting.columns["source"], coefficient=3)
        wanted = own.norm()[site] if setting.columns["condition"] == "stretched" else next(iter(other.norm().values()))
        assert setting.steer.norm()[site] == pytest.approx(wanted, rel=1e-5)
        assert torch.cosine_similarity(setting.steer.edits[0][1].shift[1], other.edits[0][1].shift[1], dim=0) > 0.9999


def test_shared_part_gives_back_what_third_headings_share(lm: sl.SteerableModel, seen: list[Setting]) -> None:
    headings = [" ships", " dogs", " music", " weddings"]
    frame = ex.shared_part(
        lm, " weddings", [" ships", " war"], layer=1, coefficient=3, headings=headings, room=True, seed=4
    )
    names = ["zero", "difference", "headings", "headings + difference", "noise + difference", "alone"]
    assert frame["condition"].tolist() == names * 2 and frame["minus"].tolist() == [" ships"] * 6 + [" war"] * 6
    steers = {setting.columns["condition"]: setting.steer for setting in seen[:6]}

    def shift(steer: sl.Intervention | None) -> torch.Tensor:
        assert steer is not None and steer.sites == (sl.Site("resid_pre", 1),)
        [(_, edit)] = steer.edits
        assert edit.shift is not None
        return edit.shift

    def pair(plus: str, minus: str = " ") -> torch.Tensor:
        return shift(sl.actadd(lm, plus, minus, layer=1, coefficient=3))

    difference, shared = pair(" weddings", " ships"), (pair(" dogs") + pair(" music")) / 2  # neither of the pair
    assert steers["zero"] is None and seen[0].prompt == ex.PROMPT
    torch.testing.assert_close(shift(steers["difference"]), difference)
    torch.testing.assert_close(shift(steers["headings"]), shared)
    torch.testing.assert_close(shift(steers["headings + difference"]), shared + difference)
    torch.testing.assert_close(shift(steers["alone"]), pair(" weddings"))
    noise = shift(steers["noise + difference"]) - difference
    torch.testing.assert_close(noise.norm(dim=-1), shared.norm(dim=-1))
    assert torch.cosine_similarity(noise[1], shared[1], dim=0) < 0.9
    assert all(len(setting.prompt) == len(lm.tokens(ex.PROMPT)) + 1 for setting in seen[1:6])  # one space of room


def test_shared_part_needs_a_third_heading(lm: sl.SteerableModel) -> None:
    with pytest.raises(ValueError, match="none besides ' weddings' and ' ships'"):
        ex.shared_part(lm, " weddings", [" ships"], layer=1, coefficient=3, headings=[" ships"])


def test_topic_control_counts_each_topics_own_words(lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(lm: sl.SteerableModel, settings: list[Setting], **options: object) -> pd.DataFrame:
        return pd.DataFrame([{**setting.columns, "completion": "the ships and a bride"} for setting in settings])

    monkeypatch.setattr(topics, "completions", fake)
    frame = ex.topic_control(lm, layer=1, coefficient=2, topics=["ships", "weddings", "dogs"])
    assert frame["topic"].tolist() == ["ships", "ships", "weddings", "weddings", "dogs", "dogs"]
    assert frame["condition"].tolist() == ["zero", "steered"] * 3
    assert frame["count"].tolist() == [1, 1, 1, 1, 0, 0]


def test_kl_shares_by_hand(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    frame = ex.kl_shares(lm, 3 * vector, k=4)
    steered, plain = (lm.logits(ex.PROMPT, steer)[0].softmax(-1) for steer in (3 * vector, None))
    terms = steered * (steered / plain).log()
    best = terms.argsort(descending=True)[:4]
    assert frame["token"].tolist() == [lm.tokenizer.decode([i]) for i in best.tolist()]
    assert frame["share"].tolist() == pytest.approx((terms[best] / terms.sum()).tolist(), rel=1e-3)
    assert frame["after"].tolist() == pytest.approx(steered[best].tolist(), rel=1e-3)


def test_relative_sizes_have_a_row_per_layer(lm: sl.SteerableModel) -> None:
    frame = ex.relative_sizes(lm)
    assert frame["layer"].tolist() == [0, 1, 2]
    site = sl.Site("resid_pre", 1)
    stream = lm.activations(ex.PROMPT, site)[site][0, 1:].norm(dim=-1).mean()
    shift = sl.actadd(lm, " weddings", " ", layer=1).edits[0][1].shift
    assert shift is not None
    assert frame["size"][1] == pytest.approx((shift[1].norm() / stream).item(), rel=1e-4)


# --- what it must cost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [False, True])
def test_price_reads_the_models_own_text_with_and_without(lm: sl.SteerableModel, room: bool) -> None:
    prompts, options = ["The dog said that it", "Once there was a"], {"n": 2, "max_new_tokens": 6, "seed": 3}
    words = ["e", "a", "o", "i", "u", "s", "t"]
    vector = sl.actadd(lm, " weddings", " ", layer=1)
    design = {"strengths": (2, 0), "prompts": prompts, "words": words, "room": room, "progress": False}
    frame = ex.price(lm, vector, **design, **options)
    assert frame["sampling"].tolist() == ["plain", "plain", "released", "released"]
    assert frame["strength"].tolist() == [0, 2, 0, 2]
    assert frame.loc[0, ["ratio", "ratio_low", "ratio_high", "floor"]].tolist() == [1, 1, 1, 1]
    assert frame.loc[2:, "floor"].isna().all()  # the bound speaks of plain sampling only
    steer = 2 * vector
    laid = sl.make_room(lm, prompts, steer) if room else prompts
    for row, sampling in ((1, {}), (3, ex.PAPER_SAMPLING)):
        steered = pd.concat([lm.generate(prompt, steer, **options, **sampling) for prompt in laid])
        assert frame["share"][row] == ex.count_topic_words(steered, words)["hit"].mean()
    own = lm.generate(prompts, **options)
    shifts = []
    for prompt, place in zip(prompts, laid, strict=True):
        for text in own.loc[own["prompt"] == prompt, "completion"]:
            plain = lm.logprobs(text, given=prompt)["logprob"]
            shifts += (lm.logprobs(text, steer, given=place)["logprob"] - plain).tolist()
    assert frame["ratio"][1] == pytest.approx(np.exp(-np.mean(shifts)), rel=1e-4)
    assert frame["ratio"][3] == frame["ratio"][1]
    assert frame["tokens"].tolist() == [len(shifts) / 4] * 4
    released = ex.price(lm, vector, **design, samplings=["released"], **options)
    pd.testing.assert_frame_equal(released, frame.tail(2).reset_index(drop=True), check_dtype=False)


@pytest.mark.parametrize("options", [{"position": "back"}, {"vector": "mean"}, {"vector": "mean", "when": "decode"}])
def test_price_of_what_a_given_text_would_not_feel_is_refused(lm: sl.SteerableModel, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="read in one pass"):
        ex.price(lm, sl.actadd(lm, " weddings", " ", layer=1, **options))


@pytest.mark.parametrize("samplings", [(), ("greedy",), ["plain", "greedy"]])
def test_a_sampling_that_is_none_is_refused(lm: sl.SteerableModel, samplings: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="give some of plain, released"):
        ex.price(lm, sl.actadd(lm, " weddings", " ", layer=1), samplings=samplings)


def test_the_least_cost_by_hand() -> None:
    assert ex.floor(0, 0.55, 40) == pytest.approx(0.45 ** (-1 / 40))  # nothing but to leave out what has no hit
    assert ex.floor(0.3, 0.3, 10) == 1
    assert ex.floor(0, 1, 40) == np.inf
    nats = 0.1 * np.log(0.1 / 0.6) + 0.9 * np.log(0.9 / 0.4)
    assert ex.floor(0.1, 0.6, 20) == pytest.approx(np.exp(nats / 20))


def test_no_model_beats_the_least_cost() -> None:
    """Two Markov chains over three tokens, and a hit where the last of them occurs: all 81 texts of four counted."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        plain, steered = rng.dirichlet(np.ones(3), size=(2, 3))
        texts = list(product(range(3), repeat=4))
        odds = [
            np.array([np.prod([chain[a, b] for a, b in pairwise((0, *t))]) for t in texts])
            for chain in (plain, steered)
        ]
        p, q = (own[[2 in t for t in texts]].sum() for own in odds)
        assert np.exp((odds[0] * np.log(odds[0] / odds[1])).sum() / 4) >= ex.floor(p, q, 4)


# --- the choice of a setting --------------------------------------------------------------------------------------


def test_choose_measures_each_setting_on_its_own(lm: sl.SteerableModel) -> None:
    options = {"prompts": ["The dog said that"], "n": 3, "seed": 4, "max_new_tokens": 5, "progress": False}
    frame = ex.choose(lm, layers=[1], coefficients=(1, 4), words=["e", "the", "a"], **options)
    assert frame[["position", "layer", "coefficient"]].to_numpy().tolist() == [
        ["front", 1, 1],
        ["front", 1, 4],
        ["pad", 1, 1],
        ["pad", 1, 4],
    ]
    steer = sl.actadd(lm, " weddings", " ", layer=1, coefficient=4)
    padded = sl.make_room(lm, "The dog said that", steer)[0]
    for row, prompt in ((1, "The dog said that"), (3, padded)):
        alone = lm.generate(prompt, steer, n=3, seed=4, max_new_tokens=5, **ex.PAPER_SAMPLING)
        hits = ex.count_topic_words(alone, ["e", "the", "a"])["hit"]
        assert frame["share"][row] == pytest.approx(hits.mean())
        bare = lm.generate("The dog said that", n=3, seed=4, max_new_tokens=5, **ex.PAPER_SAMPLING)
        before = ex.count_topic_words(bare, ["e", "the", "a"])["hit"]
        assert frame.loc[row, ["gain", "gain_low"]].tolist() == pytest.approx(list(metrics.gain(hits, before)[:2]))
        essays = [essay for topic in ("winter", "school") for essay in data.essays()[topic]]
        shifts = ex.sentence_shifts(lm, steer, essays, room=row == 3, progress=False)
        assert frame["ratio"][row] == pytest.approx(np.exp(-shifts["shift"].mean()), rel=1e-4)


def test_pick_takes_what_steers_most_and_what_costs_little() -> None:
    rows = [
        # layer, c, position, share, lower limit of the gain, ratio
        (0, 8.0, "front", 0.9, 0.8, 1.30),
        (1, 1.0, "pad", 0.9, 0.8, 1.10),
        (1, 0.5, "pad", 0.4, 0.3, 1.01),
        (2, 0.5, "pad", 0.5, 0.4, 0.985),
        (3, 0.5, "pad", 0.04, -0.01, 1.00),  # not above the unsteered model
    ]
    frame = pd.DataFrame(rows, columns=["layer", "coefficient", "position", "share", "gain_low", "ratio"])
    assert ex.pick(frame) == ex.Choice(1, 1.0, True)  # of two that steer equally often, the one that costs less
    assert ex.pick(frame, 0.02) == ex.Choice(2, 0.5, True)
    assert ex.pick(frame, 0.012) == ex.Choice(1, 0.5, True)
    assert ex.pick(frame, 0.001) == ex.Choice(1, 0.5, True)  # nothing is within, so the nearest that steers
    assert str(ex.pick(frame)) == "layer 1, c = 1, pad"


# --- the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def run(lm: sl.SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pd.DataFrame]:
    """Runs an experiment at a tiny size, and reads one of its tables."""
    choice = pd.DataFrame([(0, 4.0, "front", 0.5, 0.4, 1.0), (1, 1.0, "pad", 0.9, 0.8, 1.2)])
    choice.columns = pd.Index(["layer", "coefficient", "position", "share", "gain_low", "ratio"])
    monkeypatch.setattr(results, "load", lambda model: lm)
    monkeypatch.setattr(command, "choose", lambda lm, **options: choice)

    def run(name: str, table: str, *more: str) -> pd.DataFrame:
        assert command.main([name, "--out", str(tmp_path), "--n", "2", *more]) == 0
        return pd.read_csv(tmp_path / f"actadd_{table}.csv")

    return run


def test_command_line_sweeps_both_positions(
    run: Callable[..., pd.DataFrame], lm: sl.SteerableModel, tmp_path: Path
) -> None:
    table = run("layer-sweep", "layer_sweep", "--swept", "1")
    assert table["condition"].tolist() == (["zero", "prompt"] + ["steered", "random"] * 3) * 2
    assert table["position"].tolist() == ["front"] * 8 + ["pad"] * 8
    assert set(table["n"]) == {2}
    record = json.loads((tmp_path / "actadd_layer_sweep.json").read_text())
    assert record["n"] == 2 and record["seed"] == 0
    assert record["command"].startswith("python -m steerlab.experiments.actadd layer-sweep --out")
    run("perplexity", "tokens")  # two tables, by one command
    ran = results.runs("actadd", lm, tmp_path)
    assert ran["n"].tolist() == [2, 2, 2] and (ran["seconds"] >= 0).all()
    assert [command.split()[3] for command in ran["command"]] == ["choice", "layer-sweep", "perplexity"]


def test_command_line_takes_its_settings_from_the_choice(
    run: Callable[..., pd.DataFrame], lm: sl.SteerableModel, tmp_path: Path
) -> None:
    table = run("best", "best")
    assert table[["setting", "layer", "coefficient"]].dropna().to_numpy().tolist() == [
        *[["strongest", 1, 1]] * 2,
        *[["gentle", 0, 4]] * 2,
    ]
    again = (tmp_path / "actadd_choice.csv").stat().st_mtime_ns
    run("essays", "essays")
    assert (tmp_path / "actadd_choice.csv").stat().st_mtime_ns == again  # the same model's choice is read, not made
    record = json.loads((tmp_path / "actadd_choice.json").read_text())
    (tmp_path / "actadd_choice.json").write_text(json.dumps(record | {"identity": "of another model"}))
    run("essays", "essays")
    assert (tmp_path / "actadd_choice.csv").stat().st_mtime_ns != again


def test_command_line_knows_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["nothing"])
    said = capsys.readouterr().err
    assert all(name in said for name in command.EXPERIMENTS)


def test_public_sets_make_a_table_of_their_own(
    run: Callable[..., pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept table says which sets it read, and that the variable was set."""
    monkeypatch.delenv("STEERLAB_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="no clozes: set STEERLAB_DATA"):
        run("clozes", "clozes")
    triples = tmp_path / "sets" / "conceptnet" / "test.txt"
    triples.parent.mkdir(parents=True)
    triples.write_text("IsA\tdog\tpuppy\t1\nUsedFor\twater\tcup\t1\n")
    monkeypatch.setenv("STEERLAB_DATA", str(tmp_path / "sets"))
    assert set(run("clozes", "clozes")["set"]) == {"conceptnet"}
    record = json.loads((tmp_path / "actadd_clozes.json").read_text())
    assert record["command"].startswith("STEERLAB_DATA=... python -m steerlab.experiments.actadd clozes")
    assert record["data"] == {"conceptnet": data.checksum("conceptnet")} and not record["sampled"]
    triples.write_text("IsA\tcat\tkitten\t1\n")
    assert record["data"] != {"conceptnet": data.checksum("conceptnet")}


def test_command_line_takes_layers(run: Callable[..., pd.DataFrame]) -> None:
    table = run("layer-sweep", "layer_sweep", "--swept", "1", "--layers", "2", "0")
    assert set(table["layer"].dropna()) == {0, 2}
    assert set(run("essay-sweep", "essay_sweep", "--layers", "1")["layer"]) == {1}


def test_a_setting_that_is_given_needs_no_choice(run: Callable[..., pd.DataFrame], tmp_path: Path) -> None:
    asked = ["--layer", "1", "--coefficient", "3", "--positions", "front"]
    assert set(run("essays", "essays", *asked)["where"]) == {"layer 1, c = 3, front"}
    assert not (tmp_path / "actadd_choice.csv").exists()


def test_another_models_folder_and_a_missing_layer_are_refused_in_one_line(
    run: Callable[..., pd.DataFrame], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("essays", "essays", "--layers", "3")
    assert "layer 3 is out of range: " in capsys.readouterr().err
    (tmp_path / "actadd_best.json").write_text(json.dumps({"model": "some/other"}))
    with pytest.raises(SystemExit):
        run("essays", "essays")
    assert "actadd_best.json is of some/other, not of " in capsys.readouterr().err
    assert not (tmp_path / "actadd_essays.csv").exists()


def test_results_of_another_model_are_not_found(
    run: Callable[..., pd.DataFrame], lm: sl.SteerableModel, tiny: Callable[..., sl.SteerableModel], tmp_path: Path
) -> None:
    run("essays", "essays")
    assert results.find("actadd_essays", lm, tmp_path) is not None
    other = tiny(1)
    assert other.name == lm.name  # the weights tell them apart
    assert results.find("actadd_essays", other, tmp_path) is None
    assert results.runs("actadd", other, tmp_path).empty


def test_models_have_folders_of_their_own(lm: sl.SteerableModel) -> None:
    for name, folder in {
        "steerlab/bundled": "bundled",
        "google/gemma-3-270m": "gemma-3-270m",
        "a/B c.gguf": "b-c",
    }.items():
        assert results.short_name(SimpleNamespace(name=name)) == folder  # type: ignore[arg-type]


def test_the_bundled_models_tables_are_found_and_their_commands_known() -> None:
    bundled = sl.load()
    assert results.find("actadd_best", bundled) is not None
    listed = overview.commands(results.FOLDER / "bundled")
    assert len(listed) == listed["command"].nunique()
    assert listed["experiment"].tolist().index("choice") == 0  # the others take their settings from it
    files = {json.loads(path.read_text())["command"] for path in (results.FOLDER / "bundled").glob("*.json")}
    assert set(listed["command"]) == files


# --- the gallery, and runs at any size ---------------------------------------------------------------------------


def test_the_gallery_shows_the_first_completions_of_each_vector(lm: sl.SteerableModel) -> None:
    chosen = ex.VECTORS[:2]
    frame = ex.gallery(lm, chosen, strengths=[1.0, 0.5], n=2, max_new_tokens=4, progress=False)
    assert frame.groupby(["vector", "coefficient"], sort=False).size().to_dict() == {
        (vector.name, c): 2 for vector in chosen for c in (0.0, vector.coefficient, vector.coefficient / 2)
    }
    own, vector = frame[(frame["vector"] == chosen[1].name) & (frame["coefficient"] == 15)], chosen[1]
    steer = sl.actadd(lm, vector.plus, vector.minus, layer=vector.depth(lm), coefficient=15)
    alone = lm.generate(vector.prompt, steer, n=2, max_new_tokens=4, **ex.PAPER_SAMPLING)
    assert own["completion"].tolist() == alone["completion"].tolist()


def test_every_vector_of_the_gallery_is_shorter_than_its_prompt_and_within_the_model(lm: sl.SteerableModel) -> None:
    for vector in ex.VECTORS:
        assert 0 <= vector.depth(lm) < lm.n_layers
        steer = sl.actadd(lm, vector.plus, vector.minus, layer=vector.depth(lm))
        assert ex.front_positions(steer) <= len(lm.tokens(vector.prompt)), vector.name


def test_a_vector_fails_whose_words_come_no_more_often() -> None:
    rows = [
        ("a", 0.0, False),
        ("a", 5.0, True),
        ("b", 0.0, True),
        ("b", 5.0, True),
        ("c", 0.0, False),
        ("c", 1.0, False),
    ]
    assert ex.failures(pd.DataFrame(rows, columns=["vector", "coefficient", "hit"])) == ["b", "c"]


def test_command_line_takes_a_smaller_size(run: Callable[..., pd.DataFrame]) -> None:
    table = run("best", "best", "--settings", "gentle", "--tokens", "3")
    assert set(table["setting"]) == {"gentle"}
    assert set(run("layer-sweep", "layer_sweep", "--swept", "1", "--positions", "pad")["position"]) == {"pad"}
    assert run("topics", "topics", "--topics", "weddings", "winter")["topic"].unique().tolist() == [
        "weddings",
        "winter",
    ]
    essays = run("essays", "essays", "--topics", "ships", "--sentences", "3")
    assert set(essays["topic"]) == {"ships"} and set(essays["sentences"]) == {3}
    assert set(run("reviews", "reviews", "--sentences", "2", "--layers", "1", "--swept", "1")["sentences"]) == {2}
    assert set(run("knowledge", "knowledge", "--n", "2", "--settings", "gentle")["n"]) <= {1, 2}
    assert len(run("overhead", "overhead", "--shapes")) == 1  # the model itself


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("steerlab/bundled", "bundled"),
        ("google/gemma-3-270m", "gemma-3-270m"),
        ("gemma-3-270m-q4_k_m", "gemma-3-270m"),
        ("some/Model-7B.Q8_0.gguf", "model-7b"),
    ],
)
def test_a_model_has_one_folder_however_it_was_quantised(name: str, folder: str) -> None:
    assert results.short_name(SimpleNamespace(name=name)) == folder
