#!/usr/bin/env bash
# A real OpenStack Swift from PyPI: proxy, account, container and object server, one replica, and S3 by its own
# s3api. daemons.sh says what it is told, and how: swift.sh start DIR, swift.sh kill9 DIR object ...
#
# The proxy takes the tokens of its own tempauth: test:tester may do everything in the account AUTH_test,
# test:reader nothing that no ACL allows it, and other:tester is at home in AUTH_other. At the first start
# KEYSTONE_AUTH may name an identity service (http://127.0.0.1:5000/v3, made by keystone.sh): the tokens of that
# are taken as well, for accounts KEY_<project id>.
#
# More commands:
#   swift.sh forget DIR    the proxy forgets its tokens, as if their time were over
# shellcheck disable=SC2034 # read by daemons.sh
DAEMONS="account container object proxy" MORE=forget
# shellcheck source-path=SCRIPTDIR source=daemons.sh
. "$(dirname "$(realpath "$0")")/daemons.sh"

need() { need_programs "tools/real-servers" "$venv/bin/swift-proxy-server"; }

make() {
    local proxy account container object
    proxy=$(free_ports 4)
    account=$((proxy + 1)) container=$((proxy + 2)) object=$((proxy + 3))
    printf '%s\n' PROXY="$proxy" ACCOUNT=$account CONTAINER=$container OBJECT=$object >"$folder/settings"
    tell "$proxy" >"$folder/env"
    mkdir -p "$folder/disks/d1"
    # Swift keeps an object's metadata there. ext4 takes 3.9 KB per file; a filesystem without any takes none.
    "$venv/bin/python" -c 'import os, sys; os.setxattr(sys.argv[1], "user.swift", b"x" * 500)' "$folder/disks/d1" ||
        die "the filesystem of $folder has no extended attributes"
    # The hash of every name is salted with it; what it is matters to nobody here.
    printf '[swift-hash]\nswift_hash_path_suffix = imgstore\n[storage-policy:0]\nname = one\ndefault = yes\n' >"$folder/swift.conf"
    "$venv/bin/python" "$here/inside/rings.py" "$folder" account=$account container=$container object=$object
    configure_proxy "$proxy"
    configure_storage account $account
    configure_storage container $container
    configure_storage object $object
}

tell() { # PORT
    cat <<EOF
export SWIFT_URL=http://127.0.0.1:$1
export SWIFT_AUTH=http://127.0.0.1:$1/auth/v1.0
export SWIFT_USER=test:tester SWIFT_KEY=${password@Q}
export SWIFT_READER=test:reader SWIFT_READER_KEY=${password@Q}
export SWIFT_OTHER_USER=other:tester SWIFT_OTHER_KEY=${password@Q}
export SWIFT_S3_ACCESS_KEY=test:tester SWIFT_S3_SECRET_KEY=${password@Q}
EOF
}

# The same lines for all four servers: workers = 0 makes one process of each, and there is no syslog here.
configure_any() { # NAME PORT
    cat <<EOF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $2
# Half a minute of trying, where another server was quicker to take the port.
bind_timeout = 1
swift_dir = $folder
user = $(id -un)
workers = 0
log_level = INFO
log_file = $folder/log/$1.log
log_custom_handlers = in_process.log_to_file
EOF
}

configure_storage() { # NAME PORT
    {
        configure_any "$1" "$2"
        cat <<EOF
devices = $folder/disks
mount_check = false
# Swift refuses to write on a disk that is nearly full; this machine's may be.
fallocate_reserve = 0
[pipeline:main]
pipeline = healthcheck recon $1-server
[app:$1-server]
use = egg:swift#$1
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:recon]
use = egg:swift#recon
recon_cache_path = $folder/run
EOF
    } >"$folder/$1-server.conf"
}

configure_proxy() { # PORT
    local identity='' name
    [ -z "${KEYSTONE_AUTH:-}" ] || identity="authtoken keystoneauth"
    {
        configure_any proxy "$1"
        cat <<EOF
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk tempurl s3api tempauth $identity copy container-quotas account-quotas slo dlo versioned_writes symlink proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
# By default the only object server would be shunned for a minute after it was killed.
error_suppression_interval = 1
error_suppression_limit = 1000000
[filter:cache]
paste.filter_factory = in_process:filter_factory
forget = $folder/forget
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = $password .admin
user_test_reader = $password
user_other_tester = $password .admin
[filter:tempurl]
use = egg:swift#tempurl
allowed_digests = sha1 sha256 sha512
[filter:s3api]
use = egg:swift#s3api
# Virtual addressing: BUCKET.localhost
storage_domain = localhost
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
EOF
        for name in catch_errors gatekeeper healthcheck proxy-logging listing_formats bulk copy container-quotas \
            account-quotas slo dlo symlink; do
            printf '[filter:%s]\nuse = egg:swift#%s\n' "$name" "${name//-/_}"
        done
        [ -z "$identity" ] || configure_identity
    } >"$folder/proxy-server.conf"
}

configure_identity() {
    cat <<EOF
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = $KEYSTONE_AUTH
auth_url = $KEYSTONE_AUTH
auth_type = password
username = swift
password = $password
project_name = service
user_domain_id = default
project_domain_id = default
# Those without such a token are tempauth's.
delay_auth_decision = true
service_token_roles_required = true
# A revoked token works for five minutes by default, and a test would have to wait for that.
token_cache_time = 1
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
reseller_prefix = KEY
EOF
}

run() {
    # For in_process.py, which stands in no package.
    # shellcheck disable=SC2034 # read by daemons.sh
    COMMAND=(env PYTHONPATH="$here/inside" "$venv/bin/swift-$1-server" "$folder/$1-server.conf")
}

ready() {
    local port=${1^^}
    await 60 "$1" answers "$1" "${!port}" /healthcheck
}

forget() { touch "$folder/forget"; }

main "$@"
