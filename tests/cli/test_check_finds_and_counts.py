"""`check` prints each problem with file and line, and its exit code is what scripts rely on."""

import io
from pathlib import Path

from stage.certificates import selfsigned

from ingressd.cli.check import check

CLASS = """\
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ingressd}
spec: {controller: ingressd.dev/ingress-controller}
"""
INGRESS = """\
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations:
    nginx.ingress.kubernetes.io/rewrite-targit: /x
spec:
  ingressClassName: ingressd
  rules:
  - host: foo.example
    http:
      paths:
      - path: %s
        pathType: Prefix
        backend: {service: {name: a, port: {number: 80}}}
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{port: 80}]}
"""


def run(
    config: Path | None, *paths: Path, strict: bool = False, environ: dict[str, str] | None = None, now_s: float = 1e9
) -> tuple[int, str]:
    out = io.StringIO()
    code = check(
        config and str(config),
        [str(path) for path in paths],
        strict=strict,
        environ=environ or {},
        flags={},
        now_s=now_s,
        out=out,
    )
    return code, out.getvalue()


def test_clean_is_0(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("routes: [{upstream: api}]\nupstreams: {api: {endpoints: ['127.0.0.1:1']}}\n")
    code, text = run(tmp_path / "c.yaml", strict=True)
    assert (code, text.count("\n")) == (0, 1)
    assert text.endswith("0 errors, 0 warnings\n")


def test_warnings_are_1_only_with_strict(tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text(CLASS + INGRESS % "/")
    code, text = run(None, tmp_path / "o.yaml")
    assert code == 0
    line = next(line for line in text.splitlines() if "rewrite-targit" in line)
    assert line.startswith(f"{tmp_path}/o.yaml:11: warning: Ingress default/web ")
    assert "nearest known one is nginx.ingress.kubernetes.io/rewrite-target" in line
    assert run(None, tmp_path / "o.yaml", strict=True)[0] == 1


def test_an_error_in_an_object_is_2_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text(CLASS + INGRESS % "no-slash")
    code, text = run(None, tmp_path)
    assert code == 2
    assert f"{tmp_path}/o.yaml:18: error: Ingress default/web spec.rules[0].http.paths[0].path: " in text
    assert text.endswith("1 error, 1 warning\n")


def test_a_static_entry_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("upstreams: {}\nroutes:\n- host: a.example\n  upstream: gone\n")
    code, text = run(tmp_path / "c.yaml")
    assert code == 2
    assert (
        f"{tmp_path}/c.yaml:4: error: Config routes (Prefix a.example/) upstream: there is no upstream 'gone'" in text
    )


def test_a_file_that_is_refused_as_a_whole_is_2(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("routes: [\n")
    assert run(tmp_path / "c.yaml")[0] == 2
    assert run(tmp_path / "missing.yaml")[0] == 2


def test_an_expired_certificate_is_an_error_by_the_clock_of_the_caller(tmp_path: Path) -> None:
    pems = Path(__file__).parents[1] / "golden" / "pems"
    entry = f"{{certFile: {pems}/expired.example.crt, keyFile: {pems}/expired.example.key}}"
    (tmp_path / "c.yaml").write_text(f"tls: [{entry}]\n")
    assert run(tmp_path / "c.yaml", now_s=1.6e9)[0] == 0
    code, text = run(tmp_path / "c.yaml", now_s=1.7e9)
    assert code == 2
    assert "expired.example has expired" in text


IN_CLUSTER = """\
kubernetes: {inCluster: true}
listeners: [{name: http, address: "127.0.0.1:8080", protocol: HTTP}]
settingsConfigMap: ingressd/settings
flags:
  publish-service: ingressd/ingressd
  default-backend-service: ingressd/fallback
  default-ssl-certificate: ingressd/certificate
manifests: [o.yaml]
"""
REFERENCES = """\
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ingressd}
spec:
  controller: ingressd.dev/ingress-controller
  parameters: {kind: ConfigMap, scope: Namespace, namespace: ingressd, name: internal}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: ingressd
  tls: [{hosts: [foo.example], secretName: web}]
  rules:
  - host: foo.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}
"""


def test_what_only_the_cluster_knows_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(IN_CLUSTER)
    (tmp_path / "o.yaml").write_text(REFERENCES)
    code, text = run(tmp_path / "c.yaml", strict=True)
    assert code == 0, text
    assert text.endswith("0 errors, 0 warnings\n")
    notes = [line for line in text.splitlines() if ": note: " in line or line.startswith("note: ")]
    assert len(notes) == 7 == text.count("\n") - 1, text
    assert f"{tmp_path}/o.yaml:16: note: Ingress default/web spec.rules[0].http.paths[0].backend.service: " in text
    (tmp_path / "c.yaml").write_text(IN_CLUSTER.replace("kubernetes: {inCluster: true}\n", ""))
    code, text = run(tmp_path / "c.yaml")
    assert code == 2
    assert "note: " not in text
    assert text.endswith("5 errors, 2 warnings\n"), "without a cluster nobody else knows them"


def test_what_is_wrong_in_the_files_is_an_error_beside_a_cluster_too(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("kubernetes: {inCluster: true}\nmanifests: [o.yaml]\n")
    (tmp_path / "o.yaml").write_text((CLASS + INGRESS % "/").replace("port: 80}", "port: 81}"))
    code, text = run(tmp_path / "c.yaml")
    assert code == 2
    assert "[ServicePortNotFound]" in text


def test_a_certificate_of_the_webhook_that_does_not_fit_its_key(tmp_path: Path) -> None:
    for name in ("a.example", "b.example"):
        pair = selfsigned(name)
        (tmp_path / f"{name}.crt").write_bytes(pair.cert)
        (tmp_path / f"{name}.key").write_bytes(pair.key)
    config = "admission: {address: '127.0.0.1:9443', certFile: a.example.crt, keyFile: %s.example.key}\n"
    (tmp_path / "c.yaml").write_text(config % "b")
    code, text = run(tmp_path / "c.yaml")
    assert code == 2
    assert f"{tmp_path}/c.yaml:1: error: Config admission (admission) certFile: " in text
    assert "the webhook does not answer [InvalidCertificate]" in text
    (tmp_path / "c.yaml").write_text(config % "a")
    assert run(tmp_path / "c.yaml")[0] == 0
