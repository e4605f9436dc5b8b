"""The whole of NDIF on the loopback: Redis, Postgres, stand-ins for S3 and the Hub, Ray, controller and API.

    python tools/ndif/stack.py FOLDER --env SERVER_ENVIRONMENT [--dtype bfloat16]

FOLDER gets the tiny models of the tests, a cache of the Hub for clients (`client`), and all logs. SERVER_ENVIRONMENT is
a virtual environment with requirements.txt and requirements-stack.txt. Runs until it is interrupted. The API is then at
http://127.0.0.1:18001, with the keys of keys.sql, and serves tiny/gpt2, tiny/llama, tiny/gpt_neox, tiny/gemma2 and
tiny/qwen3.
"""

import argparse
import getpass
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

TOOLS = Path(__file__).resolve().parent
TESTS = TOOLS.parents[1] / "tests"
API, HUB, REDIS, POSTGRES, STORE, RAY, CLIENT = 18001, 18765, 16379, 15432, 19000, 26385, 26001
FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3")
CONTROLLER = """
import time, ray
ray.init(address="127.0.0.1:{port}", namespace="NDIF", logging_level="error")
from ndif.services.ray.deployments.controller.controller import app
app()
while True:
    time.sleep(60)
"""


def models(folder: Path) -> None:
    """Tiny models with random weights, and for clients a cache of the Hub in which they lie."""
    sys.path[:0] = [str(TESTS), str(TESTS / "ndif")]
    from double import hub_cache
    from families import fresh, tokenizer

    for family in FAMILIES:
        fresh(family).save_pretrained(folder / "models" / family)
        tokenizer().save_pretrained(folder / "models" / family)
    hub_cache(folder / "client", {f"tiny/{family}": folder / "models" / family for family in FAMILIES})


def environment(folder: Path, env: Path, dtype: str) -> dict[str, str]:
    """What all parts are told."""
    keep = {name: os.environ[name] for name in ("HOME", "LANG", "TZ") if name in os.environ}
    return keep | {
        **{"PATH": f"{env / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(TOOLS), "OMP_NUM_THREADS": "1"},
        **{"HF_HOME": str(folder / "home"), "HF_ENDPOINT": f"http://127.0.0.1:{HUB}", "RAY_USAGE_STATS_ENABLED": "0"},
        **{"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        **{"RAY_agent_register_timeout_ms": "300000", "RAY_raylet_start_wait_time_s": "400"},
        **{"NDIF_REDIS_URL": f"redis://127.0.0.1:{REDIS}", "NDIF_RAY_ADDRESS": f"ray://127.0.0.1:{CLIENT}"},
        **{"NDIF_OBJECT_STORE_URL": f"http://127.0.0.1:{STORE}", "NDIF_OBJECT_STORE_ACCESS_KEY": "a"},
        **{"NDIF_OBJECT_STORE_SECRET_KEY": "b", "NDIF_API_PORT": str(API), "NDIF_SANDBOX_POOL_SIZE": "1"},
        **{"NDIF_POSTGRES_URL": f"postgresql://ndif@127.0.0.1:{POSTGRES}/ndif", "NDIF_DEFAULT_DTYPE": dtype},
        **{"NDIF_MODEL_IMPORT_PATH": "cpu_actor.Actor", "NDIF_CONTROLLER_IMPORT_PATH": "cpu_actor.Controller"},
        **{"NDIF_DEFAULT_PADDING_BIAS": "0"},
    }


def database(folder: Path) -> list[str]:
    """The command that runs Postgres, which refuses root; its files are made here."""
    where = Path(shutil.which("initdb") or max(Path("/usr/lib/postgresql").glob("*/bin/initdb"))).parent
    data = folder / "postgres"
    data.mkdir()
    prefix = []
    if getpass.getuser() == "root":
        shutil.chown(data, "postgres")
        prefix = ["runuser", "-u", "postgres", "--"]
    made = [*prefix, str(where / "initdb"), "-D", str(data), "-A", "trust", "-U", "ndif"]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
    options = ["-p", str(POSTGRES), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    return [*prefix, str(where / "postgres"), "-D", str(data), *options]


def fill_database() -> None:
    """Keys, as soon as Postgres answers."""
    to = ["psql", "-q", "-h", "127.0.0.1", "-p", str(POSTGRES), "-U", "ndif"]
    patiently([*to, "-d", "postgres", "-c", "CREATE DATABASE ndif"])
    subprocess.run([*to, "-d", "ndif", "-f", str(TOOLS / "keys.sql")], check=True)


def patiently(command: list[str], seconds: float = 60) -> None:
    """Run a command until it succeeds."""
    end = time.monotonic() + seconds
    while subprocess.run(command, capture_output=True).returncode:
        if time.monotonic() > end:
            raise SystemExit(f"does not work: {' '.join(command)}")
        time.sleep(0.5)


def main() -> None:
    """Start all, wait, and stop all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--env", type=Path, required=True)
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True)
    os.chmod(folder, 0o755)
    models(folder)
    env = environment(folder, args.env.resolve(), args.dtype)
    processes: list[subprocess.Popen[bytes]] = []

    def begin(name: str, command: list[str]) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            own = {"stdout": log, "stderr": subprocess.STDOUT, "cwd": folder, "start_new_session": True}
            processes.append(subprocess.Popen(command, env=env, **own))  # type: ignore[call-overload]
        print(f"{name} begun, see {folder / name}.log", flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        begin("hub", ["python", str(TOOLS / "hub.py"), str(HUB), str(folder / "models")])
        begin("redis", ["redis-server", "--port", str(REDIS), "--bind", "127.0.0.1", "--save", ""])
        begin("postgres", database(folder))
        begin("store", ["moto_server", "-H", "127.0.0.1", "-p", str(STORE)])
        resources = '{"head": 10, "cuda_memory_bytes": 8000000000, "cpu_memory_bytes": 8000000000}'
        ports = ["--port", str(RAY), "--ray-client-server-port", str(CLIENT), "--node-ip-address", "127.0.0.1"]
        ports += ["--min-worker-port", "27000", "--max-worker-port", "27999", "--dashboard-agent-listen-port", "26365"]
        sizes = ["--num-gpus", "1", "--num-cpus", "4", "--resources", resources, "--object-store-memory", "300000000"]
        temporary = ["--temp-dir", str(folder / "ray"), "--include-dashboard=false", "--disable-usage-stats"]
        begin("ray", ["ray", "start", "--block", "--head", *ports, *sizes, *temporary])
        fill_database()
        patiently([str(args.env / "bin" / "ray"), "status", "--address", f"127.0.0.1:{RAY}"], 400)
        begin("controller", ["python", "-c", CONTROLLER.format(port=RAY)])
        bound = ["--bind", f"127.0.0.1:{API}"]
        begin("api", ["gunicorn", "-c", "python:ndif.services.api.gunicorn_conf", *bound, "ndif.services.api.app:app"])
        end = time.monotonic() + 400
        while not answers():
            if time.monotonic() > end:
                raise SystemExit("the API does not answer")
            time.sleep(1)
        print(f"ready at http://127.0.0.1:{API}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        for process in reversed(processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            process.wait(60)


def answers() -> bool:
    """Whether the API is up, and Ray behind it."""
    try:
        return httpx.get(f"http://127.0.0.1:{API}/status", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
