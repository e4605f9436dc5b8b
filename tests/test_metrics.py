"""Metrics against values worked out by hand, and against the formulas of the released experiments."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from steerlab import data, metrics

WEDDING = data.topics()["weddings"]


def scores(rows: list[list[float]], first: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"row": row, "position": first + i, "token": f"t{i}", "logprob": value}
            for row, values in enumerate(rows)
            for i, value in enumerate(values)
        ]
    )


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("Wedding! The WEDDING-dress, my bride's groom_and wed.", 5),
        ("weddingcake, bridesmaid, unmarried", 0),
        ("marry\nmarried\tmarry", 3),
    ],
)
def test_topic_words_are_whole_words_in_any_case(text: str, count: int) -> None:
    assert metrics.topic_word_count(text, WEDDING) == count
    assert metrics.has_topic_word(text, WEDDING) == (count > 0)


def test_words_are_given_in_any_case() -> None:
    assert metrics.topic_word_count("a bride", ["Bride"]) == 1


def test_released_word_count_example() -> None:
    dogs = ["dog", "dogs", "puppy", "puppies"]
    assert metrics.topic_word_count("Dogs and puppies are the best!", dogs) == 2
    assert metrics.topic_word_count("Look at that cute dog with a puppy over there.", dogs) == 2


def test_density_follows_the_release() -> None:
    # Four words between white space; "wedding." keeps its full stop and does not count.
    assert metrics.topic_density("The Bride married wedding.", WEDDING) == 2 / 4
    assert metrics.topic_density("", WEDDING) == 0


def test_wedding_words_are_the_papers_nine() -> None:
    assert set(WEDDING) == {
        *("wedding", "weddings", "wed", "marry", "married", "marriage", "bride", "groom", "honeymoon")
    }
    assert len(data.topics()) == 24


def test_wilson_interval_by_its_formula() -> None:
    n, hits, z = 50, 9, 1.959963984540054
    p = hits / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = metrics.share([True] * hits + [False] * (n - hits))
    assert found == pytest.approx((p, centre - half, centre + half, n))


def test_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="share of nothing"):
        metrics.share([])


def test_bootstrap_of_the_mean_is_near_the_normal_interval_and_repeats() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = metrics.bootstrap_interval(values, seed=1)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05)
    assert found == metrics.bootstrap_interval(values, seed=1)
    assert found.low != metrics.bootstrap_interval(values, seed=2).low


def test_paired_bootstrap_resamples_rows_together() -> None:
    a = np.arange(1.0, 30)
    found = metrics.bootstrap_interval([2 * a, a], lambda x, y: x.sum() / y.sum(), paired=True)
    assert found[:3] == pytest.approx((2, 2, 2))  # the ratio is 2 in every row, so in every resample
    assert found.n == 29


def test_kl_and_entropy_by_hand() -> None:
    p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    expected = 0.5 * math.log(2) + 0.25 * 0 - 0.25 * math.log(2)
    assert metrics.kl(p.log(), q.log() + 7).item() == pytest.approx(expected, abs=1e-6)
    assert metrics.kl_terms(p.log(), q.log())[0].tolist() == pytest.approx(
        [0.5 * math.log(2), 0, -0.25 * math.log(2)], abs=1e-6
    )
    assert metrics.entropy(p.log()).item() == pytest.approx(1.5 * math.log(2), abs=1e-6)


def test_kl_of_impossible_tokens() -> None:
    p, q = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.5, 0.5]]).log()
    assert metrics.kl(p, q).item() == pytest.approx(math.log(2))
    assert metrics.kl(q, p).item() == math.inf


def test_rank_counts_strictly_greater_logits() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0]] * 4)
    assert metrics.answer_rank(logits, [1, 2, 3, 0]).tolist() == [0, 0, 2, 3]


def test_p_at_k_and_the_released_grid() -> None:
    assert metrics.KS == (1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 19, 24, 30, 38, 49, 62, 79, 100)
    frame = metrics.p_at_k([0, 0, 2, 3], ks=[1, 2, 3, 4]).set_index("k")
    assert frame["share"].tolist() == [0.5, 0.5, 0.75, 1.0]
    assert frame.loc[3, "low"] == pytest.approx(metrics.share([1, 1, 1, 0]).low)


def test_perplexity_ratio_drops_the_first_positions_of_each_text_in_both() -> None:
    plain = scores([[-9, -9, -2, -2], [-9, -9, -4]])
    steered = scores([[-1, -1, -1, -2], [-1, -1, -2]])
    shifts = metrics.token_shifts(plain, steered, skip=2)
    assert shifts["position"].tolist() == [3, 4, 3]  # BOS is 0, T_s = 2
    assert shifts["shift"].tolist() == [1, 0, 2]
    # Token-weighted: (1 + 0 + 2) / 3 = 1. The mean of document means would be (0.5 + 2) / 2.
    assert metrics.perplexity_ratio(shifts) == pytest.approx(math.exp(-1))


def test_perplexity_ratio_equals_the_released_formula() -> None:
    """The release weighs the difference of a document's mean log-probabilities with the document's length."""
    rng = np.random.default_rng(0)
    lengths, skip = [7, 4, 12], 2
    plain, steered = ([rng.normal(-3, 1, n).tolist() for n in lengths] for _ in range(2))
    means = [(np.mean(s[skip:]) - np.mean(p[skip:])) for p, s in zip(plain, steered, strict=True)]
    weights = [n - skip for n in lengths]
    released = math.exp(-np.dot(means, weights) / sum(weights))
    shifts = metrics.token_shifts(scores(plain), scores(steered), skip=skip)
    assert metrics.perplexity_ratio(shifts) == pytest.approx(released)


def test_shifts_of_different_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="different tokens"):
        metrics.token_shifts(scores([[-1, -2]]), scores([[-1]]))
    with pytest.raises(ValueError, match="no tokens are left"):
        metrics.perplexity_ratio(metrics.token_shifts(scores([[-1]]), scores([[-1]]), skip=2))


class Judge:
    """A model whose every token has log-probability −(its number in the text)."""

    def logprobs(self, texts: list[str], given: list[str]) -> pd.DataFrame:
        self.given = given
        rows = [(row, -float(i + 1)) for row, text in enumerate(texts) for i, _ in enumerate(text.split())]
        return pd.DataFrame(rows, columns=["row", "logprob"])


def test_disfluency_is_the_perplexity_of_each_completion() -> None:
    judge = Judge()
    found = metrics.disfluency(judge, ["a", "", "a b c"], ["x", "y", "z"])  # type: ignore[arg-type]
    assert found[[0, 2]] == pytest.approx([math.exp(1), math.exp(2)])
    assert math.isnan(found[1])
    assert judge.given == ["x", "z"]


def test_word_scorers_by_hand(tmp_path: Path) -> None:
    score = metrics.word_scorer(["good", "Fine"], ["bad"])
    assert score(["Good, good and fine", "bad!", "goods", "good bad"]) == pytest.approx(
        [3 / math.sqrt(9 + 15), -1 / 4, 0, 0]
    )
    file = tmp_path / "lexicon.txt"
    file.write_text("great\t3.1\t0.7\t[3, 3]\nawful\t-2\t0.5\n\n")
    lexicon = metrics.read_lexicon(file)
    assert lexicon == {"great": 3.1, "awful": -2.0}
    assert metrics.lexicon_scorer(lexicon)(["a great, awful day"]) == pytest.approx([1.1 / math.sqrt(1.1**2 + 15)])


def test_classifier_scorer_is_the_labels_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipeline:
        model = SimpleNamespace(config=SimpleNamespace(label2id={"neg": 0, "pos": 1}))

        def __call__(self, texts: list[str], batch_size: int) -> list[list[dict[str, object]]]:
            return [[{"label": "pos", "score": len(text) / 10}, {"label": "neg", "score": 0.0}] for text in texts]

    monkeypatch.setattr(metrics, "pipeline", lambda *args, **options: Pipeline())
    assert metrics.classifier_scorer("some/model", "pos")(["a", "abc"]) == [0.1, 0.3]
    with pytest.raises(ValueError, match="no label 'joy': choose one of neg, pos"):
        metrics.classifier_scorer("some/model", "joy")
