"""NDIF's sandbox actor and controller on a computer without a GPU and without Ray's dashboard; all else is as shipped.

Named to the server by NDIF_MODEL_IMPORT_PATH and NDIF_CONTROLLER_IMPORT_PATH.
"""

import functools
from types import SimpleNamespace
from typing import Any

import ndif.services.ray.deployments.controller.cluster.cluster as cluster
import ndif.services.ray.deployments.controller.controller as controller
import ndif.services.ray.sandbox.host as host
import ray
import torch
from ndif.services.ray.sandbox.model import SandboxModelDeployment
from nnsight.modeling.huggingface import HuggingFaceModel

torch.cuda.synchronize = lambda *args, **kwargs: None  # type: ignore[assignment]
torch.cuda.empty_cache = lambda *args, **kwargs: None  # type: ignore[assignment]
host.RUNNER_ENV += ("HF_ENDPOINT", "HF_HUB_DISABLE_XET")  # the stand-in for the Hub
host.spawn = functools.partial(host.spawn, timeout=300)  # a runner starts slowly on a busy computer


class OnCpu(SandboxModelDeployment):
    """Loads its model into memory."""

    CACHEABLE = False

    def load_from_disk(self) -> Any:
        torch.set_num_threads(1)
        options = {"dispatch": True, "dtype": self.dtype_name, "device": "cpu", **self.kwargs}
        model = HuggingFaceModel.from_model_key(self.model_key, **options)
        model._module.requires_grad_(False)
        self.gpu_mem_bytes_by_id: dict[int, int] = {}
        return model


@ray.remote(num_cpus=0.1, max_restarts=-1)
class Actor(OnCpu):
    """The same, as an actor of Ray."""


def list_nodes(**asked: Any) -> list[SimpleNamespace]:
    """What the dashboard would say of the nodes."""
    names = {"node_id": "NodeID", "node_name": "NodeName", "resources_total": "Resources", "labels": "Labels"}
    return [
        SimpleNamespace(**{name: node.get(key, {}) for name, key in names.items()})
        for node in ray.nodes()
        if node["Alive"]
    ]


def list_actors(**asked: Any) -> list[SimpleNamespace]:
    """And of the actors."""
    from ray._private.state import actors

    names = {"state": "State", "name": "Name", "ray_namespace": "RayNamespace", "class_name": "ActorClassName"}
    return [
        SimpleNamespace(
            actor_id=number,
            node_id=entry.get("Address", {}).get("NodeID"),
            **{name: entry.get(key, "") for name, key in names.items()},
        )
        for number, entry in actors().items()
    ]


class WithoutDashboard(controller._ControllerActor):
    """The controller, which asks Ray itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        cluster.list_nodes = list_nodes
        controller.list_actors = list_actors
        super().__init__(*args, **kwargs)


@ray.remote(num_cpus=0.1, num_gpus=0, max_restarts=-1, resources={"head": 1})
class Controller(WithoutDashboard):
    """The same, as an actor of Ray."""
