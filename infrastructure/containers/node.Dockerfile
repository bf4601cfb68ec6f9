# A delegate. From the repository's root: docker build -f infrastructure/containers/node.Dockerfile .
# Both base images can be replaced, say by those of a registry of one's own (README.md beside this).
ARG PYTHON_IMAGE=docker.io/library/python:3.13.9-slim-trixie
ARG RUST_IMAGE=docker.io/library/rust:1.90.0-slim-trixie

FROM ${RUST_IMAGE} AS rust

FROM ${PYTHON_IMAGE} AS wheels
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV PATH=/usr/local/cargo/bin:/opt/uv/bin:$PATH \
    CARGO_HOME=/usr/local/cargo \
    RUSTUP_HOME=/usr/local/rustup \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/love \
    UV_PYTHON_DOWNLOADS=never
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir 'uv>=0.9,<1'
WORKDIR /src
COPY pyproject.toml uv.lock ./
COPY layers/rust_core layers/rust_core
COPY layers/federation layers/federation
COPY lovectl/pyproject.toml lovectl/pyproject.toml
COPY nodes nodes
# Versions and hashes are those of uv.lock; the Rust core is compiled here.
RUN uv sync --frozen --no-dev --no-editable --no-cache --python python3 --package love-node

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="love-node" \
      org.opencontainers.image.description="A delegate of the Love Currency Federation" \
      org.opencontainers.image.licenses="MIT"
# Only the vote locks are ever written, so only they need a place: the root file system is read-only.
RUN install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/love
COPY --from=wheels /opt/love /opt/love
ENV PATH=/opt/love/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
VOLUME /var/lib/love
EXPOSE 7400 9464
STOPSIGNAL SIGTERM
# 503 (urlopen raises) while the vote locks can't be written, or the delegate drains.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["/opt/love/bin/python", "-I", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=2)"]
ENTRYPOINT ["love-node"]
CMD ["--config", "/run/love/config.json"]
