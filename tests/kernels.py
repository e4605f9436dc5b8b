"""Jupyter kernels that have imported what every notebook imports: one process imports it, and forks each kernel.

A kernel takes some nine seconds for these imports, and the tests start twenty. Of the package itself nothing is
imported beforehand.

    python kernels.py serve SOCKET                  imports, then forks a kernel for each connection to this socket
    python kernels.py start ADDRESS [ARGUMENT ...]  what Jupyter starts: asks for a kernel, and stands in for it
"""

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

LIBRARIES = (
    *("ipykernel.kernelapp", "ipywidgets", "matplotlib.pyplot", "nnsight", "nnsight.modeling.transformers", "pandas"),
    *("scipy.stats", "seaborn", "torch", "transformers.generation", "transformers.models.auto"),
    *("transformers.models.llama.modeling_llama", "transformers.pipelines"),
)
KIND = (socket.AF_UNIX, socket.SOCK_SEQPACKET) if sys.platform == "linux" else ()
REQUEST = 1 << 20  # bytes of a request, at most


@contextmanager
def forked() -> Iterator[str]:
    """A JUPYTER_PATH on which the kernel `python3` is a forked one. On Linux only: elsewhere forks aren't safe."""
    if sys.platform != "linux":
        yield ""
        return
    with tempfile.TemporaryDirectory() as folder, socket.socket(*KIND) as listener:
        listener.bind(address := f"{folder}/socket")
        listener.listen()
        command = [sys.executable, "-P", __file__]
        kernel = {"argv": [*command, "start", address, "-f", "{connection_file}"], "language": "python"}
        spec = Path(folder, "kernels", "python3", "kernel.json")
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps(kernel | {"display_name": "Python 3 (ipykernel)"}))
        environment = os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # for the import
        number = listener.fileno()
        serving = [*command, "serve", str(number)]
        with subprocess.Popen(serving, stdin=subprocess.PIPE, pass_fds=[number], env=environment):
            yield folder


def serve(number: str) -> None:
    """Fork kernels until the input ends, as it does with whoever started this. Nothing is imported unasked."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that ended
    with socket.socket(*KIND, fileno=int(number)) as listener:
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            for name in LIBRARIES:  # at the first; later they are there
                importlib.import_module(name)
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                run(connection)
            connection.close()


def run(connection: socket.socket) -> None:
    """Become the kernel that is asked for: with the folder, the environment, the input and the outputs of who asks."""
    message, standard, _, _ = socket.recv_fds(connection, REQUEST, 3)
    request = json.loads(message)
    os.setsid()  # as Jupyter starts a kernel: where sessions share the processor, it has a share of its own
    for number, file in enumerate(standard):
        os.dup2(file, number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.sendall(b"%d" % os.getpid())
    threading.Thread(target=lambda: os._exit(len(connection.recv(1))), daemon=True).start()  # with who asked for it

    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=[*request["arguments"], f"--IPKernelApp.parent_handle={os.getppid()}"])
    sys.exit()


def start(address: str, *arguments: str) -> None:
    """Ask for a kernel, pass on the signals that are meant for it, and end when it does."""
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(*KIND) as connection:
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        kernel = int(connection.recv(20))

        def pass_on(number: int, _: FrameType | None) -> None:
            os.kill(kernel, number)

        signal.signal(signal.SIGINT, pass_on)
        signal.signal(signal.SIGTERM, pass_on)
        connection.recv(1)


if __name__ == "__main__":
    {"serve": serve, "start": start}[sys.argv[1]](*sys.argv[2:])
