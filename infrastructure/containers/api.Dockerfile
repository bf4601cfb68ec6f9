# The API on the local AWS. From the repository's root: docker build -f infrastructure/containers/api.Dockerfile .
# Not for production, where AWS runs template.yaml: see README.md beside this.
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
COPY lovectl lovectl
COPY nodes nodes
# Everything: handlers run in the interpreter of the local AWS, and see its packages.
RUN uv sync --frozen --no-dev --no-editable --no-cache --python python3

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="love-api" \
      org.opencontainers.image.description="The API of the Love Currency Federation on a local AWS" \
      org.opencontainers.image.licenses="MIT"
COPY --from=wheels /opt/love /opt/love
COPY template.yaml /srv/love/
COPY statemachine /srv/love/statemachine
COPY functions /srv/love/functions
ENV PATH=/opt/love/bin:$PATH \
    HOME=/tmp \
    LOVE_REPOSITORY=/srv/love \
    PYTHONUNBUFFERED=1 \
    SAM_CLI_TELEMETRY=0
USER 65532:65532
EXPOSE 4566
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=3 \
  CMD ["/opt/love/bin/python", "-m", "lovectl.compose_api", "--healthy"]
ENTRYPOINT ["python", "-m", "lovectl.compose_api"]
CMD ["--settings", "/run/love"]
