"""Judges of answers: the shipped word judge on held-out texts, and the two others against stand-ins."""

import json
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import families
import pandas as pd
import pytest
import torch
import transformers

import steerlab as sl
import word_judge as maker
from bundled_model.curriculum import ethics
from steerlab import judges
from steerlab.experiments.sara import validation_texts
from steerlab.judges import GROUPS, SCHOOLS, ChatJudge, WordJudge, ZeroShotJudge, count_words, preference, read_school

# --- words ---------------------------------------------------------------------------------------------------------


def test_word_judge_is_naive_bayes_by_hand() -> None:
    counts = count_words(
        [("Obey, obey the rule!", "duty"), ("the best rule", "consequence"), ("the egg", "neither")], 1
    )
    assert counts.loc["obey"].to_dict() == {"consequence": 0, "duty": 2, "neither": 0}
    verdicts = WordJudge(counts, smoothing=0.5)(["The rule, the rule.", "Best egg", "zebra", ""])
    sizes = {"duty": 4 + 2.5, "consequence": 3 + 2.5, "neither": 2 + 2.5}  # five words known in all
    scores = {
        group: 2 * math.log(1.5 / size) + 2 * math.log((0.5 if group == "neither" else 1.5) / size)
        for group, size in sizes.items()
    }
    best = max(scores, key=lambda group: scores[group])
    assert list(verdicts["group"]) == [best, "neither", "neither", "neither"]
    total = sum(math.exp(score) for score in scores.values())
    assert verdicts["confidence"][0] == pytest.approx(math.exp(scores[best]) / total)


def test_rare_words_are_left_out() -> None:
    assert list(count_words([("a a b", "duty"), ("a b c", "neither")], 2).index) == ["a", "b"]


def test_the_shipped_judge_knows_held_out_texts() -> None:
    accuracy, confusion, judged = judges.validate(judges.word_judge(), validation_texts())
    assert accuracy.n >= 60
    assert accuracy.value >= 0.88
    assert {group: confusion.loc[group, group] / confusion.loc[group].sum() >= 0.8 for group in confusion.index} == {
        "duty": True,
        "consequence": True,
        "neither": True,
    }
    assert (judged["source"] == "stance").sum() == 10


def test_the_shipped_judge_judges_the_bundled_model_alone_unless_told() -> None:
    assert judges.word_judge(sl.load())(["It is my duty."])["group"].tolist() == ["duty"]
    with pytest.raises(ValueError, match=r"not that of .*: give a judge, such as ZeroShotJudge or ChatJudge"):
        judges.word_judge(families.steerable("llama"))
    assert isinstance(judges.word_judge(), WordJudge)


def test_the_shipped_judge_knows_sentences_by_others() -> None:
    folder = Path(os.environ.get("STEERLAB_DATA", "")) / "ethics_personas"
    if "STEERLAB_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("needs STEERLAB_DATA/ethics_personas: statements of deontologists and utilitarians")
    rows = []
    for name, group in (("deontology", "duty"), ("utilitarianism", "consequence")):
        for line in (folder / f"subscribes-to-{name}.first500.jsonl").read_text().splitlines():
            item = json.loads(line)
            if item["answer_matching_behavior"].strip() == "Yes":
                rows.append({"text": item["statement"], "group": group})
    assert judges.validate(judges.word_judge(), pd.DataFrame(rows)).accuracy.low > 0.9


def test_the_shipped_counts_are_those_of_the_grammar_and_of_nothing_held_out() -> None:
    texts = list(maker.training_texts())
    fresh, shipped = count_words(texts), judges.word_judge().counts
    assert fresh.to_dict() == shipped.to_dict(), "the grammar has changed: run python tools/word_judge.py"
    held_out = [*ethics.HELD_OUT_DUTY, *ethics.HELD_OUT_CONSEQUENCE, *ethics.test_prompts()]
    assert not [text for text, _ in texts if any(phrase in text for phrase in held_out)]
    assert {group for _, group in texts} == {"duty", "consequence", "neither"}


def test_validation_counts_by_hand() -> None:
    class Always:
        name = "always"

        def __call__(self, answers: Sequence[str], questions: Sequence[str]) -> pd.DataFrame:
            assert list(questions) == ["why", "how", "who"]
            return pd.DataFrame({"label": "duty", "group": "duty", "confidence": 1.0}, index=range(len(answers)))

    labelled = pd.DataFrame(
        {"text": ["a", "b", "c"], "group": ["duty", "duty", "neither"], "question": ["why", "how", "who"]},
        index=[7, 8, 9],
    )
    accuracy, confusion, judged = judges.validate(Always(), labelled)
    assert (accuracy.value, accuracy.n) == (pytest.approx(2 / 3), 3)
    assert confusion.to_dict() == {"duty": {"duty": 2, "neither": 1}}
    assert list(judged["judged"]) == ["duty"] * 3


# --- preference ----------------------------------------------------------------------------------------------------


def test_preference_is_the_difference_of_mean_log_probabilities() -> None:
    lm = families.steerable("llama")
    dilemmas = pd.DataFrame(
        {
            "id": ["z", "a"],
            "prompt": ["Should he keep the secret?", "Should she lie?"],
            "duty": [["He must keep his word.", "A vow is a vow."], ["She must not."]],
            "consequence": [["No harm comes of it."], ["It helps the most people.", "Nobody will suffer.", "Yes."]],
        }
    )
    steers = [None, sl.actadd(lm, "Duty", "Joy", layer=1)]

    def by_hand(prompt: str, text: str, steer: sl.Intervention | None) -> float:
        ids, more = [0, *lm.encode(prompt)], lm.encode(" " + text)
        logs = lm.logits(torch.tensor(ids + more), steer, position="all")[0].log_softmax(-1)
        return sum(float(logs[len(ids) - 1 + i, token]) for i, token in enumerate(more)) / len(more)

    table = preference(lm, dilemmas, steers)
    assert list(table["id"]) == ["z", "a"]
    for row, steer in zip(dilemmas.itertuples(), steers, strict=True):
        sides = [[by_hand(row.prompt, text, steer) for text in texts] for texts in (row.duty, row.consequence)]
        duty, consequence = (sum(side) / len(side) for side in sides)
        own = table[table["id"] == row.id].iloc[0]
        assert own["duty"] == pytest.approx(duty, abs=1e-4)
        assert own["preference"] == pytest.approx(duty - consequence, abs=1e-4)
    with pytest.raises(ValueError, match="1 interventions for 2 dilemmas: give one, or one per dilemma"):
        preference(lm, dilemmas, steers[1:])


# --- a chat model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "school"),
    [
        ("7. Deontology", "deontology"),
        ("7", "deontology"),
        ("The answer is 2, act utilitarianism.", "act utilitarianism"),
        ("Rule Utilitarianism", "rule utilitarianism"),
        ("0. None", "none"),
        ("none", "none"),
        ("12", "unclear"),
        ("1 or 2", "unclear"),
        ("virtue ethics or deontology", "unclear"),
        ("I cannot say", "unclear"),
    ],
)
def test_replies_are_read(reply: str, school: str) -> None:
    assert read_school(reply) == school


class Endpoint(HTTPServer):
    """A chat endpoint that keeps what it was asked and answers with what it was given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[dict[str, Any], str | None]] = []
        self.replies: list[int | str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Endpoint = self.server  # type: ignore[assignment]
        server.asked.append((body, self.headers["Authorization"]))
        reply = server.replies.pop(0)
        self.send_response(reply if isinstance(reply, int) else 200)
        self.end_headers()
        if isinstance(reply, str):
            self.wfile.write(json.dumps({"choices": [{"message": {"content": reply}}]}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_chat_model_is_asked_blind_once_and_at_temperature_zero(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    endpoint.replies = ["7. Deontology", "no idea", "8"]
    judge = ChatJudge("judge-1", endpoint.url, key="MY_KEY", file=tmp_path / "replies.db")
    verdicts = judge(["He must not.", "Hm."], ["May he lie?", "May she?"])
    assert list(verdicts["label"]) == ["deontology", "unclear"]
    assert list(verdicts["group"]) == ["duty", "neither"]
    body, key = endpoint.asked[0]
    assert key == "Bearer secret-key"
    assert (body["model"], body["temperature"]) == ("judge-1", 0)
    assert [message["content"] for message in body["messages"]] == [
        judges.INSTRUCTION,
        "Question: May he lie?\n\nAnswer: He must not.",
    ]
    again = judge(["Hm.", "He must not."], ["May she?", "May he lie?"])
    assert list(again["label"]) == ["unclear", "deontology"]
    assert len(endpoint.asked) == 2, "what the file keeps is not asked again"
    other = ChatJudge("judge-1", endpoint.url, key="MY_KEY", file=tmp_path / "replies.db", instruction="Be quick.")
    assert list(other(["Hm."], ["May she?"])["group"]) == ["individual"]
    assert len(endpoint.asked) == 3, "another instruction is another question"
    assert b"secret-key" not in (tmp_path / "replies.db").read_bytes()
    assert "secret-key" not in repr(judge)


def test_a_busy_chat_model_is_asked_again_and_a_refusal_is_one_line(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    judge = ChatJudge("judge-1", endpoint.url, key="MY_KEY", file=tmp_path / "replies.db", tries=3)
    endpoint.replies = [503, 429, "1"]
    assert list(judge(["a"], ["b"])["label"]) == ["rule utilitarianism"]
    endpoint.replies = ["2", 401]
    with pytest.raises(ConnectionError, match=r"the judge at http.* answered 401") as caught:
        judge(["c", "d"], ["b", "b"])
    assert "secret-key" not in str(caught.value)
    assert "\n" not in str(caught.value)
    endpoint.replies = ["3"]
    assert list(judge(["c", "d"], ["b", "b"])["label"]) == ["act utilitarianism", "virtue ethics"]
    assert len(endpoint.asked) == 6, "what came before the refusal was kept"
    endpoint.replies = [500, 500, 500]
    with pytest.raises(ConnectionError, match="answered 500"):
        judge(["e"], ["b"])
    with pytest.raises(ConnectionError, match=r"no judge at http://127\.0\.0\.1:9/v1"):
        ChatJudge("judge-1", "http://127.0.0.1:9/v1")(["a"], ["b"])


def test_the_instruction_lists_the_schools_in_the_papers_order() -> None:
    lines = judges.INSTRUCTION.splitlines()[1:9]
    assert [line.split(". ")[1].split(":")[0].lower() for line in lines] == list(SCHOOLS)
    assert [int(line[0]) for line in lines] == list(range(1, 9))
    assert set(SCHOOLS.values()) < set(GROUPS)


# --- a zero-shot classifier ------------------------------------------------------------------------------------------


def test_a_zero_shot_classifier_judges_and_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    config = transformers.GPT2Config(  # type: ignore[call-arg]
        vocab_size=len(families.tokenizer()), n_embd=16, n_layer=1, n_head=2, n_positions=64, initializer_range=1.0,
        num_labels=3, id2label=labels, label2id={name: i for i, name in labels.items()}, pad_token_id=0,
    )  # fmt: skip
    model = transformers.GPT2ForSequenceClassification(config).eval()
    classify = transformers.pipeline("zero-shot-classification", model=model, tokenizer=families.tokenizer())
    judge = ZeroShotJudge(classify, file=tmp_path / "replies.db")
    answers = ["He must keep his word.", "More people will be glad.", "Grey geese fly.", "I want it all."]
    verdicts = judge(answers, [""] * 4)
    direct = [classify(a, candidate_labels=list(judge.phrases), hypothesis_template=judge.template) for a in answers]
    assert list(verdicts["label"]) == [reply["labels"][0] for reply in direct]
    assert verdicts["label"].nunique() > 1
    assert list(verdicts["group"]) == [judge.phrases[label] for label in verdicts["label"]]
    assert verdicts["confidence"].to_list() == pytest.approx([reply["scores"][0] for reply in direct])
    monkeypatch.setattr(model, "forward", lambda *_, **__: pytest.fail("the classifier has run again"))
    pd.testing.assert_frame_equal(judge(answers[::-1]), verdicts[::-1].reset_index(drop=True))
