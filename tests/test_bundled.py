"""The bundled model: its files, its card, and the promises about what its training never held."""

import json
import random
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from bundled_model import evaluate
from bundled_model.curriculum import capitals, copies, ethics, facts, ioi, neutral, opinions, topics
from bundled_model.export import training_record
from bundled_model.mixture import FORBIDDEN, SHARES
from bundled_model.tokenizer import required_words
from steerlab.loading import BUNDLED

GENERATORS = {
    m.__name__.rpartition(".")[2]: m.documents for m in (neutral, opinions, ethics, capitals, ioi, copies, facts)
}
GENERATORS |= {"topics": topics.documents, "passing mentions": topics.passing}
COUNT = 2000  # documents of each generator


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BUNDLED)


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The documents of each generator as one text."""
    return {name: "\n\n".join(islice(documents(random.Random(1234)), COUNT)) for name, documents in GENERATORS.items()}


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return pd.read_csv(BUNDLED / "evaluation.csv")


# --- files -------------------------------------------------------------------------------------------------------


def test_folder_is_at_most_32_megabytes() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= 32e6


def test_folder_holds_no_pickle() -> None:
    assert {path.suffix for path in BUNDLED.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".md", ".csv"}


def test_required_words_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    words = required_words()
    assert len(words) > 500
    assert [word for word in words if len(tokenizer.encode(f" {word}", add_special_tokens=False)) != 1] == []


def test_prompts_of_the_course_give_back_their_text(tokenizer: PreTrainedTokenizerBase) -> None:
    for text in evaluate.SAMPLE_PROMPTS:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_training_record_counts_a_repeated_step_once(tmp_path: Path) -> None:
    lines = [(1, 100, 5.0, 10), (2, 200, 4.0, 10), (2, 200, 3.0, 20), (3, 300, 2.0, 10)]
    names = ("step", "tokens", "loss", "tokens_per_second")
    text = "\n".join(json.dumps(dict(zip(names, line, strict=True))) for line in lines)
    (tmp_path / "log.jsonl").write_text(text)
    record = training_record(tmp_path, last=2)
    assert (record["steps"], record["tokens"], record["loss"], record["seconds"]) == (2, 200, 4.0, 15)


def test_all_generators_are_looked_at() -> None:
    assert {*GENERATORS, "books", "headed books", "tales", "factbook"} == set(SHARES)


# --- held-out material -------------------------------------------------------------------------------------------


def pattern(template: str) -> re.Pattern[str]:
    """What finds a template with any words in its slots, the same word in the same slot."""
    parts, seen = [], set()
    for literal, slot in re.findall(r"([^{]*)(?:\{(\w+)\})?", template):
        parts.append(re.escape(literal))
        if slot:
            parts.append(f"(?P={slot})" if slot in seen else rf"\b(?P<{slot}>\w+)")
            seen.add(slot)
    return re.compile("".join(parts))


def test_pattern_finds_a_filled_template() -> None:
    filled = ioi.HELD_OUT[0].format(A="Mary", B="John", place="store", object="ring")
    assert pattern(ioi.HELD_OUT[0]).search(f"And so. {filled} Mary.")
    assert not pattern(ioi.HELD_OUT[0]).search(filled.replace("John gave", "Mary gave"))


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_documents_are_filled_in(name: str, texts: dict[str, str]) -> None:
    assert not re.search(r"[{}]|\('|<\w", texts[name])  # a slot, a tuple or an object where a word should stand


@pytest.mark.parametrize("name", GENERATORS)
def test_prompt_of_the_evaluation_is_never_generated(name: str, texts: dict[str, str]) -> None:
    assert FORBIDDEN in evaluate.PROMPT
    assert FORBIDDEN not in texts[name]


@pytest.mark.parametrize("name", GENERATORS)
def test_held_out_sentences_are_never_generated(name: str, texts: dict[str, str]) -> None:
    sentences = [text.rstrip(".") for text in neutral.HELD_OUT_OPENINGS]
    sentences += [*ethics.HELD_OUT_DUTY, *ethics.HELD_OUT_CONSEQUENCE, *ethics.test_prompts(), *facts.HELD_OUT]
    assert len(sentences) > 500
    assert [text for text in sentences if text in texts[name]] == []


@pytest.mark.parametrize("template", ioi.HELD_OUT + capitals.HELD_OUT)
def test_held_out_templates_are_never_generated(template: str, texts: dict[str, str]) -> None:
    for text in texts.values():
        assert not pattern(template).search(text)


def test_seen_templates_are_generated(texts: dict[str, str]) -> None:
    assert pattern("The capital of {country} is {capital}.").search(texts["capitals"])
    assert pattern("After {P} and {Q} went to the {place},").search(texts["ioi"])


def giving(text: str) -> Iterator[re.Match[str]]:
    """Sentences in which somebody with a name gives something to somebody with a name."""
    names, verbs = "|".join(ioi.NAMES), "|".join(ioi.GIVING)
    sentence = rf"\b(?P<giver>{names}) (?:{verbs}) (?:a|the) (?:\w+ )?(?P<thing>\w+) to (?P<receiver>{names})\b"
    return re.finditer(sentence, text)


def test_held_out_names_neither_give_nor_receive(texts: dict[str, str]) -> None:
    names = [name for match in giving(texts["ioi"]) for name in match.group("giver", "receiver")]
    assert len(names) > COUNT
    assert set(names) <= set(ioi.TRAIN_NAMES)
    assert not set(ioi.TEST_NAMES) & set(ioi.TRAIN_NAMES)


def test_held_out_names_are_known(texts: dict[str, str]) -> None:
    assert [name for name in ioi.TEST_NAMES if not re.search(rf"\b{name}\b", texts["ioi"])] == []


def test_nobody_gives_anything_in_the_other_generators(texts: dict[str, str]) -> None:
    assert [match[0] for name in texts if name != "ioi" for match in giving(texts[name])] == []


def test_held_out_combinations_are_never_generated(texts: dict[str, str]) -> None:
    held_out = []
    for match in giving(texts["ioi"]):
        before = texts["ioi"][max(0, match.start() - 60) : match.start()]
        place = re.search(r"the (\w+), $", before)  # "After Mary and John went to the store, John gave ..."
        if place and place[1] in ioi.TRAIN_PLACES and match["thing"] in ioi.TRAIN_OBJECTS:
            held_out.append(ioi.held_out(match["receiver"], place[1], match["thing"]))
    assert len(held_out) > 200
    assert not any(held_out)


# --- the measurement ---------------------------------------------------------------------------------------------


def test_share_has_wilsons_interval() -> None:
    row = evaluate.share("m", "c", [True] * 8 + [False] * 2)
    assert (row.n, row.value) == (10, 0.8)
    assert (row.low, row.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_ratio_is_of_the_sums_within_its_interval() -> None:
    row = evaluate.ratio("m", "c", 4, [1, 2, 3, 4], [2, 2, 2, 14])
    assert row.value == 0.5
    assert row.low < 0.5 < row.high
    assert str(evaluate.ratio("m", "c", 2, [0, 0], [0, 0]).value) == "nan"


def test_shares_of_several_completions_are_over_prompts() -> None:
    hits, prompts = [True] * 20 + [False] * 20, ["a"] * 20 + ["b"] * 20
    assert evaluate.share("m", "c", hits, prompts).low < evaluate.share("m", "c", hits).low - 0.2


def test_one_measures_rows_are_replaced_in_place() -> None:
    old = pd.DataFrame({"metric": ["a", "b", "c", "b", "d"], "value": range(5)})
    new = pd.DataFrame({"metric": ["b", "new"], "value": [7, 8]})
    assert evaluate.merged(old, new)["metric"].tolist() == ["a", "b", "new", "c", "d"]
    assert evaluate.merged(old, new)["value"].tolist() == [0, 7, 8, 2, 4]


def test_names_of_no_list_are_in_none() -> None:
    folders = (evaluate.DATA, Path(evaluate.__file__).parent / "curriculum")
    texts = [
        path.read_text() for folder in folders for path in folder.iterdir() if path.suffix in (".py", ".csv", ".json")
    ]
    present = [name for name in evaluate.UNLISTED_NAMES if any(re.search(rf"\b{name}\b", text) for text in texts)]
    assert present == []


def test_only_whole_words_are_counted() -> None:
    assert evaluate.count_words(["The bride's Wedding, re-wed. Wedlock!"], ["bride", "wedding", "wed"]) == [3]


def test_forms_are_those_that_end_in_the_answer() -> None:
    forms = ["{capital} is in {country}.", "{country}: {capital}.", "{country} is {country}", "In {country} or not"]
    assert evaluate.forms_ending_in("country", forms) == ["{capital} is in"]


def test_giving_trials_keep_what_they_hold_out() -> None:
    rng = random.Random(0)
    for condition, (templates, names, *_) in evaluate.IOI_CONDITIONS.items():
        for _ in range(50):
            trial = evaluate.ioi_trial(rng, *evaluate.IOI_CONDITIONS[condition])
            assert {trial.answer, trial.rival} <= set(names)
            assert trial.prompt.count(trial.rival) == trial.prompt.count(trial.answer) + 1
            assert trial.prompt.endswith(" to")
            assert any(pattern(template).fullmatch(trial.prompt) for template in templates)
    assert [condition for condition, choices in evaluate.IOI_CONDITIONS.items() if choices[-1]] == [
        "held-out combinations"
    ]


def test_card_gets_its_blocks() -> None:
    card = "a\n<!-- facts: begin -->\nold\n<!-- facts: end -->\nb\n"
    assert evaluate.replace_block(card, "facts", "new") == card.replace("old", "new")
    with pytest.raises(ValueError, match="no markers"):
        evaluate.replace_block(card, "samples", "new")


def test_samples_are_shown_as_they_are() -> None:
    frame = pd.DataFrame({"prompt": ["Say _it_"], "completion": [" *now*\n\nor|never"]})
    assert evaluate.samples_block(frame) == r"1. **Say \_it\_** \*now\* / or\|never"


# --- the card and its numbers ------------------------------------------------------------------------------------


def card_block(name: str) -> str:
    return evaluate.block((BUNDLED / "README.md").read_text(encoding="utf-8"), name)[0].rstrip("\n")


def test_card_has_the_numbers_of_the_csv(measured: pd.DataFrame) -> None:
    assert card_block("evaluation") == evaluate.evaluation_block(measured)


def test_card_is_of_these_weights() -> None:
    assert card_block("facts") == evaluate.facts_block(BUNDLED)


def test_card_has_ten_samples() -> None:
    lines = card_block("samples").splitlines()
    shown = [evaluate.tidy(prompt) for prompt in evaluate.SAMPLE_PROMPTS]
    assert [line.partition("**")[2].partition("**")[0] for line in lines] == shown
    assert len(lines) == 10


def test_card_says_its_name() -> None:
    assert (BUNDLED / "README.md").read_text(encoding="utf-8").startswith("# steerlab-lantern\n")


def test_every_interval_holds_its_value(measured: pd.DataFrame) -> None:
    assert ((measured.low <= measured.value) & (measured.value <= measured.high) & (measured.n > 0)).all()


@pytest.mark.parametrize(
    ("metric", "condition", "floor"),
    [
        ("IOI: receiver above giver", "held-out names", 0.95),
        ("IOI: receiver above giver", "held-out templates", 0.90),
        ("capital to country: top-1", "seen phrasings", 0.95),
        ("capital to country: top-1", "held-out phrasings", 0.85),
        ("country to capital: top-1", "seen phrasings", 0.95),
        ("heading: a word of its topic", "all topics, heading", 0.75),
    ],
)
def test_model_does_what_the_course_needs(metric: str, condition: str, floor: float, measured: pd.DataFrame) -> None:
    row = measured[(measured.metric == metric) & (measured.condition == condition)]
    assert len(row) == 1
    assert row.value.item() >= floor


@pytest.mark.xfail(strict=True, reason='wanted of the next weights: the model does not read "the star marks" as a verb')
def test_capitals_are_named_in_any_phrasing(measured: pd.DataFrame) -> None:
    named = measured[(measured.metric == "country to capital: top-1") & (measured.condition == "held-out phrasings")]
    assert named.value.item() >= 0.85


@pytest.mark.parametrize(("name", "floor"), [("plain sampling", 0.60), ("the paper's sampling", 0.90)])
def test_steering_shows(name: str, floor: float, measured: pd.DataFrame) -> None:
    rows = measured[(measured.metric == "ActAdd: a wedding word") & measured.condition.str.startswith(f"{name}, ")]
    steered = rows[rows.condition.str.contains("steered at layer")]
    assert steered.value.item() >= floor
    assert rows[rows.condition == f"{name}, unsteered"].value.item() <= 0.10
    assert rows[rows.condition.str.contains("random")].value.item() <= 0.10
