# Two stages: what builds the environment stays behind.
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/openred
# The dependencies change seldom: their layer is kept until pyproject.toml changes.
COPY pyproject.toml README.md LICENSE ./
COPY openred_central/__init__.py openred_central/
RUN /opt/openred/bin/pip install --no-cache-dir .
COPY openred_central openred_central
RUN /opt/openred/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin openred \
    && install --directory --owner=openred --group=openred --mode=0700 /data
COPY --from=build /opt/openred /opt/openred
USER openred
WORKDIR /data
VOLUME /data
ENV OPENRED_HOST=0.0.0.0 OPENRED_DATABASE=/data/openred.db PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["/opt/openred/bin/python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"OPENRED_PORT\", 8000)}/health/live', timeout=3)"]
ENTRYPOINT ["/opt/openred/bin/openred-central"]
CMD ["serve"]
