#!/bin/sh
# What the builder runs, in this folder: here the stock cloud image of Debian with a package more.
# Replace it with your own, e.g. `kiwi-ng system build`; what counts is that it leaves one file in out/.
set -eu
export LANG="$LOCALE"
sudo() { if [ "$(id -u)" = 0 ]; then "$@"; else command sudo -n "$@"; fi; }
sudo apt-get update
sudo apt-get install --yes --no-install-recommends curl libguestfs-tools qemu-utils
mkdir out
base=https://cloud.debian.org/images/cloud/trixie/latest
curl --fail --silent --show-error --location --remote-name "$base/debian-13-generic-amd64.qcow2"
curl --fail --silent --show-error --location "$base/SHA512SUMS" | grep ' debian-13-generic-amd64.qcow2$' | sha512sum --check
virt-customize --add debian-13-generic-amd64.qcow2 --install qemu-guest-agent
qemu-img convert -O qcow2 -c debian-13-generic-amd64.qcow2 out/custom.qcow2
