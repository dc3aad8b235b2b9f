#!/usr/bin/env bash
# moto's S3 from PyPI: a mock, for what no server here does (checksums, for one). daemons.sh says what it is
# told, and how: moto.sh start DIR ...
#
# Every object is in its memory, and each ranged read goes through the whole of it. It checks no signature and
# no expiry, so that any keys will do.
# shellcheck disable=SC2034 # read by daemons.sh
DAEMONS=moto
# shellcheck source-path=SCRIPTDIR source=daemons.sh
. "$(dirname "$(realpath "$0")")/daemons.sh"

need() { need_programs "tools/real-servers" "$venv/bin/moto_server"; }

make() {
    local port
    port=$(free_ports 1)
    mkdir -p "$folder/tmp"
    echo "HTTP=$port" >"$folder/settings"
    cat >"$folder/env" <<EOF
export MOTO_URL=http://127.0.0.1:$port
export MOTO_S3_ACCESS_KEY=any MOTO_S3_SECRET_KEY=${password@Q}
EOF
}

# shellcheck disable=SC2034 # read by daemons.sh
run() { COMMAND=(env TMPDIR="$folder/tmp" "$venv/bin/moto_server" -H 127.0.0.1 -p "$HTTP"); }

ready() { await 30 moto answers moto "$HTTP" /moto-api/; }

main "$@"
