"""The ready files for operators name what exists, and each of them fits the others and the program."""

from __future__ import annotations

import re
from typing import Any

import pytest

from openred_central.api.routes import ENDPOINTS
from openred_central.settings.config import Configuration
from openred_central.settings.kinds import parse_duration
from tests.e2e.image import steps
from tests.support.deployment import COMPOSE, HAPROXY, KUBERNETES, check_settings, compose, manifest
from tests.support.project import ROOT

INSTANCES = ("openred-1", "openred-2", "openred-3")
DEFAULTS = Configuration()
# A stop waits for requests, then for the last commit, and each of them may take its whole time.
STOP_S = DEFAULTS.drain_timeout_s + 10.0


def instances() -> dict[str, dict[str, Any]]:
    return {name: compose()["services"][name] for name in INSTANCES}


def container() -> dict[str, Any]:
    (only,) = manifest("StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def variables_of_a_pod(name: str) -> dict[str, str]:
    """Return the variables as Kubernetes gives them to the pod `name`."""
    found = {row["name"]: row.get("value", name) for row in container()["env"]}
    return {key: re.sub(r"\$\((\w+)\)", lambda word: found[word[1]], value) for key, value in found.items()}


@pytest.mark.parametrize("name", INSTANCES)
def test_settings_of_the_containers_are_valid(name: str) -> None:
    service = instances()[name]
    check_settings(service["environment"])
    assert service["environment"]["OPENRED_INSTANCE"] == name
    assert service["environment"]["OPENRED_CLUSTER_URL"] == f"{name}:{DEFAULTS.cluster_port}"
    files = {value for key, value in service["environment"].items() if key.endswith("_FILE")}
    assert files == {f"/run/secrets/{secret}" for secret in service["secrets"]}


def test_containers_differ_in_their_names_alone() -> None:
    kept = []
    for service in instances().values():
        own = {"OPENRED_INSTANCE", "OPENRED_CLUSTER_URL"}
        shared = {key: value for key, value in service["environment"].items() if key not in own}
        kept.append({**service, "environment": shared})
    assert kept[0] == kept[1] == kept[2]


def test_containers_name_only_what_the_file_defines() -> None:
    document = compose()
    for service in document["services"].values():
        assert set(service["networks"]) <= set(document["networks"])
        assert set(service.get("secrets", ())) <= set(document["secrets"])
        assert set(service.get("depends_on", ())) <= set(document["services"])
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert {name for name in volumes if not name.startswith(".")} <= set(document["volumes"])
        assert service["restart"] == "unless-stopped"
    # The comment tells how to make each of them.
    for name in document["secrets"]:
        assert name in re.findall(r"^#\s+for name in (.*?); do", COMPOSE.read_text(), re.MULTILINE)[0].split()


def test_containers_trust_the_balancer_alone() -> None:
    address = compose()["services"]["balancer"]["networks"]["public"]["ipv4_address"]
    for service in instances().values():
        assert service["environment"]["OPENRED_TRUSTED_PROXIES"] == f"{address}/32"


def test_only_the_balancer_is_reached_from_outside() -> None:
    document = compose()
    assert [name for name, service in document["services"].items() if "ports" in service] == ["balancer"]
    assert document["networks"]["cluster"]["internal"] is True
    assert document["services"]["database"]["networks"] == ["cluster"]


def test_containers_are_checked_as_the_image_is() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (check,) = [step for step in steps(dockerfile) if step.instruction == "HEALTHCHECK"]
    expected = ["CMD", *check._replace(value=check.value.removeprefix("CMD ")).words]
    for service in instances().values():
        assert service["healthcheck"]["test"] == expected
        assert parse_duration(service["stop_grace_period"]) > STOP_S


def test_the_balancer_knows_all_containers() -> None:
    servers = re.findall(r"^    server (\S+) (\S+)$", HAPROXY.read_text(encoding="utf-8"), re.MULTILINE)
    assert servers == [(name, f"{name}:{DEFAULTS.port}") for name in INSTANCES] * 2


def test_the_balancer_checks_endpoints_that_exist() -> None:
    checked = re.findall(r"http-check send meth GET uri (\S+)", HAPROXY.read_text(encoding="utf-8"))
    assert checked == ["/health/ready", "/health/leader"]
    assert set(checked) <= {endpoint.path for endpoint in ENDPOINTS if endpoint.method == "GET"}


def test_the_balancer_keeps_connections_for_less_time_than_an_instance() -> None:
    kept = re.search(r"timeout http-keep-alive (\S+)", HAPROXY.read_text(encoding="utf-8"))
    assert kept is not None
    assert parse_duration(kept[1]) < DEFAULTS.idle_timeout_s


def test_settings_of_the_pods_are_valid() -> None:
    variables = variables_of_a_pod("openred-0")
    check_settings(variables)
    port = DEFAULTS.cluster_port
    assert variables["OPENRED_CLUSTER_URL"] == f"openred-0.openred-cluster:{port}"


def test_pods_are_found_by_their_services() -> None:
    pods = manifest("StatefulSet")["spec"]
    labels = pods["template"]["metadata"]["labels"]
    assert pods["serviceName"] == "openred-cluster"
    assert manifest("Service", "openred-cluster")["spec"]["clusterIP"] == "None"
    for name in ("openred", "openred-cluster"):
        service = manifest("Service", name)["spec"]
        assert service["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["ports"]} <= {p["name"] for p in container()["ports"]}
    budget = manifest("PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"] == pods["selector"]["matchLabels"] == labels
    assert budget["maxUnavailable"] == 1


def test_pods_listen_where_their_services_send() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {
        "http": DEFAULTS.port,
        "operators": DEFAULTS.admin_port,
        "cluster": DEFAULTS.cluster_port,
    }


def test_pods_are_probed_at_endpoints_that_exist() -> None:
    probes = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert probes["liveness"]["path"] == probes["startup"]["path"] == "/health/live"
    assert probes["readiness"]["path"] == "/health/ready"
    paths = {endpoint.path for endpoint in ENDPOINTS if endpoint.method == "GET"}
    assert {probe["path"] for probe in probes.values()} <= paths


def test_pods_have_time_to_stop_and_machines_of_their_own() -> None:
    pod = manifest("StatefulSet")["spec"]["template"]["spec"]
    _, pause = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > STOP_S + float(pause)
    (apart,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    labels = manifest("StatefulSet")["spec"]["selector"]["matchLabels"]
    assert apart["labelSelector"]["matchLabels"] == labels


def test_pods_find_their_secrets() -> None:
    pod = manifest("StatefulSet")["spec"]["template"]["spec"]
    (name,) = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
    (mount,) = [mount["mountPath"] for mount in container()["volumeMounts"] if mount["name"] == "secrets"]
    command = re.search(r"kubectl create secret generic (\S+) (.*)", KUBERNETES.read_text(encoding="utf-8"))
    assert command is not None
    assert command[1] == name
    (first,) = pod["initContainers"]
    assert first["image"] == container()["image"]
    assert {mounted["name"]: mounted["mountPath"] for mounted in first["volumeMounts"]} == {
        "given": "/given",
        "secrets": mount,
    }
    made = {f"{mount}/{file}" for file in re.findall(r"--from-file (\S+)", command[2])}
    variables = variables_of_a_pod("openred-0")
    assert {value for key, value in variables.items() if key.endswith("_FILE")} == made


def test_pods_run_as_the_user_of_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (user,) = [step.value.partition(":")[0] for step in steps(dockerfile) if step.instruction == "USER"]
    security = manifest("StatefulSet")["spec"]["template"]["spec"]["securityContext"]
    assert security["runAsUser"] == security["fsGroup"] == int(user)
