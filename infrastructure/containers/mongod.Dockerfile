# A member of the replica set, by infrastructure/mongod. From the repository's root:
# docker build -f infrastructure/containers/mongod.Dockerfile .
# Percona's server is free and audits, which mongod.conf asks for and MongoDB Community lacks.
ARG MONGOD_IMAGE=docker.io/percona/percona-server-mongodb:8.0.12-4

FROM ${MONGOD_IMAGE}
LABEL org.opencontainers.image.title="love-mongod" \
      org.opencontainers.image.description="A member of a continent's replica set"
USER 0
# A new volume takes its owner from the image.
RUN install --directory --owner=1001 --group=0 --mode=0700 /var/lib/love-mongod /var/log/love-mongod
RUN install --directory --owner=0 --group=0 --mode=0755 /etc/love-mongod/tls
COPY --chmod=0444 infrastructure/mongod/mongod.conf /etc/love-mongod/mongod.conf
COPY --chmod=0444 infrastructure/mongod/rs-initiate.js /usr/local/share/love-mongod/rs-initiate.js
COPY --chmod=0555 infrastructure/containers/mongo-initiate.sh /usr/local/bin/mongo-initiate.sh
USER 1001:0
ENV HOME=/tmp
VOLUME /var/lib/love-mongod /var/log/love-mongod
EXPOSE 27017
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 \
  CMD ["mongosh", "--quiet", "--norc", "--tls", "--tlsCAFile", "/etc/love-mongod/tls/ca.pem", "--tlsCertificateKeyFile", "/etc/love-mongod/tls/cluster.pem", "--eval", "quit(db.hello().ok ? 0 : 1)", "mongodb://127.0.0.1:27017/?directConnection=true"]
# Not the image's own, which sends telemetry.
ENTRYPOINT ["mongod", "--config", "/etc/love-mongod/mongod.conf"]
CMD ["--bind_ip", "127.0.0.1"]
