# Two stages: what builds the environment stays behind.
# A tag moves when its maintainers fix something below us. A build that has to be repeatable names a digest:
# --build-arg BASE=python:3.12-slim-bookworm@sha256:...
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv /opt/openred
# The layer of the dependencies is kept until their lock changes. `make lock` writes it.
COPY .ci/image-requirements.txt ./
RUN /opt/openred/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r image-requirements.txt
COPY pyproject.toml LICENSE ./
COPY openred_central openred_central
# A running server needs neither pip nor setuptools.
RUN /opt/openred/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/openred/bin/pip uninstall --yes pip setuptools

FROM ${BASE}
# Labels that a registry and `docker inspect` show; the publisher adds version, revision and source.
LABEL org.opencontainers.image.title="OpenRed Central" \
      org.opencontainers.image.description="An empathic directory server for decentralised networks" \
      org.opencontainers.image.licenses="MIT"
# By number: so a platform can see that it is not root. It owns its data and nothing else.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=build /opt/openred /opt/openred
USER 10001:10001
WORKDIR /data
VOLUME /data
ENV OPENRED_HOST=0.0.0.0 OPENRED_DATABASE=/data/openred.db PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
# Process 1 is the server: so it is asked where its flags say, too. A server that answers but cannot reach its store heals by itself: only one that does not answer is unhealthy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["/opt/openred/bin/openred-central", "health", "--live", "--process", "1"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/openred/bin/openred-central"]
CMD ["serve"]
