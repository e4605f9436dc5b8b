"""A small stand-in for NDIF: the HTTP of its 0.1.2 for jobs that are polled, on models in this process.

    python tests/ndif/server.py PORT_FILE NAME=FOLDER ...

Requests are executed by NDIF's own code (`actor.py`) where the package is installed, and by nnsight's alone elsewhere,
where an ordinary key is then turned away. steerlab cannot be imported here. `POST /switch` sets how the server
misbehaves; `GET /seen` tells what it was sent.
"""
# ruff: noqa: E402

import sys

sys.modules["steerlab"] = None  # type: ignore[assignment]  # importing it fails, as on a server

import asyncio
import io
import json
import signal
import socket
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio._backends._asyncio  # noqa: F401  # before nnsight, which gives every object a `save` that anyio refuses
import torch
import uvicorn
import zstandard
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from nnsight.tracing import tracer as tracing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from transformers import AutoModelForCausalLM, AutoTokenizer

try:
    from actor import Actor
except ImportError:
    Actor = None  # type: ignore[assignment, misc]

TRUSTED, ORDINARY = (f"{digit * 8}-2222-3333-4444-555555555555" for digit in "19")
FOLDERS = dict(argument.split("=", 1) for argument in sys.argv[2:])
NOT_FOUND = """Could not deploy this model. big/model is not a local folder and is not a valid model identifier.
If this is a private repository, make sure to pass a token.
Traceback (most recent call last):
  File "hub.py", line 1, in resolve
    return _hf_hub_download_to_cache_dir("""

models: dict[str, Any] = {}
switch: dict[str, Any] = {}
seen: list[dict[str, Any]] = []
jobs: dict[str, dict[str, Any]] = {}
results: dict[str, bytes] = {}
one_at_a_time = ThreadPoolExecutor(1)


def takes(fault: str) -> bool:
    """Whether to misbehave so now; a number says how many times to, True always."""
    left = switch.get(fault, 0)
    if left is not True and left:
        switch[fault] = left - 1
    return bool(left)


def loaded(name: str) -> Any:
    """A served model; loaded in the dtype that is asked for, as an operator would."""
    dtype = switch.get("dtype", "float32")
    if (name, dtype) not in models:
        hf = AutoModelForCausalLM.from_pretrained(FOLDERS[name], dtype=getattr(torch, dtype))
        hf.requires_grad_(False).train(False)
        models[name, dtype] = TransformersModel(hf, tokenizer=AutoTokenizer.from_pretrained(FOLDERS[name]))
    return models[name, dtype]


def execute(request: RequestModel, blob: bytes, trusted: bool) -> bytes:
    """The values that a request saves, as the real server's actor finds them."""
    name = json.loads(request.model_key.split(":", 1)[1])["repo_id"]
    if name not in FOLDERS:
        raise LookupError(NOT_FOUND.replace("big/model", name))
    model = loaded(name)
    if Actor is not None:
        actor = models.setdefault(("actor", id(model)), Actor(model, request.model_key))
        return bytes(actor.run(blob, trusted))
    if not trusted:
        raise LookupError("There is no sandbox here.")
    tracer = RequestModel.deserialize(blob, model._remoteable_persistent_objects(), request.compress)
    tracing.inc()
    try:
        tracer.execute(tracer.info.code)
        saved = tracer.info.frame.f_locals.items()
        return torch_bytes({name: value for name, value in saved if id(value) in tracing._saves()})
    finally:
        tracing.dec()


def torch_bytes(saved: Any) -> bytes:
    with io.BytesIO() as file:
        torch.save(saved, file)
        return file.getvalue()


def packed(content: bytes) -> bytes:
    if takes("malformed"):
        content = torch_bytes({"results": [torch.zeros(1)]})
    whole = zstandard.ZstdCompressor().compress(content)
    return b"\x00" * len(whole) if takes("damaged") else whole


def outcome(request: RequestModel, blob: bytes, trusted: bool) -> tuple[str, str, bytes]:
    if "rejected" in switch:
        return "ERROR", switch["rejected"], b""
    try:
        return "COMPLETED", "", packed(execute(request, blob, trusted))
    except LookupError as error:
        return "ERROR", str(error.args[0]), b""
    except Exception as error:
        sentence = type(error).__module__.startswith("ndif") or "Traceback" in str(error)
        return "ERROR", str(error) if sentence else traceback.format_exc(), b""


async def work(job: str, request: RequestModel, blob: bytes, trusted: bool, base: str) -> None:
    while takes("late"):  # the dispatcher has not come to it yet: nothing is known of the job
        await asyncio.sleep(0.1)

    def tell(status: str, description: str = "", **more: Any) -> None:
        jobs[job] = {"id": job, "status": status, "description": description, "data": None, "meta": None, **more}

    tell("QUEUED", "Added to Queue at position 2.")
    if takes("hang"):
        return
    tell("RUNNING", "Your job has started running.")
    seconds = switch.get("slow", 0)
    await asyncio.sleep(seconds)
    loop = asyncio.get_running_loop()
    status, said, content = await loop.run_in_executor(one_at_a_time, outcome, request, blob, trusted)
    seen[-1]["result"] = len(content)
    results[job] = content
    meta = {"runtime": seconds, "max_memory_usage": 2**30}
    tell(status, said, meta=meta, data=f"{base}result/{job}" if status == "COMPLETED" else None)


async def post(http: Request) -> Response:
    whole = await http.body()
    form = await http.form()
    blob = await form["blob"].read()  # type: ignore[union-attr]
    request = RequestModel.model_validate_json(str(form["data"]))
    plain = zstandard.ZstdDecompressor().decompress(blob)
    key = http.headers.get("ndif-api-key")
    held = [known for known in (TRUSTED, ORDINARY) if known.encode() in plain or known.encode() in whole]
    elsewhere = [name for name, value in http.headers.items() if key and key in value and name != "ndif-api-key"]
    own = {"payload": len(blob), "leaks": bool(held or elsewhere), "data": str(form["data"]), "key": key == TRUSTED}
    seen.append(own)
    if key not in (TRUSTED, ORDINARY):
        return JSONResponse({"detail": "Missing API key." if key is None else "Unknown API key."}, 403 if key else 401)
    if takes("busy"):
        return JSONResponse({"detail": "The queue is full."}, 503)
    if "refused" in switch:
        return JSONResponse({"detail": switch["refused"]}, switch.get("status", 400))
    job = str(uuid.uuid4())
    asyncio.get_running_loop().create_task(work(job, request, blob, key == TRUSTED, str(http.base_url)))
    return JSONResponse({"id": job, "status": "RECEIVED", "description": "", "data": None})


async def response(http: Request) -> Response:
    if http.headers.get("ndif-api-key"):
        seen.append({"leaks": True})
    state = jobs.get(http.path_params["job"])
    return Response(status_code=404) if state is None or takes("forget") else JSONResponse(state)


async def result(http: Request) -> Response:
    if http.headers.get("ndif-api-key"):
        seen.append({"leaks": True})
    if takes("expired"):
        return Response("<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", 403)
    content = results[http.path_params["job"]]
    if not takes("cut"):
        return Response(content)

    async def half() -> Any:
        yield content[: len(content) // 2]  # fewer bytes than announced: uvicorn hangs up

    return StreamingResponse(half(), headers={"content-length": str(len(content))})


async def whoami(http: Request) -> Response:
    tags = {TRUSTED: ["trusted"], ORDINARY: []}.get(http.headers.get("ndif-api-key", ""))
    return JSONResponse({"email": None if tags is None else "someone@example.org", "tags": tags or []})


async def env(http: Request) -> Response:
    return JSONResponse({"python_version": "3.12", "packages": switch.get("packages", {})})


async def status(http: Request) -> Response:
    state = {"application_state": "RUNNING", "deployment_level": "HOT", "dtype": switch.get("dtype", "float32")}
    state |= {"revision": None, "execution_timeout_seconds": 60.0}
    return JSONResponse({"deployments": {name: {"repo_id": name, **state} for name in FOLDERS}})


async def set_switch(http: Request) -> Response:
    switch.clear()
    switch.update(await http.json())
    seen.clear()
    return JSONResponse({})


async def tell_seen(http: Request) -> Response:
    return JSONResponse(seen)


async def moved(http: Request) -> Response:
    return RedirectResponse(f"http://127.0.0.1:1{http.url.path}", 307)


app = Starlette(
    routes=[
        Route("/request", post, methods=["POST"]),
        Route("/response/{job}", response),
        Route("/result/{job}", result),
        Route("/whoami", whoami),
        Route("/env", env),
        Route("/status", status),
        Route("/moved/{path:path}", moved, methods=["GET", "POST"]),
        Route("/switch", set_switch, methods=["POST"]),
        Route("/seen", tell_seen),
    ]
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    listening = socket.create_server(("127.0.0.1", 0))
    part = Path(sys.argv[1] + ".part")
    part.write_text(str(listening.getsockname()[1]))
    part.rename(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn raises it once more when it has shut down
    try:
        uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])
    finally:
        for actor in [own for own in models.values() if Actor is not None and isinstance(own, Actor)]:
            actor.close()
