# immuDB as infrastructure/local pins it. From the repository's root:
# docker build -f infrastructure/containers/immudb.Dockerfile .
ARG GO_IMAGE=docker.io/library/golang:1.25.4-trixie
ARG DEBIAN_IMAGE=docker.io/library/debian:13.2-slim

FROM ${GO_IMAGE} AS build
ENV CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local
WORKDIR /src
COPY infrastructure/local/immudb/go.mod infrastructure/local/immudb/go.sum ./
RUN go build -trimpath -ldflags '-s -w' -o /immudb github.com/codenotary/immudb/cmd/immudb

FROM ${DEBIAN_IMAGE}
LABEL org.opencontainers.image.title="love-immudb" \
      org.opencontainers.image.description="immuDB, the federation's third store and its audit trail"
RUN install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/immudb
COPY --from=build /immudb /usr/local/bin/immudb
COPY --chmod=0755 infrastructure/containers/immudb.sh /usr/local/bin/immudb.sh
USER 65532:65532
VOLUME /var/lib/immudb
STOPSIGNAL SIGTERM
# Its metrics server, on loopback, knows whether it serves; bash speaks HTTP well enough.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9497; printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3; read -r _ status _ <&3; [ \"$status\" = 200 ]"]
ENTRYPOINT ["/usr/local/bin/immudb.sh"]
