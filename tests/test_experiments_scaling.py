"""The experiments of activation scaling on a tiny model, against numbers that can be worked out otherwise."""

import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from families import steerable

import steerlab as sl
from steerlab.experiments import results, scaling
from steerlab.experiments.scaling import __main__ as command
from steerlab.loop import FitOptions
from steerlab.objective import difference
from steerlab.tasks import answer_tokens

pareto = import_module("steerlab.experiments.scaling.pareto")
held_out = import_module("steerlab.experiments.scaling.held_out")
QUICK = {"steps": 4, "patience": 2, "batch_size": 4, "progress": False}


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return steerable("llama")


@pytest.fixture(scope="module")
def task(lm: sl.SteerableModel) -> sl.tasks.Task:
    return sl.tasks.ioi(lm, 12, orders=["ABBA"])


def scalars(lm: sl.SteerableModel, place: sl.Place = "resid_post") -> sl.Intervention:
    method = sl.ActivScalar((place,))
    alphas = 0.3 * torch.randn(3, 15, 1, generator=torch.Generator().manual_seed(0))
    return method.intervention(method.sites(lm), alphas, lm.info())


def test_the_front_is_what_nothing_beats() -> None:
    points = pd.DataFrame({"e": [1.0, 2.0, 3.0, 2.0, 1.0], "f": [3.0, 2.0, 1.0, 3.0, 3.0]})
    assert pareto.undominated(points).tolist() == [True, True, True, False, True]


def test_pareto_measures_every_setting_on_both_sides(
    lm: sl.SteerableModel, task: sl.tasks.Task, tmp_path: Path
) -> None:
    objectives = [sl.Objective(0, 0, 100), sl.Objective(100, 0, 0)]
    frame = scaling.pareto(lm, task, objectives=objectives, seeds=(0, 1), folder=tmp_path, **QUICK)
    assert len(frame) == 2 * 2 * 2 * 2
    assert len(list(tmp_path.glob("*.safetensors"))) == 8
    assert frame.groupby("method")["parameters"].unique().map(list).to_dict() == {
        "ActivScalar": [90],
        "SteerVec": [2880],
    }
    for (_, split), rows in frame.groupby(["seed", "split"]):
        assert rows["front_faithfulness"].any() and rows["front_minimality"].any(), split
    kept = sl.fit_grid(lm, task.train, sl.ActivScalar(), objectives, seeds=(0, 1), folder=tmp_path, **QUICK)
    metrics = sl.evaluate(lm, task.test, kept[2].intervention).set_index("metric")["value"]
    (row,) = frame.query("method == 'ActivScalar' and margin == 100 and seed == 0 and split == 'test'").to_dict(
        "records"
    )
    for metric in ("effectiveness", "faithfulness", "difference", "flip_rate", "minimality", "locations"):
        assert row[metric] == pytest.approx(metrics[metric], rel=1e-4), metric


def test_the_map_has_a_scalar_for_every_token(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    row = task.test.iloc[0]
    frame = scaling.scalars_by_token(lm, scalars(lm), row)
    assert frame["token"].tolist() == lm.tokens(row["prompt"]) * 3
    assert frame["role"].tolist() == list(row["roles"]) * 3
    assert frame["value"].iloc[0] == pytest.approx(float(scalars(lm).edits[0][1].gain[0]))  # type: ignore[index]
    vectors = sl.SteerVec(("resid_post",))
    with pytest.raises(ValueError, match="only scalars have a map"):
        scaling.scalars_by_token(lm, vectors.intervention(vectors.sites(lm), torch.ones(3, 15, 32), {}), row)


def test_the_dynamic_map_is_the_change_it_makes(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    method, site = sl.DynScalar(("mlp_out",), layers=(1,)), sl.Site("mlp_out", 1)
    probe = 0.1 * torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(0))
    steer = method.intervention(method.sites(lm), probe, {})
    row = task.test.iloc[0]
    before, after = (lm.activations(row["prompt"], site, s)[site][0] for s in (None, steer))
    ratio = ((after - before) * before).sum(-1) / before.square().sum(-1)
    scalars = scaling.scalars_by_token(lm, steer, row)["value"]
    np.testing.assert_allclose(scalars[1:], ratio[1:], rtol=1e-3, atol=1e-5)  # BOS is a vector of zeros in this model


def test_a_role_is_averaged_over_its_tokens() -> None:
    maps = pd.DataFrame({"place": "mlp_out", "layer": 0, "role": ["S", "S", "IO"], "value": [1.0, 3.0, 5.0]})
    frame = scaling.by_role(maps)
    assert frame[["role", "value", "n"]].values.tolist() == [["S", 2.0, 2], ["IO", 5.0, 1]]


def test_the_sweep_passes_through_the_bare_model(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    frame = scaling.beta_sweep(lm, task.test, scalars(lm), betas=(-1, 0, 1))
    scored = sl.score(lm, task.test, scalars(lm))
    for beta, column in ((-1, "minus"), (0, "bare"), (1, "plus")):
        np.testing.assert_allclose(frame.loc[frame["beta"] == beta, "difference"], scored[column], rtol=1e-4, atol=1e-5)
    ratio = np.log(frame["p_correct"] / frame["p_wrong"])
    np.testing.assert_allclose(ratio, frame["difference"], rtol=1e-3, atol=1e-4)


def test_a_fit_for_each_prompt_alone(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    frame = scaling.example_maps(lm, task.test.head(2), layers_of(lm), **QUICK)
    assert frame.groupby("row").size().tolist() == [15, 15]
    assert not np.allclose(*(rows["value"] for _, rows in frame.groupby("row")))


def layers_of(lm: sl.SteerableModel) -> sl.ActivScalar:
    return sl.ActivScalar(("resid_post",), layers=(0,))


def test_what_a_vector_does_to_norm_and_direction(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    method = sl.SteerVec(("resid_post",), layers=(0,))
    site = sl.Site("resid_post", 0)
    h = lm.activations(list(task.test["prompt"]), site)[site]
    away = method.intervention((site,), h[:1].clone(), {})  # v = h of the first prompt: doubled there
    frame = scaling.vector_changes(lm, task.test.head(1), away)
    frame = frame[frame["position"] > 0]  # BOS is a vector of zeros in this model
    assert frame["cosine"].tolist() == pytest.approx([1.0] * 14)
    assert frame["change"].tolist() == pytest.approx(h[0, 1:].norm(dim=-1).tolist(), rel=1e-4)
    assert frame["relative"].tolist() == pytest.approx([1.0] * 14)


def test_runs_agree_with_themselves(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    fits = [sl.fit(lm, task.train, sl.SteerVec(("resid_post",)), seed=seed, **QUICK) for seed in (0, 1)]
    again = sl.Fit(fits[0].intervention, fits[0].history, fits[0].method, fits[0].objective, seed=9)
    scalar = sl.fit(lm, task.train, sl.ActivScalar(("resid_post",)), **QUICK)
    frame = scaling.run_agreement(lm, task.test, [*fits, again], [scalar]).set_index(["first", "second"])
    assert frame.loc[("SteerVec 0", "SteerVec 9"), "tau"] == pytest.approx(1)
    assert frame.loc[("SteerVec 0", "SteerVec 9"), "cosine"] == pytest.approx(1, abs=1e-5)
    assert abs(frame.loc[("SteerVec 0", "SteerVec 1"), "cosine"]) < 0.9
    assert np.isnan(frame.loc[("SteerVec 0", "ActivScalar 0"), "cosine"])


@pytest.mark.parametrize("capitals", [False, True])
def test_lengths_that_were_never_seen(lm: sl.SteerableModel, capitals: bool) -> None:
    task = scaling.task_of_lengths(lm, 20, capitals=capitals)
    frame = scaling.lengths(lm, task, seeds=(0,), **QUICK)
    seen = frame.groupby("length")["seen"].agg(["min", "max"]).astype(bool)
    assert (seen["min"] == seen["max"]).all()
    assert seen["min"].sum() == 2 and len(seen) == 5  # two openings in the training, three more in the test
    assert frame.groupby("split")["row"].max().to_dict() == {"train": len(task.train) - 1, "test": len(task.test) - 1}
    sizes = frame["split"].value_counts()
    assert sizes.to_dict() == {"train": len(task.train), "test": len(task.test)}
    assert frame.loc[frame["split"] == "train", "seen"].all()


def test_the_strongest_scalars_of_each_prompt(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    alphas = torch.zeros(3, 15, 1)
    alphas[1, 4], alphas[2, 7] = 2.0, -3.0
    method = sl.ActivScalar(("resid_post",))
    frame = scaling.strongest(lm, task.test.head(2), method.intervention(method.sites(lm), alphas, {}))
    ends = [("largest", 1, 4, 2.0), ("smallest", 2, 7, -3.0)]
    assert frame[["which", "layer", "position", "value"]].values.tolist() == [list(end) for end in ends * 2]
    assert frame["role"].iloc[1] == task.test["roles"].iloc[0][7]


def test_mean_answers_are_means_over_prompts() -> None:
    sweep = pd.DataFrame({"beta": [0.0, 0.0, 1.0], "p_correct": [0.2, 0.4, 0.9], "p_wrong": [0.5, 0.1, 0.05]})
    frame = scaling.mean_answers(sweep).set_index(["beta", "answer"])
    assert frame["p"].tolist() == pytest.approx([0.3, 0.3, 0.9, 0.05])
    half = 12.706205 * 0.1  # Student's of 0.2 and 0.4
    assert frame.loc[(0.0, "correct"), ["low", "high"]].tolist() == pytest.approx([0.3 - half, 0.3 + half])


def test_equal_effectiveness_is_read_off_a_front_chosen_on_the_training_side() -> None:
    common = {"method": "ActivScalar", "seed": 0, "margin": 1.0, "lambda_f": 0.0, "flip_rate": 1.0, "kl": 1.0}
    rows = [
        (0.0, True, 4.0, 1.0),
        (1.0, True, 0.0, 9.0),
        (9.0, False, 2.0, 0.1),  # the best on the test side, but not on the training side's front
    ]
    frame = pd.DataFrame(
        common
        | {"lambda_m": weight, "split": split, "front_faithfulness": chosen if split == "train" else not chosen}
        | {"effectiveness": effectiveness, "faithfulness": faithfulness, "numbers": weight, "parameters": 5}
        for weight, chosen, effectiveness, faithfulness in rows
        for split in ("train", "test")
    )
    table = scaling.at_equal_effectiveness(frame, levels=(1, 4, 5))
    assert table[["level", "faithfulness", "numbers", "parameters"]].values.tolist() == [[1, 7, 0.75, 5], [4, 1, 0, 5]]


def test_a_finished_fit_is_found_again(lm: sl.SteerableModel, task: sl.tasks.Task, tmp_path: Path) -> None:
    first, again = (
        scaling.table(lm, [task], [sl.ActivScalar()], seeds=(0,), folder=tmp_path, **QUICK) for _ in range(2)
    )
    pd.testing.assert_frame_equal(first, again)  # the seconds of the fit too
    assert first["seconds"].iloc[0] > 0


def test_the_command_shares_the_grid_and_goes_on(
    lm: sl.SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (results, pareto):
        monkeypatch.setattr(module, "load", lambda name: lm)
    options = {"seeds": [0, 1], "folder": tmp_path / "fits", "steps": 2, "batch_size": 2, "patience": 15, "lr": 0.05}
    half = pareto._share(None, ["ioi"], 8, 2, options, sl.Objective.grid(*[(0.0, 10.0)] * 3)[::2])
    assert len(half) == 4 * 2 * 2 * 2
    assert len(list((tmp_path / "fits").glob("*.safetensors"))) == 4 * 2 * 2  # settings, methods, seeds
    ask = ["pareto", "--n", "8", "--grid", "0", "10", "--seeds", "0", "1", "--steps", "2", "--batch-size", "2"]
    ask += ["--tasks", "ioi", "--out", str(tmp_path / "out"), "--fits", str(tmp_path / "fits")]
    assert command.main(ask) == 0
    assert len(list((tmp_path / "fits").glob("*.safetensors"))) == 8 * 2 * 2
    frame = pd.read_csv(tmp_path / "out" / "scaling_pareto.csv")
    assert len(frame) == 8 * 2 * 2 * 2 and (frame["steps"] == 2).all()
    assert (tmp_path / "out" / "scaling_pareto.json").exists()


def test_the_command_takes_layers(lm: sl.SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "load", lambda name: lm)
    ask = ["table", "--n", "4", "--seeds", "0", "--steps", "1", "--batch-size", "2", "--tasks", "ioi"]
    ask += ["--layers", "1", "2", "--out", str(tmp_path), "--fits", str(tmp_path / "fits")]
    assert command.main(ask) == 0
    frame = pd.read_csv(tmp_path / "scaling_table.csv")
    own = {"attn_out+mlp_out, layers 1 to 2", "resid_post, layers 1 to 2"}
    assert set(frame["places"]) == own | {"attn_out+mlp_out, layers 2 to 2"}  # and the upper half of them


@pytest.mark.parametrize("numbers", [90, 1728, 25920])
def test_an_estimated_gradient_points_as_near_as_it_says(numbers: int) -> None:
    rng, cosines = np.random.default_rng(0), []
    for _ in range(100):
        gradient, delta = rng.normal(size=numbers), rng.choice([-1.0, 1.0], (4, numbers))
        estimate = ((delta @ gradient)[:, None] * delta).mean(0)
        cosines.append(estimate @ gradient / np.linalg.norm(estimate) / np.linalg.norm(gradient))
    options = FitOptions(gradient="spsa", directions=4)
    assert options.cosine(numbers) == pytest.approx(np.mean(cosines), rel=0.15)
    assert FitOptions().cosine(numbers) == 1


def test_a_fit_whose_estimates_are_noise_says_so(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    few = {"steps": 1, "batch_size": 1, "gradient": "spsa", "progress": False}
    with pytest.warns(UserWarning, match=r"mostly noise for 2,880 numbers \(cosine with the gradient about 0.037\)"):
        sl.fit(lm, task.train, sl.SteerVec(), **few)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sl.fit(lm, task.train, sl.ActivScalar(), **few)


def test_a_shuffled_control_keeps_the_numbers() -> None:
    lm = steerable("llama")
    learned = scalars(lm)
    control = scaling.shuffled_locations(learned)
    values = [sorted(sl.locations(each)["value"]) for each in (learned, control)]
    assert values[0] == pytest.approx(values[1])
    assert sl.locations(control)["value"].tolist() != sl.locations(learned)["value"].tolist()


def test_the_table_has_both_conditions(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    frame = scaling.table(lm, [task], [sl.ActivScalar(), sl.DynScalar()], seeds=(0,), **QUICK)
    assert frame[["method", "condition"]].values.tolist() == [
        [method, condition] for method in ("ActivScalar", "DynScalar") for condition in ("learned", "shuffled")
    ]
    assert frame.groupby("method")["minimality"].agg(lambda side: side.max() - side.min()).max() < 1e-4


def test_patching_every_position_of_the_input_is_the_counterpart(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    frame = scaling.patching(lm, task.test, ("resid_pre",), progress=False)
    answers = answer_tokens(lm, task.test)
    prompts, counter = (lm.logits(list(task.test[side])) for side in ("prompt", "counter"))
    fall = float((difference(prompts, *answers) - difference(counter, *answers)).mean())
    # only the second name differs, so at the input of layer 0 that position carries everything
    first = frame[frame["layer"] == 0].set_index("position")["patching"]
    changed = list(task.test["roles"].iloc[0]).index("S2")
    assert first[changed] == pytest.approx(fall, rel=1e-4)
    assert first.drop(changed).abs().max() < 1e-4
    # attribution is the slope of the same fall at its start
    site, given = sl.Site("resid_pre", 0), list(task.test["prompt"])
    h, other = (lm.activations(list(task.test[side]), site)[site] for side in ("prompt", "counter"))
    sides = []
    for step in (1e-2, -1e-2):
        edits = [sl.Edit(shift=step * gap[[changed]], anchor="front", start=changed) for gap in other - h]
        sides.append(difference(lm.logits(given, [sl.Intervention({site: edit}) for edit in edits]), *answers))
    slope = float((sides[1] - sides[0]).mean() / 2e-2)
    assert frame["attribution"].iloc[changed] == pytest.approx(slope, rel=0.02)
    agreement = scaling.map_agreement(frame.assign(place="resid_post"), scalars(lm))
    assert agreement["locations"].tolist() == [45, 45] and agreement["tau"].abs().max() < 1
    with pytest.raises(ValueError, match="needs a column `counter`"):
        scaling.patching(lm, task.test.drop(columns="counter"), progress=False)


def test_choices_and_gradients(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    frame = scaling.choices(lm, task, sl.Objective(0, 10, 0.1), lr=0.1, **QUICK)
    values = frame[frame["metric"] == "effectiveness"].set_index("choice")["value"]
    assert values.nunique() == len(values) == 5
    parameters = frame[frame["metric"] == "parameters"].set_index("choice")["value"]
    assert parameters["BOS left alone"] == parameters["as decided"] - 6
    runs = scaling.gradients(lm, task, directions=2, **QUICK)
    assert runs.groupby("gradient")["forwards"].max().to_dict() == {"exact": 4 * 8, "spsa": 4 * 4 * 8}


def test_restarts_differ_in_what_their_names_say(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    short = {"patience": 2, "steps": 4}
    variants = {
        name: (short, start, price) for name, (_, start, price) in scaling.VARIANTS.items() if "steps" not in name
    }
    frame = scaling.restarts(lm, task, [sl.ActivScalar()], variants=variants, seeds=(0, 1), **QUICK)
    assert frame.groupby(["variant", "split"], sort=False).size().tolist() == [2] * 2 * len(variants)
    loss = frame[frame["seed"] == 0].groupby("variant")["loss"].first()
    assert loss["as by default"] == loss["patient"]  # here nothing is changed but the options, which are the same
    assert loss.nunique() == len(variants) - 1
    test = frame.query("variant == 'patient' and seed == 0 and split == 'test'").iloc[0]
    [fit] = sl.fit_grid(lm, task.train, sl.ActivScalar(), [scaling.SOFT], seeds=(0,), **QUICK)
    assert test["flip_rate"] == sl.score(lm, task.test, fit)["flips"].mean()


def test_held_out_prompts_are_scored_at_each_strength(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    """As `score` does it, and the new answer is first where the logits say so."""
    steer = scalars(lm, "mlp_out")
    rows = held_out.by_strength(lm, task.test, steer, [0.5, 1.0])
    correct, wrong = answer_tokens(lm, task.test)
    for beta, own in rows.groupby("beta"):
        expected = sl.score(lm, task.test, beta * steer)
        for column in ("bare", "effectiveness", "faithfulness"):
            assert own[column].to_numpy() == pytest.approx(expected[column].to_numpy(), abs=1e-4), column
        assert own["flips"].tolist() == expected["flips"].tolist()
        for i, prompt in enumerate(task.test["prompt"]):
            new, sign = (wrong[i], -1) if own["bare"].iloc[i] > 0 else (correct[i], 1)
            first = lm.logits(prompt, sign * beta * steer).argmax() == new
            assert own["first"].iloc[i] == bool(first)


def test_faithfulness_is_compared_where_both_are_as_effective() -> None:
    """Vectors come to 4 at β = 1, which scalars reach halfway between 0.5 and 1."""
    rows = [
        (method, beta, row, effect, paid * (1 + row))
        for method, points in {"a": [(0.5, 6, 1), (1.0, 2, 3)], "b": [(0.5, 8, 2), (1.0, 4, 5)]}.items()
        for beta, effect, paid in points
        for row in range(3)
    ]
    frame = pd.DataFrame(rows, columns=["method", "beta", "row", "effectiveness", "faithfulness"])
    (result,) = scaling.faithfulness_at_equal_effectiveness(frame).to_dict("records")
    assert result["level"] == 4 and (result["first_beta"], result["second_beta"]) == (0.75, 1.0)
    assert result["first"] == pytest.approx(2 * 2) and result["second"] == pytest.approx(5 * 2)
    assert result["difference"] == pytest.approx(6) and result["better"] == 1 and result["n"] == 3


def test_the_command_keeps_held_out_flips_with_intervals(
    lm: sl.SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "load", lambda model: lm)
    options = ["--out", str(tmp_path), "--fits", str(tmp_path), "--n", "12", "--tasks", "ioi", "--steps", "2"]
    assert command.main(["held-out", *options, "--betas", "0.5", "1"]) == 0
    table = pd.read_csv(tmp_path / "scaling_held_out.csv")
    assert set(table["metric"]) == {"bare", "flips", "first", "effectiveness", "faithfulness"}
    assert set(table["method"]) == {"ActivScalar", "SteerVec"} and set(table["beta"]) == {0.5, 1.0}
    assert (table["n"] == 6).all() and table[["low", "high"]].notna().all(axis=None)
    assert len(pd.read_csv(tmp_path / "scaling_equal.csv")) == 1
