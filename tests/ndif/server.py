"""A small stand-in for NDIF: nnsight 0.8's protocol over HTTP and a websocket, on a model in this process.

    python tests/ndif/server.py PORT_FILE NAME=FOLDER ...

It restores a request with nnsight's own code and executes it as the real server's actor does. steerlab cannot be
imported here. `POST /switch` sets how it misbehaves; `GET /seen` tells what it was sent.
"""
# ruff: noqa: E402

import sys

sys.modules["steerlab"] = None  # type: ignore[assignment]  # importing it fails, as on a server

import asyncio
import io
import json
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
from nnsight.schema.response import ResponseModel, Status
from nnsight.tracing import tracer as tracing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from transformers import AutoModelForCausalLM, AutoTokenizer

KEY = "11111111-2222-3333-4444-555555555555"
FOLDERS = dict(argument.split("=", 1) for argument in sys.argv[2:])

models: dict[str, Any] = {}
switch: dict[str, Any] = {}
seen: list[dict[str, Any]] = []
sockets: dict[str, WebSocket] = {}
jobs: dict[str, ResponseModel] = {}
results: dict[str, bytes] = {}
one_at_a_time = ThreadPoolExecutor(1)


def takes(fault: str) -> bool:
    """Whether to misbehave so now; a number says how many times to, True always."""
    left = switch.get(fault, 0)
    if left is not True and left:
        switch[fault] = left - 1
    return bool(left)


def model_of(key: str) -> Any:
    name = json.loads(key.split(":", 1)[1])["repo_id"]
    if name not in FOLDERS:
        raise LookupError(f"{name} is not deployed on this server.")
    if name not in models:
        hf = AutoModelForCausalLM.from_pretrained(FOLDERS[name], dtype=torch.float32)
        hf.requires_grad_(False).train(False)
        models[name] = TransformersModel(hf, tokenizer=AutoTokenizer.from_pretrained(FOLDERS[name]))
        if switch.get("sandbox"):  # what a block sees of a model in another process is a copy, without a graph
            hf.lm_head.register_forward_hook(lambda module, args, output: output.detach())
    return models[name]


def execute(request: RequestModel, blob: bytes) -> dict[str, Any]:
    """The values that a request saves, as the real server's actor finds them."""
    model = model_of(request.model_key)
    tracer = RequestModel.deserialize(blob, model._remoteable_persistent_objects(), request.compress)
    tracing.inc()
    try:
        tracer.execute(tracer.info.code)
        found = tracer.info.frame.f_locals.items()
        return {name: value for name, value in found if id(value) in tracing._saves()}
    finally:
        tracing.dec()


def packed(saved: dict[str, Any]) -> bytes:
    if takes("malformed"):
        saved = {"found": [torch.zeros(1)]}
    with io.BytesIO() as file:
        torch.save(saved, file)
        whole = zstandard.ZstdCompressor().compress(file.getvalue())
    return b"\x00" * len(whole) if takes("damaged") else whole


def outcome(job: str, request: RequestModel, blob: bytes) -> tuple[Status, str, bytes]:
    if "rejected" in switch:
        return Status.ERROR, switch["rejected"], b""
    try:
        return Status.COMPLETED, "", packed(execute(request, blob))
    except LookupError as error:
        return Status.ERROR, str(error.args[0]), b""
    except BaseException:
        return Status.ERROR, traceback.format_exc(), b""


async def tell(session: str, response: ResponseModel, frame: bytes | None = None) -> None:
    """A status, to the socket and to the store."""
    if not (session and takes("forget")):
        jobs[response.id] = response
    if (client := sockets.get(session)) is not None:
        await (client.send_bytes(frame) if frame else client.send_text(response.model_dump_json()))


async def work(job: str, request: RequestModel, blob: bytes, base: str) -> None:
    session = request.session_id
    for status in (Status.QUEUED, Status.DISPATCHED, Status.RUNNING):
        await tell(session, ResponseModel(id=job, status=status))
    if takes("drop") and session:
        await sockets.pop(session).close(1012)
    if takes("hang"):
        return
    loop = asyncio.get_running_loop()
    status, said, content = await loop.run_in_executor(one_at_a_time, outcome, job, request, blob)
    seen[-1]["result"] = len(content)
    if status == Status.ERROR:
        await tell(session, ResponseModel(id=job, status=status, description=said))
        return
    results[job] = content
    done = ResponseModel(id=job, status=status, data=f"{base}result/{job}", meta={})
    frame = done.model_copy(update={"data": content}).pickle() if switch.get("inline") else None
    await tell(session, done, frame)


async def post(http: Request) -> Response:
    whole = await http.body()
    form = await http.form()
    blob = await form["blob"].read()  # type: ignore[union-attr]
    request = RequestModel.model_validate_json(str(form["data"]))
    plain = zstandard.ZstdDecompressor().decompress(blob)
    key = http.headers.get("ndif-api-key")
    elsewhere = [name for name, value in http.headers.items() if KEY in value and name != "ndif-api-key"]
    leaks = bool(elsewhere) or KEY.encode() in plain or KEY.encode() in whole
    seen.append({"payload": len(blob), "leaks": leaks, "key": key == KEY, "data": str(form["data"])})
    if key is None or key != KEY:
        return JSONResponse({"detail": "Missing API key." if key is None else "Unknown API key."}, 403 if key else 401)
    if takes("busy"):
        return JSONResponse({"detail": "The queue is full."}, 503)
    if "refused" in switch:
        return JSONResponse({"detail": switch["refused"]}, switch.get("status", 400))
    job = str(uuid.uuid4())
    asyncio.get_running_loop().create_task(work(job, request, blob, str(http.base_url)))
    return JSONResponse(ResponseModel(id=job, status=Status.RECEIVED).model_dump(mode="json"))


async def subscribe(client: WebSocket) -> None:
    await client.accept()
    session = str(uuid.uuid4())
    sockets[session] = client
    await client.send_text(json.dumps({"session_id": session}))
    try:
        while True:
            await client.receive_text()
    except (WebSocketDisconnect, RuntimeError):
        sockets.pop(session, None)


async def response(http: Request) -> Response:
    found = jobs.get(http.path_params["job"])
    return Response(status_code=404) if found is None else JSONResponse(found.model_dump(mode="json"))


async def result(http: Request) -> Response:
    content = results[http.path_params["job"]]
    if not takes("cut"):
        return Response(content)

    async def half() -> Any:
        yield content[: len(content) // 2]  # fewer bytes than announced: uvicorn hangs up

    return StreamingResponse(half(), headers={"content-length": str(len(content))})


async def set_switch(http: Request) -> Response:
    told = await http.json()
    if switch.get("sandbox") != told.get("sandbox"):
        models.clear()
    switch.clear()
    switch.update(told)
    seen.clear()
    return JSONResponse({})


async def tell_seen(http: Request) -> Response:
    return JSONResponse(seen)


async def status(http: Request) -> Response:
    running = {name: {"repo_id": name, "application_state": "RUNNING", "deployment_level": "HOT"} for name in FOLDERS}
    return JSONResponse({"deployments": running})


app = Starlette(
    routes=[
        Route("/request", post, methods=["POST"]),
        WebSocketRoute("/subscribe", subscribe),
        Route("/response/{job}", response),
        Route("/result/{job}", result),
        Route("/status", status),
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
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])
