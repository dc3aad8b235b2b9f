#!/usr/bin/env bash
# A real nginx on 127.0.0.1, with everything it writes in one folder. Needs no root.
#
#   nginx.sh start FOLDER    makes the folder at the first call; does nothing if it runs
#   nginx.sh stop FOLDER
#   nginx.sh kill9 FOLDER    SIGKILL, master and workers: open connections are cut
#   nginx.sh pause FOLDER    SIGSTOP, workers: open connections fall silent, new ones are taken by the kernel
#   nginx.sh cont FOLDER
#
# FOLDER/settings then names PORT, TLS_PORT and MTLS_PORT. The files in FOLDER/www are served under:
#   /files/         ranges, strong ETag, Last-Modified
#   /norange/       Range is ignored: 200, no Accept-Ranges
#   /noetag/        Last-Modified only
#   /weak/          the ETag is weak, and changes with the file
#   /novalidators/  neither ETag nor Last-Modified
#   /nolength/      chunked: no Content-Length, no ETag, no ranges
#   /ratelimited/   256 KiB/s after the first 64 KiB
#   /auth/          basic credentials, "user" and the password in NGINX_PASSWORD at the first start
#   /redirect/      302 to /files/
#   /503/ (Retry-After: 1)   /403/   /flaky/ (about half are 503)
# TLS_PORT speaks TLS with a certificate from FOLDER/tls/ca.pem; MTLS_PORT also wants the client's
# (FOLDER/tls/client.pem and client.key).
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

die() {
    echo "nginx.sh: $*" >&2
    exit 1
}

[ $# -eq 2 ] || die "usage: nginx.sh start|stop|kill9|pause|cont FOLDER"
folder=$(realpath -m "$2")
conf=$folder/nginx.conf

# The id in the file counts only while it is this folder's nginx: ids are given out again.
master() {
    local id
    id=$(cat "$folder/nginx.pid" 2>/dev/null) || return 1
    tr '\0' ' ' 2>/dev/null <"/proc/${id:-none}/cmdline" | grep -qF -- "$conf" || return 1
    echo "$id"
}

workers() { cat "/proc/$1/task/$1/children" 2>/dev/null || true; }

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Gives the first of three free ports in a row, below the kernel's range for outgoing connections (32768
# on): while nginx is killed, nobody's client socket takes the ports it will come back on.
free_ports() {
    local port
    while
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        answers "$port" || answers $((port + 1)) || answers $((port + 2))
    do :; done
    echo "$port"
}

certificates() {
    local tls=$folder/tls name
    mkdir -p "$tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=imgstore test CA" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
        -keyout "$tls/ca.key" -out "$tls/ca.pem"
    for name in server client; do
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
            -keyout "$tls/$name.key" -out "$tls/$name.csr"
        openssl x509 -req -in "$tls/$name.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 30 \
            -extfile <(echo "subjectAltName=IP:127.0.0.1,DNS:localhost") -out "$tls/$name.pem"
    done
}

configure() {
    local www=$folder/www tls=$folder/tls root_user=
    # The workers of a master that runs as root would drop to a user who can't read the folder.
    [ "$(id -u)" -ne 0 ] || root_user="user root;"
    PORT=$(free_ports)
    TLS_PORT=$((PORT + 1)) MTLS_PORT=$((PORT + 2))
    printf 'PORT=%s\nTLS_PORT=%s\nMTLS_PORT=%s\n' "$PORT" "$TLS_PORT" "$MTLS_PORT" >"$folder/settings"
    cat >"$conf" <<EOF
$root_user
worker_processes 2;
pid "$folder/nginx.pid";
error_log "$folder/error.log" warn;
events { worker_connections 512; }
http {
    default_type application/octet-stream;
    access_log "$folder/access.log";
    client_body_temp_path "$folder/tmp/body";
    proxy_temp_path "$folder/tmp/proxy";
    fastcgi_temp_path "$folder/tmp/fastcgi";
    uwsgi_temp_path "$folder/tmp/uwsgi";
    scgi_temp_path "$folder/tmp/scgi";
    server_tokens off;
    sendfile on;
    ssl_certificate "$tls/server.pem";
    ssl_certificate_key "$tls/server.key";
    split_clients "\$request_id" \$unlucky { 50% 1; * 0; }
    server {
        listen 127.0.0.1:$PORT;
        listen 127.0.0.1:$TLS_PORT ssl;
        location /files/ { alias "$www/"; }
        location /norange/ { alias "$www/"; max_ranges 0; }
        location /noetag/ { alias "$www/"; etag off; }
        # As nginx itself weakens a tag when it compresses; its own If-Match still compares the strong one.
        location /weak/ { alias "$www/"; add_header ETag "W/\$sent_http_etag"; }
        location /novalidators/ { alias "$www/"; etag off; add_header Last-Modified ""; }
        # Server-side includes could change the body, so nginx withdraws length, validators and ranges.
        location /nolength/ { alias "$www/"; ssi on; ssi_types *; }
        location /ratelimited/ { alias "$www/"; limit_rate 256k; limit_rate_after 64k; }
        location /auth/ { alias "$www/"; auth_basic imgstore; auth_basic_user_file "$folder/htpasswd"; }
        location /redirect/ { rewrite ^/redirect/(.*)\$ /files/\$1 redirect; }
        location /503/ { add_header Retry-After 1 always; return 503 "busy\n"; }
        location /403/ { return 403; }
        location /flaky/ { alias "$www/"; if (\$unlucky) { return 503; } }
        location / { return 404; }
    }
    server {
        listen 127.0.0.1:$MTLS_PORT ssl;
        ssl_client_certificate "$tls/ca.pem";
        ssl_verify_client on;
        location /files/ { alias "$www/"; }
    }
}
EOF
}

launch() { nginx -c "$conf" -p "$folder" -e "$folder/error.log" </dev/null >>"$folder/output.log" 2>&1; }

start() {
    ! master >/dev/null || return 0
    if [ ! -e "$folder/ready" ]; then
        mkdir -p "$folder/www" "$folder/tmp"
        certificates 2>>"$folder/output.log"
        printf 'user:%s\n' "$(openssl passwd -apr1 -stdin <<<"${NGINX_PASSWORD:?}")" >"$folder/htpasswd"
        # Between choosing ports and listening on them, somebody else may: then other ports.
        for _ in 1 2 3 4 5; do
            configure
            launch && touch "$folder/ready" && break
        done
        [ -e "$folder/ready" ] || die "nginx did not start: see $folder/output.log"
    else
        . "$folder/settings"
        launch || die "nginx did not start: see $folder/output.log"
    fi
    for _ in $(seq 200); do
        if answers "$PORT" && master >/dev/null; then return 0; fi
        sleep 0.02
    done
    die "nginx does not answer: see $folder/error.log"
}

# Gone is what the caller may rely on: the port is free and no connection lives.
await_end() {
    local id
    for _ in $(seq 250); do
        for id; do
            if [ -e "/proc/$id" ] && ! grep -q '^State:.Z' "/proc/$id/status" 2>/dev/null; then
                sleep 0.02
                continue 2
            fi
        done
        return 0
    done
    return 1
}

stop() {
    local id family
    id=$(master) || return 0
    family=$(workers "$id")
    # A stopped process would not see the signal that ends it.
    kill -CONT $family 2>/dev/null || true
    kill -TERM "$id" 2>/dev/null || true
    await_end "$id" $family || kill -KILL "$id" $family 2>/dev/null || true
}

case $1 in
start) start ;;
stop) stop ;;
kill9)
    id=$(master) || die "not running"
    family=$(workers "$id")
    kill -KILL "$id" $family
    await_end "$id" $family || die "nginx outlived SIGKILL"
    rm -f "$folder/nginx.pid"
    ;;
pause | cont)
    id=$(master) || die "not running"
    if [ "$1" = pause ]; then kill -STOP $(workers "$id"); else kill -CONT $(workers "$id"); fi
    ;;
*) die "no such command: $1" ;;
esac
