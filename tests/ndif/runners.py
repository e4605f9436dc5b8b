"""Imports what NDIF's runner imports, once, and forks a runner for each line that it reads: its arguments as JSON.

A runner of its own for each request, as there, without the seconds of imports. Each is answered by its process id.
"""

import json
import os
import signal
import sys

import nnsight.modeling.transformers  # noqa: F401  # this and the next are imported where a model is described
import transformers.pipelines  # noqa: F401
from ndif.services.ray.sandbox.runner import Runner, die_with_parent
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that ended
    for line in sys.stdin:
        if child := os.fork():
            print(child, flush=True)
            continue
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        path, peers, key, trusted = json.loads(line)
        die_with_parent()
        Runner(path, peers=int(peers), model_key=key, trust_remote_code=trusted == "1").serve()


if __name__ == "__main__":
    main()
