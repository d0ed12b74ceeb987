"""The manifest for Kubernetes: its command is one that this version takes, and its pods can do what the command asks."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from typing import Any

import pytest
import yaml

from synpro.config import load_config
from synpro.runner.launch import GRACE_SECONDS
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    whole: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "kuberay.yaml").read_text(encoding="utf-8"))
    assert (whole["apiVersion"], whole["kind"]) == ("ray.io/v1", "RayJob")
    spec: dict[str, Any] = whole["spec"]
    return spec


def pods(job: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The head and the workers: how many at most, and what each is."""
    cluster = job["rayClusterSpec"]
    groups = [(1, cluster["headGroupSpec"]), *((group["maxReplicas"], group) for group in cluster["workerGroupSpecs"])]
    return [(count, group["template"]["spec"]) for count, group in groups]


def gpus(pod: dict[str, Any]) -> int:
    return int(pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])


def test_the_command_is_one_that_synpro_takes_and_the_pods_hold_its_workers(job: dict[str, Any]) -> None:
    program, verb, config, *options = shlex.split(job["entrypoint"])
    assert (program, verb, options[:2]) == ("synpro", "run", ["--runs", "/shared/runs"])
    assert set(options[2::2]) == {"--set"}
    cfg = load_config(ROOT / "configs" / config.rpartition("/")[2], options[3::2])
    assert cfg.machine.launcher == "ray" and cfg.machine.address == "auto"
    head, *others = pods(job)
    assert gpus(head[1]) == cfg.machine.processes, "torchrun runs on the head"
    assert cfg.machine.workers == sum(count * gpus(pod) for count, pod in (head, *others))


def test_pods_share_a_disk_and_have_the_time_a_step_needs_to_end(job: dict[str, Any]) -> None:
    for _, pod in pods(job):
        assert pod["terminationGracePeriodSeconds"] > GRACE_SECONDS
        container = pod["containers"][0]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["shared"] == "/shared" and set(mounts) == {volume["name"] for volume in pod["volumes"]}
        assert all(entry["value"].startswith("/shared/") for entry in container["env"]), "assets are fetched once for all pods"
    assert job["rayClusterSpec"]["rayVersion"] == version("ray")
