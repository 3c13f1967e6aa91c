"""The alerts, the dashboard, and what the README says of the metrics: all of it about metrics that there are.

That a real provider exposes what the expressions want is a part of `e2e/test_operators.py`.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import yaml

from provider.errors import CODES, Code, Whose
from provider.metrics import Metrics
from tests.cluster.kustomize import KUBECTL
from tests.promql import DASHBOARD, MONITORING, expressions, lacking, panels, rules, wanted
from tests.unit.test_metrics import NOTHING

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_lists_every_metric_and_no_other() -> None:
    metrics = Metrics()
    metrics.look_at("container", lambda: NOTHING)
    suffixes = {"counter": "_total", "info": "_info"}
    there = {family.name + suffixes.get(family.type, "") for family in metrics.registry.collect()}
    listed = set(re.findall(r"^\| `(x1_preview_\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert listed == {name for name in there if name.startswith("x1_preview")}


def test_the_platforms_faults_are_those_of_the_table() -> None:
    [rule] = [rule for rule in rules() if rule["alert"] == "PreviewDeploysFailByThePlatform"]
    [codes] = [labels[0][1] for _, labels in wanted(rule["expr"]) if labels]
    assert set(codes.split("|")) == {code.value for code in Code if CODES[code].whose is Whose.PLATFORM}


def test_every_alert_says_what_it_is_and_what_to_look_at() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert all(rule["annotations"][field] for field in ("summary", "description"))


def test_every_panel_shows_something_and_none_covers_another() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(panel["title"] and panel["targets"] for panel in panels())
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_component_holds_what_lies_beside_it() -> None:
    component = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())
    [board] = component["configMapGenerator"]
    named = {*component["resources"], *board["files"], "kustomization.yaml"}
    assert named == {path.name for path in MONITORING.iterdir()}
    documents = yaml.safe_load_all((ROOT / "manifests/base/provider.yaml").read_text())
    provider = next(one for one in documents if one["kind"] == "Deployment")
    monitor = yaml.safe_load((MONITORING / "pod-monitor.yaml").read_text())
    pods, [endpoint] = provider["spec"]["template"], monitor["spec"]["podMetricsEndpoints"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pods["metadata"]["labels"].items()
    assert endpoint["port"] in {port["name"] for port in pods["spec"]["containers"][0]["ports"]}
    assert monitor["metadata"]["namespace"] == provider["metadata"]["namespace"]


def test_an_overlay_can_name_it(tmp_path: Path) -> None:
    """`kubectl kustomize` takes it, and leaves the dashboard as it is."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(ROOT / "manifests" / "base", tmp_path)],
        "components": [os.path.relpath(MONITORING, tmp_path)],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    done = subprocess.run([KUBECTL, "kustomize", tmp_path], capture_output=True, text=True, check=True)
    made = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    assert made["ConfigMap", "x1-preview-dashboard"]["data"] == {"dashboard.json": DASHBOARD.read_text()}
    assert made["PrometheusRule", "x1-preview-provider"]["spec"]["groups"][0]["rules"] == rules()
    assert ("PodMonitor", "x1-preview-provider") in made


def test_what_lacks_is_found() -> None:
    samples = [("a_total", [("code", "ok"), ("phase", "build")])]
    assert lacking('sum by (phase) (rate(a_total{code="ok"}[5m]))', samples, set()) == []
    assert lacking("b_total", samples, set()) == ["b_total"]
    assert lacking("b_total", samples, {"b_total"}) == []
    assert lacking('a_total{code="wrong"}', samples, set()) == ["a_total code=wrong"]
    assert lacking('a_total{phase=~"build|wrong"}', samples, set()) == ["a_total phase=wrong"]
    assert lacking("sum by (color) (a_total)", samples, set()) == ["label color"]
    assert len(expressions()) > 30
