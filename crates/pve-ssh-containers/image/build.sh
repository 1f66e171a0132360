#!/bin/sh
# Builds the image of the container tests: a small Debian with openssh-server.
# Without a registry it is made by mmdebstrap and loaded by `docker import`; else the Dockerfile says the same.
set -eu
image=vmdeploy-test-node:1
packages=openssh-server,openssh-client,sudo,iproute2
here=$(cd "$(dirname "$0")" && pwd)

if ! docker version >/dev/null 2>&1; then
    echo "test-images: no container engine is up; nothing was built" >&2
    exit 0
fi
if docker image inspect "$image" >/dev/null 2>&1; then
    echo "test-images: $image is there" >&2
    exit 0
fi
if command -v mmdebstrap >/dev/null; then
    root=$(mktemp)
    trap 'rm -f "$root"' EXIT
    mmdebstrap --quiet --variant=minbase --include="$packages" bookworm "$root.tar"
    mv "$root.tar" "$root"
    docker import "$root" "$image" >/dev/null
else
    docker build --quiet --tag "$image" "$here" >/dev/null
fi
echo "test-images: built $image" >&2
