#!/usr/bin/env bash
# A real Kubernetes for the tests: control plane and one node, from Go modules and Debian packages, without a registry.
#
#   kube.sh reason DIR          say why no node can run here, with DIR as its folder, in one line, and end with 3;
#                               say nothing if it can
#   kube.sh build               build the programs (once) and print their folder
#   kube.sh up DIR [OPTION...]  start a cluster that keeps everything in DIR; wait until it is ready; print where it is
#   kube.sh load DIR IMAGE...   give the node images (tar files; images/build makes ours)
#   kube.sh kill DIR NAME       kill one part (SIGKILL): etcd, kube-apiserver, …; `up` starts it again
#   kube.sh down DIR            stop everything and remove what it left on the machine; DIR keeps only log/
#   kube.sh sweep DIR           the same for DIR and for every cluster whose folder lies below it, also after a crash
#
# `up` prints one "NAME value" per line, and so does the file DIR/cluster: kubeconfig, kubectl, helm, audit (the log of
# every request, one JSON object a line), node-address (pods reach this machine there). On a folder that has a cluster
# `up` starts what does not run. It ends with 3 where root or containers are missing.
#
# Options of the first `up`:
#   --control-plane    without a node: needs no root, and several may run at once
#   --owner PID        the cluster is of no use when this process has ended: the next `up` on this machine removes it
#   --wait SECONDS     how long to wait for the end of another cluster with an owner (default 0): there can be one node
#                      on a machine
#
# Environment: DATA_PLATFORM_CACHE (~/.cache/data-platform), KUBE_WAIT (seconds to wait for each part: 180).
# shellcheck disable=SC2034  # rendered() reads the settings by their names
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/env/process.sh
source "$HERE/../process.sh"
CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}
BRIDGE=dptest0
NODE=node-1
NODE_ADDRESS=10.88.0.1
KUBELET_PORT=10250
PODS=10.88.0.0/16
FIRST_POD=10.88.1.1
SERVICES=10.96.0.0/16
API_SERVICE=10.96.0.1 # the first address of the range, where Kubernetes puts its own Service
VOLUMES=100           # each is used once: a claim's data stay for a look when the claim is gone
# Which folder has the node of this machine: bridge, firewall and cgroups have fixed names.
LOCK=/run/data-platform-test-node
PARTS=(containerd etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns)

say() { echo "kube.sh: $*" >&2; }
die() { say "$*"; exit 1; }
usage() { sed -n '2,/^# shellcheck/{/^# shellcheck/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

# --- what the machine must have -----------------------------------------------------------------------------------

# Prints why a node cannot run here, in the folder $1. Each line is one thing that was tried and did not work.
reason() {
  local missing
  [[ $(uname -s) == Linux ]] || { echo "a cluster needs Linux"; return; }
  [[ $(id -u) == 0 ]] || { echo "containers need root"; return; }
  missing=$("$HERE/../tools.sh" cluster 2>&1) || {
    sed -n 's/^On Debian.*: /missing: /p' <<<"$missing"
    return
  }
  "$HERE/binaries.sh" reason || return 0
  unshare --mount --pid --net --uts --ipc --fork true 2>/dev/null || { echo "namespaces cannot be made"; return; }
  local probe group
  mkdir -p "$1"
  # Where the containers will be: an overlay on an overlay is refused.
  probe=$(mktemp -d "$1/probe.XXXXXX")
  mkdir "$probe"/{lower,upper,work,merged}
  unshare --mount mount -t overlay overlay "$probe/merged" \
    -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" 2>/dev/null ||
    echo "overlay file systems cannot be mounted"
  rm -rf "$probe"
  for group in /sys/fs/cgroup/memory /sys/fs/cgroup; do
    [[ -f $group/cgroup.procs ]] || continue
    if mkdir "$group/data-platform-probe" 2>/dev/null; then
      rmdir "$group/data-platform-probe"
    else
      echo "$group cannot be written"
    fi
    break
  done
  unshare --net sh -c 'ip link add probe type bridge && nft add table inet probe' 2>/dev/null ||
    echo "a bridge or packet filter cannot be made"
  [[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]] || modprobe br_netfilter 2>/dev/null ||
    echo "the kernel has no br_netfilter"
}

need_node() {
  local why
  why=$(reason "$DIR" | paste -sd ';')
  [[ -z $why ]] || { say "$why"; exit 3; }
}

# --- processes ----------------------------------------------------------------------------------------------------

# Pids of the programs named $2... that work for the folder $1. Their command lines say so; pid files may be gone.
processes() {
  local dir=$1 file pid name
  shift
  while IFS= read -r file; do
    pid=${file//[!0-9]/}
    IFS= read -r -d '' name 2>/dev/null <"$file" || continue
    [[ " $* " == *" ${name##*/} "* ]] && echo "$pid"
  done < <(grep -lsF "$dir/" /proc/[0-9]*/cmdline)
}

# ended PID...: waits for their end.
ended() {
  local pid waited
  for pid; do
    for ((waited = 0; waited < 600; waited++)); do
      ! gone "$pid" || continue 2
      sleep 0.05
    done
    die "pid $pid does not end"
  done
}

# kill_all DIR NAME...
kill_all() {
  local pids
  mapfile -t pids < <(processes "$@")
  ((${#pids[@]} > 0)) || return 0
  kill -KILL "${pids[@]}" 2>/dev/null || true
  ended "${pids[@]}"
}

# start NAME ARGUMENT...: in a session of its own, so that Ctrl-C at the terminal does not reach it; nothing if it runs.
start() {
  local name=$1
  shift
  [[ -z $(processes "$DIR" "$name") ]] || return 0
  setsid nohup "$name" "$@" >>"$DIR/log/$name.log" 2>&1 </dev/null 8>&- 9>&- &
  echo $! >"$DIR/run/$name.pid"
}

# await NAME COMMAND...: until it succeeds. A part that ends meanwhile is not waited for.
await() {
  local name=$1 deadline=$((SECONDS + ${KUBE_WAIT:-180}))
  shift
  until "$@" >"$DIR/run/await.log" 2>&1; do
    if gone "$(cat "$DIR/run/$name.pid")"; then
      tail -n 20 "$DIR/log/$name.log" >&2
      die "$name ended; its log is $DIR/log/$name.log"
    fi
    if ((SECONDS >= deadline)); then
      tail -n 20 "$DIR/log/$name.log" "$DIR/run/await.log" >&2
      die "$name was not ready within ${KUBE_WAIT:-180} s; its log is $DIR/log/$name.log"
    fi
    sleep 0.1
  done
}

# --- one node on a machine ----------------------------------------------------------------------------------------

# wanted DIR PID: whether the cluster in DIR, of the process PID if there is one, is still of use to somebody.
wanted() {
  [[ -d $1 && -n $(processes "$1" "${PARTS[@]}") ]] || return 1
  [[ -z $2 ]] || ! gone "$2"
}

holder() { [[ ! -f $LOCK ]] || cut -d' ' -f1 "$LOCK"; }

# take_node SECONDS OWNER: takes the node of this machine for DIR, after removing what a crash left of another.
take_node() {
  local wait=$1 holder='' owner='' deadline=$((SECONDS + $1)) told=''
  while true; do
    exec 8>"$LOCK.lock"
    flock 8
    read -r holder owner < <(cat "$LOCK" 2>/dev/null) || holder=''
    if [[ -n $holder && $holder != "$DIR" ]] && ! wanted "$holder" "$owner"; then
      say "removing what was left of the cluster in $holder"
      clear_machine "$holder"
      holder=''
    fi
    if [[ -z $holder || $holder == "$DIR" ]]; then
      if [[ -z $holder && -n $(pods_groups) ]]; then
        exec 8>&-
        die "another Kubernetes node runs on this machine: $(pods_groups | head -n 1)"
      fi
      echo "$DIR $2" >"$LOCK"
      exec 8>&-
      return
    fi
    exec 8>&-
    # One without an owner runs until somebody stops it.
    if [[ -z $owner ]] || ((SECONDS >= deadline)); then
      die "the cluster in $holder runs on this machine; kube.sh down $holder stops it"
    fi
    [[ -n $told ]] || say "waiting up to $wait s for the end of the cluster in $holder"
    told=yes
    sleep 1
  done
}

# The cgroups of pods: one for each controller, or one for all.
pods_groups() {
  local group
  for group in /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods; do
    [[ ! -d $group ]] || echo "$group"
  done
}

mounts_below() { awk -v dir="$1/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r; }

# Ends the processes of the cluster in $1 and takes away what it left on the machine. The folder may be gone already.
clear_machine() {
  local dir=$1 group pids=() mount key value
  # Nobody starts a container again, then nobody is left in one, then nobody looks after them.
  kill_all "$dir" "${PARTS[@]/containerd/}"
  if [[ $(holder) == "$dir" ]]; then
    while IFS= read -r group; do
      mapfile -t pids < <(find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
      ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
    done < <(pods_groups)
  fi
  kill_all "$dir" containerd containerd-shim-runc-v2
  # A mount may hold others that were made in it.
  for _ in 1 2 3; do
    while IFS= read -r mount; do
      umount -l "$(printf '%b' "$mount")" 2>/dev/null || true
    done < <(mounts_below "$dir")
  done
  [[ $(holder) == "$dir" ]] || return 0
  while IFS= read -r group; do
    # Processes that were killed take a moment to leave.
    for _ in {1..100}; do
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [[ -d $group ]] || break
      sleep 0.05
    done
  done < <(pods_groups)
  for value in "inet data_platform_test" "ip kube-proxy" "ip6 kube-proxy"; do
    # shellcheck disable=SC2086  # a family and a name
    nft delete table $value 2>/dev/null || true
  done
  ip link del "$BRIDGE" 2>/dev/null || true
  if [[ -f $LOCK.sysctl ]]; then
    while IFS='=' read -r key value; do
      [[ -z $value ]] || sysctl -qw "$key=$value" 2>/dev/null || true
    done <"$LOCK.sysctl"
  fi
  rm -f "$LOCK" "$LOCK.sysctl"
}

# --- up -----------------------------------------------------------------------------------------------------------

PORTS=(API_PORT ETCD_PORT ETCD_PEER_PORT CONTROLLER_PORT SCHEDULER_PORT KUBELET_HEALTH_PORT PROXY_HEALTH_PORT
  PROXY_METRICS_PORT DNS_READY_PORT)

# rendered NAME FILE: config/NAME with its @VARIABLES@ filled in. The file changes only if its content does:
# kube-proxy ends when it does.
rendered() {
  local variable text
  text=$(cat "$HERE/config/$1")
  for variable in DIR BRIDGE NODE NODE_ADDRESS PODS FIRST_POD KUBELET_PORT NUMBER "${PORTS[@]}"; do
    text=${text//"@$variable@"/${!variable:-}}
  done
  [[ -f $2 && $text == "$(cat "$2")" ]] || printf '%s\n' "$text" >"$2"
}

network() {
  local key
  if [[ ! -f $LOCK.sysctl ]]; then
    # The last four are what the kubelet sets.
    for key in net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables vm.overcommit_memory vm.panic_on_oom \
      kernel.panic kernel.panic_on_oops; do
      echo "$key=$(sysctl -n "$key" 2>/dev/null || true)"
    done >"$LOCK.sysctl"
  fi
  if ! ip link show "$BRIDGE" >/dev/null 2>&1; then
    ip link add "$BRIDGE" type bridge
    ip addr add "$NODE_ADDRESS/${PODS#*/}" dev "$BRIDGE"
  fi
  ip link set "$BRIDGE" up
  # Addresses of Services never take the default route.
  ip route replace "$SERVICES" dev "$BRIDGE" src "$NODE_ADDRESS"
  sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
  rendered firewall.nft "$DIR/firewall.nft"
  nft list table inet data_platform_test >/dev/null 2>&1 || nft -f "$DIR/firewall.nft"
}

runtime() {
  mkdir -p "$DIR"/cni/conf "$DIR"/registries/_default
  rendered cni.conflist "$DIR/cni/conf/10-data-platform.conflist"
  rendered registries.toml "$DIR/registries/_default/hosts.toml"
  rendered containerd.toml "$DIR/containerd.toml"
  start containerd --config "$DIR/containerd.toml"
}

containers() { ctr --address "$DIR/run/containerd.sock" --namespace k8s.io "$@"; }

load() {
  local image mark
  for image; do
    mark=$DIR/run/loaded-$(sha256sum <"$image" | head -c 16)
    [[ ! -f $mark ]] || continue
    containers images import "$image" >>"$DIR/log/images.log" 2>&1 || {
      tail -n 5 "$DIR/log/images.log" >&2
      die "$image could not be loaded"
    }
    touch "$mark"
  done
}

# The container that holds a pod's namespaces.
pause_image() {
  local folder
  folder=$CACHE/kube/pause-$(cat "$HERE/pause.c" "$HERE/../../../images/oci.py" | sha256sum | head -c 12)
  if [[ ! -f $folder/pause.tar ]]; then
    mkdir -p "$folder"
    cc -static -Os -s -o "$folder/pause" "$HERE/pause.c"
    python3 "$HERE/../../../images/oci.py" "$folder/pause.partial" localhost/pause:test --entrypoint /pause \
      "$folder/pause=/pause" >/dev/null
    mv "$folder/pause.partial" "$folder/pause.tar"
  fi
  echo "$folder/pause.tar"
}

etcd_and_api_server() {
  local pki=$DIR/pki peer=http://127.0.0.1:$ETCD_PEER_PORT store=http://127.0.0.1:$ETCD_PORT network
  start etcd --data-dir="$DIR/etcd" --listen-client-urls="$store" --advertise-client-urls="$store" \
    --listen-peer-urls="$peer" --initial-advertise-peer-urls="$peer" --initial-cluster="default=$peer" \
    --unsafe-no-fsync --log-level=warn --snapshot-count=5000
  # Without a node there is no address that pods could use.
  network=(--endpoint-reconciler-type=none --bind-address=127.0.0.1)
  [[ ! -f $DIR/node ]] || network=(--advertise-address="$NODE_ADDRESS")
  cp "$HERE/config/audit.yaml" "$DIR/audit.yaml"
  start kube-apiserver --etcd-servers="$store" --secure-port="$API_PORT" "${network[@]}" \
    --service-cluster-ip-range="$SERVICES" --allow-privileged=true --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction,PodSecurity \
    --audit-policy-file="$DIR/audit.yaml" --audit-log-path="$DIR/log/audit.log" --audit-log-maxsize=4000 \
    --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --cert-dir="$DIR/run" --kubelet-preferred-address-types=InternalIP --kubelet-certificate-authority="$pki/ca.crt" \
    --kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --proxy-client-cert-file="$pki/front-proxy.crt" \
    --proxy-client-key-file="$pki/front-proxy.key" --profiling=false --shutdown-delay-duration=0
}

controllers() {
  local pki=$DIR/pki config=$DIR/pki/kube-controller-manager.kubeconfig
  start kube-controller-manager --kubeconfig="$config" --authentication-kubeconfig="$config" \
    --authorization-kubeconfig="$config" --bind-address=127.0.0.1 --secure-port="$CONTROLLER_PORT" \
    --leader-elect=false \
    --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" --cert-dir="$DIR/run" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" --profiling=false
  config=$pki/kube-scheduler.kubeconfig
  start kube-scheduler --kubeconfig="$config" --authentication-kubeconfig="$config" \
    --authorization-kubeconfig="$config" --bind-address=127.0.0.1 --secure-port="$SCHEDULER_PORT" --leader-elect=false \
    --cert-dir="$DIR/run" --profiling=false
}

node() {
  mkdir -p "$DIR"/kubelet "$DIR"/pod-logs "$DIR"/volume-plugins
  echo "nameserver $NODE_ADDRESS" >"$DIR/resolv.conf"
  rendered kubelet.yaml "$DIR/kubelet.yaml"
  start kubelet --config="$DIR/kubelet.yaml" --kubeconfig="$DIR/pki/kubelet.kubeconfig" --root-dir="$DIR/kubelet" \
    --hostname-override="$NODE" --node-ip="$NODE_ADDRESS"
  rendered kube-proxy.yaml "$DIR/kube-proxy.yaml"
  start kube-proxy --config="$DIR/kube-proxy.yaml"
  rendered Corefile "$DIR/Corefile"
  start coredns -conf "$DIR/Corefile"
}

storage() {
  ! kubectl get storageclass local >/dev/null 2>&1 || return 0
  local NUMBER
  rm -f "$DIR/volumes.yaml"
  for ((NUMBER = 1; NUMBER <= VOLUMES; NUMBER++)); do
    mkdir -p "$DIR/volumes/$NUMBER"
    rendered volume.yaml "$DIR/volume.yaml"
    cat "$DIR/volume.yaml" >>"$DIR/volumes.yaml"
  done
  # The class comes last: where it is, all is there.
  kubectl apply --server-side --force-conflicts -f "$DIR/volumes.yaml" -f "$HERE/config/storage.yaml" \
    >>"$DIR/log/storage.log" 2>&1 || { tail -n 5 "$DIR/log/storage.log" >&2; die "the volumes could not be made"; }
}

up() {
  local with_node=yes owner='' wait=0 port value part pause=''
  mkdir -p "$1"
  DIR=$(realpath "$1")
  shift
  while (($# > 0)); do
    case $1 in
      --control-plane) with_node='' ;;
      --owner) owner=$2; shift ;;
      --wait) wait=$2; shift ;;
      *) say "unknown option $1"; usage ;;
    esac
    shift
  done
  [[ $DIR != *[[:space:]]* ]] || die "the folder has a blank in its name: $DIR"
  # The system limits the path of a socket to 107 bytes; the longest is DIR/kubelet/device-plugins/kubelet.sock.
  ((${#DIR} < 70)) || die "the path of the folder is too long for a socket in it: $DIR"
  [[ ! -f $DIR/ports || -f $DIR/node ]] || with_node=''
  [[ -z $with_node ]] || need_node
  local bin
  bin=$("$HERE/binaries.sh")
  PATH=$bin:$PATH
  mkdir -p "$DIR"/{run,log,pki}
  if [[ -n $with_node ]]; then
    pause=$(pause_image)
    take_node "$wait" "$owner"
    touch "$DIR/node"
  fi
  if [[ ! -f $DIR/ports ]]; then
    local ports index
    mapfile -t ports < <(free_ports ${#PORTS[@]})
    for index in "${!PORTS[@]}"; do
      echo "${PORTS[index]}=${ports[index]}"
    done >"$DIR/ports.partial"
    mv "$DIR/ports.partial" "$DIR/ports"
  fi
  while IFS='=' read -r port value; do
    declare -g "$port=$value"
  done <"$DIR/ports"

  "$HERE/certificates.sh" "$DIR/pki" "https://127.0.0.1:$API_PORT" "$NODE" 127.0.0.1 "$NODE_ADDRESS" "$API_SERVICE"
  cp "$DIR/pki/admin.kubeconfig" "$DIR/kubeconfig"
  export KUBECONFIG=$DIR/kubeconfig KUBECACHEDIR=$DIR/clients
  if [[ -n $with_node ]]; then
    network
    runtime
  fi
  etcd_and_api_server
  if [[ -n $with_node ]]; then
    await containerd containers version
    load "$pause"
  fi
  await kube-apiserver kubectl get --raw /readyz
  controllers
  if [[ -n $with_node ]]; then
    node
    storage
    await kubelet kubectl wait --for=condition=Ready "node/$NODE" --timeout=1s
    await coredns answers "$DNS_READY_PORT"
  fi
  await kube-controller-manager kubectl --namespace default get serviceaccount default
  await kube-scheduler kubectl --server "https://127.0.0.1:$SCHEDULER_PORT" --insecure-skip-tls-verify get --raw /readyz
  for part in "${PARTS[@]}"; do
    [[ ! -f $DIR/run/$part.pid ]] || ! gone "$(cat "$DIR/run/$part.pid")" ||
      die "$part ended; its log is $DIR/log/$part.log"
  done
  {
    echo "kubeconfig $KUBECONFIG"
    echo "kubectl $bin/kubectl"
    echo "helm $bin/helm"
    echo "audit $DIR/log/audit.log"
    [[ -z $with_node ]] || echo "node-address $NODE_ADDRESS"
  } >"$DIR/cluster"
  cat "$DIR/cluster"
}

# Whether /ready on port $1 says yes.
answers() {
  # shellcheck disable=SC2016  # the inner shell expands it
  timeout 5 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1
    printf "GET /ready HTTP/1.0\r\n\r\n" >&3
    head -n 1 <&3 | grep " 200 "' "$1"
}

# --- down ---------------------------------------------------------------------------------------------------------

down() {
  local dir
  dir=$(realpath -m "$1")
  if [[ $(holder) == "$dir" ]]; then
    # Whoever waits for our end begins when all is gone.
    exec 8>"$LOCK.lock"
    flock 8
    clear_machine "$dir"
    exec 8>&-
  else
    clear_machine "$dir"
  fi
  [[ -z $(mounts_below "$dir") ]] || die "mounts are left below $dir: $(mounts_below "$dir" | head -n 1)"
  [[ -d $dir ]] || return 0
  find "$dir" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +
}

sweep() {
  local file dir holder
  dir=$(realpath -m "$1")
  # Also one whose folder was removed while it ran.
  holder=$(holder)
  [[ $holder/ != "$dir"/* ]] || down "$holder"
  [[ -d $dir ]] || return 0
  while IFS= read -r file; do
    down "$(dirname "$file")"
  done < <(find "$dir" -maxdepth 3 -name ports -type f)
}

case ${1:-} in
  reason)
    (($# == 2)) || usage
    why=$(reason "$2" | paste -sd ';')
    [[ -z $why ]] || { echo "$why"; exit 3; }
    ;;
  build) (($# == 1)) || usage; "$HERE/binaries.sh" ;;
  up) (($# >= 2)) || usage; shift; up "$@" ;;
  load) (($# >= 3)) || usage; DIR=$(realpath "$2"); shift 2; load "$@" ;;
  kill) (($# == 3)) || usage; kill_all "$(realpath "$2")" "$3" ;;
  down) (($# == 2)) || usage; down "$2" ;;
  sweep) (($# == 2)) || usage; sweep "$2" ;;
  *) usage ;;
esac
