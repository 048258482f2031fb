#!/usr/bin/env bash
# Make a local authority and a certificate for each part of the compose file, in ./tls.
# A phone is told to trust ca.pem (Android: Settings, Security, Install a certificate; iOS: open the
# file, then Settings, General, About, Certificate Trust Settings). The authority's key is deleted.
#
#     deploy/local-ca.sh fengni.example 192.0.2.7      names and addresses by which phones come in
set -euo pipefail
umask 077

folder=${TLS_FOLDER:-tls}
[[ $# -gt 0 ]] || { echo "usage: $0 NAME-OR-ADDRESS…" >&2; exit 64; }
[[ ! -e $folder ]] || { echo "$folder is there already; move it away to make a new one." >&2; exit 1; }
mkdir "$folder"
trap 'rm -f "$folder"/*.csr "$folder"/ca.key "$folder"/ca.srl' EXIT

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$folder/$1.key"; }
names() { # the subjectAltName of names and addresses
  local all=() one
  for one in "$@"; do
    if [[ $one =~ ^[0-9.]+$ || $one == *:* ]]; then all+=("IP:$one"); else all+=("DNS:$one"); fi
  done
  (IFS=,; echo "${all[*]}")
}
certificate() { # certificate FILE NAME…
  local file=$1; shift
  key "$file"
  openssl req -new -key "$folder/$file.key" -subj "/CN=$1" -out "$folder/$file.csr"
  openssl x509 -req -in "$folder/$file.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -CAcreateserial \
    -days 397 -sha256 -out "$folder/$file.pem" -extfile <(
      echo "subjectAltName=$(names "$@")"
      echo "basicConstraints=critical,CA:FALSE"
      echo "keyUsage=critical,digitalSignature"
      echo "extendedKeyUsage=serverAuth"
    ) 2>/dev/null
}

key ca
openssl req -x509 -new -key "$folder/ca.key" -subj "/CN=Fengni local CA" -days 3650 -sha256 -out "$folder/ca.pem" \
  -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign"
certificate proxy "$@"
certificate store store
certificate evidence-db evidence-db
certificate heads-db heads-db
certificate witness witness
chmod 644 "$folder"/*.pem
echo "Certificates lie in $folder. Give $folder/ca.pem to the phones; its SHA-256 fingerprint:"
openssl x509 -in "$folder/ca.pem" -noout -fingerprint -sha256
