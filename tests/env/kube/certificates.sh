#!/usr/bin/env bash
# Makes the certificates of a test cluster and a kubeconfig for each of its parts.
#
#   certificates.sh DIR SERVER NODE ADDRESS...    SERVER: URL of the API server; NODE: name of the node;
#                                                 ADDRESS: under which the API server and the kubelet are reached
#
# DIR gets ca.crt, sa.key and sa.pub (service accounts), NAME.crt, NAME.key and NAME.kubeconfig for admin,
# kube-controller-manager, kube-scheduler, kubelet and kube-proxy, and certificates of the API server, of its calls to
# the kubelet and of its aggregation layer. Valid for ten years; nothing is made again when all of it is there.
set -euo pipefail

DIR=${1:?usage: certificates.sh DIR SERVER NODE ADDRESS...}
SERVER=$2
NODE=$3
shift 3
[[ -f $DIR/.complete ]] && exit 0
mkdir -p "$DIR"
cd "$DIR"
umask 077

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

# signed NAME SUBJECT USAGE [ALTERNATIVE_NAMES]: NAME.crt and NAME.key. In Kubernetes the common name is the user and
# the organisation the group.
signed() {
  key "$1"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" 2>>openssl.log \
    -extfile <(printf 'keyUsage=digitalSignature\nextendedKeyUsage=%s\n' "$3"; printf '%s\n' ${4:+"subjectAltName=$4"})
  rm "$1.csr"
}

kubeconfig() {
  cat >"$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: test
clusters:
  - name: test
    cluster: {server: "$SERVER", certificate-authority-data: $(base64 -w0 ca.crt)}
users:
  - name: $1
    user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}
contexts:
  - name: test
    context: {cluster: test, user: $1}
YAML
}

trap 'echo "certificates.sh: openssl failed:" >&2; cat openssl.log >&2' ERR
: >openssl.log
key ca
openssl req -x509 -new -key ca.key -subj "/O=data-platform tests/CN=cluster" -days 3650 -out ca.crt 2>>openssl.log
key sa
openssl ec -in sa.key -pubout -out sa.pub 2>>openssl.log

addresses=$(printf 'IP:%s,' "$@")
name=kubernetes
names=DNS:localhost,DNS:$name
for part in default svc cluster local; do
  name+=.$part
  names+=,DNS:$name
done
signed apiserver /CN=kube-apiserver serverAuth "$addresses$names"
signed apiserver-kubelet /O=system:masters/CN=apiserver-kubelet clientAuth
signed front-proxy /CN=front-proxy clientAuth
signed admin /O=system:masters/CN=admin clientAuth
signed kube-controller-manager /O=system:masters/CN=system:kube-controller-manager clientAuth
signed kube-scheduler /CN=system:kube-scheduler clientAuth
signed kube-proxy /CN=system:kube-proxy clientAuth
signed kubelet "/O=system:nodes/CN=system:node:$NODE" serverAuth,clientAuth "${addresses}DNS:$NODE"
for user in admin kube-controller-manager kube-scheduler kube-proxy kubelet; do
  kubeconfig "$user"
done
rm -f openssl.log ./*.srl
touch .complete
