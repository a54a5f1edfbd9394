"""Starts what answers questions: `python -m tunesmith.inference`.

It ends as soon as Ray Serve has the application; Serve then keeps it.
"""

from __future__ import annotations

import argparse
import os
import socket

import ray
from ray import serve

from tunesmith.artifacts.opening import answers_token, open_artifacts
from tunesmith.inference.serving import Machines, deploy


def main() -> None:
    """Start Ray Serve where it does not run yet, and the application where it does not."""
    arguments = _parse()
    location: str = arguments.data
    secret = open_artifacts(location).get(answers_token(location, arguments.name)).decode()
    ray.init(log_to_driver=False)
    # Nothing happens where it runs already, with whatever address it has.
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": arguments.host, "port": arguments.port or _free_port()},
    )
    machines = Machines(
        nodes=len([node for node in ray.nodes() if node["Alive"]]),
        cards=int(ray.cluster_resources().get("GPU", 0)),
        processors=os.cpu_count() or 1,
    )
    deploy(arguments.name, location=location, secret=secret, machines=machines, idle=arguments.idle)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tunesmith.inference", description="Answer questions.")
    parser.add_argument("--data", required=True, help="the data folder, or s3://…")
    parser.add_argument("--name", required=True, help="the application's name")
    parser.add_argument("--host", required=True, help="where Serve listens, if it is started")
    parser.add_argument("--port", type=int, required=True, help="and at which port; 0 for any")
    parser.add_argument(
        "--idle", type=float, required=True, help="seconds without a question until replicas end"
    )
    return parser.parse_args()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


if __name__ == "__main__":
    main()
