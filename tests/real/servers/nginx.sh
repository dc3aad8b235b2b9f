#!/usr/bin/env bash
# A real nginx. daemons.sh says what it is told, and how: nginx.sh start DIR ...
#
# The files in DIR/www are served under:
#   /files/         ranges, strong ETag, Last-Modified
#   /norange/       Range is ignored: 200, no Accept-Ranges
#   /noetag/        Last-Modified only
#   /weak/          the ETag is weak, and changes with the file
#   /novalidators/  neither ETag nor Last-Modified
#   /nolength/      chunked: no Content-Length, no ETag, no ranges
#   /ratelimited/   256 KiB/s after the first 64 KiB
#   /auth/          basic credentials, "user" and SERVER_PASSWORD
#   /redirect/      302 to /files/
#   /503/ (Retry-After: 1)   /403/   /flaky/ (about half are 503)
# TLS is vouched for by DIR/tls/ca.pem. A port of its own also wants the client's certificate
# (DIR/tls/client.pem and client.key).
# shellcheck disable=SC2034 # read by daemons.sh
DAEMONS=nginx
# shellcheck source-path=SCRIPTDIR source=daemons.sh
. "$(dirname "$(realpath "$0")")/daemons.sh"
# shellcheck source-path=SCRIPTDIR source=tls.sh
. "$here/tls.sh"

need() { need_programs "apt-get install nginx-light openssl" nginx openssl; }

make() {
    local first
    first=$(free_ports 3)
    echo "HTTP=$first" >"$folder/settings"
    cat >"$folder/env" <<EOF
export NGINX_URL=http://127.0.0.1:$first
export NGINX_TLS_URL=https://127.0.0.1:$((first + 1))
export NGINX_MTLS_URL=https://127.0.0.1:$((first + 2))
EOF
    mkdir -p "$folder/www" "$folder/tmp"
    certificates "$folder/tls" server client 2>>"$folder/log/openssl.out"
    printf 'user:%s\n' "$(openssl passwd -apr1 -stdin <<<"$password")" >"$folder/htpasswd"
    configure "$first" $((first + 1)) $((first + 2)) >"$folder/nginx.conf"
}

configure() {
    local www=$folder/www tls=$folder/tls root_user=
    # The workers of a master that runs as root would drop to a user who can't read the folder.
    [ "$(id -u)" -ne 0 ] || root_user="user root;"
    cat <<EOF
$root_user
daemon off;
worker_processes 2;
pid "$folder/run/nginx.own";
error_log "$folder/log/error.log" warn;
events { worker_connections 512; }
http {
    default_type application/octet-stream;
    access_log "$folder/log/access.log";
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
        listen 127.0.0.1:$1;
        listen 127.0.0.1:$2 ssl;
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
        listen 127.0.0.1:$3 ssl;
        ssl_client_certificate "$tls/ca.pem";
        ssl_verify_client on;
        location /files/ { alias "$www/"; }
    }
}
EOF
}

# shellcheck disable=SC2034 # COMMAND is daemons.sh's to read, here and below
run() { COMMAND=(nginx -c "$folder/nginx.conf" -p "$folder" -e "$folder/log/error.log"); }

# The master listens first and then makes its workers; it is they who answer.
ready() { await 10 nginx answers nginx "$HTTP" /redirect/; }

main "$@"
