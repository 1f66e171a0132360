#!/bin/sh
# Builds the image of the container tests: a small Debian with openssh-server and without host keys.
# mmdebstrap makes it where it is installed, which needs no registry; else `docker build`, from the Dockerfile.
set -eu
name=vmdeploy-test-node
version=2
packages=openssh-server,openssh-client,sudo,iproute2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() {
    echo "test-images: $*" >&2
}
# The engine is asked at its socket, as the tests do; the program `docker` need not be there.
engine() {
    path=$1
    shift
    curl --silent --fail --output "$work/answer" --unix-socket /var/run/docker.sock "$@" "http://engine$path"
}

if ! engine /_ping; then
    say "no container engine answers at /var/run/docker.sock; nothing was built"
    exit 0
fi
if engine "/images/$name:$version/json"; then
    say "$name:$version is there"
    exit 0
fi
if command -v mmdebstrap >/dev/null; then
    # The same packages give the same bytes.
    SOURCE_DATE_EPOCH=0 mmdebstrap --quiet --variant=minbase --include="$packages" \
        --aptopt='Acquire::Retries "5"' --dpkgopt=force-unsafe-io --customize-hook='rm -f "$1"/etc/ssh/ssh_host_*' \
        bookworm "$work/root.tar" >"$work/log" 2>&1 </dev/null || {
        cat "$work/log" >&2
        say "mmdebstrap could not build $name:$version; its words are above"
        exit 1
    }
    engine "/images/create?fromSrc=-&repo=$name&tag=$version" --request POST --upload-file "$work/root.tar" \
        --header 'Content-Type: application/x-tar'
else
    docker build --quiet --tag "$name:$version" "$here" >/dev/null
fi
engine "/images/$name:$version/json" || {
    say "the engine took $name:$version and does not show it; its words:"
    cat "$work/answer" >&2
    exit 1
}
say "built $name:$version"
