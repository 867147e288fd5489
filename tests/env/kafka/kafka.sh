#!/usr/bin/env bash
# A real Apache Kafka broker for the tests: one KRaft node from Maven Central, no container. Needs JDK 17 and Maven.
#
#   kafka.sh jars                    fetch the jars (once) and print their folder
#   kafka.sh up PORT DIR [OPTION...] start a broker that keeps everything in DIR; wait until it answers; print host:port
#   kafka.sh down DIR                stop it (SIGTERM) and wait for its end
#   kafka.sh kill DIR                kill it (SIGKILL) and wait for its end
#   kafka.sh sweep DIR               kill every broker whose folder lies below DIR
#
# PORT 0 chooses a free port. DIR/addresses says where the listeners are ("NAME host:port" per line), DIR/broker.log
# what the broker logged. `up` on a folder that has a broker starts it again with its first settings, ports and data;
# if it runs already, nothing happens.
#
# Options of the first `up`:
#   --ssl              a listener SSL: TLS, and clients must show a certificate
#   --sasl-ssl         a listener SASL_SSL: TLS, then login
#   --sasl-plaintext   a listener SASL_PLAINTEXT: login without TLS
#   --oauth            the SASL listeners also take tokens (OAUTHBEARER) of https://tests for "kafka" that are signed with
#                      DIR/certificates/token.key; a user's name is the claim "sub"
#   --user NAME:WORD   a user who may log in by PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 (default: alice:alice-secret);
#                      neither part has a comma or a quote
#   --host ADDRESS     every listener is at this address instead of 127.0.0.1 (the one at which pods reach this machine)
#   --join OTHER       a further broker of the cluster whose first one has the folder OTHER; it must run
#   --also-at ADDRESS  a further listener NODE at this address, without TLS and login
#   --certificates DIR what certificates.sh made (default: DIR/certificates, made when needed)
#   --set KEY=VALUE    a further line of server.properties; wins over ours
#
# Environment: DATA_PLATFORM_CACHE (~/.cache/data-platform), KAFKA_WAIT (seconds to wait for a broker: 60),
# KAFKA_JAVA_OPTIONS (further options of the JVM; -XX:TieredStopAtLevel=4 for long benchmarks).
set -euo pipefail

# shellcheck source=tests/env/process.sh
source "$(dirname "${BASH_SOURCE[0]}")/../process.sh"

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}/kafka
HOST=127.0.0.1
POM=$HERE/pom.xml
# Another pom is another folder: a version bump never mixes jars.
HOME_DIR=$CACHE/broker-$(sha256sum <"$POM" | head -c 12)
LIBS=$HOME_DIR/libs
ARCHIVE=$HOME_DIR/classes.jsa

say() { echo "kafka.sh: $*" >&2; }
die() { say "$*"; exit 1; }
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

# --- the jars -----------------------------------------------------------------------------------------------------

# The folder appears by one rename, so it is whole or not there; of two first callers the second waits for the lock.
fetch_jars() {
  [[ -d $LIBS ]] && return
  command -v mvn >/dev/null || die "Maven is missing (Debian: apt-get install maven)"
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.lock"
  flock 9
  if [[ ! -d $LIBS ]]; then
    say "fetching the broker's jars with Maven (about 45 MB, once)"
    local partial
    partial=$(mktemp -d "$CACHE/.partial.XXXXXX")
    if ! timeout 900 mvn -B -q -f "$POM" dependency:copy-dependencies -DincludeScope=runtime \
      -DoutputDirectory="$partial/libs" >"$partial/maven.log" 2>&1; then
      tail -n 20 "$partial/maven.log" >&2
      rm -rf "$partial"
      die "Maven could not fetch the jars"
    fi
    rm -rf "$HOME_DIR" "$partial/maven.log"
    mv "$partial" "$HOME_DIR"
  fi
  exec 9>&-
}

# Loading 6,000 classes is most of a broker's start. An archive of them (class data sharing) halves its time and CPU.
# A JVM silently ignores an archive of another JVM, so it is made again when the JVM changed.
archive_classes() {
  local jvm
  jvm=$(java -version 2>&1)
  [[ -f $ARCHIVE && $(cat "$ARCHIVE.jvm" 2>/dev/null) == "$jvm" ]] && return
  exec 9>"$CACHE/.lock"
  flock 9
  if [[ ! -f $ARCHIVE || $(cat "$ARCHIVE.jvm" 2>/dev/null) != "$jvm" ]]; then
    say "preparing a faster broker start (once)"
    rm -f "$ARCHIVE"
    local training
    training=$(mktemp -d)
    # A subshell, since a broker that does not start ends the shell it was started in.
    local options="-XX:ArchiveClassesAtExit=$ARCHIVE.partial"
    if (KAFKA_JAVA_OPTIONS=$options up 0 "$training/broker") >/dev/null 2>"$training/log"; then
      stop "$training/broker" TERM
      [[ -f $ARCHIVE.partial ]] && mv "$ARCHIVE.partial" "$ARCHIVE" && printf '%s' "$jvm" >"$ARCHIVE.jvm"
    else
      say "no class archive: $(tail -n 1 "$training/log")"
    fi
    rm -rf "$training"
  fi
  exec 9>&-
}

# --- the process --------------------------------------------------------------------------------------------------

# The pid of the broker of folder $1, if it runs.
running() { runs_as "$1/broker.pid" "kafka.Kafka $1/server.properties"; }

# An open socket is not yet a broker: asks for ApiVersions (v0, correlation id 1) at host:port $1 and reads the same id
# back.
answers() {
  # shellcheck disable=SC2016  # the inner shell expands them
  timeout 2 bash -c '
    exec 3<>"/dev/tcp/${0%:*}/${0##*:}" || exit 1
    printf "\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff" >&3
    [ "$(head -c 8 <&3 | od -An -tx1 -j4 | tr -d " \n")" = 00000001 ]' "$1" 2>/dev/null
}

# --- up -----------------------------------------------------------------------------------------------------------

# Writes server.properties and formats the log folder.
first_configuration() {
  local port=$1 dir=$2
  shift 2
  local listeners=(PLAINTEXT) hosts=() host=$HOST users=() extra=() certificates=$dir/certificates first='' oauth=''
  while (($# > 0)); do
    case $1 in
      --ssl) listeners+=(SSL) ;;
      --sasl-ssl) listeners+=(SASL_SSL) ;;
      --sasl-plaintext) listeners+=(SASL_PLAINTEXT) ;;
      --oauth) oauth=,OAUTHBEARER ;;
      --user) users+=("$2"); shift ;;
      --host) host=$2; shift ;;
      --join) first=$(realpath "$2"); shift ;;
      --also-at) hosts[${#listeners[@]}]=$2; listeners+=(NODE); shift ;;
      --certificates) certificates=$(realpath "$2"); shift ;;
      --set) extra+=("$2"); shift ;;
      *) say "unknown option $1"; usage ;;
    esac
    shift
  done
  ((${#users[@]} > 0)) || users=(alice:alice-secret)

  local ports bound=() map=() index address
  mapfile -t ports < <(free_ports $((${#listeners[@]} + 1)))
  ((port == 0)) || ports[0]=$port
  : >"$dir/addresses.partial"
  for index in "${!listeners[@]}"; do
    address=${hosts[index]:-$host}:${ports[index]}
    bound+=("${listeners[index]}://$address")
    map+=("${listeners[index]}:${listeners[index]/NODE/PLAINTEXT}")
    echo "${listeners[index]} $address" >>"$dir/addresses.partial"
  done
  local controller=$HOST:${ports[-1]} advertised roles=broker,controller node=1 controllers
  advertised=$(IFS=,; echo "${bound[*]}")
  controllers=,CONTROLLER://$controller
  if [[ -n $first ]]; then
    controller=$(sed -n 's/^controller.quorum.bootstrap.servers=//p' "$first/server.properties")
    # Any number that no other broker has, such as its port.
    roles=broker node=${ports[0]} controllers=''
  fi

  {
    cat <<PROPERTIES
process.roles=$roles
node.id=$node
listeners=$advertised$controllers
advertised.listeners=$advertised
listener.security.protocol.map=$(IFS=,; echo "${map[*]}"),CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=$controller
log.dirs=$dir/log
auto.create.topics.enable=false
# One node: internal topics have one replica, and few partitions so that a start is short.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# After kill -9 the next start must wait until the old session is over: 2 s, not 9 s.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
num.network.threads=1
num.io.threads=2
num.recovery.threads.per.data.dir=1
# Tests write events of any date: only a topic's own setting may remove them, and then at once, not after minutes.
log.retention.ms=-1
log.retention.check.interval.ms=500
log.initial.task.delay.ms=500
log.segment.delete.delay.ms=500
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=16777216
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# Larger than any limit on a record that a job may set, so that tests can go beyond that.
message.max.bytes=33554432
PROPERTIES
    if [[ " ${listeners[*]} " == *SSL* ]]; then
      cat <<PROPERTIES
ssl.keystore.type=PEM
ssl.keystore.location=$certificates/server-keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location=$certificates/ca.pem
listener.name.ssl.ssl.client.auth=required
PROPERTIES
    fi
    local listener plain user
    plain="org.apache.kafka.common.security.plain.PlainLoginModule required"
    for user in "${users[@]}"; do
      plain+=" user_${user%%:*}=\"${user#*:}\""
    done
    for listener in sasl_ssl sasl_plaintext; do
      [[ " ${listeners[*]} " == *" ${listener^^} "* ]] || continue
      cat <<PROPERTIES
listener.name.$listener.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512$oauth
listener.name.$listener.plain.sasl.jaas.config=$plain;
listener.name.$listener.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.$listener.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
PROPERTIES
      [[ -n $oauth ]] || continue
      cat <<PROPERTIES
listener.name.$listener.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.$listener.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
listener.name.$listener.oauthbearer.sasl.oauthbearer.jwks.endpoint.url=file://$certificates/jwks.json
listener.name.$listener.oauthbearer.sasl.oauthbearer.expected.audience=kafka
listener.name.$listener.oauthbearer.connections.max.reauth.ms=3600000
listener.name.$listener.oauthbearer.sasl.oauthbearer.expected.issuer=https://tests
PROPERTIES
    done
    ((${#extra[@]} == 0)) || printf '%s\n' "${extra[@]}"
  } >"$dir/server.properties.partial"

  local scram=()
  if [[ " ${listeners[*]} " == *SSL* || -n $oauth ]]; then
    "$HERE/certificates.sh" "$certificates" "$host"
  fi
  if [[ " ${listeners[*]} " == *SASL* ]]; then
    for user in "${users[@]}"; do
      scram+=(--add-scram "SCRAM-SHA-256=[name=${user%%:*},password=${user#*:}]")
      scram+=(--add-scram "SCRAM-SHA-512=[name=${user%%:*},password=${user#*:}]")
    done
  fi
  # A cluster id is 16 random bytes in URL-safe base64; one that began with "-" would be read as an option.
  local cluster standalone=(--standalone)
  cluster=A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=' | tail -c +2)
  if [[ -n $first ]]; then
    standalone=()
    cluster=$(sed -n 's/^cluster.id=//p' "$first/log/meta.properties")
  fi
  rm -rf "$dir/log"
  if ! "${JAVA[@]}" kafka.tools.StorageTool format ${standalone[@]+"${standalone[@]}"} -t "$cluster" -c "$dir/server.properties.partial" \
    ${scram[@]+"${scram[@]}"} >"$dir/format.log" 2>&1; then
    cat "$dir/format.log" >&2
    die "the log folder could not be formatted"
  fi
  # server.properties comes last: a folder that has it is complete.
  mv "$dir/addresses.partial" "$dir/addresses"
  mv "$dir/server.properties.partial" "$dir/server.properties"
}

up() {
  local port=$1 dir=$2
  shift 2
  mkdir -p "$dir"
  dir=$(realpath "$dir")
  # The path of each jar, sorted: the class archive holds for exactly this class path.
  local classpath
  classpath=$(printf '%s:' "$LIBS"/*.jar)
  JAVA=(java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile="$HERE/log4j2.xml")
  [[ -f $ARCHIVE ]] && JAVA+=(-XX:SharedArchiveFile="$ARCHIVE")
  JAVA+=(-cp "${classpath%:}")

  [[ -f $dir/server.properties ]] || first_configuration "$port" "$dir" "$@"
  # Files are not among the places from which a broker takes keys, unless it is told.
  local keys
  keys=$(sed -n 's/^.*jwks.endpoint.url=//p' "$dir/server.properties" 2>/dev/null | head -n 1)
  [[ -z $keys ]] || JAVA=("${JAVA[0]}" -Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="$keys"
    -Dorg.apache.kafka.sasl.oauthbearer.allowed.files="${keys#file://}" "${JAVA[@]:1}")
  local address pid options=() waited
  address=$(awk '$1 == "PLAINTEXT" { print $2 }' "$dir/addresses")
  if ! pid=$(running "$dir"); then
    answers "$address" && die "another broker answers on $address"
    read -r -a options <<<"${KAFKA_JAVA_OPTIONS:-}"
    # A session of its own: Ctrl-C at the terminal reaches the test driver, which stops brokers last.
    setsid nohup "${JAVA[0]}" ${options[@]+"${options[@]}"} "${JAVA[@]:1}" kafka.Kafka "$dir/server.properties" \
      >>"$dir/broker.log" 2>&1 </dev/null 9>&- &
    pid=$!
    echo "$pid" >"$dir/broker.pid"
  fi
  for ((waited = 0; waited < ${KAFKA_WAIT:-60} * 10; waited++)); do
    if answers "$address"; then
      echo "$address"
      return
    fi
    if [[ ! -d /proc/$pid ]]; then
      tail -n 20 "$dir/broker.log" >&2
      die "the broker ended; its log is $dir/broker.log"
    fi
    sleep 0.1
  done
  tail -n 20 "$dir/broker.log" >&2
  kill -9 "$pid" 2>/dev/null
  die "the broker did not answer within ${KAFKA_WAIT:-60} s; its log is $dir/broker.log"
}

# --- stop ---------------------------------------------------------------------------------------------------------

# stop DIR SIGNAL: sends it and waits for the end; a broker that does not end by SIGTERM within 20 s is killed.
stop() {
  local dir pid waited
  dir=$(realpath -m "$1")
  pid=$(running "$dir") || return 0
  kill "-$2" "$pid" 2>/dev/null || return 0
  for ((waited = 0; waited < 800; waited++)); do
    ! gone "$pid" || return 0
    ((waited == 400)) && { say "the broker in $dir does not stop: killing it"; kill -9 "$pid" 2>/dev/null || return 0; }
    sleep 0.05
  done
  die "pid $pid does not end"
}

sweep() {
  local file
  [[ -d $1 ]] || return 0
  while IFS= read -r file; do
    stop "$(dirname "$file")" KILL
  done < <(find "$1" -name broker.pid -type f)
}

case ${1:-} in
  jars) (($# == 1)) || usage; fetch_jars; archive_classes; echo "$LIBS" ;;
  up) (($# >= 3)) || usage; fetch_jars; shift; up "$@" ;;
  down) (($# == 2)) || usage; stop "$2" TERM ;;
  kill) (($# == 2)) || usage; stop "$2" KILL ;;
  sweep) (($# == 2)) || usage; sweep "$2" ;;
  *) usage ;;
esac
