"""Every call of the tests on a server that serves the tests' tiny models, compared with this process: a table.

    python tools/ndif/table.py                      the stand-in of tests/ndif, with NDIF's own sandbox
    python tools/ndif/table.py http://127.0.0.1:18001   another server, such as stack.py's

A line for each family, key and call: whether the results are equal (to 1e-5), or the error, and the seconds here and
there; and at last how many are equal.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "ndif")]
os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
from double import KEY, ORDINARY, Double, distant  # noqa: E402
from families import fresh, tokenizer  # noqa: E402
from test_remote import CALLS, assert_same  # noqa: E402

import steerlab as sl  # noqa: E402

KEYS = {"trusted": KEY, "ordinary": ORDINARY}


def compared(names: list[str], here: Any, there: Any) -> Iterator[tuple[str, str, float, float]]:
    """What came of each of some calls that share their requests, and the seconds of all here and there."""
    works = [CALLS[name][1] for name in names]
    began = time.perf_counter()
    expected = here.together(works)
    between = time.perf_counter()
    try:
        answers, error = there.together(works), ""
    except sl.RemoteError as caught:
        answers, error = expected, str(caught)
    seconds = between - began, time.perf_counter() - between
    for name, answer, own in zip(names, answers, expected, strict=True):
        yield name, error or difference(answer, own), *seconds


def difference(answer: Any, expected: Any) -> str:
    """Whether results are the same."""
    try:
        assert_same(answer, expected)
    except AssertionError as error:
        return f"DIFFERENT {' '.join(str(error).split())[:100]}"
    return "equal"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("host", nargs="?")
    parser.add_argument("--families", default="llama,gpt2,gpt_neox,gemma2,qwen3")
    parser.add_argument("--keys", default="trusted,ordinary")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--calls", default=",".join(CALLS))
    parser.add_argument("--together", action="store_true", help="calls share requests, fits apart: quicker")
    args = parser.parse_args()
    families, dtype = args.families.split(","), getattr(torch, args.dtype)
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp())
    os.environ["STEERLAB_CACHE"] = str(folder / "cache")
    for family in families:
        fresh(family).save_pretrained(folder / family)
        tokenizer().save_pretrained(folder / family)
    double = None
    if args.host is None:
        double = Double(folder, {f"tiny/{family}": folder / family for family in families})
        double.switch(dtype=args.dtype)
    remote = sl.Remote(args.host or (double.url if double else None), timeout=3600, progress=False)
    try:
        for family in families:
            here = sl.load(folder / family, dtype=dtype)  # as a server does: rotary angles stay in float32
            for kind in args.keys.split(","):
                os.environ["NDIF_API_KEY"] = KEYS[kind]
                there, equal, names = distant(family, remote, dtype), 0, args.calls.split(",")
                shared = [name for name in names if args.together and not name.startswith("fit")]
                for group in [shared] * bool(shared) + [[name] for name in names if name not in shared]:
                    for name, outcome, local, distance in compared(group, here, there):
                        equal += outcome == "equal"
                        print(
                            f"{family:9s}{args.dtype:9s}{kind:9s}{name:16s}{local:6.2f}{distance:7.2f}  {outcome}",
                            flush=True,
                        )
                print(f"{family:9s}{args.dtype:9s}{kind:9s}{equal} of {len(names)} equal", flush=True)
    finally:
        if double is not None:
            double.stop()


if __name__ == "__main__":
    main()
