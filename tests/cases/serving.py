"""One ingressd for many cases: what it serves is swapped, and a probe tells when the swap is live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cases.world import CLASS, CONTROLLER, World
from stage.echo import EchoLoop
from stage.ports import spelled
from stage.running import Ingressd
from stage.wire import ask

Object = dict[str, Any]
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def later(case: Object) -> list[pytest.MarkDecorator]:
    """The mark of a case whose key `later` says why it does not hold yet."""
    return [pytest.mark.xfail(reason=case["later"], strict=False)] if "later" in case else []


class Serving:
    """A running ingressd whose manifests are one file, replaced by rename.

    The file ends with a probe: an Ingress of its own for host probe-N, N growing with each swap. When it answers, the
    whole file is live, because one file is one change.
    """

    def __init__(self, folder: Path, loop: EchoLoop) -> None:
        self._manifests = folder / "manifests"
        self._manifests.mkdir()
        self._swaps = 0
        probe = {"ingresses": {"probe": {"hosts": {"probe-0": ["Prefix / probe:80"]}}}, "steps": []}
        self._probe = World(probe, loop)
        ingress_class = {"name": CLASS, "controller": CONTROLLER}
        upstreams = {"probe": {"endpoints": [spelled(self._probe.echoes[0].address)]}}
        self.ingressd = Ingressd(
            folder,
            manifests=[str(self._manifests)],
            ingressClass=ingress_class,
            routes=[self._config_probe()],
            upstreams=upstreams,
        )
        self._write([])
        self.ingressd.start()

    def close(self) -> None:
        """Stop it. The probe ends in any case, so that one failure is reported as one."""
        try:
            self.ingressd.stop()
        finally:
            self._probe.close()

    def _write(self, objects: list[Object]) -> None:
        self._swaps += 1
        present = {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects}
        classes = [o["metadata"]["name"] for o in objects if o["kind"] == "IngressClass"]
        ours = next(
            (o["metadata"]["name"] for o in objects if o.get("spec", {}).get("controller") == CONTROLLER), CLASS
        )
        documents = list(objects)
        for written in self._probe.objects:
            probe = json.loads(json.dumps(written))
            kind, namespace, name = probe["kind"], probe["metadata"].get("namespace"), probe["metadata"]["name"]
            if (kind, namespace, name) in present or (kind == "IngressClass" and ours in classes):
                continue
            if kind == "Ingress":
                probe["spec"]["ingressClassName"] = ours
                probe["spec"]["rules"][0]["host"] = f"probe-{self._swaps}"
            documents.append(probe)
        documents.sort(key=lambda o: o["kind"] == "Ingress" and o["metadata"]["name"] == "probe")
        pending = self._manifests / ".pending"
        pending.write_text(yaml.dump_all(documents, Dumper=_DUMPER, sort_keys=False, width=100000))
        pending.replace(self._manifests / "case.yaml")

    def _config_probe(self) -> Object:
        """A route that changes whenever the configuration does, which is another change than that of the manifests."""
        return {"host": f"config-probe-{self._swaps}", "path": "/", "upstream": "probe"}

    def _live(self) -> bool:
        hosts = [f"probe-{self._swaps}", self.ingressd.config["routes"][0]["host"]]
        return all(ask(self.ingressd.http, host=host).status == 200 for host in hosts)

    def _swap(self, objects: list[Object], config: Object) -> None:
        if any(self.ingressd.config.get(key) != value for key, value in config.items()):
            self.ingressd.config.update(config, routes=[self._config_probe()])
            self.ingressd.write_config()
        self._write(objects)
        self.ingressd.wait_until(self._live)

    def load(self, world: World) -> None:
        """Serve this case and nothing of the one before it, whose last good state must not answer for it."""
        self._swap([], {"settings": {}, "flags": {}, "zone": ""})
        self._swap(world.objects, world.config)
