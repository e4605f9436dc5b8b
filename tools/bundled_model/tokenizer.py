"""The model's own byte-level BPE, in which every word that an experiment asks for is one token."""

import csv
import json
import random
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from .curriculum import ethics, opinions, topics
from .mixture import Mixture

DATA = Path(__file__).parents[2] / "steerlab" / "data"
VOCABULARY = 8192
END = "<|endoftext|>"
SAMPLE_DOCUMENTS = 60_000
FORCED_COPIES = 4_000


def column(file: str, name: str) -> list[str]:
    """One column of a data file of the package."""
    with (DATA / file).open(newline="", encoding="utf-8") as handle:
        return [row[name] for row in csv.DictReader(handle)]


def required_words() -> list[str]:
    """Words that must each be one token when a space stands before them."""
    words: list[str] = column("names.csv", "name") + column("places.csv", "place") + column("objects.csv", "object")
    words += column("countries.csv", "country") + column("countries.csv", "capital") + column("facts.csv", "answer")
    for lexicon in topics.LEXICONS.values():
        words += lexicon["words"] + lexicon["heads"]
    words += [*opinions.POSITIVE, *opinions.NEGATIVE, *ethics.DUTY_WORDS, *ethics.CONSEQUENCE_WORDS]
    words += ["Love", "Hate", "love", "hate", "Anger", "Calm", "anger", "calm", "Duty", "Consequences"]
    return sorted({word for word in words if " " not in word})


def train_tokenizer(mixture: Mixture, seed: int = 0) -> PreTrainedTokenizerFast:
    """Learn the merges from a sample of the training mixture, with the required words made frequent."""
    rng = random.Random(seed)
    sample = list(islice(mixture.documents(rng), SAMPLE_DOCUMENTS))
    forced = [f" {word}" * FORCED_COPIES for word in required_words()]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet)
    bpe.train_from_iterator(sample + forced, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END, pad_token=END)
    split = [word for word in required_words() if len(tokenizer.encode(f" {word}")) != 1]
    if split:
        raise ValueError(f"{len(split)} required words are not single tokens: {json.dumps(split[:20])}")
    return tokenizer
