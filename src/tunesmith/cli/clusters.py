"""Opens the door to Ray, for the process that runs jobs and for the one that asks models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunesmith.domain.errors import ClusterUnavailableError
from tunesmith.settings import Settings

if TYPE_CHECKING:
    from tunesmith.cluster.local_head import LocalRay
    from tunesmith.cluster.ray_jobs import RayJobs
    from tunesmith.cluster.ray_serve import Ray


def open_cluster(settings: Settings, *, leads: Callable[[], bool]) -> LocalRay | RayJobs:
    """Return the cluster that the settings name, or a head of our own, which is started.

    `leads` tells whether this process is the one that keeps the head.
    """
    if settings.ray_address:
        from tunesmith.cluster.ray_jobs import RayJobs

        return RayJobs(
            settings.ray_address,
            python=settings.ray_python,
            token=settings.ray_token,
            groups=settings.node_groups,
        )
    from tunesmith.cluster.local_head import LocalRay

    place = (settings.ray_dashboard_host, settings.ray_dashboard_port)
    head = LocalRay(settings.data / "ray", dashboard=place, leads=leads)
    head.start()
    return head


def find_ray(settings: Settings) -> Ray:
    """Return the Ray that runs the jobs. Raises `ClusterUnavailableError` where there is none."""
    from tunesmith.cluster.ray_jobs import RayJobs
    from tunesmith.cluster.ray_serve import Ray

    if settings.ray_address:
        jobs = RayJobs(settings.ray_address, python=settings.ray_python, token=settings.ray_token)
    else:
        # It needs psutil, which an API alone beside a cluster of somebody else's does not.
        from tunesmith.cluster.head_process import HeadFolder

        folder = HeadFolder(settings.data / "ray")
        head = folder.find()
        if head is None:
            raise ClusterUnavailableError("Ray is starting.")
        jobs = RayJobs(head.address, python=sys.executable, token=folder.token())
    return Ray(jobs, jobs.dashboard())
