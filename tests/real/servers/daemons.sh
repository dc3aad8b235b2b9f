# shellcheck shell=bash
# What the scripts beside this one have in common. Each of them sources it; it isn't run itself.
#
#   SCRIPT start DIR           makes DIR at the first call; brings up what is down, wakes what is paused
#   SCRIPT stop DIR            ends every process and keeps the data
#   SCRIPT wipe DIR            ends every process and removes DIR
#   SCRIPT env DIR             how to reach it, as lines for a shell: eval "$(SCRIPT env DIR)"
#   SCRIPT status DIR          which daemons are up, with process id and resident memory
#   SCRIPT kill9 DIR [DAEMON]  SIGKILL: its connections are cut, new ones refused
#   SCRIPT up DIR [DAEMON]     starts it again, on the same ports; returns when it answers
#   SCRIPT pause DIR [DAEMON]  SIGSTOP: its connections fall silent, new ones are taken by the kernel alone
#   SCRIPT cont DIR [DAEMON]   SIGCONT
#
# DAEMON may be left out where there is one only. Everything is below DIR and on 127.0.0.1. From the
# environment: SERVER_PASSWORD, the secret of every user (first start only), and SERVER_OWNER, a process id: when
# that process ends, however it does, DIR is wiped.
#
# A script has DAEMONS, in the order of their start, and the functions
#   need           dies where a program is missing
#   make           lays DIR out: ports into `settings`, what clients must know into `env`
#   run NAME       puts the command line of a daemon, which stays in the foreground, into the array COMMAND
#   ready NAME     returns when the daemon answers
#   finish         at the first start, when all are up: what only a running server can be told
# and ends with `main "$@"`. The functions named in MORE are commands too, and get the words after DIR.
set -euo pipefail
# Debian keeps servers out of an ordinary user's PATH.
export PATH=$PATH:/usr/sbin:/sbin

# shellcheck disable=SC2034 # some are for the script's own use
script=$(realpath "$0") here=$(dirname "$(realpath "$0")")
# shellcheck disable=SC2034
# The virtualenv of the servers that come from PyPI; tools/real-servers makes it.
venv=$(realpath -m "${SERVERS_VENV:-$here/../../../.venv-servers}")
# shellcheck disable=SC2034
password=${SERVER_PASSWORD:-secret}

die() {
    echo "${script##*/}: $*" >&2
    exit 1
}

# Dies where a program is missing; the first argument says what brings it.
need_programs() {
    local cure=$1 program
    shift
    for program; do
        command -v "$program" >/dev/null || die "$program not found: $cure"
    done
}

finish() { :; }

# Prints the first of $1 free ports in a row. They are below the kernel's range for outgoing connections
# (32768 on): while a server is killed, nobody's client takes the port it will come back on. Another server
# may, between here and `listen`: then `ready` fails, and `start` tries other ports.
free_ports() {
    local first port
    while :; do
        first=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        for ((port = first; port < first + $1; port++)); do
            ! grep -qs ":$(printf %04X "$port") " /proc/net/tcp /proc/net/tcp6 || continue 2
        done
        echo "$first"
        return
    done
}

# Puts what proc(5) says of process $1 into STAT, from the state on: [0] is field 3. What stands before it is
# a name, which may contain blanks and brackets.
look() {
    local text
    { read -r text <"/proc/$1/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2206 # to be split
    STAT=(${text##*) })
    [[ ${STAT[0]} != [ZX] ]] # nobody may ever ask about a zombie; it has ended all the same
}

# Prints the process id of a daemon that is up, paused or not. The id in the file counts only together with
# the time of the start (field 22): ids are given out again.
pid_of() {
    local id start
    { read -r id start <"$folder/run/$1.pid"; } 2>/dev/null || return 1
    look "$id" && [ "${STAT[19]}" = "$start" ] || return 1
    echo "$id"
}

# Starts a daemon that is down, as the leader of a session and a group of its own: a ^C at the caller's
# terminal is not for it, and one signal reaches it and its workers.
spawn() {
    local name=$1 pid=$folder/run/$1.pid
    ! pid_of "$name" >/dev/null || return 0
    rm -f "$pid"
    shift
    # shellcheck disable=SC2016 # for the inner shell, which becomes the daemon
    (cd "$folder" && exec setsid bash -c 'stat=$(<"/proc/$$/stat"); stat=(${stat##*) })
        echo "$$ ${stat[19]}" >"$0"; exec "$@"' "$pid" "$@" </dev/null >>"$folder/log/$name.out" 2>&1) &
    until [ -s "$pid" ]; do sleep 0.01; done
}

launch() {
    run "$1"
    spawn "$1" "${COMMAND[@]}"
}

# Waits at most $1 seconds until the command after the daemon's name succeeds; the daemon's end ends it too.
await() {
    local left=$(($1 * 20)) name=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        pid_of "$name" >/dev/null || die "$name ended: $(tail -n 5 "$folder/log/$name.out" 2>&1)"
        ((left-- > 0)) || die "$name does not answer: see $folder/log"
        sleep 0.05
    done
}

# Tells whether it is this daemon that listens on a port, and not another that was quicker to take it.
listens() {
    local id inode
    id=$(pid_of "$1") || return 1
    inode=$(awk -v port=":$(printf %04X "$2")" '$4 == "0A" && $2 ~ port "$" { print $10 }' /proc/net/tcp)
    [ -n "$inode" ] || return 1
    # shellcheck disable=SC2010 # names are numbers here, and their targets wanted
    ls -l "/proc/$id/fd" 2>/dev/null | grep -F "socket:[$inode]"
}

# Tells whether a daemon answers a GET with 2xx or 3xx.
answers() { # NAME PORT PATH
    local status
    listens "$1" "$2" || return 1
    { exec 3<>"/dev/tcp/127.0.0.1/$2"; } 2>/dev/null || return 1
    printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$3" >&3
    read -r -t 5 -u 3 _ status _ || status=
    exec 3>&-
    [[ $status == [23]* ]]
}

# Sends a signal to a daemon and its workers.
signal() {
    local id
    id=$(pid_of "$2") || die "$2 is not up"
    kill "-$1" -- "-$id"
}

any_of_group() {
    local process
    for process in /proc/[0-9]*; do
        ! look "${process#/proc/}" || [ "${STAT[2]}" != "$1" ] || return 0
    done
    return 1
}

# Ends a daemon by a signal, and by SIGKILL where it takes more than ten seconds. Ended means that its ports
# are free and no connection lives.
finish_off() {
    local id left=200
    id=$(pid_of "$2") || return 0
    kill "-$1" -- "-$id" 2>/dev/null || return 0
    # A paused process sees no signal but SIGKILL.
    kill -CONT -- "-$id" 2>/dev/null || true
    while any_of_group "$id"; do
        ((left-- != 0)) || kill -KILL -- "-$id" 2>/dev/null || true
        sleep 0.05
    done
    rm -f "$folder/run/$2.pid"
}

# Ends all by a signal, in the reverse order of their start.
end_all() {
    local name backwards=
    for name in $DAEMONS; do backwards="$name $backwards"; done
    for name in $backwards; do finish_off "$1" "$name"; done
}

# Has a process wait for the owner's end; a failed start, too, is wiped by it.
have_attended() {
    [ -z "${SERVER_OWNER:-}" ] || spawn owner bash "$script" attend "$folder" "$SERVER_OWNER"
}

bring_up() {
    local name
    # shellcheck disable=SC1091
    . "$folder/settings"
    have_attended
    for name in $DAEMONS; do
        if pid_of "$name" >/dev/null; then signal CONT "$name"; else launch "$name"; fi
        ready "$name"
    done
}

first_start() {
    [ ! -e "$folder" ] || [ -z "$(ls -A "$folder")" ] || die "$folder is not empty"
    mkdir -p "$folder/run" "$folder/log"
    # `wipe` removes no folder without it.
    : >"$folder/settings"
    have_attended
    make
    bring_up
    finish
    : >"$folder/made"
}

start() {
    need
    if [ -e "$folder/made" ]; then
        bring_up
        return
    fi
    # A process of its own, because bash's `set -e` is off in what stands before a ||.
    bash "$script" first-start "$folder" && return
    [ -e "$folder/settings" ] || exit 1
    # The ports may have been taken in between; other ports won't.
    wipe
    bash "$script" first-start "$folder"
}

wipe() {
    [ -e "$folder" ] || return 0
    [ -e "$folder/settings" ] || die "$folder is not a server's: not removed"
    end_all KILL
    # Unless it is the one that does this.
    [ "$task" = attend ] || finish_off KILL owner
    rm -rf -- "$folder"
}

status() {
    local name id memory
    for name in $DAEMONS; do
        if id=$(pid_of "$name"); then
            memory=$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$id/status")
            echo "$name up, process $id, $memory MiB"
        else
            echo "$name down"
        fi
    done
}

# Waits for the end of process $1, looking once a second: bash can wait for none but its own children.
attend() {
    tail --pid="$1" -f /dev/null
    wipe
}

main() {
    [ $# -ge 2 ] || die "usage: ${script##*/} start|stop|wipe|env|status|kill9|up|pause|cont DIR [DAEMON]"
    task=$1 folder=$(realpath -m "$2")
    local daemon=${3:-$DAEMONS}
    # Half of the configurations below have no way to say so.
    [[ $folder != *[[:space:]]* ]] || die "DIR may have no blanks: $folder"
    case $task in
    kill9 | up | pause | cont)
        [[ " $DAEMONS " == *" $daemon "* ]] || die "no such daemon: $daemon; one of: $DAEMONS"
        [[ $daemon != *" "* ]] || die "name one of: $DAEMONS"
        # shellcheck disable=SC1091
        . "$folder/settings"
        ;;
    esac
    case $task in
    start | wipe | status) "$task" ;;
    first-start) first_start ;;
    attend) attend "$3" ;;
    stop)
        end_all TERM
        finish_off KILL owner
        ;;
    env) cat "$folder/env" ;;
    kill9)
        pid_of "$daemon" >/dev/null || die "$daemon is not up"
        finish_off KILL "$daemon"
        ;;
    up)
        launch "$daemon"
        ready "$daemon"
        ;;
    pause) signal STOP "$daemon" ;;
    cont) signal CONT "$daemon" ;;
    *)
        # A script may have more commands, functions of that name.
        [[ " ${MORE:-} " == *" $task "* ]] || die "no such command: $task"
        [ -e "$folder/made" ] || die "$folder was not started"
        # shellcheck disable=SC1091
        . "$folder/settings"
        "$task" "${@:3}"
        ;;
    esac
}
