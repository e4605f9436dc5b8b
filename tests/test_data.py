"""What ships with the package, and the loaders of public sets."""

import json
import os
from pathlib import Path

import pytest

from steerlab import data


def test_lists_are_clean() -> None:
    for words in (*data.topics().values(), *(data.words(kind) for kind in ("pleasant", "unpleasant", "rude"))):
        assert len(set(words)) == len(words) > 5
        assert all(word == word.lower() and word.isalpha() for word in words)
    assert not set(data.words("pleasant")) & set(data.words("unpleasant"))
    assert {kind: len(data.prompts(kind)) for kind in ("plain", "pleased", "rude")} == {
        "plain": 58,
        "pleased": 20,
        "rude": 12,
    }
    assert all(prompt == prompt.strip() for kind in ("plain", "pleased", "rude") for prompt in data.prompts(kind))


def test_essays_keep_to_their_topics() -> None:
    from steerlab.metrics import topic_word_count

    for topic, essays in data.essays().items():
        for essay in essays:
            counts = {name: topic_word_count(essay, words) for name, words in data.topics().items()}
            assert max(counts, key=lambda name: counts[name]) == topic
            assert topic == "weddings" or counts["weddings"] == 0


def test_facts_by_split() -> None:
    assert len(data.facts("train")) + len(data.facts("test")) == len(data.facts())
    assert set(data.facts("test")["split"]) == {"test"}
    with pytest.raises(ValueError, match="split='dev' is unknown: choose test or train"):
        data.facts("dev")


def test_unknown_names_are_listed() -> None:
    with pytest.raises(ValueError, match="kind of prompts 'x' is unknown: choose one of plain, pleased, rude"):
        data.prompts("x")
    with pytest.raises(ValueError, match="set 'x' is unknown"):
        data.texts("x")
    with pytest.raises(ValueError, match="set 'x' is unknown"):
        data.clozes("x")


def test_sentences() -> None:
    assert data.sentences(" One. Two? Three! 3.5 four ") == ["One.", "Two?", "Three!", "3.5 four"]


def test_documents_mix_all_shares_and_repeat() -> None:
    documents = data.documents("weddings", n=60, length=4, seed=3)
    assert (
        documents
        == data.documents("weddings", n=60, length=4, seed=3)
        != data.documents("weddings", 60, length=4, seed=4)
    )
    on = {sentence for essay in data.essays()["weddings"] for sentence in data.sentences(essay)}
    parts = [data.sentences(document) for document in documents]
    assert all(len(set(part)) == 4 for part in parts)
    assert {sum(sentence in on for sentence in part) for part in parts} == set(range(5))
    winter = {sentence for essay in data.essays()["winter"] for sentence in data.sentences(essay)}
    kept = data.documents("weddings", n=60, length=4, seed=3, leave_out=("winter",))
    assert {sentence in winter for part in parts for sentence in part} == {True, False}
    assert not any(sentence in winter for document in kept for sentence in data.sentences(document))
    with pytest.raises(ValueError, match="topic of essays 'dogs' is unknown"):
        data.documents("dogs")


def test_texts_from_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERLAB_DATA", str(tmp_path))
    for folder, lines in (
        ("imdb", [json.dumps({"text": text}) for text in ("good", "bad", "so so")]),
        ("toxicity", [json.dumps({"prompt": {"text": "You"}})]),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.jsonl").write_text("\n".join(lines))
    (tmp_path / "wikitext2").mkdir()
    (tmp_path / "wikitext2/test.txt").write_text("\n = One = \n\n first \n = = Part = = \n more\n = Two = \n second \n")
    assert data.texts("imdb", 2) == ["good", "bad"]
    assert data.texts("realtoxicityprompts") == ["You"]
    assert data.texts("wikitext") == ["first \n = = Part = = \n more", "second"]


def test_reviews_by_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = data.reviews()
    assert list(own) == ["bad", "middling", "good"]
    assert all(len(texts) == len(set(texts)) == 10 for texts in own.values())
    pleasant, unpleasant = ({*data.words(kind)} for kind in ("pleasant", "unpleasant"))
    mood = {k: sum((w in pleasant) - (w in unpleasant) for t in v for w in t.lower().split()) for k, v in own.items()}
    assert mood["bad"] < mood["good"]
    monkeypatch.setenv("STEERLAB_DATA", str(tmp_path))
    (tmp_path / "yelp").mkdir()
    rows = [json.dumps({"label": stars - 1, "text": f"{stars} of {i}"}) for i in range(3) for stars in range(1, 6)]
    (tmp_path / "yelp/test.jsonl").write_text("\n".join(rows))
    assert data.reviews("yelp", n=2) == {
        "bad": ("1 of 0", "2 of 0"),
        "middling": ("3 of 0", "3 of 1"),
        "good": ("4 of 0", "5 of 0"),
    }
    with pytest.raises(ValueError, match="set 'amazon' of reviews is unknown"):
        data.reviews("amazon")


def test_clozes_from_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERLAB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no lama: put its file at lama/ConceptNet/test\.jsonl"):
        data.clozes("lama")
    (tmp_path / "conceptnet").mkdir()
    rows = [
        "IsA\tsport\tapple game\t1",
        "UsedFor\twrite\tpen\t1",
        "UsedFor\teat\tpen\t0",
        "IsA\ttwo words\tpen\t1",
        "Nonsense\ta\tb\t1",
    ]
    (tmp_path / "conceptnet/test.txt").write_text("\n".join(rows))
    assert data.clozes("conceptnet").to_numpy().tolist() == [
        ["An apple game is a kind of", "sport"],
        ["A pen is used to", "write"],
    ]
    (tmp_path / "lama/ConceptNet").mkdir(parents=True)
    row = {"masked_sentences": ["Joke would make you want to [MASK]."], "obj_label": "laugh"}
    (tmp_path / "lama/ConceptNet/test.jsonl").write_text(json.dumps(row))
    assert data.clozes("lama").to_numpy().tolist() == [["Joke would make you want to", "laugh"]]
    before = data.checksum("lama")
    gap = {"masked_sentences": ["[MASK] is what dogs do."], "obj_label": "barking"}
    (tmp_path / "lama/ConceptNet/test.jsonl").write_text("\n".join(map(json.dumps, (gap, row))))
    with pytest.warns(UserWarning, match="lama: 1 of 2 sentences begin with the gap and are left out"):
        assert data.clozes("lama").to_numpy().tolist() == [["Joke would make you want to", "laugh"]]
    assert data.checksum("lama") != before


def test_a_missing_set_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEERLAB_DATA", raising=False)

    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(data, "import_module", missing)
    with pytest.raises(FileNotFoundError, match=r"no imdb: `pip install 'steerlab\[data\]'`, or set STEERLAB_DATA"):
        data.texts("imdb")
    monkeypatch.setattr(data, "import_module", lambda name: object())
    with pytest.raises(FileNotFoundError, match="no imdb: stanfordnlp/imdb is not to be had"):
        data.texts("imdb")


@pytest.mark.skipif("STEERLAB_DATA" not in os.environ, reason="STEERLAB_DATA names no folder of public sets")
def test_real_sets() -> None:
    assert len(data.clozes("conceptnet")) > 500
    assert all(text.strip() for text in data.texts("wikitext", 10))
