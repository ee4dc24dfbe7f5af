#!/bin/sh
# Writes the locks from the .in files: `sh requirements/lock.sh` inside the project's folder, with a network.
# torch is pinned without hashes and without its CUDA packages: each machine takes the build that fits it.
set -eu
cd "$(dirname "$0")"
uv="../.venv/bin/uv"
[ -n "${PIP_FIND_LINKS:-}" ] && export UV_FIND_LINKS="$PIP_FIND_LINKS"
# What is locked stays at its version, unless an .in file asks for another: `UPGRADE=--upgrade` takes the newest.
compile() {
    name="$1"
    shift
    # Without torch's pin, which would choose the build with CUDA among those of this version.
    sed '/^torch==/d' "$name.lock" > "$name.lock.new"
    "$uv" pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
        --no-emit-find-links ${UPGRADE:-} "$name.in" -o "$name.lock.new" "$@"
    ../.venv/bin/python strip_torch.py < "$name.lock.new" > "$name.lock"
    rm "$name.lock.new"
}
compile dev
for name in local web worker native; do
    compile "$name" -c dev.lock
done
