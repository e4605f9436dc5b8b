"""Dilemmas put to a chat model: what it reads, what the judge sees, doses by KL, and tables counted by hand."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from families import fresh
from test_prompts import TEMPLATE, own_tokenizer

import steerlab as sl
from steerlab.experiments import foundations
from steerlab.experiments import sara as study
from steerlab.experiments.sara.study import at_kl, at_size, under, unit_steers
from steerlab.judges import GROUPS, SCHOOL_LABELS, ModelJudge
from steerlab.strength import mean_kl

TEXTS = ["Should the clerk keep the secret of his friend?", "May a girl lie to the men at the gate?"]
DILEMMAS = pd.DataFrame({"id": ["clerk", "girl"], "prompt": TEXTS})


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load(fresh("llama"), tokenizer=own_tokenizer(chat_template=TEMPLATE))


class Seen:
    """A judge that keeps what it is shown."""

    name = "seen"

    def __init__(self) -> None:
        self.questions: list[str] = []

    def __call__(self, answers: Sequence[str], questions: Sequence[str]) -> pd.DataFrame:
        self.questions += questions
        return pd.DataFrame({"label": "duty", "group": "duty", "confidence": 1.0}, index=range(len(answers)))


def test_a_chat_model_reads_the_chat_and_its_judge_the_text(lm: sl.SteerableModel) -> None:
    chats, judge = study.as_chats(DILEMMAS, "They should"), Seen()
    assert lm.text(chats["prompt"][1]) == f"<|endoftext|><user>{TEXTS[1]}<assistant>They should"
    options = {"layers": [1], "repeats": 2, "methods": ("actadd",), "max_new_tokens": 3, "progress": False}
    frame = study.dilemma_study(lm, chats, judge, **options)
    assert set(judge.questions) == set(frame["prompt"]) == set(TEXTS)
    expected = lm.generate(list(chats["prompt"]), n=2, seed=1, max_new_tokens=3, temperature=0.8, top_p=0.3)
    unsteered = frame[frame["method"] == "unsteered"].sort_values(["id", "sample"])
    assert unsteered["completion"].tolist() == expected["completion"].tolist()


def test_a_heading_stands_in_the_users_first_turn() -> None:
    chat = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    assert under("Duty first. ", "Hi") == "Duty first. Hi"
    assert under("Duty first. ", chat) == [chat[0], {"role": "user", "content": "Duty first. Hi"}]


@pytest.mark.parametrize("method", ["sara", "actadd"])
def test_every_dilemma_is_moved_by_the_same_kl(lm: sl.SteerableModel, method: study.Method) -> None:
    made = unit_steers(lm, TEXTS, "Do your duty.", "Joy for all.", [0, 2], (method,), "anchored", "all", 0)[method]
    target = 0.5 * max(mean_kl(lm, made[0][2], [8.0], TEXTS[:1])[0], 1e-4)  # within what a random model can be moved by
    for prompt, by_layer in zip(TEXTS, at_kl(lm, TEXTS, made, target), strict=True):
        assert list(by_layer) == [0, 2]
        assert mean_kl(lm, by_layer[2], [1.0], [prompt])[0] == pytest.approx(target, rel=0.35)
    [most, _] = at_kl(lm, TEXTS, made, 1e6)  # out of reach: as far as it goes
    values = [mean_kl(lm, made[0][2], [strength], TEXTS[:1])[0] for strength in (0.25, 64.0)]
    assert mean_kl(lm, most[2], [1.0], TEXTS[:1])[0] >= max(values) * 0.999


def test_gains_are_as_large_as_the_released_ones(lm: sl.SteerableModel) -> None:
    pair = ("Do your duty.", "Joy for all.")
    made = unit_steers(lm, TEXTS, *pair, [0, 2], ("shuffled",), "anchored", "all", 0)["shuffled"]
    for prompt, steers, by_layer in zip(TEXTS, made, at_size(lm, TEXTS, made, *pair), strict=True):
        for layer, site in ((0, sl.Site("resid_pre", 0)), (2, sl.Site("resid_pre", 2))):
            own, near, far = (lm.activations(text, site).row(0, site) for text in (prompt, *pair))
            wanted = sl.sara_gain(own, near, far, variant="released").square().mean().sqrt()
            [(_, edit)], [(_, before)] = by_layer[layer].edits, steers[layer].edits
            gain, unscaled = edit.tensors["gain"], before.tensors["gain"]
            assert float(gain.square().mean().sqrt()) == pytest.approx(float(wanted), rel=1e-4)
            assert float(torch.cosine_similarity(gain, unscaled)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("wrong", [{"variant": "released"}, {"methods": ("sara", "actadd")}])
def test_the_size_of_a_gain_is_of_anchored_sara(lm: sl.SteerableModel, wrong: dict[str, object]) -> None:
    options: dict[str, object] = {"methods": ("sara",), "dose": "released", **wrong}
    with pytest.raises(ValueError, match="leave ActAdd out"):
        study.dilemma_study(lm, DILEMMAS, Seen(), **options)  # type: ignore[arg-type]


def test_consistency_and_agreement_by_hand() -> None:
    labels = ["deontology", "deontology", "none", "none", "none", "none"]
    frame = pd.DataFrame(
        {"id": ["a"] * 3 + ["b"] * 3, "label": labels, "method": "unsteered", "direction": "unsteered"}
    )
    table = study.consistency(frame, n=3)
    assert table["value"].tolist() == [(1 / 2 + 1) / 2]
    assert table["n"].tolist() == [2]
    assert study.consistency(frame, n=2)["value"].tolist() == [1.0]  # the third answer is not looked at
    both = frame.assign(group=["duty"] * 2 + ["neither"] * 4, second=["duty", "neither"] * 3)
    rows = study.agreement(both).set_index("method")
    assert rows.loc["all", "value"] == pytest.approx(3 / 6)
    assert rows.loc["unsteered", "n"] == 6


def test_the_model_judge_takes_out_its_liking_for_a_number(lm: sl.SteerableModel) -> None:
    judge = ModelJudge(lm, "Name a number from 0 to 8.", batch_size=2)
    answers = ["He must.", "It helps.", ""]
    verdicts = judge(answers, [TEXTS[0]] * 3)
    numbers = [lm.encode(str(number))[0] for number in range(9)]
    chats = [
        [
            {"role": "system", "content": judge.instruction},
            {"role": "user", "content": f"Question: {TEXTS[0]}\n\nAnswer: {answer}"},
        ]
        for answer in answers
    ]
    scores = torch.stack([lm.logits([chat])[0].log_softmax(-1)[numbers] for chat in chats])
    names = list(SCHOOL_LABELS)
    expected = [names[i] for i in (scores - scores[2]).argmax(-1).tolist()]
    assert verdicts["label"].tolist()[:2] == expected[:2]
    assert [SCHOOL_LABELS[label] for label in verdicts["label"]] == verdicts["group"].tolist()
    assert set(verdicts["group"]) <= set(GROUPS)
    assert verdicts["confidence"][2] == pytest.approx(1 / 9, abs=1e-3)  # the empty answer says nothing


def test_statements_of_personas_come_from_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="deontology"):
        study.persona_statements(tmp_path)
    for persona in ("deontology", "utilitarianism"):
        rows = [
            {"statement": f"{persona} {i}", "answer_matching_behavior": yes} for i, yes in enumerate((" Yes", " No"))
        ]
        text = "\n".join(map(json.dumps, rows))
        (tmp_path / f"subscribes-to-{persona}.first2.jsonl").write_text(text, encoding="utf-8")
    frame = study.persona_statements(tmp_path)
    assert frame.to_numpy().tolist() == [["deontology 0", "duty"], ["utilitarianism 0", "consequence"]]


def test_a_questionnaire_is_put_as_a_chat(lm: sl.SteerableModel) -> None:
    items = foundations.load_items(own=True).head(2)
    frames = {"relevance": ["Rate it: {item}"], "agreement": ["Rate it: {item}"]}
    asked = foundations.answer(lm, items, frames=frames, chat=True)
    chats = [[{"role": "user", "content": f"Rate it: {text}"}] for text in items["text"]]
    p = lm.logits(chats).softmax(-1)[:, [lm.encode(str(number))[0] for number in range(6)]]
    assert asked["mass"].tolist() == pytest.approx(p.sum(1).tolist(), rel=1e-4)
    scores = (p * torch.arange(6)).sum(1) / p.sum(1)
    assert asked["score"].tolist() == pytest.approx(scores.tolist(), rel=1e-4)


def test_the_seven_published_profiles() -> None:
    every = foundations.published()
    assert every.groupby("model").size().tolist() == [5] * 7
    assert foundations.published("Gemma-2B").set_index("foundation")["score"]["harm"] == 4.74
