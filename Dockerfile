# ingressd: a compiled wheel in a slim image without build tools, run by a user that is nobody. In a cluster (deploy/) a ConfigMap
# takes the place of /etc/ingressd.
#
#   docker build -t ingressd:0.1.0 .
#   docker run --read-only --cap-drop ALL -p 8080:8080 -p 8443:8443 -v ./config:/etc/ingressd:ro ingressd:0.1.0
#
# The bases are pinned by tag, to the patch release. A digest would pin them wholly: `docker buildx imagetools inspect` prints
# the one that your registry serves; write it behind both tags. Python's packages are pinned by hash (requirements/). There is
# an engine nowhere in our tests: tests/deploy/try_dockerfile.py executes these steps in Debian roots.

FROM python:3.11.14-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY requirements requirements
RUN python -m venv /opt/ingressd \
 && /opt/ingressd/bin/pip install --no-cache-dir --require-hashes -r requirements/run.lock
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.lock
COPY pyproject.toml setup.py README.md LICENSE ./
COPY ingressd ingressd
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/ingressd/bin/pip install --no-cache-dir --no-deps --no-index /wheels/ingressd-*.whl \
 && /opt/ingressd/bin/ingressd version | grep --quiet "build compiled" \
 && /opt/ingressd/bin/pip uninstall --yes pip setuptools

FROM python:3.11.14-slim-bookworm
COPY --from=build /opt/ingressd /opt/ingressd
COPY deploy/standalone/ingressd.yaml /etc/ingressd/ingressd.yaml
ENV PATH=/opt/ingressd/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8080 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:10254/healthz', timeout=2)"]
ENTRYPOINT ["ingressd"]
CMD ["run", "--config", "/etc/ingressd/ingressd.yaml"]
