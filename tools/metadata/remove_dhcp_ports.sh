#!/bin/bash
# Removes Neutron's DHCP ports once mn-metadata answers the guests. See --help and docs/migration.md.
set -u -o pipefail
umask 077

readonly DONE=0 LOCAL=1 USAGE=2 REFUSED=3 SOME_FAILED=4 NO_API=5
readonly ATTEMPTS=4
# A failure in a batch can hide its neighbours, so every further pass asks for less at once.
readonly BATCHES=(50 5 1 1)
readonly PORT_COLUMNS=(id name network_id tenant_id mac_address fixed_ips device_id device_owner
  binding:host_id binding:profile admin_state_up status)

act='' force='' backup='' restore='' limit=120 child='' CLIENT='' KIND='' phase='reading' work=''
networks=() hosts=()

usage() {
  cat <<'HELP'
Usage: remove_dhcp_ports.sh [--yes] [--network ID|NAME]... [--host NAME]... [--backup FILE] [--force]
       remove_dhcp_ports.sh [--yes] --restore FILE

Shows the Neutron ports whose device_owner is exactly "network:dhcp"; with --yes it deletes them.
Without --yes nothing is ever changed. Running it again goes on where an earlier run ended.

  --yes               act; without it this is a dry run
  --network ID|NAME   only the ports of this network (may be given again)
  --host NAME         only the ports bound to this host (may be given again)
  --backup FILE       where the removed ports are written BEFORE anything is deleted (JSON, mode 0600);
                      a backup that is there already is added to, never replaced; of a port that was
                      made again in between it keeps what it was last
                      (default: removed-dhcp-ports-<date>.json in the current directory)
  --restore FILE      make the ports of a backup again: same network, addresses, MAC, device, owner,
                      name, project and host; Neutron gives them new IDs. Ports that exist are left alone:
                      those with the same MAC address on the same network.
  --force             delete although a DHCP agent is alive (it makes its ports again within minutes)
  --timeout SECONDS   how long one call of the client may take (default 120)
  --help              this text

Credentials: those of your OpenStack client (source openrc, or OS_CLOUD). They must be an administrator's,
or only one project's ports are seen. Uses "openstack" if it is installed, else "neutron"; needs python3.

Exit status
  0   done, or nothing to do, or a dry run was shown
  1   something is wrong here: no client, no python3, backup not readable or not writable
  2   usage: unknown option, or no such network
  3   refused: a DHCP agent is alive. Stop it, or set it down: openstack network agent set --disable ID
  4   some ports could not be deleted (or restored); run it again
  5   the API cannot be reached, or does not let us in; nothing was deleted unless the text says so
  129, 130, 143  interrupted (hang-up, Ctrl-C, terminated); run the same command again to go on
HELP
}

say() { printf '%s\n' "$*" >&2; }
die() {
  local code=$1
  shift
  say "remove_dhcp_ports: $*"
  exit "$code"
}

# What the client said last, without what must not be seen.
complaint() {
  local text secret
  text=$(grep -v -e '^$' -e 'CLI is deprecated' "$work/err" | tail -n 1)
  for secret in "${OS_PASSWORD:-}" "${OS_TOKEN:-}" "${OS_APPLICATION_CREDENTIAL_SECRET:-}"; do
    [[ -z $secret ]] || text=${text//"$secret"/[secret]}
  done
  sed -E 's,://[^@/ ]*@,://[secret]@,g' <<<"${text:-the client said nothing}"
}

# In the background, so that a signal is handled at once and not after the client's answer.
attend() {
  child=$!
  wait "$child"
  local status=$?
  child=''
  return "$status"
}

client() {
  timeout -k 5 "$limit" "$CLIENT" "$@" <"${input:-/dev/null}" >"$work/out" 2>"$work/err" &
  attend
  local status=$?
  ((status != 124 && status != 137)) || say_to_err "no answer within $limit s"
  return "$status"
}
say_to_err() { printf '%s\n' "$*" >>"$work/err"; }

rest() {
  sleep "$1" &
  attend
}

# read_api ARG...: asks until there is an answer; its JSON is in $work/out.
read_api() {
  local attempt
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    client "$@" && return
    if grep -q -i -e 'HTTP 40[13]' -e ' 40[13]:' -e 'requires authentication' -e 'missing value' \
      -e 'auth plugin' -e 'forbidden' -e 'unauthorized' -e 'must provide' -e 'No password entered' -e 'were not given' "$work/err"; then
      break
    fi
    ((attempt == ATTEMPTS)) || rest $((2 ** (attempt - 1)))
  done
  return 1
}

no_api() { die "$NO_API" "Cannot read $1: $(complaint). Check OS_AUTH_URL, the credentials and that they are an administrator's."; }

python() { python3 -c "$PYTHON" "$@"; }

# shellcheck disable=SC2016
readonly PYTHON='
import json, os, re, sys, tempfile, time
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
FORMAT = "neutron-dhcp-ports/1"

def fail(text):
    sys.exit("remove_dhcp_ports: " + text)

def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)

def normal(raw):
    "A port with the names of the Neutron API, whichever client printed it."
    def first(*names):
        return next((raw[name] for name in names if raw.get(name) not in (None, "")), None)
    return {
        "id": raw["id"], "name": raw.get("name") or "", "description": raw.get("description") or "",
        "network_id": raw["network_id"], "project_id": first("project_id", "tenant_id"),
        "mac_address": raw["mac_address"], "fixed_ips": raw["fixed_ips"],
        "device_id": raw.get("device_id") or "", "device_owner": raw["device_owner"],
        "binding:host_id": first("binding:host_id", "binding_host_id"),
        "binding:profile": first("binding:profile", "binding_profile") or {},
        "admin_state_up": raw.get("admin_state_up") in (True, "UP", "True"),
        "status": raw.get("status") or "",
    }

def agents(path):
    for agent in load(path):
        get = {key.lower().replace(" ", "_"): value for key, value in agent.items()}.get
        alive = get("alive") in (True, ":-)", "True")
        enabled = get("state", get("admin_state_up")) in (True, "UP", "True")
        if get("agent_type") == "DHCP agent" and alive and enabled:
            print(get("host"))

def ids(path):
    for port in load(path):
        found = port.get("ID") or port.get("id")
        if UUID.match(found):
            print(found)
        else:
            fail("Cannot use the port id %r that the client printed: it should be a UUID." % found)

def ports(path, out):
    "The objects of a stream or list of JSON, only those that are DHCP ports."
    with open(path, encoding="utf-8") as file:
        text, found, at = file.read(), {}, 0
    if text.lstrip().startswith("["):
        raws = json.loads(text)
    else:
        raws, decoder = [], json.JSONDecoder()
        while (at := text.find("{", at)) >= 0:
            try:
                raw, at = decoder.raw_decode(text, at)
                raws.append(raw)
            except ValueError:  # cut off when the client was stopped; asked for again
                at = text.find("\n", at) + 1 or len(text)
    with open(out + ".ids", "w", encoding="utf-8") as seen:
        seen.writelines(raw["id"] + "\n" for raw in raws)
    for raw in raws:
        if raw["device_owner"] == "network:dhcp" and UUID.match(raw["id"]):
            found[raw["id"]] = normal(raw)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(list(found.values()), file)

def resolve(networks_path, *wanted):
    names = {n.get("ID") or n.get("id"): n.get("Name") or n.get("name") or "" for n in load(networks_path)}
    for network in wanted:
        matching = [network] if network in names else [i for i, name in names.items() if name == network]
        if len(matching) != 1:
            what = "there is none" if not matching else "several have this name, give one ID of " + ", ".join(matching)
            fail("Cannot find network \"%s\": %s." % (network, what))
        print(matching[0])

def choose(ports_path, networks_path, chosen_path, out, *hosts):
    names = {n.get("ID") or n.get("id"): n.get("Name") or n.get("name") or "" for n in load(networks_path)}
    with open(chosen_path, encoding="utf-8") as file:
        chosen = file.read().split()
    selected = [
        dict(port, network_name=names.get(port["network_id"], ""))
        for port in load(ports_path)
        if (not chosen or port["network_id"] in chosen) and (not hosts or port["binding:host_id"] in hosts)
    ]
    with open(out, "w", encoding="utf-8") as file:
        json.dump(selected, file)

def table(path):
    heads = ["PORT", "NETWORK", "FIXED ADDRESSES", "MAC", "HOST", "STATUS"]
    def row(p):
        addresses = ",".join(ip["ip_address"] for ip in p["fixed_ips"]) or "-"
        return [p["id"], p.get("network_name") or p["network_id"], addresses, p["mac_address"],
                p["binding:host_id"] or "-", p["status"] or "-"]
    rows = sorted((row(p) for p in load(path)), key=lambda r: (r[1], r[2]))
    rows = [["".join(c if c.isprintable() else "?" for c in cell) for cell in line] for line in [heads] + rows]
    widths = [max(len(line[i]) for line in rows) for i in range(len(heads))]
    for line in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())

def place(port):
    "What a port is known by: no network has two with one MAC address, and a port that is made again has another id."
    return port["network_id"], port["mac_address"].lower()

def newest(ports):
    "One port per place: where one was removed and made again and removed, only what it was last."
    return {place(port): port for port in ports}

def backup(path, target):
    kept = {}
    try:
        if os.path.lexists(target):
            old = load(target)
            if not isinstance(old, dict) or old.get("format") != FORMAT:
                fail("Cannot add to \"%s\": it is not a backup of this tool; name another file." % target)
            kept = newest(old["ports"])
        kept.update(newest(load(path)))
        folder = os.path.dirname(os.path.abspath(target))
        handle, temporary = tempfile.mkstemp(prefix=".removed-dhcp-ports-", dir=folder)  # mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                       "ports": list(kept.values())}, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except (OSError, ValueError) as error:
        fail("Cannot write the backup \"%s\": %s. Name a writable file with --backup; nothing was deleted." % (target, error))

def restorable(target, current, settled, out):
    """Those of the backup that are not there now. A port of the same place that is different is left alone where it
    was so before we began or we have made it: "settled" names those. Otherwise it is in the way of ours."""
    try:
        saved = load(target)
        if saved["format"] != FORMAT:
            raise ValueError("it is not a backup of this tool")
        wanted = newest(port for port in saved["ports"] if port["device_owner"] == "network:dhcp")
        there = newest(load(current))
        for port in wanted.values():
            lacking = [name for name in NEEDED if name not in port]
            if lacking:
                raise ValueError("port %s has no \"%s\"" % (port.get("id"), lacking[0]))
            made_of(port, "openstack")
        other = {at for at, port in wanted.items() if at in there and not same(port, there[at])}
        if os.path.exists(settled):
            with open(settled, encoding="utf-8") as file:
                other -= {tuple(line.split()) for line in file}
        else:
            with open(settled, "w", encoding="utf-8") as file:
                file.writelines("%s %s\n" % at for at in other)
            if other:
                print("Left alone: %d port(s) of the backup that exist, but with another host, device or address: %s."
                      % (len(other), ", ".join(sorted(there[at]["id"] for at in other))), file=sys.stderr)
            other = set()
        missing = [port for at, port in wanted.items() if at not in there or at in other]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fail("Cannot read the backup \"%s\": %s." % (target, error))
    with open(out, "w", encoding="utf-8") as file:
        json.dump(missing, file)

def same(port, other):
    def where(p):
        addresses = sorted((ip["subnet_id"], ip["ip_address"]) for ip in p["fixed_ips"])
        return p["binding:host_id"] or "", p["device_id"], addresses
    return where(port) == where(other)

def settle(path, index):
    "What the file of those that are settled says of this port."
    print("%s %s" % place(load(path)[int(index)]))

NEEDED = ("network_id", "mac_address", "fixed_ips", "device_id", "admin_state_up", "project_id", "name",
          "binding:host_id", "status")

def made_of(p, kind):
    "The arguments of the client that make a port again."
    new = kind == "openstack"
    key = "subnet" if new else "subnet_id"
    ip = "ip-address" if new else "ip_address"
    made = ["port", "create", "--network=" + p["network_id"]] if new else ["port-create"]
    made += ["--fixed-ip=%s=%s,%s=%s" % (key, f["subnet_id"], ip, f["ip_address"]) for f in p["fixed_ips"]]
    made += ["--mac-address=" + p["mac_address"], "--device-owner=network:dhcp"]
    made += [("--device=" if new else "--device-id=") + p["device_id"]] if p["device_id"] else []
    made += ["--description=" + p["description"]] if p.get("description") else []
    made += ["--disable" if new else "--admin-state-down"] if not p["admin_state_up"] else []
    made += ["--binding-profile=" + json.dumps(p["binding:profile"])] if p.get("binding:profile") else []
    if p["project_id"]:
        made.append(("--project=" if new else "--tenant-id=") + p["project_id"])
    if new:
        made += ["--host=" + p["binding:host_id"]] if p["binding:host_id"] else []
        made += ["-f", "json", "--", p["name"]]
    else:
        made += ["--name=" + p["name"], "-f", "json", p["network_id"]]
        made += ["--binding:host_id=" + p["binding:host_id"]] if p["binding:host_id"] else []
    return made

def arguments(path, kind, index):
    "One port as the arguments of the client, each ended by NUL."
    sys.stdout.write("".join(argument + "\0" for argument in made_of(load(path)[int(index)], kind)))

def count(path):
    print(len(load(path)))

def named(path):
    print("\n".join(port["id"] for port in load(path)))

globals()[sys.argv[1]](*sys.argv[2:])
'

list_ids() {
  if [[ $KIND == openstack ]]; then
    read_api port list --device-owner network:dhcp -f json -c ID || return
  else
    read_api port-list --device_owner=network:dhcp -f json -c id || return
  fi
  python ids "$work/out" >"$work/ids"
}

# All DHCP ports of the cloud with what makes them again, in FILE. A port that goes meanwhile is left out.
read_ports() {
  local file=$1 attempt i left
  if [[ $KIND == neutron ]]; then
    read_api port-list --device_owner=network:dhcp -f json "${PORT_COLUMNS[@]/#/-c}" || return
    python ports "$work/out" "$file"
    return
  fi
  : >"$work/shown"
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    ((attempt == 1)) || rest $((2 ** (attempt - 2)))
    list_ids || return
    python ports "$work/shown" "$file" || return
    mapfile -t left < <(grep -v -x -F -f "$file.ids" "$work/ids")
    for ((i = 0; i < ${#left[@]}; i += 100)); do
      # One client for a hundred ports: it starts and logs in once. Names from outside never go this way.
      printf 'port show %s -f json --noindent\n' "${left[@]:i:100}" >"$work/in"
      input=$work/in client
      cat "$work/out" <(echo) >>"$work/shown"
      ((${#left[@]} <= 100)) || say "  read $((i + 100 < ${#left[@]} ? i + 100 : ${#left[@]}))/${#left[@]}"
    done
    python ports "$work/shown" "$file" || return
    grep -q -v -x -F -f "$file.ids" "$work/ids" || return 0
  done
  return 1
}

# shellcheck disable=SC2317 # called by traps
stop() {
  trap '' INT TERM HUP
  [[ -z $child ]] || kill "$child" 2>/dev/null
  wait
  say ''
  case $phase in
    reading) say 'Interrupted: nothing was changed.' ;;
    deleting) say "Interrupted while deleting. Every port is either gone or as it was, and all that were to go are in
$backup
Run the same command again to go on, or --restore that file --yes to go back." ;;
    restoring) say 'Interrupted while restoring. Run the same command again to go on.' ;;
  esac
  exit "$1"
}

find_client() {
  for KIND in openstack neutron; do
    CLIENT=$(command -v "$KIND") && break
  done
  [[ -n $CLIENT ]] || die "$LOCAL" 'Cannot find "openstack" or "neutron": install python3-openstackclient.'
  command -v python3 >/dev/null || die "$LOCAL" 'Cannot find "python3": install it.'
}

live_agents() {
  if [[ $KIND == openstack ]]; then
    read_api network agent list --agent-type dhcp -f json || return
  else
    read_api agent-list -f json || return
  fi
  python agents "$work/out" >"$work/live"
}

check_agents() {
  if ! live_agents; then
    [[ -n $force ]] || no_api 'the network agents'
    say "Cannot read the network agents ($(complaint)); going on because of --force."
  elif [[ -s $work/live ]]; then
    local where
    where=$(sort -u "$work/live" | paste -s -d ' ')
    if [[ -n $act && -z $force ]]; then
      die "$REFUSED" "Cannot delete DHCP ports: neutron-dhcp-agent is alive on $where and would make them again." \
        'Stop it there, or set it down (openstack network agent set --disable ID); --force deletes anyway.'
    fi
    say "Warning: neutron-dhcp-agent is alive on $where and makes deleted ports again."
  fi
}

read_networks() {
  if [[ $KIND == openstack ]]; then
    read_api network list -f json -c ID -c Name || no_api 'the networks'
  else
    read_api net-list -f json -c id -c name || no_api 'the networks'
  fi
  mv "$work/out" "$work/networks"
}

remove() {
  check_agents
  read_networks
  python resolve "$work/networks" ${networks[@]+"${networks[@]}"} >"$work/wanted" || exit "$USAGE"
  read_ports "$work/all" || no_api 'the DHCP ports'
  python choose "$work/all" "$work/networks" "$work/wanted" "$work/chosen" ${hosts[@]+"${hosts[@]}"} || exit "$LOCAL"
  python named "$work/chosen" >"$work/pending"
  local total
  total=$(python count "$work/chosen")
  if ((total == 0)); then
    say 'Nothing to do: there are no such DHCP ports.'
    exit "$DONE"
  fi
  python table "$work/chosen"
  if [[ -z $act ]]; then
    say "Dry run: $total DHCP port(s) would be deleted. Nothing was changed; --yes deletes them."
    exit "$DONE"
  fi
  python backup "$work/chosen" "$backup" || exit "$LOCAL"
  say "Backup of $total port(s): $backup"
  delete_all "$total"
}

# Deletes what $work/pending names, and believes only what Neutron lists afterwards.
delete_all() {
  local total=$1 pass left why='' batch
  phase=deleting
  for ((pass = 0; pass < ATTEMPTS; pass++)); do
    ((pass == 0)) || rest $((2 ** pass))
    mapfile -t batch <"$work/pending"
    delete_pass "$total" "${BATCHES[pass]}" "${batch[@]}"
    list_ids || die "$NO_API" "Cannot read which ports are left: $(complaint). Some may be deleted, all are in $backup; run it again."
    grep -x -F -f "$work/pending" "$work/ids" >"$work/left"
    mv "$work/left" "$work/pending"
    left=$(wc -l <"$work/pending")
    if ((left == 0)); then
      say "Done: $total port(s) deleted. To make them again: $(printf '%q --restore %q --yes' "$0" "$backup")"
      exit "$DONE"
    fi
    say "$left port(s) still there."
  done
  say 'Not deleted:'
  cat "$work/pending" >&2
  die "$SOME_FAILED" "Cannot delete $left of $total port(s): ${why:-they came back}. Run it again to go on."
}

delete_pass() {
  local total=$1 size=$2 i command=(port delete)
  [[ $KIND == openstack ]] || command=(port-delete)
  shift 2
  for ((i = 1; i <= $#; i += size)); do
    if client "${command[@]}" "${@:i:size}"; then
      say "  $((total - $# + (i + size - 1 < $# ? i + size - 1 : $#)))/$total deleted"
    else
      [[ $(complaint) == *'failed to delete.' ]] && sed -i '$d' "$work/err"
      why=$(complaint)
      say "  trouble: $why"
    fi
  done
}

# Makes what the backup has and Neutron has not; what exists is told by network and MAC address.
restore_all() {
  local pass left total='' index arguments why=''
  for ((pass = 0; pass <= ATTEMPTS; pass++)); do
    read_ports "$work/all" || no_api 'the DHCP ports'
    python restorable "$restore" "$work/all" "$work/settled" "$work/missing" || exit "$LOCAL"
    left=$(python count "$work/missing")
    if ((left == 0)); then
      if [[ -n $total ]]; then say "Done: $total port(s) restored."; else
        say 'Nothing to do: every port of the backup exists.'
      fi
      exit "$DONE"
    fi
    if [[ -z $act ]]; then
      python table "$work/missing"
      say "Dry run: $left port(s) would be made again. Nothing was changed; --yes makes them."
      exit "$DONE"
    fi
    ((pass < ATTEMPTS)) || break
    ((pass == 0)) || rest $((2 ** pass))
    total=${total:-$left}
    phase=restoring
    for ((index = 0; index < left; index++)); do
      mapfile -d '' -t arguments < <(python arguments "$work/missing" "$KIND" "$index")
      if client "${arguments[@]}"; then
        python settle "$work/missing" "$index" >>"$work/settled"
        say "  $((total - left + index + 1))/$total restored"
      else
        why=$(complaint)
        say "  trouble: $why"
      fi
    done
  done
  python table "$work/missing" >&2
  die "$SOME_FAILED" "Cannot restore $left of $total port(s): $why. Run it again to go on."
}

argument() { [[ -n ${2:-} ]] || die "$USAGE" "Cannot use \"$1\": it needs a value. See --help."; }

while (($# > 0)); do
  case $1 in
    --yes) act=1 ;;
    --force) force=1 ;;
    --network) argument "$@" && networks+=("$2") && shift ;;
    --host) argument "$@" && hosts+=("$2") && shift ;;
    --backup) argument "$@" && backup=$2 && shift ;;
    --restore) argument "$@" && restore=$2 && shift ;;
    --timeout)
      argument "$@" && limit=$2 && shift
      [[ $limit =~ ^[1-9][0-9]{0,4}$ ]] || die "$USAGE" "Cannot use --timeout \"$limit\": it should be seconds, 1 to 99999."
      ;;
    -h | --help) usage && exit "$DONE" ;;
    *) die "$USAGE" "Cannot understand \"$1\". See --help." ;;
  esac
  shift
done
if [[ -n $restore && (-n $backup || ${#networks[@]} -gt 0 || ${#hosts[@]} -gt 0) ]]; then
  die "$USAGE" 'Cannot combine --restore with --backup, --network or --host: it makes all ports of its file.'
fi
backup=${backup:-removed-dhcp-ports-$(date -u +%Y%m%d).json}

find_client
work=$(mktemp -d) || exit "$LOCAL"
trap 'rm -rf "$work"' EXIT
trap 'stop 130' INT
trap 'stop 143' TERM
trap 'stop 129' HUP
if [[ -n $restore ]]; then restore_all; else remove; fi
