"""The generators and frames: answers that are right, prompts of one length, and sides that share nothing."""

import random
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pandas as pd
import pytest
from families import steerable

from bundled_model.curriculum import capitals
from bundled_model.curriculum import ioi as curriculum
from steerlab import SteerableModel
from steerlab.data import table
from steerlab.tasks import Task, ccc, from_frame, ioi
from steerlab.tasks.ccc import CONFLICT, PLAIN
from steerlab.tasks.ioi import OPENINGS, ORDERS, TEMPLATES


@pytest.fixture(scope="module")
def lm() -> SteerableModel:
    return steerable("llama")


def lengths(lm: SteerableModel, task: Task) -> set[int]:
    return {len(lm.tokens(prompt)) for frame in (task.train, task.test) for prompt in frame["prompt"]}


def rows(frame: pd.DataFrame) -> Iterator[Any]:
    """Named tuples, whose columns no type knows."""
    return iter(frame.itertuples())


def tasks(lm: SteerableModel) -> dict[str, Task]:
    made = {f"ioi: {t}": ioi(lm, 40, templates=[t]) for t in TEMPLATES}
    made |= {f"ccc: {t}": ccc(lm, 40, templates=[t]) for t in PLAIN}
    return made | {f"conflict: {t}": ccc(lm, 40, templates=[t], conflict=True) for t in CONFLICT}


def test_every_template_has_one_length_and_different_prompts(lm: SteerableModel) -> None:
    for name, task in tasks(lm).items():
        assert len(lengths(lm, task)) == 1, name
        both = pd.concat([task.train, task.test])
        assert (len(task.train), len(task.test)) == (20, 20)
        assert both["prompt"].is_unique
        assert not both["prompt"].str.endswith(" ").any()


def test_answers_are_single_tokens_that_differ(lm: SteerableModel) -> None:
    for task in tasks(lm).values():
        for frame in (task.train, task.test):
            for row in rows(frame):
                assert len(lm.encode(row.correct)) == len(lm.encode(row.wrong)) == 1
                assert row.correct != row.wrong


def test_a_role_for_every_token(lm: SteerableModel) -> None:
    for name, task in tasks(lm).items():
        for row in rows(task.test):
            tokens = lm.tokens(row.prompt)
            assert len(tokens) == len(row.roles)
            said = dict(zip(row.roles, tokens, strict=True))
            assert (row.roles[0], row.roles[-1]) == ("BOS", "end")
            if name.startswith("ioi"):
                assert (said["IO"], said["S"], said["S2"]) == (row.correct, row.wrong, row.wrong)
                assert said["place"] == f" {row.place}"
            elif name.startswith("conflict"):
                assert (said["capital"], said["false"]) == (f" {row.capital}", row.wrong)
                assert said["capital2"] == said["capital"]
            else:
                assert said["capital"] == f" {row.capital}"


def test_the_one_who_acts_is_the_wrong_answer(lm: SteerableModel) -> None:
    task = ioi(lm, 60)
    for row in rows(pd.concat([task.train, task.test])):
        (first, second, actor), *_ = re.findall(r"When (\w+) and (\w+) went to the \w+, (\w+) gave", row.prompt)
        receiver = {"ABBA": first, "BABA": second}[row.order]
        assert (row.correct, row.wrong) == (f" {receiver}", f" {actor}")
        assert {receiver, actor} == {first, second}
    assert task.train["order"].value_counts().tolist() == [15, 15]


def test_the_counterpart_has_the_wrong_answer_for_its_right_one(lm: SteerableModel) -> None:
    capital = table("countries").set_index("country")["capital"]
    for name, task in tasks(lm).items():
        for row in rows(task.test):
            pairs = zip(lm.tokens(row.prompt), lm.tokens(row.counter), row.roles, strict=True)  # of the same length
            changed = {role: new for old, new, role in pairs if new != old}
            if name.startswith("ioi"):
                assert changed == {"S2": row.correct}
            else:
                here = f" {capital[row.wrong.strip()]}"
                both = {"capital": here, "false": row.correct, "capital2": here}
                assert changed == (both if name.startswith("conflict") else {"capital": here})


def test_the_sides_share_no_names_places_objects(lm: SteerableModel) -> None:
    task = ioi(lm, 200)
    for column, file in (("correct", "names"), ("wrong", "names"), ("place", "places"), ("object", "objects")):
        words = table(file)
        key = "name" if file == "names" else column
        for split, frame in (("train", task.train), ("test", task.test)):
            assert set(frame[column].str.strip()) <= set(words.loc[words["split"] == split, key])


def test_capitals_are_true_and_the_sides_share_no_country(lm: SteerableModel) -> None:
    known = table("countries").set_index("capital")["country"]
    for conflict in (False, True):
        task = ccc(lm, 100, conflict=conflict)
        for frame in (task.train, task.test):
            assert (frame["capital"].map(known) == frame["correct"].str.strip()).all()
        used = [set(frame["correct"]) | set(frame["wrong"]) for frame in (task.train, task.test)]
        assert not used[0] & used[1]


def test_a_conflict_names_the_wrong_country_and_a_plain_prompt_does_not(lm: SteerableModel) -> None:
    for row in rows(ccc(lm, 40, conflict=True).test):
        assert row.wrong in row.prompt and row.correct not in row.prompt
    for row in rows(ccc(lm, 40).test):
        assert row.wrong not in row.prompt and row.correct not in row.prompt


def test_a_seed_gives_the_same_task(lm: SteerableModel) -> None:
    for make in (ioi, ccc):
        first, same, other = make(lm, 40, seed=3), make(lm, 40, seed=3), make(lm, 40, seed=4)
        pd.testing.assert_frame_equal(first.train, same.train)
        pd.testing.assert_frame_equal(first.test, same.test)
        assert set(first.train["prompt"]) != set(other.train["prompt"])


def test_other_templates_for_the_test(lm: SteerableModel) -> None:
    task = ioi(lm, 40, templates=TEMPLATES[:2], test_templates=TEMPLATES[2:4], orders=["ABBA"])
    assert set(task.train["template"]) == set(TEMPLATES[:2])
    assert set(task.test["template"]) == set(TEMPLATES[2:4])
    assert set(task.test["order"]) == {"ABBA"}


def test_openings_shift_the_same_sentence(lm: SteerableModel) -> None:
    sets = [lengths(lm, ioi(lm, 8, templates=[opening + TEMPLATES[0]])) for opening in OPENINGS]
    assert all(len(each) == 1 for each in sets)
    assert len(set.union(*sets)) == len(OPENINGS)


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", r"\\w+", re.escape(template.strip())))


def test_the_bundled_model_was_not_trained_on_the_templates() -> None:
    givings = list(islice(curriculum.documents(random.Random(0)), 3000))
    facts = list(islice(capitals.documents(random.Random(0)), 3000))
    for template in TEMPLATES:
        assert not any(_pattern(template).search(text) for text in givings), template
    for template in (*PLAIN[1:], *CONFLICT[1:]):
        assert not any(_pattern(template).search(text) for text in facts), template
    for template in (PLAIN[0], CONFLICT[0]):  # these it was: the search can find something
        assert any(_pattern(template).search(text) for text in facts), template


def frame(**more: Any) -> pd.DataFrame:
    rows = {
        "prompt": ["Rome is in", "Oslo is in", "Cairo is in", "Lima is in"],
        "correct": [" Italy", " Norway", " Egypt", " Peru"],
        "wrong": [" France", " Spain", " China", " Cuba"],
    }
    return pd.DataFrame(rows | more)


def test_anybodys_frame(lm: SteerableModel) -> None:
    task = from_frame(lm, frame(note=[1, 2, 3, 4]), test=0.25, seed=1)
    assert (len(task.train), len(task.test)) == (3, 1)
    assert sorted([*task.train["note"], *task.test["note"]]) == [1, 2, 3, 4]
    split = from_frame(lm, frame(split=["test", "train", "train", "test"]))
    assert split.test["prompt"].tolist() == ["Rome is in", "Lima is in"]
    for seed in range(5):
        by = from_frame(lm, frame(continent=["Europe", "Europe", "Africa", "America"]), by="continent", seed=seed)
        assert not set(by.train["continent"]) & set(by.test["continent"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct": ["Italy", " Norway", " Egypt", " Peru"]}, r"'Italy' is \d tokens of .*, not one; ' Italy' is one"),
        ({"wrong": [" New Zealand", " Spain", " China", " Cuba"]}, r"' New Zealand' is \d tokens of .*, not one$"),
        ({"prompt": ["Rome is in", "Oslo is in", "Rome is in", "Lima is in"]}, "more than once.*'Rome is in'"),
        ({"prompt": ["Rome is in", "", "Cairo is in", "Lima is in"]}, "row 1: prompt is ''"),
        ({"wrong": [" France", None, " China", " Cuba"]}, "row 1: wrong is nan, not a text"),
        ({"wrong": [" France", " Spain", " Egypt", " Cuba"]}, "' Egypt' is both the correct and the wrong answer"),
        ({"split": ["test", "train", "dev", "test"]}, "split 'dev' is unknown: write train or test"),
        ({"split": ["train"] * 4}, "4 rows leave nothing to test"),
    ],
)
def test_a_frame_that_is_no_task(lm: SteerableModel, change: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        from_frame(lm, frame(**change))
    assert "\n" not in str(caught.value)


def test_a_frame_without_a_column_or_rows(lm: SteerableModel) -> None:
    with pytest.raises(ValueError, match="no column 'wrong': it needs prompt, correct, wrong"):
        from_frame(lm, frame().drop(columns="wrong"))
    with pytest.raises(ValueError, match="no rows"):
        from_frame(lm, frame().head(0))
    with pytest.raises(ValueError, match="no column 'colour' to split by"):
        from_frame(lm, frame(), by="colour")


def test_more_prompts_than_there_are(lm: SteerableModel) -> None:
    with pytest.raises(ValueError, match="56 capitals give 56 prompts for one side, not 250"):
        ccc(lm, 500)
    with pytest.raises(ValueError, match=r"no more than \d+ different prompts"):
        ioi(lm, 4000, templates=["{P} and {Q}: {S} wrote to"], orders=["ABBA"])
    with pytest.raises(ValueError, match="n=1 is too few"):
        ioi(lm, 1)
    with pytest.raises(ValueError, match=f"orders=.*choose some of {', '.join(ORDERS)}"):
        ioi(lm, orders=["BAAB"])  # type: ignore[list-item]


def test_a_tokenizer_that_splits_the_words(lm: SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SteerableModel, "encode", lambda self, text: list(text.encode()))
    with pytest.raises(ValueError, match=r"only 0 of \d+ words of the column name are single tokens"):
        ioi(lm)
