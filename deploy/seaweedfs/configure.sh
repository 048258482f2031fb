#!/usr/bin/env bash
# Write SeaweedFS's configuration with fresh keys into a folder: security.toml and s3.json, and the
# service's credentials into s3-access and s3-secret (docs/how-to/object-storage.md says why).
#
#     deploy/seaweedfs/configure.sh store-config
set -euo pipefail
umask 077

folder=${1:?usage: $0 FOLDER}
[[ ! -e $folder ]] || { echo "$folder is there already." >&2; exit 1; }
mkdir -p "$folder"
for section in jwt.signing jwt.signing.read jwt.filer_signing jwt.filer_signing.read; do
  printf '[%s]\nkey = "%s"\n\n' "$section" "$(openssl rand -hex 32)"
done > "$folder/security.toml"
for name in admin-access admin-secret s3-access s3-secret; do openssl rand -hex 20 > "$folder/$name"; done
cat > "$folder/s3.json" <<JSON
{"identities": [
  {"name": "admin", "credentials": [{"accessKey": "$(cat "$folder/admin-access")", "secretKey": "$(cat "$folder/admin-secret")"}],
   "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
  {"name": "service", "credentials": [{"accessKey": "$(cat "$folder/s3-access")", "secretKey": "$(cat "$folder/s3-secret")"}],
   "actions": ["Read", "Write", "List", "GetBucketObjectLockConfiguration",
               "PutObjectRetention", "GetObjectRetention", "PutObjectLegalHold", "GetObjectLegalHold"]}
]}
JSON
echo "The store's configuration lies in $folder. admin-… makes the bucket once; keep it off the nodes."
