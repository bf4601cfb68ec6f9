# The front before immuDB. From the repository's root:
# docker build -f infrastructure/containers/front.Dockerfile .
ARG GO_IMAGE=docker.io/library/golang:1.25.4-trixie
ARG DEBIAN_IMAGE=docker.io/library/debian:13.2-slim

FROM ${GO_IMAGE} AS build
ENV CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local
WORKDIR /src
COPY infrastructure/front ./
RUN go build -trimpath -ldflags '-s -w' -o /love-front ./cmd/love-front

FROM ${DEBIAN_IMAGE}
LABEL org.opencontainers.image.title="love-front" \
      org.opencontainers.image.description="Mutual TLS before a store that does not insist on it" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /love-front /usr/local/bin/love-front
USER 65532:65532
EXPOSE 3322
STOPSIGNAL SIGTERM
# Port 3322 (0CFA) is listened on (0A); a connection would stand in its log as a refused client.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["/bin/grep", "-qE", "^ *[0-9]+: [0-9A-F]+:0CFA [0-9A-F:]+ 0A ", "/proc/net/tcp", "/proc/net/tcp6"]
ENTRYPOINT ["love-front"]
CMD ["-listen", ":3322", "-cert", "/run/love/immudb.pem", "-key", "/run/love/immudb-key.pem", \
     "-client-ca", "/run/love/ca.pem", "-store", "127.0.0.1:3323", "-store-ca", "/run/love/ca.pem", \
     "-store-cert", "/run/love/front.pem", "-store-key", "/run/love/front-key.pem"]
