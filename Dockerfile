# syntax=docker/dockerfile:1

# Debian's slim and not Alpine: several libraries have no wheels for musl.
FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH
# By itself, so that a change of the code does not install the libraries anew.
COPY requirements/run.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md ./
COPY gateway gateway
# Without the network: the libraries above are all there is. Nothing that installs is left behind.
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && pip uninstall --yes setuptools pip

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin gateway
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can tell that it is not root.
USER 10001
# check, gRPC, admin, pages. The admin port is not for the outside.
EXPOSE 9180 9181 9182 9183
# Inside the container the admin listener answers on its usual port; with TLS there, or another
# port, set GATEWAY_HEALTH_URL.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(os.environ.get('GATEWAY_HEALTH_URL', 'http://127.0.0.1:9182/healthz'), timeout=2)"]
ENTRYPOINT ["gateway"]
CMD ["serve", "--config", "/etc/gateway/gateway.toml"]
