"""The picture of an intervention shows the tokens, layers, places and passes that its edits touch."""

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

import steerlab as sl
from steerlab import diagrams, plots

PROMPT = "He said"  # three tokens, BOS included


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load(device="cpu")


def touched(ax: Axes, colour: str) -> set[tuple[int, float]]:
    """Columns and heights of the bars of a colour."""
    bars = [
        bar for bar in ax.collections if isinstance(bar, PolyCollection) and to_hex(bar.get_facecolor()[0]) == colour
    ]
    corners = [path.vertices.min(axis=0) for bar in bars for path in bar.get_paths()]
    return {(round(x + 0.42), round(float(y), 2)) for x, y in corners}


@pytest.mark.parametrize(
    ("where", "columns"),
    [
        ({"anchor": "front", "start": 1}, {1, 2}),
        ({"anchor": "back"}, {1, 2}),
    ],
)
def test_positions_are_those_of_the_edit(lm: sl.SteerableModel, where: dict, columns: set[int]) -> None:
    edit = sl.Edit(shift=torch.ones(2, lm.d_model), **where)
    ax = diagrams.intervention(lm, sl.Intervention({sl.Site("resid_pre", 2): edit}), PROMPT)
    assert {column for column, _ in touched(ax, plots.PALETTE[0].lower())} == columns
    assert {y for _, y in touched(ax, plots.PALETTE[0].lower())} == {1.6}
    assert f"{2 * lm.d_model:,} numbers at 1 site" in ax.get_legend().get_texts()[0].get_text()
    plt.close("all")


@pytest.mark.parametrize(("when", "columns"), [("prompt", {0, 1, 2}), ("decode", {3, 4}), ("all", {0, 1, 2, 3, 4})])
def test_passes_are_those_of_the_edit(lm: sl.SteerableModel, when: sl.edits.When, columns: set[int]) -> None:
    steer = sl.Intervention({sl.Site("mlp_out", 1): sl.Edit(gain=torch.ones(1, 1), when=when)})
    ax = diagrams.intervention(lm, steer, PROMPT, new_tokens=2)
    assert {column for column, _ in touched(ax, plots.PALETTE[1].lower())} == columns
    plt.close("all")


def test_it_draws_where_it_is_told_and_refuses_what_does_not_fit(lm: sl.SteerableModel) -> None:
    ax = plt.figure().subplots()
    probe = sl.Intervention({sl.Site("resid_post", 0): sl.Edit(probe=torch.ones(1, lm.d_model))})
    assert diagrams.intervention(lm, probe, PROMPT, labels=False, title="a probe", ax=ax) is ax
    assert ax.get_title() == "a probe" and ax.get_legend() is None
    with pytest.raises(ValueError, match="layer"):
        diagrams.intervention(lm, sl.scale(1, layer=lm.n_layers), PROMPT)
    plt.close("all")
