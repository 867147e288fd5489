# shellcheck shell=bash
# What the scripts of this folder share: ports that stay theirs, and the end of a process. To be sourced.

# free_ports N: free ports, one per line. They lie below the range of outgoing connections: while a server is down nobody else is given
# its port, and a client that keeps trying cannot connect to itself. Nor are they those of a cluster on this machine: 10250 is the
# kubelet's, and 30000 to 32767 are given to Services.
free_ports() {
  local low used port count=0
  read -r low _ </proc/sys/net/ipv4/ip_local_port_range
  ((low > 16000)) || low=32768
  used=$(awk 'FNR > 1 { split($2, a, ":"); print a[2] }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  while ((count < $1)); do
    port=$((10000 + (RANDOM * 32768 + RANDOM) % (low - 10000)))
    if ((port != 10250 && port < 30000)) && ! grep -qi "^$(printf %04x "$port")$" <<<"$used"; then
      used+=$'\n'$(printf %04x "$port")
      echo "$port"
      count=$((count + 1))
    fi
  done
}

# runs_as PIDFILE WORDS: the pid in a file, if the command line of that process has these words. A pid alone proves nothing, since pids
# are used again.
runs_as() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 1
  [[ -n $pid && -d /proc/$pid ]] || return 1
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$2" && echo "$pid"
}

# gone PID: whether nothing is left of a process. Its command line goes first, its sockets and locks last, with the last of its threads;
# then it is a zombie of one thread, until somebody collects it.
gone() {
  [[ -d /proc/$1 ]] || return 0
  local tasks=("/proc/$1/task"/*)
  ((${#tasks[@]} <= 1)) && ! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"
}

# await_end PID: waits up to 10 s until nothing is left of a process; false if something still is.
await_end() {
  for _ in $(seq 200); do
    ! gone "$1" || return 0
    sleep 0.05
  done
  return 1
}

# speaks_http PORT: whether somebody at a port of this machine answers in HTTP, be it with a refusal.
speaks_http() {
  # shellcheck disable=SC2016  # the inner shell expands them
  timeout 2 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1
    printf "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" >&3
    head -c 5 <&3 | grep -q "^HTTP/"' "$1" 2>/dev/null
}
