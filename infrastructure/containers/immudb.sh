#!/bin/bash
# Starts immuDB on loopback with the password of a file: it takes none but by its environment.
set -euo pipefail
settings=${IMMUDB_SETTINGS:-/run/love}
IMMUDB_ADMIN_PASSWORD=$(<"$settings/password")
export IMMUDB_ADMIN_PASSWORD
exec immudb --dir /var/lib/immudb \
  --address 127.0.0.1 --port 3323 \
  --mtls --certificate "$settings/immudb.pem" --pkey "$settings/immudb-key.pem" --clientcas "$settings/ca.pem" \
  --auth --max-sessions=1000 \
  --metrics-server=true --metrics-server-port=9497 --pgsql-server=false --web-server=false
