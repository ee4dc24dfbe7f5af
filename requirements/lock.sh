#!/bin/sh
# Writes the locks from the .in files: `sh requirements/lock.sh` inside the project's folder, with a network.
# torch is pinned without hashes and without its CUDA packages: each machine takes the build that fits it.
set -eu
cd "$(dirname "$0")"
uv="../.venv/bin/uv"
[ -n "${PIP_FIND_LINKS:-}" ] && export UV_FIND_LINKS="$PIP_FIND_LINKS"
compile() {
    "$uv" pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
        --no-emit-find-links "$@"
}
compile dev.in | ../.venv/bin/python strip_torch.py > dev.lock.new
mv dev.lock.new dev.lock
for name in local web worker; do
    compile "$name.in" -c dev.lock | ../.venv/bin/python strip_torch.py > "$name.lock.new"
    mv "$name.lock.new" "$name.lock"
done
