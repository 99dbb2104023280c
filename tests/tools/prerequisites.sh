#!/usr/bin/env bash
# Install the Debian packages that some suites need (real hosts, Go programs), when we may.
# Without root the suites that need them are skipped, each with its reason; in CI they fail.
set -euo pipefail
packages=(mmdebstrap systemd-container nftables openssh-client iproute2 socat tinyproxy zstd g++ nlohmann-json3-dev libstb-dev softhsm2 libnuma1 openssl)
missing=()
for name in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "some suites will be skipped; to run them: sudo apt install ${missing[*]}"
  exit 0
fi
echo "installing for the tests: ${missing[*]} …"
started=$SECONDS
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "installed in $((SECONDS - started)) s"
