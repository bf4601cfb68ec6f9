#!/bin/bash
# Runs infrastructure/mongod/rs-initiate.js unless it has run: its last act sets the default write concern.
set -euo pipefail
tls=(--tls --tlsCAFile /run/love/ca.pem --tlsCertificateKeyFile /run/love/operator.pem)
here=mongodb://127.0.0.1:27017/?directConnection=true
as_operator="$here&authMechanism=MONGODB-X509&authSource=%24external"
done_before='quit(db.adminCommand({getDefaultRWConcern: 1}).defaultWriteConcernSource === "global" ? 0 : 1)'

if mongosh --quiet --norc "${tls[@]}" --eval "$done_before" "$as_operator" >/dev/null 2>&1; then
  echo 'the replica set has been made before'
  exit 0
fi
exec mongosh --quiet --norc "${tls[@]}" "$here" /usr/local/share/love-mongod/rs-initiate.js
