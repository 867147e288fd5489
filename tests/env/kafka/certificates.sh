#!/usr/bin/env bash
# Makes the certificates of a test broker and its clients.
#
#   certificates.sh DIR [ADDRESS]     ADDRESS: one more under which the broker is reached
#
# DIR gets (PEM; EC keys as PKCS #8, valid for ten years; nothing is made again when all of it is there):
#   ca.pem                                   the authority that both sides trust
#   server.pem server.key                    the broker: localhost, 127.0.0.1, ::1, ADDRESS
#   server-keystore.pem                      both in one file, as Kafka wants them
#   client.pem client.key                    a client
#   client-encrypted.key client-key.password the same key under a password
#   token.key jwks.json                      RSA: what tokens are signed with, and what a broker checks them by
#   stranger-ca.pem stranger.pem stranger.key  an authority and a client that the broker does not know
set -euo pipefail

DIR=${1:?usage: certificates.sh DIR [ADDRESS]}
ADDRESS=${2:-127.0.0.1}
[[ -f $DIR/.complete ]] && exit 0
mkdir -p "$DIR"
cd "$DIR"
umask 077

# authority NAME: NAME.pem and NAME.key, self-signed.
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 -subj "/O=data-platform tests/CN=$1" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout "$1.key" -out "$1.pem" 2>openssl.log
}

# signed NAME AUTHORITY USAGE ALTERNATIVE_NAMES: NAME.pem and NAME.key, signed by AUTHORITY.
signed() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "/O=data-platform tests/CN=$1" \
    -keyout "$1.key" -out "$1.csr" 2>openssl.log
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 3650 -out "$1.pem" 2>openssl.log \
    -extfile <(printf 'extendedKeyUsage=%s\nsubjectAltName=%s\n' "$3" "$4")
  rm "$1.csr"
}

trap 'echo "certificates.sh: openssl failed:" >&2; cat openssl.log >&2' ERR
authority ca
signed server ca serverAuth DNS:localhost,IP:127.0.0.1,IP:::1,IP:"$ADDRESS"
signed client ca clientAuth DNS:client
cat server.key server.pem >server-keystore.pem
printf 'test-key-password' >client-key.password
openssl pkcs8 -topk8 -v2 aes-256-cbc -in client.key -passout file:client-key.password \
  -out client-encrypted.key 2>openssl.log
authority stranger-ca
signed stranger stranger-ca clientAuth DNS:stranger
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out token.key 2>openssl.log
modulus=$(openssl rsa -in token.key -noout -modulus 2>openssl.log | sed 's/^Modulus=//')
# shellcheck disable=SC2001,SC2059 # the text is hexadecimal digits, of which every two are replaced
modulus=$(printf "$(sed 's/../\\x&/g' <<<"$modulus")" | base64 -w0 | tr '+/' '-_' | tr -d '=')
echo "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"tests\",\"alg\":\"RS256\",\"use\":\"sig\",\"e\":\"AQAB\",\"n\":\"$modulus\"}]}" >jwks.json
rm -f openssl.log ./*.srl
touch .complete
