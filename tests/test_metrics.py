"""Metrics against values worked out by hand, and against the formulas of the released experiments."""

import math
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
    share = metrics.share([True] * hits + [False] * (n - hits))
    assert share == pytest.approx((p, centre - half, centre + half, n))


def test_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="share of nothing"):
        metrics.share([])


def test_bootstrap_of_the_mean_is_near_the_normal_interval_and_repeats() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    interval = metrics.bootstrap_interval(values, seed=1)
    half = 1.96 * values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.05)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.05)
    assert interval == metrics.bootstrap_interval(values, seed=1)
    assert interval.low != metrics.bootstrap_interval(values, seed=2).low


def test_paired_bootstrap_resamples_rows_together() -> None:
    a = np.arange(1.0, 30)
    ratio = metrics.bootstrap_interval([2 * a, a], lambda x, y: x.sum() / y.sum(), paired=True)
    assert ratio[:3] == pytest.approx((2, 2, 2))  # the ratio is 2 in every row, so in every resample
    assert ratio.n == 29


def test_bootstrap_of_units_resamples_them_whole() -> None:
    values, units = np.repeat([0.0, 1.0, 5.0], 40), np.repeat(["a", "b", "c"], 40)
    interval = metrics.bootstrap_interval(values, units=units)
    assert interval == metrics.bootstrap_interval([0.0, 1.0, 5.0])  # what a unit says forty times it says once
    assert metrics.bootstrap_interval(values).high < interval.high


def test_a_share_of_three_is_not_certain() -> None:
    for units in (None, ["a", "b", "c"], ["a", "a", "b"]):
        low, high = metrics.share([True] * 3, units)[1:3]
        assert low < 0.6 and high == 1
        low, high = metrics.share([False] * 3, units)[1:3]
        assert low == 0 and high > 0.4


def test_trials_of_the_same_prompt_count_for_less() -> None:
    """Prompts that differ: six that always hit and six that never do are no more than twelve trials."""
    hits, prompts = np.repeat([True, False] * 6, 50), np.repeat(np.arange(12), 50)
    alone, together = metrics.share(hits), metrics.share(hits, prompts)
    p, z, n = 0.5, 2.200985, 11  # Student's quantile on 11 degrees of freedom; variance of twelve means p(1 - p)/11
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert together == pytest.approx((0.5, 0.5 - half, 0.5 + half, 600), rel=1e-5)
    assert alone.high - alone.low < 0.1
    alike = np.tile([True] * 25 + [False] * 25, 12)  # prompts that are alike: as many trials as there are
    assert metrics.share(alike, prompts).low == pytest.approx(metrics.share(alike).low, abs=0.01)


def test_one_prompt_speaks_for_itself() -> None:
    hits = [True, False, True, True]
    assert metrics.share(hits, ["a"] * 4) == metrics.share(hits) == metrics.share(hits, list("abcd"))
    assert metrics.mean([1.0, 2.0, 4.0], ["a"] * 3) == metrics.mean([1.0, 2.0, 4.0])


@pytest.mark.parametrize("units", [6, 20])
def test_intervals_over_prompts_hold_the_truth(units: int) -> None:
    """Beta-binomial completions with a correlation of 0.2 within prompts, 20 of each."""
    rng, covered, naive = np.random.default_rng(0), [], []
    for _ in range(400):
        chances = rng.beta(0.3 * 4, 0.7 * 4, units)
        hits, of = rng.random((units, 20)) < chances[:, None], np.repeat(np.arange(units), 20)
        for interval, kept in ((metrics.share(hits.ravel(), of), covered), (metrics.share(hits.ravel()), naive)):
            kept.append(interval.low <= 0.3 <= interval.high)
    assert np.mean(covered) > 0.92
    assert np.mean(naive) < 0.75


def test_means_take_units_of_unequal_size_together() -> None:
    mean = metrics.mean([1.0, 3.0, 3.0, 8.0], ["a", "b", "b", "c"])
    error = math.sqrt(3 / 2 * ((1 - 3.75) ** 2 + (6 - 7.5) ** 2 + (8 - 3.75) ** 2)) / 4
    assert mean == pytest.approx((3.75, 3.75 - 4.302653 * error, 3.75 + 4.302653 * error, 4), rel=1e-5)


def test_means_say_which_interval_and_over_what() -> None:
    frame = pd.DataFrame({"a": [2, 2, 2, 1], "prompt": list("xxyz"), "hit": [True, False, True, True], "x": 1.5})
    hits, numbers = metrics.means(frame, "hit", ["a"]), metrics.means(frame, "x", ["a"])
    assert hits["a"].tolist() == [2, 1]  # in order of appearance
    assert hits["interval"].tolist() == ["wilson over prompt", "wilson"]
    assert hits[["n", "units"]].to_numpy().tolist() == [[3, 2], [1, 1]]
    assert numbers["interval"].tolist() == ["student over prompt", "student"]
    assert metrics.means(frame, "hit", ["a"], over="seed")["interval"].tolist() == ["wilson", "wilson"]
    empty = frame.assign(a=[2, 2, None, None])
    assert len(metrics.means(empty, "hit", ["a"])) == 1 and len(metrics.means(empty, "hit", ["a"], dropna=False)) == 2


def test_mcnemar_counts_what_has_changed() -> None:
    before, after = [True] * 21 + [False] * 5 + [True] * 50, [False] * 21 + [True] * 5 + [True] * 50
    assert metrics.mcnemar(after, before) == pytest.approx(0.00249, abs=1e-5)  # twice the binomial tail of 5 of 26
    assert metrics.mcnemar(before, after) == metrics.mcnemar(after, before)
    assert metrics.mcnemar([True, False], [True, False]) == 1
    with pytest.raises(ValueError, match="2 values after and 1 before: give the same items"):
        metrics.mcnemar([True, False], [True])


def test_signed_ranks_of_six_by_hand() -> None:
    before = np.arange(6.0)
    assert metrics.signed_rank(before + np.array([1, 2, 3, 4, 5, 6]), before) == pytest.approx(2 / 2**6)
    assert metrics.signed_rank(before + np.array([-1, 2, 3, 4, 5, 6]), before) == pytest.approx(4 / 2**6)
    assert metrics.signed_rank(before, before) == 1


def test_a_gain_is_paired_and_never_certain() -> None:
    after, before = np.array([True] * 30 + [False] * 50), np.array([True] * 20 + [False] * 60)
    gain = metrics.gain(after, before)
    won, lost, n = 11 / 82, 1 / 82, 82  # Bonett and Price: one more pair each way
    half = 1.959964 * math.sqrt((won + lost - (won - lost) ** 2) / n)
    assert gain.value == 0.125 and gain.low == pytest.approx(won - lost - half)
    same = metrics.gain([False] * 80, [False] * 80, np.repeat(range(4), 20))
    assert same.low == -same.high < -0.02
    wide = metrics.gain(np.repeat([True, False, False], 20), [False] * 60, np.repeat([0, 1, 2], 20))
    assert wide.low < 0 < wide.high  # one prompt of three makes the whole gain
    assert metrics.gain([2.0, 3.0, 7.0], [1.0, 1.0, 4.0]) == metrics.mean([1.0, 2.0, 3.0])


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


def test_shifts_drop_the_first_positions_of_each_text_in_both() -> None:
    plain = scores([[-9, -9, -2, -2], [-9, -9, -4]])
    steered = scores([[-1, -1, -1, -2], [-1, -1, -2]])
    shifts = metrics.token_shifts(plain, steered, skip=2)
    assert shifts["position"].tolist() == [3, 4, 3]  # BOS is 0, T_s = 2
    assert shifts["shift"].tolist() == [1, 0, 2]


def test_shifts_of_different_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="different tokens"):
        metrics.token_shifts(scores([[-1, -2]]), scores([[-1]]))


class Judge:
    """A model whose every token has log-probability −(its number in the text)."""

    def logprobs(self, texts: list[str], given: list[str]) -> pd.DataFrame:
        self.given = given
        rows = [(row, -float(i + 1)) for row, text in enumerate(texts) for i, _ in enumerate(text.split())]
        return pd.DataFrame(rows, columns=["row", "logprob"])


def test_disfluency_is_the_perplexity_of_each_completion() -> None:
    judge = Judge()
    disfluency = metrics.disfluency(judge, ["a", "", "a b c"], ["x", "y", "z"])  # type: ignore[arg-type]
    assert disfluency[[0, 2]] == pytest.approx([math.exp(1), math.exp(2)])
    assert math.isnan(disfluency[1])
    assert judge.given == ["x", "z"]


def test_word_scorers_by_hand() -> None:
    score = metrics.word_scorer(["good", "Fine"], ["bad"])
    assert score(["Good, good and fine", "bad!", "goods", "good bad"]) == pytest.approx(
        [3 / math.sqrt(9 + 15), -1 / 4, 0, 0]
    )
    lexicon = {"great": 3.1, "awful": -2.0}
    assert metrics.lexicon_scorer(lexicon)(["a great, awful day"]) == pytest.approx([1.1 / math.sqrt(1.1**2 + 15)])


def test_classifier_scorer_is_the_labels_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipeline:
        model = SimpleNamespace(config=SimpleNamespace(label2id={"neg": 0, "pos": 1}))

        def __call__(self, texts: list[str], batch_size: int) -> list[list[dict[str, object]]]:
            return [[{"label": "pos", "score": len(text) / 10}, {"label": "neg", "score": 0.0}] for text in texts]

    monkeypatch.setattr("transformers.pipeline", lambda *args, **options: Pipeline())
    assert metrics.classifier_scorer("some/model", "pos")(["a", "abc"]) == [0.1, 0.3]
    with pytest.raises(ValueError, match="no label 'joy': choose one of neg, pos"):
        metrics.classifier_scorer("some/model", "joy")
