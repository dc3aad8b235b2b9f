# shellcheck shell=bash
# Certificates of a test's own authority. Sourced, not run.

# Makes in folder $1 an authority (ca.pem) and, for each further name, a certificate it vouches for with its
# key: NAME.pem, NAME.key, valid for 127.0.0.1 and localhost.
certificates() {
    local tls=$1 name
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    shift
    mkdir -p "$tls"
    openssl req -x509 "${key[@]}" -days 30 -subj "/CN=imgstore test CA" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
        -keyout "$tls/ca.key" -out "$tls/ca.pem"
    for name; do
        openssl req "${key[@]}" -subj "/CN=$name" -keyout "$tls/$name.key" -out "$tls/$name.csr"
        openssl x509 -req -in "$tls/$name.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 30 \
            -extfile <(echo "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:*.localhost") -out "$tls/$name.pem"
    done
}
