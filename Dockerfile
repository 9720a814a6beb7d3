# Two stages: what builds the environment stays behind.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/openred
# The dependencies change seldom: their layer is kept until pyproject.toml, or the version, changes.
COPY pyproject.toml ./
COPY openred_central/__init__.py openred_central/
RUN touch README.md && /opt/openred/bin/pip install --no-cache-dir .
COPY README.md LICENSE ./
COPY openred_central openred_central
# What runs needs no pip.
RUN /opt/openred/bin/pip install --no-cache-dir --no-deps --force-reinstall . \
    && /opt/openred/bin/pip uninstall --yes pip

FROM python:3.12-slim-bookworm
# By number: so a platform can see that it is not root. It owns its data and nothing else.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=build /opt/openred /opt/openred
USER 10001:10001
WORKDIR /data
VOLUME /data
ENV OPENRED_HOST=0.0.0.0 OPENRED_DATABASE=/data/openred.db PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
# A server that answers but cannot reach its store heals by itself: only one that does not answer is unhealthy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["/opt/openred/bin/openred-central", "health", "--live"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/openred/bin/openred-central"]
CMD ["serve"]
