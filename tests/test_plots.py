"""Plots show the numbers they are given; HTML is escaped; nothing global changes."""

import re

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab import plots


@pytest.fixture(autouse=True)
def _close() -> object:
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before, "a plot changed matplotlib's settings"


def shares() -> pd.DataFrame:
    rows = [("steered", layer, c, 0.1 * layer + 0.05 * c) for c in (1.0, 2.0) for layer in range(3)]
    rows += [("random", layer, c, 0.02 * layer * c) for c in (1.0, 2.0) for layer in range(3)]
    rows += [("zero", np.nan, np.nan, 0.01), ("prompt", np.nan, np.nan, 0.4)]
    frame = pd.DataFrame(rows, columns=["condition", "layer", "coefficient", "share"])
    return frame.assign(low=frame["share"] - 0.01, high=frame["share"] + 0.01)


def test_shares_by_layer_has_a_line_per_strength_and_dashed_controls() -> None:
    lines = {line.get_label(): line for line in plots.shares_by_layer(shares()).get_lines()}
    assert set(lines) == {"steered, c = 1", "steered, c = 2", "random, mean over c", "zero", "prompt"}
    assert lines["steered, c = 2"].get_ydata() == pytest.approx([0.1, 0.2, 0.3])
    assert lines["random, mean over c"].get_ydata() == pytest.approx([0, 0.03, 0.06])
    assert set(lines["zero"].get_ydata()) == {0.01}
    solid = {name for name, line in lines.items() if line.get_linestyle() == "-"}
    assert solid == {"steered, c = 1", "steered, c = 2"}
    colours = {lines[name].get_color() for name in solid}
    assert len(colours) == 2 and colours <= set(plots.PALETTE)


def test_shares_by_layer_draws_the_intervals() -> None:
    ax = plots.shares_by_layer(shares())
    low = min(path.vertices[:, 1].min() for band in ax.collections for path in band.get_paths())
    assert low == pytest.approx(-0.01)  # of the random vectors at layer 0
    assert len(ax.collections) == 3  # two strengths and the random control; zero and prompt are spans
    assert len(ax.patches) == 2


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"no column 'share'"):
        plots.shares_by_layer(shares().drop(columns="share"))


def test_given_axes_are_drawn_on() -> None:
    _, ax = plt.subplots()
    assert plots.shares_by_layer(shares(), ax=ax) is ax
    assert plots.lines(shares().query("condition == 'zero'"), "layer", "share", ax=ax) is ax


def test_next_token_bars_of_a_model_are_its_probabilities() -> None:
    lm = sl.load()
    prompt, site = "I went up to", sl.Site("resid_post", lm.n_layers - 1)
    push = sl.Intervention({site: sl.Edit(shift=torch.randn(1, lm.d_model, generator=torch.manual_seed(0)))})
    logits = {"before": lm.logits(prompt)[0], "after": lm.logits(prompt, push)[0]}
    table, (before, after) = plots.token_table(lm, logits, k=6), (each.softmax(-1) for each in logits.values())
    change = table["after"] - table["before"]
    assert change.abs().max() == pytest.approx((after - before).abs().max().item(), rel=1e-3)
    assert change.is_monotonic_decreasing
    alone = plots.token_table(lm, {"before": logits["before"]}, k=6)
    assert alone["before"].tolist() == pytest.approx(before.topk(6).values.tolist(), rel=1e-4)
    ax = plots.next_token_bars(lm, prompt, push, k=6)
    widths = [bar.get_width() for bars in ax.containers for bar in bars]
    assert widths == pytest.approx([*table["before"], *table["after"]], rel=1e-4)


def test_tokens_are_visible_and_no_mathematics() -> None:
    frame = pd.DataFrame({"token": [" a", "\n", "$x$"], "before": [0.5, 0.3, 0.1], "after": [0.1, 0.2, 0.3]})
    ax = plots.next_token_bars(frame)
    ax.figure.canvas.draw()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["␣a", "↵", r"\$x\$"]


def test_a_model_needs_a_prompt() -> None:
    with pytest.raises(ValueError, match="next_token_bars"):
        plots.next_token_bars(object())  # type: ignore[arg-type]


def test_lines_groups_and_levels() -> None:
    frame = pd.DataFrame({"k": [1, 2, 1, 2], "share": [0.1, 0.2, 0.3, 0.4], "what": ["a", "a", "b", "b"]})
    ax = plots.lines(frame, "k", "share", by="what", level=1.0, log=True)
    assert [line.get_label() for line in ax.get_lines()][:2] == ["a", "b"]
    assert ax.get_lines()[1].get_ydata().tolist() == [0.3, 0.4]
    assert ax.get_xscale() == "log"


def test_bars_stand_beside_each_other_with_their_intervals() -> None:
    frame = pd.DataFrame({"topic": ["a", "a", "b"], "share": [0.1, 0.5, 0.3], "condition": ["zero", "steered", "zero"]})
    ax = plots.bars(
        frame.assign(low=frame["share"] - 0.05, high=frame["share"] + 0.1), "topic", "share", by="condition"
    )
    zero, steered = ax.containers
    assert zero[0].get_xdata().tolist() == [0.1, 0.3] and steered[0].get_xdata().tolist() == [0.5]
    assert zero[0].get_ydata()[0] < 0 < steered[0].get_ydata()[0]  # both in the row of "a", one above the other
    assert zero[2][0].get_segments()[0][:, 0].tolist() == pytest.approx([0.05, 0.2])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_tradeoff_has_both_intervals() -> None:
    row = {"condition": "zero", "share": 0.2, "low": 0.1, "high": 0.4}
    cost = {"disfluency": 10.0, "disfluency_low": 8.0, "disfluency_high": 15.0}
    ax = plots.tradeoff(pd.DataFrame([{**row, **cost}]))
    [container] = ax.containers
    across, up = (bars.get_segments()[0] for bars in container[2])
    assert across[:, 0].tolist() == [8, 15] and up[:, 1].tolist() == pytest.approx([0.1, 0.4])


def test_qq_of_a_normal_sample_follows_its_line() -> None:
    points, line = plots.qq(np.random.default_rng(0).normal(size=2000)).get_lines()
    assert np.abs(points.get_ydata() - line.get_ydata())[100:-100].max() < 0.15


def test_completions_are_escaped_and_marked() -> None:
    frame = pd.DataFrame(
        {
            "condition": ["<zero>", "steered", "steered"],
            "prompt": ["I & you"] * 3,
            "completion": ["<script>wed</script>", "the Bride's bridesmaid", "none"],
        }
    )
    page = plots.completions_html(frame, ["bride", "wed"]).data
    assert "<script>" not in page and "&lt;zero&gt;" in page and "I &amp; you" in page
    assert page.count("<mark") == 2
    assert ">Bride</mark>" in page and ">wed</mark>" in page and "bridesmaid" in page
    assert "1 of 2 with a topic word" in page
    assert page.count("<tr>") == 3  # the head and two rows
    assert page.count("<td") == 4  # two columns of two cells, one of them empty


def test_dollars_are_shown_as_written() -> None:
    text = "it costs $5 a pound and $6 a yard"
    page = plots.completions_html(pd.DataFrame({"condition": ["a $b$"], "completion": [text]}), ["pound"]).data
    assert not re.search(r"(?<!<span>)\$", page)
    assert page.count("<span>$</span>") == 4
    assert "mathjax_ignore" in pd.DataFrame({"completion": [text]}).to_html()  # by the option that the package sets


def test_completions_need_their_columns() -> None:
    with pytest.raises(ValueError, match="no column 'condition'"):
        plots.completions_html(pd.DataFrame({"completion": ["a"]}))


def cells() -> pd.DataFrame:
    rows = [("attn_out", 0, 1, " a", 2.0), ("attn_out", 0, 2, "$b", -4.0), ("mlp_out", 1, 1, " a", 1.0)]
    return pd.DataFrame(rows, columns=["place", "layer", "position", "token", "value"])


def test_the_map_lays_the_forward_pass_from_bottom_to_top() -> None:
    ax = plots.scalar_map(cells())
    grid = ax.collections[0].get_array()
    assert grid.filled(np.nan).tolist()[0] == [2.0, -4.0] and grid[1, 0] == 1.0
    assert grid.mask.tolist() == [[False, False], [False, True]]  # what the frame lacks stays grey
    assert [label.get_text() for label in ax.get_yticklabels()] == ["attn_out.0", "mlp_out.1"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["␣a", r"\$b"]
    assert ax.collections[0].get_clim() == (-4, 4)  # white is 0
    assert plots.scalar_map(cells(), limit=8).collections[0].get_clim() == (-8, 8)


def test_the_map_by_role_and_what_is_switched_off() -> None:
    frame = cells().query("place == 'attn_out'").assign(role=["S", "IO"], on=[True, False])
    ax = plots.scalar_map(frame, x="role")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["S", "IO"]
    assert ax.get_ylabel() == "layer, attn_out"
    [crosses] = ax.get_lines()
    assert (crosses.get_xdata().tolist(), crosses.get_ydata().tolist()) == ([1.5], [0.5])


def test_the_map_of_an_intervention_is_its_scalars() -> None:
    sites = (sl.Site("resid_post", 0), sl.Site("resid_post", 1))
    alphas = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    steer = sl.ActivScalar(("resid_post",), first=1).intervention(sites, alphas, {})
    ax = plots.scalar_map(steer)
    assert ax.collections[0].get_array().tolist() == [[1, 2], [3, 4]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2"]
    with pytest.raises(ValueError, match="only scalars have a map"):
        plots.scalar_map(sl.SteerVec().intervention(sites, torch.ones(2, 2, 8), {}))


def test_pareto_draws_the_front_of_one_seed_and_the_points_of_all() -> None:
    rows = [
        (seed, split, e, c, e < 3)
        for seed in (0, 1)
        for split in ("train", "test")
        for e, c in ((1, 4), (2, 2), (5, 5))
    ]
    frame = pd.DataFrame(rows, columns=["seed", "split", "effectiveness", "faithfulness", "front_faithfulness"])
    ax = plots.fronts(frame.assign(method="SteerVec"))
    [front] = ax.get_lines()
    assert (front.get_xdata().tolist(), front.get_ydata().tolist()) == ([2, 4], [2, 1])
    assert [len(points.get_offsets()) for points in ax.collections] == [6, 6]
    assert ax.get_xscale() == "log"
