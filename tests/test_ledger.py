"""The page of what the papers report beside the kept tables: it is current, and its verdicts are right."""

from pathlib import Path

import pandas as pd
import pytest

import steerlab as sl
from steerlab.experiments import __main__ as overview
from steerlab.experiments import beside, claims, ledger, results
from steerlab.experiments.claims import Claim, Finding


def claim(direction: claims.Direction = "above", reference: float = 0.0, why: str = "") -> Claim:
    read = claims.row("condition == 'steered'")
    return Claim("Figure 1", "share", "0.9", "some_table", read, direction, reference, ".2f", why)


def test_the_page_says_what_the_tables_say() -> None:
    """Written again by `python -m steerlab.experiments --ledger`."""
    assert (results.FOLDER / "README.md").read_text(encoding="utf-8") == ledger.page()


@pytest.mark.parametrize(
    ("finding", "direction", "reference", "said"),
    [
        (Finding(0.6, 0.55, 0.65), "above", 0.5, "yes"),
        (Finding(0.6, 0.45, 0.75), "above", 0.5, "unclear"),
        (Finding(0.4, 0.35, 0.45), "above", 0.5, "opposite"),
        (Finding(0.4, 0.35, 0.45), "below", 0.5, "yes"),
        (Finding(0.6), "below", 0.5, "opposite"),  # without an interval the number itself
        (Finding(0.6), "above", 0.5, "yes"),
        (Finding(1.04, 1.01, 1.07), "near", 1.0, "yes"),
        (Finding(1.06, 0.99, 1.12), "near", 1.0, "no"),
        (Finding(-0.02, -0.04, 0.01), "unchanged", 0.0, "yes"),
        (Finding(-0.02, -0.04, -0.01), "unchanged", 0.0, "no"),
        (Finding(-0.02), "unchanged", 0.0, "unclear"),
        (None, "above", 0.0, "not run"),
    ],
)
def test_a_verdict_is_of_the_interval(
    finding: Finding | None, direction: claims.Direction, reference: float, said: str
) -> None:
    assert ledger.verdict(finding, claim(direction, reference)) == said


def test_a_cell_has_interval_and_n() -> None:
    assert ledger.written(Finding(0.875, 0.85, 0.9, 1200), ".2f") == "0.88 [0.85, 0.90], n = 1,200"
    assert ledger.written(Finding(0.5), ".0%") == "50%"
    assert ledger.written(None, ".0%") == "–"


def test_the_ledger_reads_each_models_table_and_explains_what_disagrees(tmp_path: Path) -> None:
    frame = pd.DataFrame({"condition": ["zero", "steered"], "share": [0.0, 0.9], "low": 0.8, "high": 1.0, "n": 20})
    for model in ledger.MODELS:
        (tmp_path / model).mkdir()
    frame.to_csv(tmp_path / "bundled" / "some_table.csv")
    made = ledger.ledger({"A": [claim(why="it is small"), claim("below", why="it is small")]}, tmp_path)
    assert made["bundled"].tolist() == ["0.90 [0.80, 1.00], n = 20"] * 2
    assert made["bundled sign"].tolist() == ["yes", "opposite"]
    assert made["gemma-3-270m sign"].tolist() == ["not run"] * 2
    frame.to_csv(tmp_path / "gemma-3-270m" / "some_table.csv")
    assert ledger.ledger({"A": [claim(why="it is small")]}, tmp_path)["why"].tolist() == [""]


def test_what_disagrees_has_its_reason() -> None:
    frame = ledger.ledger(claims.CLAIMS)
    signs = frame[[f"{model} sign" for model in ledger.MODELS]]
    assert frame["item"][signs.isin(["no", "opposite", "unclear"]).any(axis=1) & (frame["why"] == "")].tolist() == []


def test_a_box_fills_itself_from_the_tables_that_are_there(tmp_path: Path) -> None:
    frame = pd.DataFrame({"setting": "strongest", "condition": ["zero", "random"], "share": [0.02, 0.04], "n": 50})
    for model in ledger.MODELS:
        (tmp_path / model).mkdir()
    real, bundled = ledger.models("ActAdd").values()
    made = ledger.compare("ActAdd", "B", folder=tmp_path)
    assert made.columns.tolist() == ["figure or table", "measured", "paper", real, bundled]
    assert set(made[real]) == {"not run"}
    frame.to_csv(tmp_path / "gemma-3-270m" / "actadd_best.csv")
    with pytest.raises(ValueError, match="0 rows are"):  # the steered row is missing
        ledger.compare("ActAdd", "B", folder=tmp_path)
    steered = frame.assign(condition="steered", share=0.9).head(1)
    pd.concat([frame, steered]).to_csv(tmp_path / "gemma-3-270m" / "actadd_best.csv")
    made = ledger.compare("ActAdd", "B", folder=tmp_path)
    assert made[real].tolist() == ["90%, n = 50", "2%, n = 50", "4%, n = 50"]
    assert set(made[bundled]) == {"not run"}
    assert "| 90%, n = 50 | not run |" in ledger.box("ActAdd", "B", folder=tmp_path).data


def test_a_box_says_what_the_page_says_in_at_most_25_words_a_cell() -> None:
    page = (results.FOLDER / "README.md").read_text(encoding="utf-8")
    for paper, own in claims.CLAIMS.items():
        made = ledger.compare(paper)
        assert len(made) == len(own)
        for cells in made.itertuples(index=False):
            assert max(len(cell.split()) for cell in cells) <= 25
            line = next(line for line in page.splitlines() if line.startswith(ledger._table(cells[:3])[:-2]))
            assert all(cell.replace("|", "\\|") in line for cell in cells)


def test_answers_to_dilemmas_are_of_the_chat_model() -> None:
    assert list(ledger.models("SARA and the moral compass")) == ["qwen2.5-coder-1.5b-instruct", "bundled"]
    assert list(ledger.models("ActAdd")) == ["gemma-3-270m", "bundled"]


def test_an_unknown_paper_or_item_is_refused_with_those_that_there_are() -> None:
    assert ledger.compare("Activation scaling", "Figure 5", "patching")["figure or table"].nunique() == 2
    with pytest.raises(ValueError, match="no paper 'CAA'; there are: ActAdd"):
        ledger.compare("CAA")
    with pytest.raises(ValueError, match="no item 'Figure 6' of Activation scaling; there are: 3, Figure 2, Figure 3"):
        ledger.compare("Activation scaling", "Figure 6")


def test_kept_tables_of_the_real_model_are_read_without_loading_it(tmp_path: Path) -> None:
    lm, own = sl.load(device="cpu"), pd.DataFrame({"position": ["front", "pad"], "share": [0.1, 0.2]})
    assert list(beside.tables("actadd_trial", lm, own, folder=tmp_path)) == ["bundled"]
    folder = tmp_path / beside.REAL
    folder.mkdir()
    own.assign(share=0.9).to_csv(folder / "actadd_trial.csv")
    (folder / "actadd_trial.json").write_text('{"identity": "another", "command": "make it", "seconds": 3}')
    tables = beside.tables("actadd_trial", lm, own, folder=tmp_path)
    assert list(tables) == ["gemma-3-270m (kept run)", "bundled"]
    assert tables["gemma-3-270m (kept run)"]["share"].tolist() == [0.9, 0.9]
    assert results.find("actadd_trial", lm, folder) is None  # by its weights it is another model's
    assert results.runs("actadd", beside.REAL, folder)["command"].tolist() == ["make it"]
    assert len(beside.tables("actadd_trial", lm, own, "position", tmp_path)) == 4
    titles = [ax for ax, _ in beside.axes(tables)]
    assert [ax.get_title() for ax in titles] == list(tables)


def test_a_table_without_the_number_is_none(tmp_path: Path) -> None:
    pd.DataFrame({"condition": ["steered"], "n": [3]}).to_csv(tmp_path / "some_table.csv")
    assert ledger.find(claim(), tmp_path) is None
    with pytest.raises(ValueError, match="0 rows are \"condition == 'steered'\", not one"):
        claim().read(pd.DataFrame({"condition": ["zero"]}))


def test_clozes_are_paired_with_their_zero() -> None:
    about = {"setting": "gentle", "k": 100, "n": 100}
    rows = [
        about | {"condition": condition, "won": won, "lost": lost}
        for condition, won, lost in (("plain", float("nan"), float("nan")), ("padded", 0, 30), ("steered", 2, 12))
    ]
    lost = claims._lost(pd.DataFrame(rows))
    assert lost.value == pytest.approx(-0.1) and lost.high < 0 and lost.n == 100


def test_every_claim_is_read_from_a_table_that_an_experiment_keeps() -> None:
    """Of the bundled model's tables each has what the claims ask for; two of the questionnaire's are yet to be made."""
    named = {own.table for part in claims.CLAIMS.values() for own in part}
    assert {name.split("_")[0] for name in named} <= set(overview.PAPERS)


def test_a_smaller_run_leaves_out_what_it_has_not_measured() -> None:
    read = claims.where_run("model == 'gpt2-xl'", claims.row("model == 'gpt2-xl'", "premium"))
    assert read(pd.DataFrame({"model": ["gpt2-xl", "own"], "premium": [0.004, 0.1]})).value == 0.004
    assert pd.isna(read(pd.DataFrame({"model": ["own"], "premium": [0.1]})).value)
