"""Runner `docker`: one container per batch, locked down, gone when it or its caller ends."""

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bids_app.launch import (
    MACHINES,
    POLL_SECONDS,
    Launch,
    LaunchError,
    Poll,
    build_command,
    container_environment,
    signal_of,
)

if TYPE_CHECKING:
    from docker import APIClient


def run_docker(launch: Launch, poll: Poll) -> int:
    """Run the batch in a container that can write nothing but the batch's folder.

    All paths are bound at their own names. The engine removes the container as soon as it ends.
    The engine holds the container's standard input open for as long as this process is connected,
    and the stage's process stops when it ends, so that not even SIGKILL leaves it running.

    Raises
    ------
    LaunchError
        The engine, the image or a path is not there.
    """
    client = _connect()
    from docker.errors import APIError, NotFound

    try:
        container = client.create_container(
            launch.image,
            entrypoint=["python", "-m", "stages"],
            command=[str(launch.batch_file)],
            user=f"{os.getuid()}:{os.getgid()}",
            working_dir=str(launch.folder),
            environment=container_environment(launch.folder, os.environ),
            stdin_open=True,
            labels={"brainstages.batch": str(launch.batch_file)},
            host_config=client.create_host_config(**_limits(launch)),
        )["Id"]
    except APIError as error:
        raise LaunchError(_explain(error, launch)) from error
    connection = client.attach_socket(
        container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    )
    end: list[Any] = []
    waiter = threading.Thread(target=lambda: end.append(_wait(client, container)), daemon=True)
    logger = threading.Thread(target=_stream, args=(connection, launch), daemon=True)
    try:
        waiter.start()
        logger.start()
        client.start(container)
        while waiter.is_alive():
            waiter.join(POLL_SECONDS)
            poll()
        logger.join()
        poll()
    except APIError as error:
        raise LaunchError(_explain(error, launch)) from error
    finally:
        with suppress(NotFound, APIError):  # it has ended, as it should
            client.remove_container(container, force=True)
        connection.close()
    return signal_of(end[0])


def inspect_docker(images: Mapping[str, str], needs_gpu: bool) -> dict[str, dict[str, str]]:
    """Check the engine and the images before any work; describe the images as BIDS wants it.

    Raises
    ------
    LaunchError
        Engine not running, image missing or built for another processor, or no GPU for containers.
    """
    client = _connect()
    from docker.errors import ImageNotFound

    engine = client.info()
    if needs_gpu and "nvidia" not in engine.get("Runtimes", {}):
        raise LaunchError(
            "a step asks for a GPU and the Docker engine has none for containers; install the"
            " NVIDIA Container Toolkit, or pass --n-gpus 0 to compute without"
        )
    machine = MACHINES.get(engine["Architecture"], engine["Architecture"])
    found = {}
    for stage, image in images.items():
        try:
            facts = client.inspect_image(image)
        except ImageNotFound as error:
            raise LaunchError(
                f"no image {image}; pull it, or build it: {build_command(image, stage=stage)}"
            ) from error
        if facts["Architecture"] != machine:
            raise LaunchError(
                f"image {image} is for {facts['Architecture']}, this machine is {machine}; build it"
                f" here: {build_command(image, stage=stage)}"
            )
        digests = [f"docker://{digest}" for digest in facts["RepoDigests"]]
        found[stage] = {"Type": "docker", "Tag": image, "URI": (digests or [facts["Id"]])[0]}
    return found


def _connect() -> "APIClient":
    try:
        import docker
    except ModuleNotFoundError as error:
        raise LaunchError("--runner docker needs: pip install 'brainstages[containers]'") from error
    try:
        return docker.from_env(timeout=60).api
    except docker.errors.DockerException as error:
        raise LaunchError(
            "no Docker engine answers; start it (systemctl start docker), set DOCKER_HOST, and see"
            f" that you may use it (group docker): {error}"
        ) from error


def _limits(launch: Launch) -> dict[str, Any]:
    """Say what the container may see, write and use."""
    from docker.types import DeviceRequest, Mount

    def bind(path: str, *, read_only: bool) -> Mount:
        return Mount(target=path, source=path, type="bind", read_only=read_only)

    memory = int(launch.memory_gb * 2**30)
    gpus = [DeviceRequest(count=launch.gpus, capabilities=[["gpu"]])] if launch.gpus else None
    return {
        "auto_remove": True,
        "cap_drop": ["ALL"],
        "device_requests": gpus,
        "group_add": [str(group) for group in os.getgroups()],
        "mem_limit": memory,
        "memswap_limit": memory,
        "mounts": [
            *(bind(path, read_only=True) for path in launch.read_only),
            bind(str(launch.folder), read_only=False),
        ],
        "nano_cpus": launch.threads * 10**9,
        "network_mode": "none",
        "read_only": True,
        "security_opt": ["no-new-privileges"],
        "shm_size": memory // 2,  # loader workers pass arrays through it
        "tmpfs": {"/tmp": "mode=1777"},  # noqa: S108  inside the container
    }


def _explain(error: Any, launch: Launch) -> str:
    """Turn what the engine says into what to do."""
    said = str(error.explanation or error)
    if "No such image" in said:
        return f"no image {launch.image}; pull or build it"
    if "bind source path does not exist" in said:
        path = said.rpartition("bind source path does not exist: ")[2].strip()
        return (
            f"{path}: the Docker engine does not see this path; if the app itself runs in a"
            " container, bind the data there at the same paths as on the host"
        )
    if "could not select device driver" in said:
        return "the step asks for a GPU and the Docker engine has none for containers"
    return f"the Docker engine refused to start {launch.image}: {said}"


def _wait(client: "APIClient", container: str) -> int:
    """Wait for the container's end; its exit status."""
    return int(client.wait(container, timeout=None, condition="next-exit")["StatusCode"])


def _stream(connection: Any, launch: Launch) -> None:
    """Copy the container's output into the batch's log until it ends."""
    from docker.utils.socket import frames_iter

    with open(launch.log, "ab", buffering=0) as log, suppress(OSError, ValueError):
        for _, data in frames_iter(connection, tty=False):
            log.write(data)
