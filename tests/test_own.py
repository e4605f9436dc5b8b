"""A question of one's own: what is chosen, tested and priced, and the page that says it."""

from pathlib import Path

import pytest

import steerlab as sl
from steerlab.experiments import own

PROMPTS = ["He went to the", "She said that it"]


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load(device="cpu")


def test_every_layer_is_listened_to(lm: sl.SteerableModel) -> None:
    heard = own.listening(lm, " winter", " ", PROMPTS[:1])
    assert heard["layer"].tolist() == list(range(lm.n_layers))
    assert (heard["kl"] >= 0).all() and heard["kl"].max() > 0.01


def test_the_best_setting_comes_first(lm: sl.SteerableModel) -> None:
    settings = own.choose(
        lm, " weddings", " ", PROMPTS, ["he"], layers=[0, 2], strengths=[1, 2], n=1, max_new_tokens=2, seed=0
    )
    assert len(settings) == 4 and settings["share"].is_monotonic_decreasing
    assert set(settings["layer"]) == {0, 2} and (settings["n"] == 2).all()


def test_a_page_has_all_conditions_and_their_price(lm: sl.SteerableModel, tmp_path: Path) -> None:
    steer = sl.actadd(lm, " winter", " ", layer=2)
    samples, tested = own.held_out(lm, steer, PROMPTS, ["the"], prefix=" winter", n=2, max_new_tokens=3)
    assert set(tested["condition"]) == {"zero", "random", "steered", "prompt"}
    assert tested.set_index("condition")["gain"].isna().to_dict()["zero"]
    assert samples.loc[samples["condition"] == "prompt", "prompt"].str.startswith(" winter ").all()
    cost = own.price(lm, 0 * steer, ["The ship sailed at noon.", "They had bread and cheese."])
    assert cost["ratio"] == pytest.approx(1)
    page = own.report("Is it winter?", lm, steer, tested, cost, samples, path=tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == page
    assert page.startswith("# Is it winter?") and "× 1.000" in page
    assert [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")][1:] == [
        f"| {name}" for name in tested["condition"]
    ]
