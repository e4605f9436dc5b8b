"""SARA's experiments: twins, resumption, and numbers that are counted by hand."""

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import families
import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from trials import complete

import steerlab as sl
from steerlab import metrics, sweep
from steerlab.completions import completion_call
from steerlab.edit import components, contrast
from steerlab.experiments import foundations as mfq
from steerlab.experiments import results
from steerlab.experiments import sara as study
from steerlab.experiments.sara import __main__ as command
from steerlab.identity import identity
from steerlab.judges import GROUPS, SCHOOLS, preference
from steerlab.site import Site

matplotlib.use("Agg")

DUTY, CONSEQUENCES = "Do your duty.", "Joy for all is right."
PROMPTS = ["Should the young clerk keep the secret of his friend?", "May a girl lie to the angry men at the gate?"]
DILEMMAS = pd.DataFrame(
    {
        "id": ["clerk", "girl"],
        "prompt": PROMPTS,
        "duty": [["He must.", "A vow is a vow."], ["She must not."]],
        "consequence": [["It helps nobody."], ["It saves a life.", "Nobody is hurt."]],
    }
)
SHORT: dict[str, Any] = {
    "duty": DUTY,
    "consequence": CONSEQUENCES,
    "max_new_tokens": 6,
    "top_p": 1.0,
    "progress": False,
}


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return families.steerable("llama")


class Spy:
    """A judge that keeps what it is shown, and finds duty in long answers."""

    name = "spy"

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []

    def __call__(self, answers: Sequence[str], questions: Sequence[str]) -> pd.DataFrame:
        self.shown += list(zip(answers, questions, strict=True))
        groups = ["duty" if len(answer) % 2 else "neither" for answer in answers]
        return pd.DataFrame({"label": groups, "group": groups, "confidence": 1.0})


# --- the study -----------------------------------------------------------------------------------------------------


def test_every_answer_is_the_one_that_steering_alone_gives_and_has_a_twin(lm: sl.SteerableModel) -> None:
    spy = Spy()
    frame = study.dilemma_study(lm, DILEMMAS, spy, layers=[0, 2], repeats=2, coefficient=3, seed=1, **SHORT)
    counts = frame.groupby(["method", "direction", "layer"]).size()
    assert len(counts) == (1 + 4 * 2) * 2
    assert set(counts) == {len(DILEMMAS) * 2}, "as many unsteered answers as steered ones"
    pair = {"duty": (DUTY, CONSEQUENCES), "consequence": (CONSEQUENCES, DUTY)}
    for method, direction, layer in [("sara", "duty", 2), ("sara", "consequence", 0), ("actadd", "duty", 2)]:
        attract, repel = pair[direction]
        if method == "sara":
            steer: Any = sl.sara(lm, PROMPTS, attract=attract, repel=repel, layer=layer, coefficient=3)
        else:
            steer = sl.actadd(lm, attract, repel, layer=layer)
        alone = lm.generate(PROMPTS, steer, n=2, max_new_tokens=6, temperature=0.8, seed=1000 + layer)
        cell = frame[(frame["method"] == method) & (frame["direction"] == direction) & (frame["layer"] == layer)]
        assert list(cell["completion"]) == list(alone["completion"])
    twins = frame[frame["method"] == "unsteered"]
    unsteered = lm.generate(PROMPTS, n=2, max_new_tokens=6, temperature=0.8, seed=1002)
    assert list(twins[twins["layer"] == 2]["completion"]) == list(unsteered["completion"])
    assert (twins["completion"].to_numpy()[:4] != twins["completion"].to_numpy()[4:]).all(), "layers share no noise"
    headed = frame[(frame["method"] == "prompt") & (frame["direction"] == "duty") & (frame["layer"] == 2)]
    alone = lm.generate([f"{DUTY} {prompt}" for prompt in PROMPTS], n=2, max_new_tokens=6, temperature=0.8, seed=1002)
    assert list(headed["completion"]) == list(alone["completion"])
    assert sorted(spy.shown) == sorted(zip(frame["completion"], frame["prompt"], strict=True))
    assert set(frame["prompt"]) == set(PROMPTS), "the judge is not shown the heading"
    assert frame[["label", "group"]].notna().all().all()


def test_at_strength_zero_nothing_differs_from_the_twins(lm: sl.SteerableModel) -> None:
    options = {"coefficient": 0, "actadd_coefficient": 0, "layers": [1], "repeats": 3}
    frame = study.dilemma_study(lm, DILEMMAS, Spy(), **options, **SHORT)  # type: ignore[arg-type]
    for (method, _), cell in frame.groupby(["method", "direction"]):
        assert (list(cell["completion"]) == list(frame["completion"][:6])) is (method != "prompt")
    effects = study.effects(frame[frame["method"] != "prompt"])
    assert (effects[["gain", "spill"]] == 0).all().all()
    assert not effects["beyond"].any()


def test_the_released_variant_runs_in_the_study(lm: sl.SteerableModel) -> None:
    options = {"variant": "released", "methods": ("sara",), "directions": ("duty",), "layers": [1], "repeats": 2}
    frame = study.dilemma_study(lm, DILEMMAS, Spy(), **options, **SHORT)  # type: ignore[arg-type]
    steer = sl.sara(lm, PROMPTS[1], attract=DUTY, repel=CONSEQUENCES, layer=1, variant="released")
    alone = lm.generate(PROMPTS[1], steer, n=2, max_new_tokens=6, temperature=0.8, seed=1, batch_size=1)
    own = frame[(frame["method"] == "sara") & (frame["id"] == "girl")]
    assert list(own["completion"]) == list(alone["completion"])


def test_a_stopped_study_goes_on_where_it_was(
    lm: sl.SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"layers": [0, 1, 2], "repeats": 1, "methods": ("sara",), **SHORT}
    whole = study.dilemma_study(lm, DILEMMAS, Spy(), **options)
    calls: list[int] = []

    def stopping(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return completion_call(*given, **named)

    monkeypatch.setattr(sweep, "completion_call", stopping)
    with pytest.raises(KeyboardInterrupt):
        study.dilemma_study(lm, DILEMMAS, Spy(), file=tmp_path / "study.db", **options)
    again = study.dilemma_study(lm, DILEMMAS, Spy(), file=tmp_path / "study.db", **options)
    assert len(calls) == 4, "two layers were done, one was left"
    pd.testing.assert_frame_equal(again, whole)


def test_the_example_stands_side_by_side(lm: sl.SteerableModel) -> None:
    frame = study.seed_example(lm, Spy(), layer=1, repeats=2, prompt=PROMPTS[0], **{k: v for k, v in SHORT.items()})
    assert list(frame["condition"]) == ["unsteered"] * 2 + ["duty"] * 2 + ["consequence"] * 2
    assert set(frame["layer"]) == {1}
    assert set(frame["prompt"]) == {PROMPTS[0]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": ("kant",)}, "direction 'kant' is unknown: choose among duty, consequence"),
        ({"methods": ("caa",)}, "method 'caa' is unknown: choose among sara, actadd, shuffled, prompt"),
        ({"variant": "released"}, "no gain to shuffle"),
        ({"layers": [7]}, "layer 7 is out of range"),
    ],
)
def test_bad_input_is_refused_in_one_line(lm: sl.SteerableModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        study.dilemma_study(lm, DILEMMAS, Spy(), **options, **SHORT)
    assert "\n" not in str(caught.value)


def test_dilemmas_need_ids_of_their_own(lm: sl.SteerableModel) -> None:
    with pytest.raises(ValueError, match="two dilemmas have the id 'x': each needs one of its own"):
        study.dilemma_study(lm, DILEMMAS.assign(id="x"), Spy(), **SHORT)


# --- counting ------------------------------------------------------------------------------------------------------


def answers(method: str, direction: str, groups: Sequence[str]) -> pd.DataFrame:
    columns = {"method": method, "direction": direction, "id": "x", "layer": [0, 0, 1, 1], "sample": [0, 1, 0, 1]}
    return pd.DataFrame({**columns, "group": list(groups)})


def test_shares_gain_and_spill_by_hand() -> None:
    d, c, i, n = GROUPS
    frame = pd.concat(
        [
            answers("sara", "duty", [d, d, d, i])[::-1],  # in another order than the twins
            answers("unsteered", "unsteered", [c, n, c, d]),
            answers("actadd", "consequence", [c, c, n, n]),
        ]
    )
    shares = study.shares(frame).set_index(["method", "group"])["share"]
    assert shares["unsteered"].to_dict() == {d: 0.25, c: 0.5, i: 0.0, n: 0.25}
    assert shares["sara"].to_dict() == {d: 0.75, c: 0.0, i: 0.25, n: 0.0}
    cells = study.shares(frame, by=("method", "layer"))
    assert len(cells) == 3 * 2 * 4
    moved = study.effects(frame).set_index("method")
    assert moved.loc["sara", "gain"] == 0.5
    assert moved.loc["sara", "spill"] == 0.25, "individual rose by a quarter"
    assert moved.loc["actadd", "gain"] == 0.0
    assert moved.loc["actadd", "spill"] == 0.25, "neither rose by a quarter"
    expected = metrics.gain([True, True, True, False], [False, False, False, True])  # c to d, n to d, c to d, d to i
    assert moved.loc["sara", ["low", "high"]].tolist() == [expected.low, expected.high]
    assert set(moved["n"]) == {4}
    assert moved[["share", "baseline"]].to_dict("index") == {
        "sara": {"share": 0.75, "baseline": 0.25},
        "actadd": {"share": 0.5, "baseline": 0.5},
    }
    level = metrics.share([0, 0, 0, 1])  # unsteered, one of four is duty
    assert moved.loc["sara", ["baseline_low", "baseline_high"]].tolist() == [level.low, level.high]
    assert moved["beyond"].to_dict() == {"sara": False, "actadd": False}  # four pairs prove nothing
    assert moved.loc["sara", "p"] == pytest.approx(10 / 16)  # three won, one lost
    by_layer = study.effects(frame, by=["layer"]).set_index(["method", "layer"])["gain"]
    assert by_layer["sara"].to_dict() == {0: 1.0, 1: 0.0}


def test_thirds_of_the_layers_hold_layer_zero() -> None:
    depth = study.with_depth(pd.DataFrame({"layer": range(18)}), 18)["depth"]
    assert list(depth) == ["early"] * 6 + ["middle"] * 6 + ["late"] * 6
    eight = study.with_depth(pd.DataFrame({"layer": range(8)}), 8)["depth"]
    assert eight.value_counts().to_dict() == {"early": 3, "middle": 3, "late": 2}


def test_the_published_shares_add_up() -> None:
    reported = study.published()
    pooled, thirds = (reported[(reported["depth"] == "all") == whole] for whole in (True, False))
    assert pooled.groupby("direction")["share"].sum().to_numpy() == pytest.approx([1, 1, 1], abs=0.002)
    assert pooled.set_index(["direction", "group"]).loc[("consequence", "consequence"), "share"] == 0.467
    for direction, share in (("duty", 0.833), ("consequence", 0.467)):
        own = thirds[thirds["direction"] == direction]
        assert list(own["depth"]) == list(study.DEPTHS)
        # The thirds hold 17 of the pooled 18 layers, so they must agree but for layer 0 and the reading of the figure.
        assert np.average(own["share"], weights=own["n"]) == pytest.approx(share, abs=0.03)


def test_the_published_schools_are_those_of_the_published_groups() -> None:
    """Which of the two unsteered labels of the figure is right follows from the counts by school."""
    schools = study.published_schools()
    assert schools.groupby("model")["share"].sum().to_numpy() == pytest.approx([1, 1, 1], abs=0.02)
    own = schools[schools["model"] == "Gemma-2B"]
    by_group = own.groupby(own["label"].map(SCHOOLS))["share"].sum()
    counted = study.published().query("direction == 'unsteered'")
    mended, printed = (frame.set_index("group")["share"] for frame in (counted, study.swapped(counted)))
    assert by_group.to_dict() == pytest.approx(mended[by_group.index].to_dict(), abs=0.002)
    assert printed["consequence"] == mended["duty"] > mended["consequence"] == printed["duty"]


def test_shares_of_schools_are_counts_of_labels() -> None:
    labels = ["deontology", "deontology", "none", "virtue ethics"]
    frame = pd.DataFrame({"id": ["a", "a", "b", "b"], "method": "unsteered", "direction": "unsteered", "label": labels})
    table = study.shares(frame, of="label").set_index("label")["share"]
    assert table[table > 0].to_dict() == {"deontology": 0.5, "none": 0.25, "virtue ethics": 0.25}
    assert len(table) == len(SCHOOLS) + 1
    ax = study.plot_schools({"ours": table.reset_index()})
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "ours"
    with pytest.raises(ValueError, match="eight schools"):
        study.shares(frame.assign(label="duty"), of="label")


# --- strength ------------------------------------------------------------------------------------------------------


def test_dose_zero_changes_nothing_and_a_negative_dose_swaps_the_prompts(lm: sl.SteerableModel) -> None:
    frame = study.dose_response(
        lm, DILEMMAS, layer=1, coefficients=(-2, 0, 2), duty=DUTY, consequence=CONSEQUENCES
    ).set_index(["method", "coefficient"])
    bare = preference(lm, DILEMMAS)["preference"].to_numpy()
    for method in ("sara", "actadd", "shuffled"):
        assert (frame.loc[(method, 0.0), "kl"].abs() < 1e-6).all()
        np.testing.assert_allclose(frame.loc[(method, 0.0), "preference"], bare, atol=1e-5)
        assert (frame.loc[(method, 2.0), "kl"] > 1e-4).all()
    swapped = study.dose_response(
        lm, DILEMMAS, layer=1, coefficients=(2,), duty=CONSEQUENCES, consequence=DUTY, methods=("sara", "actadd")
    ).set_index("method")
    for method in ("sara", "actadd"):
        for column in ("kl", "preference"):
            np.testing.assert_allclose(frame.loc[(method, -2.0), column], swapped.loc[method, column], atol=1e-4)


def test_answers_at_a_dose_are_those_of_that_steering(lm: sl.SteerableModel, tmp_path: Path) -> None:
    options: dict[str, Any] = {"layer": 1, "duty": DUTY, "consequence": CONSEQUENCES, "seed": 3, "progress": False}
    options |= {"coefficients": (-3, 0, 3), "repeats": 2, "max_new_tokens": 6, "file": tmp_path / "doses.db"}
    frame = study.dose_answers(lm, DILEMMAS, Spy(), **options).set_index(["method", "coefficient"])
    for coefficient in (-3, 3):
        steer = sl.sara(lm, PROMPTS, attract=DUTY, repel=CONSEQUENCES, layer=1, coefficient=coefficient)
        alone = lm.generate(PROMPTS, steer, n=2, max_new_tokens=6, temperature=0.8, top_p=0.3, seed=3)
        assert list(frame.loc[("sara", coefficient), "completion"]) == list(alone["completion"])
    bare = lm.generate(PROMPTS, n=2, max_new_tokens=6, temperature=0.8, top_p=0.3, seed=3)
    assert all(list(frame.loc[(method, 0), "completion"]) == list(bare["completion"]) for method in study.STEERED)
    with pytest.raises(ValueError, match="method 'prompt' is unknown: choose among sara, actadd, shuffled"):
        study.dose_answers(lm, DILEMMAS, Spy(), layer=1, methods=("prompt",))


def test_doses_are_averaged_over_dilemmas_and_the_best_layer_parts_them_most() -> None:
    rows = [
        {"method": "sara", "layer": layer, "coefficient": sign, "id": name, "kl": kl, "preference": sign * layer * kl}
        for layer in (1, 2)
        for sign in (-1.0, 1.0, 0.0)
        for name, kl in (("x", 0.5), ("y", 1.5))
    ]
    frame = pd.DataFrame(rows)
    frame["preference"] += (frame["id"] == "x") * 7
    other = frame.assign(method="actadd", preference=-frame["preference"])
    both = pd.concat([other, frame])
    table = study.dose_table(both)
    cell = table[(table["method"] == "sara") & (table["layer"] == 2) & (table["coefficient"] == 1)].iloc[0]
    half = 12.706205 * 1.0  # Student's of the shifts 1 and 3
    assert cell[["kl", "preference", "shift", "low", "high", "n"]].tolist() == pytest.approx(
        [1.0, 5.5, 2.0, 2 - half, 2 + half, 2]
    )
    for given in (both, table):
        assert study.best_layer(given) == 2
        assert study.best_layer(given, "actadd") == 1


def test_directions_are_parted_by_the_mean_of_two_differences() -> None:
    shares = {("duty", 4.0): 0.8, ("duty", -4.0): 0.1, ("consequence", 4.0): 0.0, ("consequence", -4.0): 0.5}
    rows = [{"draw": 7, "group": g, "coefficient": c, "share": share} for (g, c), share in shares.items()]
    table = pd.DataFrame(rows)
    swapped = table.assign(draw=8, coefficient=-table["coefficient"])
    extra = {"draw": [7, 8], "group": "duty", "coefficient": 0.0, "share": 0.9}
    parted = study.parted(pd.concat([table, swapped, pd.DataFrame(extra)]), by="draw").set_index("draw")["parted"]
    assert parted.to_dict() == pytest.approx({7: (0.7 + 0.5) / 2, 8: -(0.7 + 0.5) / 2})


def test_matched_kl_is_interpolated_on_each_side() -> None:
    frame = pd.DataFrame(
        {
            "method": "sara",
            "coefficient": [-1, -1, 0, 0, 1, 1],
            "kl": [0.3, 0.5, 0.0, 0.0, 0.1, 0.3],
            "preference": [-3, -1, 0, 0, 4, 6],
        }
    )
    matched = study.at_matched_kl(frame, [0.1, 0.3]).set_index(["direction", "kl"])
    assert matched.loc[("duty", 0.1), ["coefficient", "preference"]].tolist() == pytest.approx([0.5, 2.5])
    assert matched.loc[("consequence", 0.3), ["coefficient", "preference"]].tolist() == pytest.approx([-0.75, -1.5])
    assert matched.loc[("duty", 0.3)].isna().to_dict()["preference"]


# --- sensitivity ---------------------------------------------------------------------------------------------------


def matrices(lm: sl.SteerableModel, layer: int) -> tuple[list[Tensor], Tensor, Tensor]:
    site = Site("resid_pre", layer)
    own = [lm.activations(prompt, site)[site][0] for prompt in PROMPTS]
    return own, *(lm.activations(text, site)[site][0] for text in (DUTY, CONSEQUENCES))


@pytest.mark.parametrize("vary", ["length", "components", "signs"])
def test_sensitivity_is_that_of_the_gains(lm: sl.SteerableModel, vary: Any) -> None:
    values = {"length": [1, 3], "components": [4, 2], "signs": [0, 1]}[vary]
    options: dict[str, Any] = {"layer": 1, "values": values, "duty": DUTY, "consequence": CONSEQUENCES}
    frame = study.sensitivity(lm, DILEMMAS, vary, **options)
    assert set(frame["variant"]) == ({"released"} if vary == "signs" else {"anchored", "released"})
    first, second = (frame[(frame["variant"] == "released") & (frame["value"] == value)] for value in values)
    assert first["cosine"].to_numpy() == pytest.approx([1, 1])
    assert (first["largest"] == 0).all()
    assert (second["largest"] > 0.1).all()
    own, near, far = matrices(lm, 1)
    site = Site("resid_pre", 1)
    if vary == "length":
        near = lm.activations(" ".join([DUTY] * 3), site)[site][0]
    if vary == "signs":
        return
    k = 2 if vary == "components" else None
    gains = [sl.sara_gain(each, near, far, variant="released", components=k) for each in own]
    assert second["size"].to_numpy() == pytest.approx([float(gain.square().mean().sqrt()) for gain in gains], abs=1e-4)
    steer = [sl.Intervention({site: sl.Edit(gain=gain[None], when="all")}) for gain in gains]
    shift = preference(lm, DILEMMAS, steer)["preference"] - preference(lm, DILEMMAS)["preference"]
    np.testing.assert_allclose(second["shift"], shift, atol=1e-4)


def test_tables_of_sensitivity_and_texts_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "variant": "released",
            "value": [1, 1, 2, 2],
            "cosine": [1, 1, 0.5, -0.5],
            "largest": [0, 0, 1.0, 3.0],
            "size": [1.0, 1, 2, 4],
            "shift": [0.0, 2, 4, 6],
        }
    )
    assert study.sensitivity_table(frame).iloc[1].tolist() == ["released", 2, 0.0, -0.5, 0.5, 3.0, 3.0, 5.0]
    texts = pd.DataFrame(
        {
            "condition": "released",
            "perplexity": [2.0, 3.0, 400.0],
            "distinct": [0.5, 0.7, 0.9],
            "group": ["duty", "duty", "neither"],
        }
    )
    row = study.texts_table(texts).iloc[0]
    assert (row["perplexity"], row["consequence"], row["n"]) == (3.0, 0.0, 3)
    assert row[["distinct", "duty"]].tolist() == pytest.approx([0.7, 2 / 3])


def test_nothing_else_can_be_varied(lm: sl.SteerableModel) -> None:
    with pytest.raises(ValueError, match="vary 'colour' is unknown: choose among length, components, signs"):
        study.sensitivity(lm, DILEMMAS, "colour", layer=1)  # type: ignore[arg-type]


def test_decode_gains_are_those_of_the_running_model(lm: sl.SteerableModel) -> None:
    _, near, far = matrices(lm, 1)
    block, middle, added = lm.hf.model.layers[0], [], []  # whose sum enters block 1, before anything edits it there
    handles = [
        block.post_attention_layernorm.register_forward_pre_hook(lambda _, args: middle.append(args[0])),
        block.mlp.register_forward_hook(lambda _, __, output: added.append(output)),
    ]
    options: dict[str, Any] = {"max_new_tokens": 5, "temperature": 0.8, "top_p": 0.3}
    steer = sl.sara(lm, PROMPTS[0], attract=DUTY, repel=CONSEQUENCES, layer=1, variant="released")
    middle.clear()
    added.clear()
    complete(lm, PROMPTS[0], steer, samples=[0], **options)
    for handle in handles:
        handle.remove()
    entering = [x + y for x, y in zip(middle, added, strict=True)]
    live = [contrast(x[0], components(near), components(far)) for x in entering]
    frame = study.decode_gains(lm, PROMPTS[:1], layer=1, attract=DUTY, repel=CONSEQUENCES, **options)
    assert frame.groupby("step")["share"].sum().to_numpy() == pytest.approx(1)
    assert len(live) == 5
    for step in range(1, 5):
        assert live[step].abs().sub(1).abs().sub(1).abs().max() < 1e-5, "γ of one token is -2, 0 or 2"
        own = frame[frame["step"] == step].set_index("gamma")["share"]
        assert own.to_dict() == pytest.approx({g: float((live[step].round() == g).float().mean()) for g in (-2, 0, 2)})


def test_decode_texts_are_told_apart(lm: sl.SteerableModel) -> None:
    frame = study.decode_texts(
        lm, PROMPTS, Spy(), layer=1, attract=DUTY, repel=CONSEQUENCES, repeats=2, max_new_tokens=8, top_p=1.0
    )
    assert frame.groupby("condition").size().to_dict() == dict.fromkeys(
        ["unsteered", "anchored", "released", "released, prompt only"], 4
    )
    released = sl.sara(lm, PROMPTS[1], attract=DUTY, repel=CONSEQUENCES, layer=1, variant="released")
    alone = lm.generate(PROMPTS[1], released, n=2, max_new_tokens=8, temperature=0.8, batch_size=1)
    own = frame[(frame["condition"] == "released") & (frame["row"] == 1)]
    assert list(own["completion"]) == list(alone["completion"])
    only = frame[(frame["condition"] == "released, prompt only") & (frame["row"] == 1)]
    assert list(only["completion"]) != list(own["completion"])
    words = own["completion"].iloc[0].lower().split()
    assert own["distinct"].iloc[0] == len(set(words)) / len(words)
    scores = lm.logprobs(own["completion"].iloc[0], given=PROMPTS[1])["logprob"]
    assert own["perplexity"].iloc[0] == pytest.approx(float(np.exp(-scores.mean())), rel=1e-4)


# --- data ----------------------------------------------------------------------------------------------------------


def test_our_dilemmas_have_arguments_of_both_sides() -> None:
    every, test = study.load_dilemmas(), study.load_dilemmas("test")
    assert (len(every), len(test)) == (16, 4)
    assert every["id"].is_unique
    assert (every[["duty", "consequence"]].map(len) == 4).all().all()
    assert list(study.load_dilemmas("train")["split"].unique()) == ["train"]
    with pytest.raises(ValueError, match="split='dev' is unknown"):
        study.load_dilemmas("dev")


def test_the_authors_dilemmas_are_read_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goat = "The Goat\n\nA goat ate a hat.\n\nQuestions:\n\nWho pays?\nWho weeps?"
    text = f"Answer clearly.\n\n{goat}\n\nThe Hen\n\nA hen fled.\n\nQuestion: Why?"
    (tmp_path / "sara").mkdir()
    (tmp_path / "sara" / "Input_Dilemmas.txt").write_text(text)
    monkeypatch.setenv("STEERLAB_DATA", str(tmp_path))
    for dilemmas in (study.load_released_dilemmas(), study.load_released_dilemmas(tmp_path / "sara")):
        assert dilemmas.to_numpy().tolist() == [
            ["The Goat 1", "The Goat", "A goat ate a hat. Who pays?"],
            ["The Goat 2", "The Goat", "A goat ate a hat. Who weeps?"],
            ["The Hen 1", "The Hen", "A hen fled. Why?"],
        ]
    monkeypatch.delenv("STEERLAB_DATA")
    with pytest.raises(FileNotFoundError, match=r"no Input_Dilemmas\.txt in .*: get it from .* or set STEERLAB_DATA"):
        study.load_released_dilemmas()


def test_the_authors_own_files_are_read_whole() -> None:
    if not (Path(os.environ.get("STEERLAB_DATA", "")) / "sara" / "MFQ_Prompt.txt").is_file():
        pytest.skip("needs STEERLAB_DATA/sara: the text files of github.com/atlaie/ethical-llms")
    dilemmas, items = study.load_released_dilemmas(), mfq.load_items()
    assert (dilemmas["title"].nunique(), dilemmas["id"].nunique()) == (7, 15)
    assert items.groupby(["foundation", "part"]).size().to_dict() == {
        (name, part): 3 for name in mfq.FOUNDATIONS for part in ("relevance", "agreement")
    }


# --- moral foundations ---------------------------------------------------------------------------------------------


def test_items_are_read_by_their_numbers(tmp_path: Path) -> None:
    lines = [f"______{number}. Item {number}" for number in range(1, 33)]
    (tmp_path / "MFQ_Prompt.txt").write_text("Rate:\n" + "\n".join(lines))
    items = mfq.load_items(tmp_path)
    numbers = items.assign(number=items["text"].str.split().str[1].astype(int)).groupby("foundation")["number"]
    # As the released scoring script pairs them.
    assert {name: sorted(each) for name, each in numbers} == {
        "harm": [1, 7, 12, 17, 23, 28],
        "fairness": [2, 8, 13, 18, 24, 29],
        "ingroup": [3, 9, 14, 19, 25, 30],
        "authority": [4, 10, 15, 20, 26, 31],
        "purity": [5, 11, 16, 21, 27, 32],
    }
    assert set(items[items["part"] == "relevance"]["text"].str.split().str[1].astype(int)) == {
        *range(1, 6),
        *range(7, 17),
    }


def test_our_items_are_balanced() -> None:
    sizes = mfq.load_items(own=True).groupby(["foundation", "part"]).size()
    assert set(sizes.index.get_level_values(0)) == set(mfq.FOUNDATIONS)
    assert set(sizes) == {2}


def test_scores_are_expected_values_on_the_scale(lm: sl.SteerableModel) -> None:
    items = pd.DataFrame(
        {"foundation": ["harm", "purity"], "part": ["relevance", "agreement"], "text": ["pain", "Dirt."]}
    )
    frames = {"relevance": ["How far {item}?", "Weigh {item}:"], "agreement": ["{item} Yes?", "True: {item}"]}
    prompts = ["How far pain?", "Weigh pain:", "Dirt. Yes?", "True: Dirt."]
    asked: list[list[str]] = []

    def steer(given: Sequence[str]) -> list[sl.Intervention]:
        asked.append(list(given))
        return sl.sara(lm, given, attract=DUTY, repel=CONSEQUENCES, layer=1, coefficient=3)

    scale = (" king", " boy", " house")
    ids = [lm.encode(word)[0] for word in scale]
    answers = mfq.answer(lm, items, steer, frames=frames, scale=scale, batch_size=5)
    assert asked == [prompts]
    assert list(answers["frame"]) == [0, 1, 0, 1]
    chances = lm.logits(prompts, steer(prompts)).softmax(-1)[:, ids]
    np.testing.assert_allclose(answers["mass"], chances.sum(1), rtol=1e-3)
    np.testing.assert_allclose(answers["score"], (chances @ torch.tensor([0.0, 1, 2])) / chances.sum(1), atol=1e-3)
    assert (answers["score"] - mfq.answer(lm, items, frames=frames, scale=scale)["score"]).abs().max() > 1e-2


def test_a_prompt_is_read_once_for_all_answers(lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    items = pd.DataFrame({"foundation": ["harm"], "part": ["agreement"], "text": ["A horse is a king."]})
    frames = {"agreement": ["{item} Yes?", "True: {item}"]}
    long = (" king boy", " king horse", " king house")  # all begin with " king", as digits may with a space
    steer = partial(sl.sara, lm, attract=DUTY, repel=CONSEQUENCES, layer=1, coefficient=3)
    answers = mfq.answer(lm, items, steer, frames=frames, scale=long)
    prompts = [form.replace("{item}", items["text"][0]) for form in frames["agreement"]]
    for row, prompt in enumerate(prompts):
        logs = lm.logprobs(long, steer(prompts)[row], given=[prompt] * 3).groupby("row")["logprob"].sum()
        assert answers["mass"][row] == pytest.approx(np.exp(logs).sum(), rel=1e-4)
        assert answers["score"][row] == pytest.approx((np.exp(logs) * [0, 1, 2]).sum() / np.exp(logs).sum(), rel=1e-4)
    rows: list[int] = []
    real = lm.forward
    monkeypatch.setattr(lm, "forward", lambda batch, *rest: rows.append(len(batch.ids)) or real(batch, *rest))
    monkeypatch.setattr(lm, "logprobs", lambda *_, **__: pytest.fail("answers were read one by one"))
    mfq.answer(lm, items, frames=frames, scale=(" king", " boy", " house"))
    assert rows == [2]
    with pytest.raises(ValueError, match="differ in more than their last token"):
        mfq.answer(lm, items, frames=frames, scale=(" king boy", " house"))


def test_before_and_after_are_steered_by_the_two_stances(lm: sl.SteerableModel) -> None:
    items = pd.DataFrame({"foundation": ["harm"], "part": ["agreement"], "text": ["A horse is a king."]})
    frames = {"agreement": ["{item} Yes?", "True: {item}"]}
    options: dict[str, Any] = {"frames": frames, "scale": (" king", " boy")}
    scores = mfq.before_and_after(lm, items, layer=1, coefficient=3, **options).set_index("condition")

    def steer(prompts: Sequence[str]) -> list[sl.Intervention]:
        return sl.sara(lm, prompts, attract=study.CONSEQUENCES, repel=study.DUTY, layer=1, coefficient=3)

    alone = mfq.answer(lm, items, steer, **options)
    assert scores.loc["consequence", "score"].to_list() == pytest.approx(alone["score"].to_list())
    assert scores.loc["unsteered", "score"].to_list() == pytest.approx(mfq.answer(lm, items, **options)["score"])
    apart = scores.loc["duty", "score"].to_numpy() - scores.loc["consequence", "score"].to_numpy()
    assert np.abs(apart).max() > 1e-3
    tests = mfq.compare_all(scores.reset_index()).set_index("condition")
    assert list(tests.index) == ["duty", "consequence"]
    change = alone["score"].mean() - scores.loc["unsteered", "score"].mean()
    assert tests.loc["consequence", "difference"] == pytest.approx(change)


def test_profile_and_tests_take_wordings_as_people() -> None:
    def people(values: dict[str, list[float]]) -> pd.DataFrame:
        rows = [
            {"foundation": name, "frame": frame, "score": value + item}
            for name, each in values.items()
            for frame, value in enumerate(each)
            for item in (-0.5, 0.5)  # two items about the person's mean
        ]
        return pd.DataFrame(rows)

    before = people({"harm": [1, 2, 3], "purity": [2, 2.5, 3]})
    after = people({"harm": [1.5, 2.5, 3.5], "purity": [4, 4.1, 4.2]})
    profile = mfq.profile(before).set_index("foundation")
    half = 4.302653 / 3**0.5  # Student's of 1, 2, 3
    assert profile.loc["harm", ["score", "low", "high", "n"]].tolist() == pytest.approx([2, 2 - half, 2 + half, 3])
    tests = mfq.compare(before, after).set_index("foundation")
    assert tests.loc["purity", "effect"] == 1
    assert tests.loc["harm", "effect"] == pytest.approx(6 / 9)  # of nine pairs, six have the later one greater
    assert tests.loc["harm", ["difference", "low", "high"]].tolist() == [0.5] * 3  # every wording moves alike
    assert tests["p"].tolist() == pytest.approx([2 / 8] * 2)  # the least that three wordings can give
    assert tests["p_adjusted"].tolist() == pytest.approx([2 / 8] * 2)


# --- at full size --------------------------------------------------------------------------------------------------


def test_the_command_line_keeps_every_table_and_goes_on(
    lm: sl.SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "load", lambda _: lm)
    monkeypatch.setattr(command, "ANSWERS", {"temperature": 0.8, "top_p": 0.3, "max_new_tokens": 4})
    few = pd.DataFrame({"id": ["clerk", "girl"], "prompt": [f"{a} {b}" for a, b in (PROMPTS, PROMPTS[::-1])]})
    monkeypatch.setattr(command, "held_out_dilemmas", lambda: few)
    given = ["study", "--out", str(tmp_path), "--repeats", "1", "--judge", "words"]
    assert command.main(given) == 0
    effects = results.find("sara_effects", lm, tmp_path)
    assert effects is not None
    assert len(effects) == 8
    assert set(effects["n"]) == {2 * lm.n_layers}
    assert set(results.find("sara_layers", lm, tmp_path)["layer"]) == {0, 1, 2}  # type: ignore[index]
    assert set(results.find("sara_depths", lm, tmp_path)["depth"]) == set(study.DEPTHS)  # type: ignore[index]
    record = json.loads((tmp_path / "sara_effects.json").read_text())
    assert record["command"] == f"python -m steerlab.experiments.sara study --out {tmp_path} --repeats 1 --judge words"
    assert (record["seed"], record["repeats"], record["identity"]) == (0, 1, identity(lm))
    monkeypatch.setattr(sweep, "completion_call", lambda *_, **__: pytest.fail("the answers were kept"))
    command.main(given)
    pd.testing.assert_frame_equal(results.find("sara_effects", lm, tmp_path), effects)  # type: ignore[arg-type]
    assert results.find("sara_nothing", lm, tmp_path) is None


def test_equal_doses_come_as_they_are_asked_for(
    lm: sl.SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def studied(*arguments: object, **options: object) -> pd.DataFrame:
        asked.append({name: options[name] for name in ("variant", "dose") if name in options})
        short = {"repeats": 1, "max_new_tokens": 2, "progress": False}
        return study.dilemma_study(lm, DILEMMAS, **options | short)  # type: ignore[arg-type]

    monkeypatch.setattr(results, "load", lambda _: lm)
    monkeypatch.setattr(command, "dilemma_study", studied)
    doses = ["released", "anchored", "anchored, γ as large", "anchored, equal KL"]
    given = ["equal", "--out", str(tmp_path), "--judge", "words", "--kl", "0.01", "--layers", "0", "2"]
    command.main([*given, "--doses", *doses[1:]])
    command.main(given)
    assert asked == [{}, {"dose": "released"}, {"dose": 0.01}, {"variant": "released"}, *asked[:3]]
    whole, layers = (pd.read_csv(tmp_path / f"sara_{name}.csv") for name in ("equal", "equal_layers"))
    assert whole[["dose", "direction"]].to_numpy().tolist() == [
        [dose, to] for dose in doses for to in ("duty", "consequence")
    ]
    assert set(whole["n"]) == {2 * len(DILEMMAS)} and set(layers["layer"]) == {0, 2}


def test_another_models_answers_are_not_judged_by_the_bundled_models_words(
    lm: sl.SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "completion_call", lambda *_, **__: pytest.fail("answers were written"))
    monkeypatch.setattr(results, "load", lambda _: lm)
    ways = [
        lambda: study.dilemma_study(lm, DILEMMAS, **SHORT),
        lambda: study.dose_answers(lm, DILEMMAS, layer=1),
        lambda: study.decode_texts(lm, PROMPTS, layer=1),
        lambda: study.seed_example(lm, layer=1),
        lambda: command.main(["study", "--out", str(tmp_path)]),
    ]
    for way in ways:
        with pytest.raises(ValueError, match="the word judge reads the bundled model's language alone") as caught:
            way()
        assert "\n" not in str(caught.value)


# --- figures -------------------------------------------------------------------------------------------------------


def test_bars_are_the_shares_and_crosses_the_papers() -> None:
    frame = pd.concat(
        [
            answers("unsteered", "unsteered", [GROUPS[1], GROUPS[3], GROUPS[1], GROUPS[0]]),
            answers("sara", "duty", [GROUPS[0]] * 4),
        ]
    )
    ax = study.plot_shares(study.shares(frame), paper=True)
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers if hasattr(bars, "patches")]
    assert heights == [[0.25, 0.5, 0, 0.25], [1, 0, 0, 0]]
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    np.testing.assert_allclose(crosses[1].get_ydata()[:3], [0.833, 0.167, 0])
    assert [text.get_text() for text in ax.get_legend().get_texts()][:3] == [
        "paper, Gemma-2B",
        "unsteered",
        "sara to duty",
    ]


def test_decode_gains_and_profile_are_drawn_as_given() -> None:
    gains = pd.DataFrame(
        {"row": 0, "step": [0, 1] * 3, "gamma": [-2, -2, 0, 0, 2, 2], "share": [0.1, 0.2, 0.8, 0.5, 0.1, 0.3]}
    )
    lines = study.plot_decode_gains(gains).lines
    assert [list(line.get_ydata()) for line in lines] == [[0.1, 0.2], [0.8, 0.5], [0.1, 0.3]]
    profile = pd.DataFrame(
        {
            "condition": "before",
            "foundation": ["purity", "harm"],
            "score": [1.0, 4.0],
            "low": [0.5, 3.5],
            "high": [2.0, 5.0],
        }
    )
    ax = mfq.plot_profile(profile, paper=True)
    points = ax.containers[0].lines[0]  # type: ignore[attr-defined]
    assert list(points.get_xdata()) == [4, 0]
    assert list(points.get_ydata()) == [1.0, 4.0]
    assert list(ax.lines[-1].get_ydata()) == [4.74, 4.33, 3.16, 2.52, 3.36]
