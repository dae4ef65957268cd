# Wheels come from the build context (folder wheels/, see docs/install.md), so the build needs no network.
# A release names the base by digest, --build-arg BASE=python:3.11-slim-bookworm@sha256:...: a tag can be moved
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
COPY requirements/runtime.txt /build/runtime.txt
COPY wheels /build/wheels
# what is compiled of the API's typed models, which are never imported, and what tests the numbers is a quarter of the whole;
# the hashes of runtime.txt hold for the dependencies; the package itself was built here
RUN python3 -m venv /opt/vectorops \
 && /opt/vectorops/bin/pip install --no-cache-dir --no-index --find-links /build/wheels --no-deps -r /build/runtime.txt \
 && /opt/vectorops/bin/pip install --no-cache-dir --no-index --find-links /build/wheels --no-deps vectorops \
 && /opt/vectorops/bin/pip uninstall --yes setuptools pip \
 && find /opt/vectorops -depth -type d \( -path '*/kubernetes/*/api/__pycache__' -o -path '*/kubernetes/*/models/__pycache__' \
      -o -path '*/numpy/*/tests' \) -exec rm -r {} +

FROM ${BASE}
ARG BASE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vectorops" \
      org.opencontainers.image.description="A Kubernetes operator for pgvector search: stores, indexes and embeddings as resources" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /opt/vectorops /opt/vectorops
ENV PATH=/opt/vectorops/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["vectorops"]
CMD ["run"]
