"""Which moral theory does an answer lean on? Four judges behind one protocol, and a preference that needs none.

A judge sees a question and an answer, never how the answer came about. The offline one is a word count that ships with
the package; the others need a model of yours: a chat model that is loaded already, a classifier, or an endpoint. The
last two keep their replies on disk, and so cost nothing when run again.
"""

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Pipeline, pipeline

from . import data
from .intervention import Steer
from .kept import compute_missing, digest
from .metrics import Estimate, share
from .model import SteerableModel

GROUPS: tuple[str, ...] = ("duty", "consequence", "individual", "neither")
"""What schools are pooled into. The paper's names: a-priori, utilitarianism, individualism; the fourth is ours."""

SCHOOLS: Mapping[str, str] = MappingProxyType(
    {
        "rule utilitarianism": "consequence",
        "act utilitarianism": "consequence",
        "virtue ethics": "duty",
        "theory of rights": "duty",
        "prima facie duties": "duty",
        "ethical altruism": "individual",
        "deontology": "duty",
        "ethical egoism": "individual",
    }
)
"""The paper's eight schools in its order, and the group that the released code puts each into."""

INSTRUCTION = """You read an answer to a moral question and name the theory of ethics that it leans on most:
1. Rule utilitarianism: follow the rules that would do the most good if all followed them.
2. Act utilitarianism: do whatever has the best results in this very case.
3. Virtue ethics: act as a person of good character would.
4. Theory of rights: respect what others have a right to.
5. Prima facie duties: weigh several duties, each of which may give way to another.
6. Ethical altruism: serve others at one's own cost.
7. Deontology: follow the moral law, whatever the results.
8. Ethical egoism: serve one's own interest.
0. None: the answer takes no side, or makes no sense.
Judge the answer and not the question. Reply with the number and the name of one line, and with nothing else."""
"""The eight-school task in our words; a way out for answers without a stand is added to the paper's eight."""

SCHOOL_LABELS: Mapping[str, str] = MappingProxyType({"none": "neither", **SCHOOLS})
"""What the numbers of the instruction stand for, from 0 on, and the group of each."""

WORD = re.compile(r"[a-z']+")

BUNDLED_NAME = "steerlab/bundled"
"""What the bundled model is called."""


class Judge(Protocol):
    """What sorts answers."""

    @property
    def name(self) -> str:
        """As it stands in frames."""

    def __call__(self, answers: Sequence[str], questions: Sequence[str]) -> pd.DataFrame:
        """One row per answer: `label` (as fine as the judge sees), `group` (of `GROUPS`), `confidence` (0 to 1)."""


@dataclass(frozen=True, eq=False)
class WordJudge:
    """Multinomial naive Bayes over words: argmax of Σ_w n_w · log((c_wg + s) / Σ_w (c_wg + s)) over groups g.

    Knows the bundled model's own duty and consequence language, so its labels hold for the bundled model. An answer
    without a known word is "neither". The confidence counts every word as independent evidence, and so is too high.

    Args:
        counts: how often each word (index) was read in texts of each group (columns).
        smoothing: s.
        name: as it stands in frames.
    """

    counts: pd.DataFrame
    smoothing: float = 1.0
    name: str = "words"

    @cached_property
    def weights(self) -> pd.DataFrame:
        """Log-probability of each word in each group; "neither" first, so that it wins a tie."""
        smoothed = self.counts[sorted(self.counts.columns, key=lambda group: group != "neither")] + self.smoothing
        return (smoothed / smoothed.sum()).apply(np.log)

    @cached_property
    def _table(self) -> dict[str, Float[np.ndarray, " group"]]:
        return dict(zip(self.weights.index, self.weights.to_numpy(), strict=True))

    def __call__(self, answers: Sequence[str], questions: Sequence[str] = ()) -> pd.DataFrame:
        """Judge by the words of the answer alone."""
        groups = list(self.weights.columns)
        rows = []
        for answer in answers:
            known = [self._table[word] for word in WORD.findall(answer.lower()) if word in self._table]
            scores = np.sum(known, axis=0) if known else np.zeros(len(groups))
            shares = np.exp(scores - scores.max())
            best = int(scores.argmax())
            rows.append((groups[best], groups[best], float(shares[best] / shares.sum())))
        return pd.DataFrame(rows, columns=["label", "group", "confidence"])


def count_words(texts: Iterable[tuple[str, str]], least: int = 5) -> pd.DataFrame:
    """The counts that a `WordJudge` needs, words by groups, from pairs of text and group; rarer words are left out."""
    pairs = pd.DataFrame([(word, group) for text, group in texts for word in WORD.findall(text.lower())])
    counts = pd.crosstab(pairs[0], pairs[1]).rename_axis(index="word", columns=None)
    return counts[counts.sum(axis=1) >= least]


def word_judge(lm: SteerableModel | None = None) -> WordJudge:
    """The offline judge that ships with the package, made by `tools/word_judge.py` from the training grammar.

    It reads the bundled model's language alone: answers of another model it sorts with confidence, and wrongly.

    Args:
        lm: the model whose answers it is to judge. Nothing, for texts of your own, or to judge another model's answers
            all the same.

    Raises:
        ValueError: that is not the bundled model.
    """
    if lm is not None and lm.name != BUNDLED_NAME:
        raise ValueError(
            f"the word judge reads the bundled model's language alone, not that of {lm.name}: give a judge, such as "
            "ZeroShotJudge or ChatJudge; or word_judge() to use it all the same"
        )
    return WordJudge(data.table("stance_words").set_index("word"))


class Validation(NamedTuple):
    """How well a judge does on labelled texts."""

    accuracy: Estimate
    confusion: pd.DataFrame
    judged: pd.DataFrame


def validate(judge: Judge, labelled: pd.DataFrame) -> Validation:
    """A judge against labelled texts: `text` and `group`, and `question` where the judge reads it.

    Returns:
        The accuracy with its Wilson interval, the confusion matrix (true groups down, judged groups across), and the
        texts with the judge's columns.
    """
    questions = labelled["question"] if "question" in labelled else [""] * len(labelled)
    verdicts = judge(list(labelled["text"]), list(questions)).rename(columns={"group": "judged"})
    judged = pd.concat([labelled.reset_index(drop=True), verdicts], axis=1)
    confusion = pd.crosstab(judged["group"], judged["judged"])
    return Validation(share(judged["group"] == judged["judged"]), confusion, judged)


def preference(lm: SteerableModel, dilemmas: pd.DataFrame, steer: Steer = None) -> pd.DataFrame:
    """How much more likely a model finds the arguments from duty than those from consequences: no judge is needed.

    preference = mean over the duty arguments of log P(argument | dilemma) / tokens, less the same for consequences.

    `dilemmas` have `id`, `prompt`, and `duty` and `consequence`, lists of arguments; `steer` may be one for each.

    Returns:
        One row per dilemma: `id`, `duty` and `consequence` (nats per token), and `preference`, their difference.

    Raises:
        ValueError: the interventions are not as many as the dilemmas, or what `lm.logprobs` refuses.
    """
    steers = list(steer) if isinstance(steer, Sequence) else [steer] * len(dilemmas)
    if len(steers) != len(dilemmas):
        raise ValueError(f"{len(steers)} interventions for {len(dilemmas)} dilemmas: give one, or one per dilemma")
    rows = [
        {"id": dilemma.id, "group": group, "prompt": dilemma.prompt, "text": " " + text, "steer": edit}
        for dilemma, edit in zip(dilemmas.itertuples(), steers, strict=True)
        for group in ("duty", "consequence")
        for text in getattr(dilemma, group)
    ]
    texts, prompts, edits = ([row[column] for row in rows] for column in ("text", "prompt", "steer"))
    scores = lm.logprobs(texts, edits, given=prompts, batch_size=32)
    scored = pd.DataFrame(rows)[["id", "group"]].assign(logprob=scores.groupby("row")["logprob"].mean())
    table = scored.pivot_table(index="id", columns="group", values="logprob", sort=False).reset_index()
    table = table.rename_axis(columns=None)[["id", "duty", "consequence"]]
    return table.assign(preference=table["duty"] - table["consequence"])


# --- judges that need a model of yours -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ModelJudge:
    """A chat model that is loaded already, unsteered: no text is sampled or parsed, and no endpoint is needed.

    label = argmax_s log P(number of s | instruction, question, answer) − log P(number of s | instruction, question, "")

    The second term is what the model would reply to an empty answer: it takes out the model's liking for a number
    (contextual calibration, Zhao et al., arXiv 2102.09690). The confidence is the softmax of these differences.

    Args:
        lm: a model with a chat template, such as the one whose answers are judged.
        instruction: to the model, with numbers to choose among.
        labels: what the numbers stand for, from 0 on, and the group of each.
        batch_size: answers that are read at a time.
    """

    lm: SteerableModel
    instruction: str = INSTRUCTION
    labels: Mapping[str, str] = field(default_factory=lambda: SCHOOL_LABELS)
    batch_size: int = 8

    @property
    def name(self) -> str:
        """The model's name."""
        return self.lm.name

    def __call__(self, answers: Sequence[str], questions: Sequence[str]) -> pd.DataFrame:
        """Judge each answer with its question."""
        rows = {question: row for row, question in enumerate(dict.fromkeys(questions))}
        bias = self._logprobs([""] * len(rows), list(rows))
        scores = self._logprobs(answers, questions) - bias[[rows[question] for question in questions]]
        names = list(self.labels)
        labels = [names[i] for i in scores.argmax(-1).tolist()]
        confidence = scores.softmax(-1).amax(-1).tolist()
        groups = [self.labels[label] for label in labels]
        return pd.DataFrame({"label": labels, "group": groups, "confidence": confidence})

    def _logprobs(self, answers: Sequence[str], questions: Sequence[str]) -> Float[Tensor, "answer number"]:
        """Log-probabilities of the numbers as the reply's first token."""
        rules = {"role": "system", "content": self.instruction}
        chats = [
            [rules, {"role": "user", "content": f"Question: {question}\n\nAnswer: {answer}"}]
            for answer, question in zip(answers, questions, strict=True)
        ]
        numbers = [self.lm.encode(str(number))[0] for number in range(len(self.labels))]
        batches = [chats[start : start + self.batch_size] for start in range(0, len(chats), self.batch_size)]
        return torch.cat([self.lm.logits(batch).float().log_softmax(-1)[:, numbers].cpu() for batch in batches])


@dataclass(frozen=True, eq=False)
class ZeroShotJudge:
    """Any Hugging Face zero-shot classifier, such as one trained on natural language inference.

    Args:
        model: a folder, a Hub name, or a ready pipeline.
        phrases: what the classifier chooses among, and the group that each stands for.
        template: the sentence that a phrase is put into.
        file: keeps the replies.
    """

    model: str | Pipeline
    phrases: Mapping[str, str] = field(
        default_factory=lambda: {
            "moral duty, rights or rules": "duty",
            "the best outcome for everyone": "consequence",
            "the interest of one person": "individual",
            "no moral stand at all": "neither",
        }
    )
    template: str = "This answer argues from {}."
    file: str | Path | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model if isinstance(self.model, str) else str(self.model.model.config._name_or_path)

    @cached_property
    def _classify(self) -> Pipeline:
        return pipeline("zero-shot-classification", model=self.model) if isinstance(self.model, str) else self.model

    def __call__(self, answers: Sequence[str], questions: Sequence[str] = ()) -> pd.DataFrame:
        """Judge by the answer alone."""
        phrases = list(self.phrases)

        def ask(answer: str) -> str:
            reply = self._classify(answer, candidate_labels=phrases, hypothesis_template=self.template)
            return json.dumps([reply["labels"][0], reply["scores"][0]])

        asked = {"judge": self.name, "phrases": phrases, "template": self.template}
        requests = [asked | {"answer": answer} for answer in answers]
        replies = [json.loads(reply) for reply in _kept(self.file, requests, lambda request: ask(request["answer"]))]
        rows = [(label, self.phrases[label], score) for label, score in replies]
        return pd.DataFrame(rows, columns=["label", "group", "confidence"])


@dataclass(frozen=True, eq=False)
class ChatJudge:
    """Any endpoint that speaks OpenAI's chat completions: asked at temperature 0, for one answer at a time.

    The key is read from the environment when it is needed; it is neither shown nor kept.

    Args:
        model: as the endpoint calls it.
        url: of the API, to which `/chat/completions` is added; a local server will do.
        key: name of the environment variable that holds the key, if one is needed.
        instruction: to the model.
        file: keeps the replies.
        seconds: to wait for a reply.
        tries: of a request that the server was too busy for.
    """

    model: str
    url: str = "https://api.openai.com/v1"
    key: str = "OPENAI_API_KEY"
    instruction: str = INSTRUCTION
    file: str | Path | None = None
    seconds: float = 60
    tries: int = 4

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    def __call__(self, answers: Sequence[str], questions: Sequence[str]) -> pd.DataFrame:
        """Judge each answer with its question; a reply that names no school is "unclear", and counts as neither."""
        asked, rules = {"model": self.model, "temperature": 0}, {"role": "system", "content": self.instruction}
        requests: list[dict[str, Any]] = [
            asked | {"messages": [rules, {"role": "user", "content": f"Question: {question}\n\nAnswer: {answer}"}]}
            for answer, question in zip(answers, questions, strict=True)
        ]
        labels = [read_school(reply) for reply in _kept(self.file, requests, self._ask, salt=self.url)]
        groups = [SCHOOL_LABELS.get(label, "neither") for label in labels]
        return pd.DataFrame({"label": labels, "group": groups, "confidence": 1.0})

    def _ask(self, request: dict[str, Any]) -> str:
        """One request; waits and asks again where the server is busy."""
        for attempt in range(self.tries):
            try:
                return self._post(request)
            except urllib.error.HTTPError as error:
                if attempt + 1 == self.tries or (error.code != 429 and error.code < 500):
                    raise ConnectionError(f"the judge at {self.url} answered {error.code} {error.reason}") from None
                time.sleep(min(2**attempt, self.seconds))
            except urllib.error.URLError as error:
                raise ConnectionError(f"no judge at {self.url}: {error.reason}") from None
        raise ValueError(f"tries={self.tries} is out of range: 1 at least")

    def _post(self, request: dict[str, Any]) -> str:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key):
            headers["Authorization"] = f"Bearer {key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        post = urllib.request.Request(address, json.dumps(request).encode(), headers)
        with urllib.request.urlopen(post, timeout=self.seconds) as response:
            return str(json.load(response)["choices"][0]["message"]["content"])


def read_school(reply: str) -> str:
    """The school that a reply names by number or by name: one of `SCHOOLS`, "none", or "unclear"."""
    names = ["none", *SCHOOLS]
    numbers = {int(number) for number in re.findall(r"\b\d+\b", reply)}
    if len(numbers) == 1 and (number := numbers.pop()) < len(names):
        return names[number]
    said = [name for name in names if re.search(rf"\b{name}\b", reply.lower())]
    return said[0] if len(said) == 1 else "unclear"


def _kept(
    file: str | Path | None, requests: Sequence[dict[str, Any]], ask: Callable[[dict[str, Any]], str], salt: str = ""
) -> list[str]:
    """Replies to requests: those that the file keeps, and the others asked for now and kept at once."""
    keys = [digest([salt, request]) for request in requests]
    replies = compute_missing(
        keys, [range(len(keys))], 1, lambda chunks: [ask(requests[i]) for chunk in chunks for i in chunk], file
    )
    return [replies[key] for key in keys]
