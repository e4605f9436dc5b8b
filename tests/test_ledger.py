"""The page of what the papers report beside the kept tables: it is current, and its verdicts are right."""

from pathlib import Path

import pandas as pd
import pytest

from steerlab.experiments import __main__ as overview
from steerlab.experiments import claims, ledger, results
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


def test_a_table_without_the_number_is_none(tmp_path: Path) -> None:
    pd.DataFrame({"condition": ["steered"], "n": [3]}).to_csv(tmp_path / "some_table.csv")
    assert ledger.find(claim(), tmp_path) is None
    with pytest.raises(ValueError, match="0 rows are \"condition == 'steered'\", not one"):
        claim().read(pd.DataFrame({"condition": ["zero"]}))


def test_clozes_are_paired_where_the_table_has_pairs() -> None:
    about = {"setting": "gentle", "k": 100, "n": 100}
    rows = [about | {"condition": "plain", "share": 0.5}, about | {"condition": "steered", "share": 0.4}]
    plain = claims._lost(pd.DataFrame(rows))
    assert plain.value == pytest.approx(-0.1) and plain.n == 100
    paired = claims._lost(pd.DataFrame(rows).assign(won=[float("nan"), 2], lost=[float("nan"), 12]))
    assert paired.value == pytest.approx(-0.1) and paired.high < 0


def test_every_claim_is_read_from_a_table_that_an_experiment_keeps() -> None:
    """Of the bundled model's tables each has what the claims ask for; two of the questionnaire's are yet to be made."""
    named = {own.table for part in claims.CLAIMS.values() for own in part}
    assert {name.split("_")[0] for name in named} <= set(overview.PAPERS)
