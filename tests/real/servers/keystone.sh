#!/usr/bin/env bash
# A real OpenStack Keystone (identity, v3) from PyPI, on SQLite. daemons.sh says what it is told, and how:
# keystone.sh start DIR ...
#
# In the domain Default: `tester`, a member of the project `test` with the application credential `images`,
# `reader`, who may only read there, `other`, a member of the project `other`, and `swift`, by whom a Swift
# asks who a token is.
#
# More commands:
#   keystone.sh endpoint DIR URL [REGION]    has the catalog name an object store: http://127.0.0.1:8080
# shellcheck disable=SC2034 # read by daemons.sh
DAEMONS=keystone MORE=endpoint
# shellcheck source-path=SCRIPTDIR source=daemons.sh
. "$(dirname "$(realpath "$0")")/daemons.sh"

need() { need_programs "tools/real-servers" "$venv/bin/keystone-manage" openssl; }

make() {
    local port url
    port=$(free_ports 1)
    url=http://127.0.0.1:$port/v3
    echo "HTTP=$port" >"$folder/settings"
    cat >"$folder/env" <<EOF
export KEYSTONE_AUTH=$url
export KEYSTONE_USER=tester KEYSTONE_PASSWORD=${password@Q} KEYSTONE_PROJECT=test KEYSTONE_DOMAIN=Default
export KEYSTONE_READER=reader KEYSTONE_READER_PASSWORD=${password@Q}
export KEYSTONE_OTHER_USER=other KEYSTONE_OTHER_PASSWORD=${password@Q} KEYSTONE_OTHER_PROJECT=other
export KEYSTONE_REGION=RegionOne
EOF
    cat >"$folder/keystone.conf" <<EOF
[DEFAULT]
log_file = $folder/log/keystone.log
[database]
connection = sqlite:///$folder/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = $folder/fernet
[credential]
key_repository = $folder/credential
[identity]
# The fewest: with bcrypt's usual twelve each login takes a quarter of a second.
password_hash_rounds = 4
[cache]
# Half a second per request without one. Inside the process, which is the only one.
enabled = true
backend = oslo_cache.dict
EOF
    # As `keystone-manage fernet_setup` and `credential_setup` write them, which take long to do so.
    (umask 077 && mkdir "$folder/fernet" "$folder/credential")
    fernet_key >"$folder/fernet/0"
    fernet_key >"$folder/fernet/1"
    fernet_key >"$folder/credential/0"
    {
        keystone_manage db_sync
        keystone_manage bootstrap --bootstrap-password "$password" --bootstrap-region-id RegionOne \
            --bootstrap-public-url "$url" --bootstrap-internal-url "$url" --bootstrap-admin-url "$url"
    } >>"$folder/log/manage.out" 2>&1 || die "see $folder/log/manage.out"
}

fernet_key() { openssl rand -base64 32 | tr '+/' '-_'; }

keystone_manage() { "$venv/bin/keystone-manage" --config-file "$folder/keystone.conf" "$@"; }

# shellcheck disable=SC2034 # read by daemons.sh
run() {
    COMMAND=(env OS_KEYSTONE_CONFIG_FILES="$folder/keystone.conf" "$venv/bin/python" "$here/inside/identity.py" "$HTTP")
}

ready() { await 60 keystone answers keystone "$HTTP" /v3; }

people() { SERVER_PASSWORD=$password "$venv/bin/python" "$here/inside/people.py" "http://127.0.0.1:$HTTP/v3" "$@"; }

finish() { people users >>"$folder/env"; }

endpoint() { people endpoint "$@"; }

main "$@"
