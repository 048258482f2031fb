#!/usr/bin/env bash
# Fresh passwords for the compose file's databases, and libpq's password files of both roles, in ./secrets.
set -euo pipefail
umask 077

[[ ! -e secrets ]] || { echo "secrets is there already." >&2; exit 1; }
mkdir secrets
for name in master-password owner-password service-password; do openssl rand -hex 24 > "secrets/$name"; done
for role in owner service; do
  printf '*:5432:*:fengni_%s:%s\n' "$role" "$(cat "secrets/$role-password")" > "secrets/$role-pgpass"
done
