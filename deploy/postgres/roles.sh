#!/usr/bin/env bash
# Run once by the image's entry point: the role that owns the tables and the role of the service.
set -euo pipefail

psql -v ON_ERROR_STOP=1 -v owner="$(cat /run/secrets/owner-password)" \
  -v service="$(cat /run/secrets/service-password)" --username "$POSTGRES_USER" --dbname postgres <<SQL
CREATE ROLE fengni_owner LOGIN PASSWORD :'owner';
CREATE ROLE fengni_service LOGIN PASSWORD :'service';
SQL
for name in ${DATABASE:?}; do
  psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --command "CREATE DATABASE $name OWNER fengni_owner"
done
