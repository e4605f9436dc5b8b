"""Put a run's weights into the package: `python -m tools.bundled_model.export --run RUN`."""

import argparse
import json
import shutil
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer, processors
from transformers import GenerationConfig, PreTrainedTokenizerFast

from .mixture import SHARES
from .train import build_model

BUNDLED = Path(__file__).parents[2] / "steerlab" / "bundled"
LAST_STEPS = 100  # over which the final loss is the mean


def export(run: Path, target: Path = BUNDLED) -> None:
    """Write bfloat16 safetensors, config, tokenizer and training.json; the model card stays as it is."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(run)
    model = build_model(tokenizer)
    state = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    end = tokenizer.eos_token_id
    model.generation_config = GenerationConfig(bos_token_id=end, eos_token_id=end, pad_token_id=end)
    target.mkdir(exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(target)
    shutil.copyfile(run / "tokenizer_config.json", target / "tokenizer_config.json")
    opens_with_bos(Tokenizer.from_file(str(run / "tokenizer.json")), tokenizer.bos_token).save(
        str(target / "tokenizer.json")
    )
    record = training_record(run, state["progress"]["step"])
    (target / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def opens_with_bos(tokenizer: Tokenizer, bos: str) -> Tokenizer:
    """The tokenizer, which from now on puts BOS in front of a text by itself, as the model was trained."""
    special = [(bos, tokenizer.token_to_id(bos))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B:1", special_tokens=special
    )
    return tokenizer


def training_record(run: Path, last: int) -> dict[str, object]:
    """What the log says up to the checkpoint's step; of a step that was repeated after a stop, its last line counts.

    `loss` is the mean over the last steps in nats per token, `seconds` is the time spent in steps, and `shares` is the
    mixture as it stands now.
    """
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    steps = {line["step"]: line for line in lines if line["step"] <= last}
    kept = [steps[step] for step in sorted(steps)]
    spans = pairwise([0, *(line["tokens"] for line in kept)])
    seconds = sum((new - old) / line["tokens_per_second"] for (old, new), line in zip(spans, kept, strict=True))
    losses = [line["loss"] for line in kept[-LAST_STEPS:]]
    return {
        "steps": last,
        "tokens": kept[-1]["tokens"],
        "loss": round(sum(losses) / len(losses), 4),
        "seconds": round(seconds),
        "shares": SHARES,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("tools/bundled_model/runs/main"))
    export(parser.parse_args().run)


if __name__ == "__main__":
    main()
