#!/bin/sh
# Make the deployment once, and hand each other node its copy of what `fengni init` fixed.
# AUTHORITIES and WITNESSES hold arguments of --authority and --witness, separated by spaces.
set -eu

tls='sslmode=verify-full&sslrootcert=/run/tls/ca.pem&passfile=/run/secrets/owner-pgpass'
set -- init /var/lib/fengni/server --organ "$ORGAN" --origin "$ORIGIN" --registrar /registrar/desk \
  --database-url "$FENGNI_DATABASE_URL" --heads-url "$FENGNI_HEADS_URL" \
  --keys-url "$FENGNI_KEYS_URL" \
  --owner-url "postgresql+psycopg://fengni_owner@evidence-db:5432/fengni?$tls" \
  --heads-owner-url "postgresql+psycopg://fengni_owner@heads-db:5432/fengni_heads?$tls" \
  --keys-owner-url "postgresql+psycopg://fengni_owner@heads-db:5432/fengni_keys?$tls"
for one in $AUTHORITIES; do set -- "$@" --authority "$one"; done
for one in $WITNESSES; do set -- "$@" --witness "$one"; done
fengni "$@"

for node in web-2 worker-1 worker-2; do
  mkdir -p "/nodes/$node/server"
  cp -a /var/lib/fengni/server/deployment.json /var/lib/fengni/server/known-keys.json \
    /var/lib/fengni/server/witness-policy.txt /var/lib/fengni/server/keys "/nodes/$node/server/"
done
