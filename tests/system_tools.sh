#!/usr/bin/env bash
# Install the system tools that the tests (or, with `bench`, the benchmarks) call, where we may: as root, with apt.
# Anywhere else it says what is missing and goes on: the tests that need it are skipped with a reason,
# or fail when CI is set (tests/tools.py).
set -euo pipefail

missing=()
need() { # need PROBE PACKAGE: the package is wanted unless the probe (a command or a path) is there
  if [[ $1 == /* ]]; then [[ -e $1 ]] || missing+=("$2"); else command -v "$1" >/dev/null || missing+=("$2"); fi
}

need openssl openssl
need /usr/share/gocode/src/golang.org/x/mod/sumdb/tlog golang-golang-x-mod-dev
need radosgw radosgw
need ceph-mon ceph-mon
need ceph-osd ceph-osd
need ceph ceph-common
need nginx nginx
need promtool prometheus
need faketime faketime
need softhsm2-util softhsm2
if [[ ${1:-test} == bench ]]; then
  need wrk wrk
  need exiftool libimage-exiftool-perl
fi

[[ ${#missing[@]} -gt 0 ]] || exit 0
if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "Not installed, and not ours to install here: ${missing[*]} (as root: apt-get install ${missing[*]})" >&2
  exit 0
fi

# A freshly installed daemon (nginx) must not start listening on this machine.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
install "${missing[@]}" 2>/dev/null || { apt-get update -qq && install "${missing[@]}"; } ||
  for package in "${missing[@]}"; do install "$package" || echo "apt could not install $package" >&2; done
