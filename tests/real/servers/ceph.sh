#!/usr/bin/env bash
# A real Ceph of one monitor, one OSD and one radosgw (S3 and Swift, plain and TLS), from Debian's packages.
# daemons.sh says what it is told, and how: ceph.sh start DIR, ceph.sh kill9 DIR osd ...
#
# There is a pool `images`, and these users:
#   client.admin    all of it
#   client.images   what an image service is given: `profile rbd` on the pool
#   client.reader   the same, read-only
#   of radosgw: `test`, with S3 keys and the Swift user test:tester, and `other`, with S3 keys
# Each client finds its own keyring by DIR/ceph.conf. TLS is vouched for by DIR/tls/ca.pem.
#
# No manager daemon: images and objects need none. Without one, a pool's and the cluster's sizes read as 0.
# shellcheck disable=SC2034 # read by daemons.sh
DAEMONS="mon osd rgw"
# shellcheck source-path=SCRIPTDIR source=daemons.sh
. "$(dirname "$(realpath "$0")")/daemons.sh"
# shellcheck source-path=SCRIPTDIR source=tls.sh
. "$here/tls.sh"
# Each would lead the tools to another cluster.
unset CEPH_CONF CEPH_ARGS CEPH_KEYRING

need() {
    need_programs "apt-get install ceph-mon ceph-osd ceph-common radosgw openssl" \
        ceph-mon ceph-osd ceph ceph-authtool rados rbd radosgw radosgw-admin openssl
}

# A tool that finds no server waits for ever.
tool() { timeout 60 "$1" -c "$folder/ceph.conf" "${@:2}"; }
logged() { tool "$@" >>"$folder/log/tools.out" 2>&1 || die "$* failed: see $folder/log/tools.out"; }

make() {
    local first fsid osd
    first=$(free_ports 4)
    fsid=$(</proc/sys/kernel/random/uuid) osd=$(</proc/sys/kernel/random/uuid)
    MON="[v2:127.0.0.1:$first,v1:127.0.0.1:$((first + 1))]"
    cat >"$folder/settings" <<EOF
HTTP=$((first + 2))
EOF
    tell $((first + 2)) $((first + 3)) >"$folder/env"
    mkdir -p "$folder/mon" "$folder/osd" "$folder/rgw"
    certificates "$folder/tls" rgw 2>>"$folder/log/openssl.out"
    # radosgw wants both in one file.
    cat "$folder/tls/rgw.pem" "$folder/tls/rgw.key" >"$folder/tls/rgw.both"
    {
        configure "$fsid"
        configure_gateway $((first + 2)) $((first + 3))
    } >"$folder/ceph.conf"
    (umask 077 && keyrings)
    make_disks "$fsid" "$osd"
}

tell() { # PORT TLS_PORT
    cat <<EOF
export CEPH_CONF=$folder/ceph.conf
export RGW_URL=http://127.0.0.1:$1
export RGW_TLS_URL=https://127.0.0.1:$2
export RGW_CA=$folder/tls/ca.pem
export RGW_S3_ACCESS_KEY=tester RGW_S3_SECRET_KEY=${password@Q}
export RGW_S3_OTHER_ACCESS_KEY=other RGW_S3_OTHER_SECRET_KEY=${password@Q}
export RGW_SWIFT_AUTH=http://127.0.0.1:$1/auth/v1.0
export RGW_SWIFT_TLS_AUTH=https://127.0.0.1:$2/auth/v1.0
export RGW_SWIFT_USER=test:tester RGW_SWIFT_KEY=${password@Q}
EOF
}

configure() { # FSID
    cat <<EOF
[global]
fsid = $1
mon host = $MON
# Both, or some sockets are on every address of the machine.
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = $folder/\$name.keyring
run dir = $folder/run
# Longer than 107 bytes it can't be made; that is said in the log, and nothing here needs it.
admin socket = $folder/run/\$name.asok
pid file =
log file = $folder/log/\$name.log
log to stderr = false
err to stderr = true
mon cluster log file = $folder/log/cluster.log
crash dir = $folder/log/crash
# One copy on one disk is meant.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 4000

[mon]
mon data = $folder/mon
mon allow pool delete = true
mon warn on pool no redundancy = false
auth allow insecure global id reclaim = false
# A machine whose disk is nearly full is not this cluster's to judge. The full ratios stay as they are: above
# 0.97 they count as out of order.
mon data avail warn = 1
mon data avail crit = 1
# A monitor by itself need not collect proposals for a second: the start takes half the time.
paxos propose interval = 0.05
paxos min wait = 0.01

[osd]
osd data = $folder/osd
# memstore starts 3 s earlier, but loses everything to SIGKILL, and its clients then hang.
osd objectstore = bluestore
osd class update on start = false
# A file full of holes: 45 MiB when new.
bluestore block create = true
bluestore block size = 10737418240
osd memory target = 939524096
bluestore cache size = 268435456
bluestore cache autotune = false
# How long a killed client's watches and locks live on (default 30 s). With the default, the first new bucket
# after the SIGKILL of radosgw took 27 s, by the watch of the dead one.
osd client watch timeout = 5

[client]
# A command typed by hand says that no monitor answers, and does not wait five minutes.
client mount timeout = 20
rbd cache = false

EOF
}

configure_gateway() { # PORT TLS_PORT
    cat <<EOF
[client.rgw.a]
rgw data = $folder/rgw
# Without tcp_nodelay every second request waits 40 ms for a delayed acknowledgement.
rgw frontends = beast endpoint=127.0.0.1:$1 tcp_nodelay=1 ssl_endpoint=127.0.0.1:$2 ssl_certificate=$folder/tls/rgw.both
rgw thread pool size = 64
rgw enable apis = s3, swift, swift_auth, admin
# Virtual addressing: BUCKET.localhost
rgw dns name = localhost
rgw swift url = http://127.0.0.1:$1
# /swift/v1/AUTH_test, as in Swift; otherwise /swift/v1
rgw swift account in url = true
rgw swift versioning enabled = true
# Keys that are named here and not in a vault, for server-side encryption (which wants TLS).
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = images=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=
rgw enable usage log = false
rgw run sync thread = false
EOF
}

# Writes a key and capabilities for an entity into its own keyring, and into the one the monitor is born with.
key() { # ENTITY CAPABILITY...
    local file=$folder/${1/%./}.keyring cap
    [ "$1" != mon. ] || file=$folder/mon.a.keyring
    {
        printf '[%s]\n    key = %s\n' "$1" "$(ceph-authtool --gen-print-key)"
        for cap in "${@:2}"; do printf '    caps %s = "%s"\n' "${cap%%=*}" "${cap#*=}"; done
    } >"$file"
    cat "$file" >>"$folder/all.keyring"
}

keyrings() {
    key mon. 'mon=allow *'
    key client.admin 'mon=allow *' 'osd=allow *'
    key osd.0 'mon=allow profile osd' 'osd=allow *'
    key client.rgw.a 'mon=allow rw' 'osd=allow rwx'
    key client.images 'mon=profile rbd' 'osd=profile rbd pool=images'
    key client.reader 'mon=profile rbd-read-only' 'osd=profile rbd-read-only pool=images'
}

# Makes the stores of both. The monitor takes in every key of the keyring that it is made with, so that none is added afterwards. What
# the OSD is made of needs no monitor.
make_disks() { # FSID OSD
    monmaptool --create --clobber --fsid "$1" --enable-all-features --set-min-mon-release pacific \
        --addv a "$MON" "$folder/monmap" >>"$folder/log/tools.out"
    logged ceph-mon --mkfs -i a --monmap "$folder/monmap" --keyring "$folder/all.keyring"
    logged ceph-osd --mkfs -i 0 --osd-uuid "$2" --no-mon-config &
    local made=$!
    launch mon
    ready mon
    logged ceph osd new "$2" 0
    wait "$made"
}

# shellcheck disable=SC2034 # read by daemons.sh
run() {
    case $1 in
    mon) COMMAND=(ceph-mon -c "$folder/ceph.conf" -f -i a) ;;
    osd) COMMAND=(ceph-osd -c "$folder/ceph.conf" -f -i 0) ;;
    rgw) COMMAND=(radosgw -c "$folder/ceph.conf" -f -n client.rgw.a) ;;
    esac
}

ready() {
    case $1 in
    mon) await 30 mon tool ceph --connect-timeout 5 mon stat ;;
    osd)
        if [ -e "$folder/made" ]; then
            # The map may still show the OSD that was killed; only what is read tells that it serves.
            await 60 osd timeout 1 rados -c "$folder/ceph.conf" -p images ls
        else
            await 60 osd osd_is_up
        fi
        ;;
    rgw)
        if [ ! -e "$folder/made" ]; then make_pool; fi
        await 90 rgw answers rgw "$HTTP" /
        ;;
    esac
}

osd_is_up() { tool ceph osd stat -f json | grep '"num_up_osds":1'; }

make_pool() {
    logged ceph osd pool create images 8
    logged rbd pool init images
}

finish() {
    local admin=(radosgw-admin -n client.rgw.a)
    logged "${admin[@]}" user create --uid=test --display-name=test --access-key=tester --secret="$password"
    logged "${admin[@]}" subuser create --uid=test --subuser=test:tester --access=full --key-type=swift --secret="$password"
    logged "${admin[@]}" user create --uid=other --display-name=other --access-key=other --secret="$password"
}

main "$@"
