"""The panels on sweeps, learned scalars, dilemmas and several interventions: each control does what it says."""

import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab import metrics, plots
from steerlab.experiments import scaling
from steerlab.judges import word_judge
from steerlab.metrics import kl
from steerlab.widgets import compare, sara_panel, scalar_panel, sweep_browser
from steerlab.widgets.scalars import BETAS

pytestmark = pytest.mark.usefixtures("closed_figures")


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load()


# --- sweep browser -----------------------------------------------------------------------------------------------


def sweep() -> pd.DataFrame:
    """Steered completions mention a wedding from layer 2 on, random ones never; a control has no layer."""
    rows = [
        {
            "condition": condition,
            "layer": float(layer),
            "coefficient": coefficient,
            "prompt": "He said",
            "sample": sample,
            "completion": f"a <b>wedding</b> {layer} {coefficient}" if condition == "steered" and layer > 1 else "rain",
            "seed": 0,
            "count": layer * coefficient,
        }
        for condition in ("steered", "random")
        for layer in range(4)
        for coefficient in (1, 2, 4)
        for sample in range(3)
    ]
    rows.append({"condition": "zero", "prompt": "He said", "sample": 0, "completion": "rain", "seed": 0, "count": 0})
    return pd.DataFrame(rows)


def test_sweep_browser_starts_with_the_first_condition_and_the_topic() -> None:
    panel = sweep_browser(sweep(), words=["wedding"])
    assert (panel.state.x, panel.state.y, panel.state.metric) == ("layer", "coefficient", "topic_word")
    assert panel.state.only == "condition == 'steered'"
    assert panel.message.value == ""
    assert set(panel.controls["x"].options) == {"layer", "coefficient", "condition"}


def test_cells_show_the_means_and_a_press_opens_their_completions() -> None:
    panel = sweep_browser(sweep(), words=["wedding"])
    assert len(panel.grid.buttons) == 12
    cell = panel.grid.at(0, 3)  # the highest coefficient stands on top
    assert cell.description == "1.00" and "layer 3, coefficient 4: topic_word 1" in cell.tooltip
    assert panel.grid.at(0, 1).description == "0.00"
    assert "rain" in panel.completions.value
    cell.click()
    assert (panel.state.at_x, panel.state.at_y) == (3, 4)
    assert "&lt;b&gt;" in panel.completions.value and ">wedding</mark>" in panel.completions.value
    marked = [button for button in panel.grid.buttons if button.layout.border_top]
    assert marked == [cell]


def test_cells_can_be_chosen_without_a_pointer() -> None:
    panel = sweep_browser(sweep(), words=["wedding"])
    panel.controls["at_x"].value, panel.controls["at_y"].value = 2.0, 4
    assert "layer 2, coefficient 4" in panel.completions.value and "3 of 3 with a topic word" in panel.completions.value


def test_other_axes_metrics_and_rows() -> None:
    panel = sweep_browser(sweep(), words=["wedding"], metric="count", only="")
    panel.controls["y"].value = "condition"
    table = panel.measure().set_index(["layer", "condition"])["value"]
    assert table[3.0, "random"] == pytest.approx(3 * 7 / 3)
    panel.controls["x"].value = "coefficient"
    assert set(panel.measure()["coefficient"]) == {1, 2, 4} and panel.message.value == ""
    panel.controls["y"].value = "coefficient"
    assert "choose two different columns" in panel.message.value
    panel.controls["y"].value = "(none)"
    assert len(panel.measure()) == 3 and panel.message.value == ""


def test_curves_have_the_intervals_of_the_table() -> None:
    panel = sweep_browser(sweep(), words=["wedding"], view="curves")
    assert panel.picture.value and panel.picture.layout.display == "" and panel.grid.widget.layout.display == "none"
    ax = panel.figure().axes[0]
    labels = [line.get_label() for line in ax.get_lines()]
    assert labels == ["coefficient 1", "coefficient 2", "coefficient 4"]
    assert len(ax.collections) == 3
    assert max(path.vertices[:, 1].max() for path in ax.collections[0].get_paths()) == pytest.approx(1)


def test_a_query_that_fails_or_finds_nothing_is_one_line() -> None:
    panel = sweep_browser(sweep(), words=["wedding"])
    panel.controls["only"].value = "condition == 'stered'"
    assert "no row of the frame matches" in panel.message.value
    panel.controls["only"].value = "nonsense > 3"
    assert "nonsense" in panel.message.value and "\n" not in panel.message.value
    panel.controls["only"].value = "condition == 'random'"
    assert panel.message.value == "" and panel.grid.at(0, 3).description == "0.00"


def test_code_of_a_sweep_draws_the_same_table() -> None:
    frame = sweep()
    panel = sweep_browser(frame, metric="count", only="condition != 'zero'")
    names = {"frame": frame}
    exec(panel.code(), names)
    pd.testing.assert_frame_equal(names["table"], panel.measure())


def test_the_browser_opens_on_rows_that_have_the_axes() -> None:
    """In the package's own sweep the first condition has neither layer nor coefficient."""
    frame = sweep()
    frame = pd.concat([frame[frame["condition"] == "zero"], frame[frame["condition"] != "zero"]])
    panel = sweep_browser(frame)
    assert panel.state.only == "condition == 'steered'" and "12 settings, 3 rows each" in panel.numbers.value
    assert not {"layer", "coefficient"} & set(panel.controls["metric"].options)
    panel.controls["only"].value = "condition = 1"
    assert "write it as column ==" in panel.message.value
    panel.controls["only"].value = "condition == 'zero'"
    assert "has a value of layer and coefficient" in panel.message.value


def test_a_frame_without_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="no column with a setting"):
        sweep_browser(pd.DataFrame({"completion": ["a", "b"], "count": [1, 2]}))


# --- scalar map --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scalars(lm: sl.SteerableModel) -> tuple[pd.DataFrame, sl.Intervention]:
    """Prompts of one length, and scalars of which two locations are much larger than the others."""
    frame = sl.tasks.ioi(lm, n=8, seed=0).test
    lengths = [len(lm.tokens(prompt)) for prompt in frame["prompt"]]
    frame = frame[np.array(lengths) == lengths[0]].reset_index(drop=True)
    method = sl.ActivScalar(("resid_post",))
    sites = method.sites(lm)
    gains = 0.01 * torch.randn(len(sites), lengths[0], 1, generator=torch.manual_seed(0))
    gains[2, 3], gains[5, -1] = 0.9, -1.0
    return frame, method.intervention(sites, gains, {"length": lengths[0]})


def verdicts(panel: object) -> str:
    return str(panel.numbers.value)  # type: ignore[attr-defined]


def test_the_map_shows_every_scalar(lm: sl.SteerableModel, scalars: tuple[pd.DataFrame, sl.Intervention]) -> None:
    frame, steer = scalars
    panel = scalar_panel(lm, steer, frame)
    assert panel.message.value == "" and 0 <= panel.state.prompt < len(frame)
    layers, length = lm.n_layers, len(lm.tokens(frame["prompt"][0]))
    assert len(panel.grid.buttons) == layers * length
    assert panel.grid.at(layers - 1 - 2, 3).description == "0.9"  # layer 0 stands at the bottom
    last = panel.grid.at(layers - 1 - 5, length - 1)
    assert last.description == "−1" and "layer 5" in last.tooltip
    values = [float(panel.grid.at(0, p).description.replace("−", "-")) for p in range(length)]
    assert min(map(abs, values)) > 0 and max(map(abs, values)) < 0.1  # what is small is told from 0
    assert "α = −1 " in panel.scale.value and "Right answer" in panel.numbers.value
    assert ">BOS<" in panel.grid.widget.children[1].value


def test_curves_are_those_of_the_model(lm: sl.SteerableModel, scalars: tuple[pd.DataFrame, sl.Intervention]) -> None:
    frame, steer = scalars
    panel = scalar_panel(lm, steer, frame, prompt=1)
    expected = scaling.beta_sweep(lm, frame.iloc[[1]], steer, BETAS)
    for column in ("p_correct", "p_wrong", "difference"):
        np.testing.assert_allclose(panel.curves()[0][column], expected[column], rtol=1e-3, atol=1e-5)


def test_beta_moves_the_cursor_without_a_run(
    lm: sl.SteerableModel, scalars: tuple[pd.DataFrame, sl.Intervention], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, steer = scalars
    panel = scalar_panel(lm, steer, frame)
    picture = panel.picture.value
    monkeypatch.setattr(lm, "logits", lambda *a, **k: pytest.fail("the model ran"))
    panel.controls["beta"].value = -0.5
    assert panel.picture.value != picture and panel.message.value == ""


def test_threshold_and_presses_switch_locations_off(
    lm: sl.SteerableModel, scalars: tuple[pd.DataFrame, sl.Intervention]
) -> None:
    frame, steer = scalars
    panel = scalar_panel(lm, steer, frame)
    assert "that are on" not in verdicts(panel)
    panel.controls["threshold"].value = 0.5
    assert int(panel.on().sum()) == 2 and "that are on (2 of" in verdicts(panel)
    kept = sl.locations(panel.kept())
    assert sorted(kept["value"][kept["value"] != 0]) == pytest.approx([-1.0, 0.9])
    panel.grid.at(lm.n_layers - 1 - 2, 3).click()
    assert int(panel.on().sum()) == 1 and panel.grid.at(lm.n_layers - 1 - 2, 3).description == "×"
    panel.grid.at(0, 0).click()  # a press on what is off switches it on
    assert int(panel.on().sum()) == 2
    panel.reset.click()
    assert panel.on().all() and panel.state.toggled == ()


def test_nothing_left_is_the_bare_model(lm: sl.SteerableModel, scalars: tuple[pd.DataFrame, sl.Intervention]) -> None:
    frame, steer = scalars
    panel = scalar_panel(lm, steer, frame, threshold=1.0, toggled=())
    last = int(panel.on()[panel.on()].index[0])
    panel.controls["toggled"].value = (last,)
    gaps = panel.curves()[0]["difference"]
    assert gaps.max() == pytest.approx(gaps.min(), abs=1e-5) and "no flip" in verdicts(panel).split("that are on")[1]


def test_code_of_a_map_gives_the_panels_logits(
    lm: sl.SteerableModel, scalars: tuple[pd.DataFrame, sl.Intervention]
) -> None:
    frame, steer = scalars
    panel = scalar_panel(lm, steer, frame, beta=0.5, threshold=0.2, toggled=(1, 7))
    names = {"sl": sl, "lm": lm, "frame": frame, "intervention": steer}
    *lines, last = panel.code().splitlines()
    exec("\n".join(lines), names)
    torch.testing.assert_close(eval(last, names)[0], panel.curves()[1][BETAS.index(0.5)], rtol=1e-4, atol=1e-4)


def test_dynamic_scalars_are_switched_off_by_position(
    lm: sl.SteerableModel, scalars: tuple[pd.DataFrame, sl.Intervention]
) -> None:
    frame, _ = scalars
    method = sl.DynScalar(("resid_post",), layers=(1, 4))
    probes = 0.01 * torch.randn(2, 1, lm.d_model, generator=torch.manual_seed(1))
    panel = scalar_panel(lm, method.intervention(method.sites(lm), probes, {}), frame, prompt=0)
    everything = panel.curves()[0]["difference"]
    bare = everything[list(BETAS).index(0.0)]
    assert abs(everything - bare).max() > 1e-3
    np.testing.assert_allclose(  # one edit per position, all of them on, is the edit of all positions
        everything, scaling.beta_sweep(lm, frame.iloc[[0]], panel.intervention, BETAS)["difference"], atol=1e-3
    )
    panel.controls["toggled"].value = tuple(panel.on().index)
    assert panel.curves()[0]["difference"].to_numpy() == pytest.approx(bare, abs=1e-5)


def test_scalar_map_refuses_what_it_cannot_show(
    lm: sl.SteerableModel, scalars: tuple[pd.DataFrame, sl.Intervention]
) -> None:
    frame, steer = scalars
    with pytest.raises(ValueError, match="no scalars"):
        scalar_panel(lm, sl.actadd(lm, " weddings", layer=1), frame)
    longer = frame.assign(prompt="So " + frame["prompt"])
    with pytest.raises(ValueError, match="was fitted at the positions of"):
        scalar_panel(lm, steer, longer)
    with pytest.raises(ValueError, match="no prompts"):
        scalar_panel(lm, steer, frame.head(0))


# --- SARA --------------------------------------------------------------------------------------------------------


def test_sara_histogram_is_the_gain_times_the_coefficient(lm: sl.SteerableModel) -> None:
    panel = sara_panel(lm, coefficient=-2.0, layer=3)
    s = panel.state
    gain = sl.sara(lm, s.prompt, attract=s.attract, repel=s.repel, layer=3).edits[0][1].gain
    assert gain is not None
    counts, edges = np.histogram((-2 * gain[0]).numpy(), bins=40)
    bars = panel.figure().axes[0].patches
    assert [bar.get_height() for bar in bars] == counts.tolist()  # type: ignore[attr-defined]
    assert bars[0].get_x() == pytest.approx(edges[0])  # type: ignore[attr-defined]


def test_sara_answers_stand_side_by_side_with_the_judges_shares(lm: sl.SteerableModel) -> None:
    panel = sara_panel(lm, judge=word_judge(), n=2, max_new_tokens=8)
    panel.button.click()
    assert panel.message.value == ""
    page = panel.completions.value
    assert page.count("<th scope") == 3 and "steered the other way round" in page
    assert "Shares by the judge <i>words</i>" in page and "consequence" in page
    without = sara_panel(lm, n=2, max_new_tokens=8)
    without.button.click()
    assert "judge" not in without.completions.value


def test_shares_of_few_answers_have_wilsons_interval(lm: sl.SteerableModel) -> None:
    panel = sara_panel(lm, judge=word_judge(), n=3, max_new_tokens=5)
    panel.button.click()
    assert "100% [44%, 100%]" in panel.completions.value and "[100%, 100%]" not in panel.completions.value


def test_a_dilemma_of_the_list_is_the_prompt(lm: sl.SteerableModel) -> None:
    panel = sara_panel(lm)
    assert panel.presets.value == "parent"
    name = panel.presets.options[3]
    panel.presets.value = name
    assert panel.state.prompt == panel.preset_values[name]["prompt"] and panel.presets.value == name
    panel.controls["prompt"].value = "Should I go?"
    assert panel.presets.value == "(own)" and panel.message.value == ""
    panel.controls["attract"].value = ""
    assert "attract is empty" in panel.message.value


def test_code_of_the_sara_panel_gives_its_answers(lm: sl.SteerableModel) -> None:
    panel = sara_panel(lm, n=1, max_new_tokens=6, coefficient=1.5, when="prompt")
    names = {"sl": sl, "lm": lm}
    first, last = panel.code().split("\nlm.generate", 1)
    exec(first, names)
    assert eval("lm.generate" + last, names)["completion"].tolist() == panel.samples()["completion"].tolist()


# --- compare -----------------------------------------------------------------------------------------------------


def test_interventions_are_compared_at_the_same_kl(lm: sl.SteerableModel) -> None:
    ships = sl.actadd(lm, " ships", layer=4, vector="mean")
    panel = compare(lm, {"ships": ships, "random": sl.random_like(ships), "three": 3 * ships}, target=0.5)
    prompt, strengths = panel.state.prompt, panel.strengths()
    assert len(panel.code().splitlines()) == 7
    assert strengths["ships"] == pytest.approx(3 * strengths["three"], rel=0.02)
    for steer in list(panel.steers().values())[1:]:
        plain, steered = lm.logits([prompt] * 2, [None, steer])
        assert float(kl(steered, plain)) == pytest.approx(0.5, rel=0.02)
    assert [text.get_text() for text in panel.figure().axes[0].get_legend().get_texts()] == [
        "unsteered", "ships", "random", "three",
    ]  # fmt: skip


def test_the_comparison_opens_where_all_are_steered(lm: sl.SteerableModel) -> None:
    """At one nat, or at the most that all reach; a target that is given stays."""
    weak = {
        word: sl.actadd(lm, f" {word}", " ", layer=2) for word in ("weddings", "school")
    }  # at most 0.9 and 0.5 nats
    panel = compare(lm, weak)
    assert 0.1 < panel.state.target < 0.5 and len(panel.steers()) == 3 and panel.message.value == ""
    assert compare(lm, {"ships": sl.actadd(lm, " ships", layer=4, vector="mean")}).state.target == 1
    assert compare(lm, weak, target=1.3).state.target == 1.3


def test_what_cannot_reach_the_target_says_so_and_the_others_stay(lm: sl.SteerableModel) -> None:
    ships = sl.actadd(lm, " ships", layer=4, vector="mean")
    nothing = 0 * ships
    panel = compare(lm, {"ships": ships, "nothing": nothing}, n=1, max_new_tokens=5)
    assert list(panel.steers()) == ["unsteered", "ships"] and panel.message.value == ""
    assert "no strength up to" in panel.numbers.value
    panel.button.click()
    assert panel.completions.value.count("<th scope") == 2
    panel.controls["prompt"].value = ""
    assert "prompt 0 is empty" in panel.message.value


@pytest.mark.parametrize("match", ["kl", "size", "beta"])
def test_code_of_a_comparison_gives_its_completions(lm: sl.SteerableModel, match: str) -> None:
    saved = {
        "ships": sl.actadd(lm, " ships", layer=4, vector="mean"),
        "school": sl.actadd(lm, " school", layer=2, vector="mean"),
    }
    panel = compare(lm, saved, match=match, target=0.5, n=1, max_new_tokens=6)
    names = {"sl": sl, "lm": lm, "interventions": saved}
    *lines, last = panel.code().splitlines()
    exec("\n".join(lines), names)
    assert eval(last, names)["completion"].tolist() == panel.samples()["completion"].tolist()


def test_compare_refuses_none_and_too_many(lm: sl.SteerableModel) -> None:
    with pytest.raises(ValueError, match="0 interventions: give 1 to 6"):
        compare(lm, {})


# --- the pieces that they draw with ------------------------------------------------------------------------------


def test_means_have_wilsons_or_students_interval() -> None:
    frame = pd.DataFrame({"a": [0, 0, 0, 0, 1], "hit": [True, True, False, False, True], "x": [1.0, 2, 3, 4, 5]})
    hits = metrics.means(frame, "hit", ["a"]).set_index("a")
    assert hits.loc[0, ["value", "low", "high"]].tolist() == pytest.approx(metrics.share([1, 1, 0, 0])[:3])
    numbers = metrics.means(frame, "x", ["a"]).set_index("a")
    half = 3.182446 * np.std([1, 2, 3, 4], ddof=1) / 2
    assert numbers.loc[0, ["low", "high"]].tolist() == pytest.approx([2.5 - half, 2.5 + half], rel=1e-5)
    assert numbers.loc[1, "n"] == 1 and np.isnan(numbers.loc[1, "low"])


def test_means_of_one_row_each_keep_their_intervals() -> None:
    frame = pd.DataFrame({"a": [0, 1], "share": [0.2, 0.4], "low": [0.1, 0.3], "high": [0.4, 0.6]})
    assert metrics.means(frame, "share", ["a"])["high"].tolist() == [0.4, 0.6]
    with pytest.raises(ValueError, match="no column 'b'"):
        metrics.means(frame, "share", ["b"])


def test_keep_leaves_the_chosen_locations() -> None:
    site = sl.Site("attn_out", 1)
    steer = sl.Intervention({site: sl.Edit(gain=torch.tensor([[1.0], [2.0], [3.0]]), anchor="front", start=1)})
    where = sl.locations(steer)
    (_, edit), = sl.keep(steer, where[where["value"] > 1.5]).edits  # fmt: skip
    assert edit.gain is not None and edit.gain[:, 0].tolist() == [0, 2, 3] and edit.start == 1
    everywhere = sl.Intervention({site: sl.Edit(gain=torch.ones(1, 1), when="all")})
    with pytest.raises(ValueError, match="when='all'"):
        sl.keep(everywhere, where)


def test_heat_map_has_a_cell_for_each_setting() -> None:
    frame = pd.DataFrame({"layer": [0, 0, 1], "c": [1.0, 2.0, 1.0], "value": [0.1, 0.2, 0.3]})
    ax = plots.heat_map(frame, "layer", "c")
    grid = ax.collections[0].get_array().reshape(2, 2)
    assert grid[0].tolist() == [0.1, 0.3] and grid[1, 0] == 0.2 and grid.mask[1, 1]
    assert sorted(text.get_text() for text in ax.texts) == ["0.1", "0.2", "0.3"]


def test_crossings_lie_where_the_lines_meet() -> None:
    frame = pd.DataFrame({"beta": [-1.0, 0.0, 1.0], "p_correct": [0.1, 0.2, 0.6], "p_wrong": [0.5, 0.3, 0.3]})
    assert plots.crossings(frame) == pytest.approx([0.25])
    ax = plots.answer_curves(frame, beta=0.5, answers=(" Mary", " $John"))
    assert sorted(line.get_xdata()[0] for line in ax.get_lines()[2:]) == pytest.approx([0.25, 0.5])


def test_words_that_differ_from_the_twin_are_underlined() -> None:
    page = plots.mark_words("the red bride ran", ["bride"], "the blue bride ran")
    assert page.count("underline dotted") == 1 and ">red</span>" in page
    assert "underline" not in plots.mark_words("the red bride ran", ["bride"])
