import { parseIni } from "../nsdb/ini.ts";
import { setAt } from "./hocon/edit.ts";
import { parsePath } from "./hocon/path.ts";
import { EMPTY, type ObjectNode, stringOf } from "./hocon/tree.ts";

/** Durations that used to be bare numbers: their key now, and the unit of the number. @source MidoNet MidoConf.scala */
const MOVED: ReadonlyMap<string, { readonly key: string; readonly unit: "ms" | "s" }> = new Map([
  ["zookeeper.session_timeout", { key: "zookeeper.session_timeout", unit: "ms" }],
  ["zookeeper.session_gracetime", { key: "zookeeper.session_gracetime", unit: "ms" }],
  [
    "agent.bridge.mac_port_mapping_expire_millis",
    { key: "agent.bridge.mac_port_mapping_expire", unit: "ms" },
  ],
  ["agent.arptable.arp_retry_interval_seconds", { key: "agent.arptable.arp_retry_interval", unit: "s" }],
  ["agent.arptable.arp_timeout_seconds", { key: "agent.arptable.arp_timeout", unit: "s" }],
  ["agent.arptable.arp_stale_seconds", { key: "agent.arptable.arp_stale", unit: "s" }],
  ["agent.arptable.arp_expiration_seconds", { key: "agent.arptable.arp_expiration", unit: "s" }],
  ["agent.midolman.bgp_keepalive", { key: "agent.midolman.bgp_keepalive", unit: "s" }],
  ["agent.midolman.bgp_holdtime", { key: "agent.midolman.bgp_holdtime", unit: "s" }],
  ["agent.midolman.bgp_connect_retry", { key: "agent.midolman.bgp_connect_retry", unit: "s" }],
]);

/**
 * What an old `midolman.conf` says, under the keys of today. All values are strings, as MidoNet stores them.
 *
 * @throws {HoconError} `path` if a section and a key form no key.
 */
export function importIni(text: string): ObjectNode {
  let root = EMPTY;
  for (const { section, key, value } of parseIni(text)) {
    const name = `${section ?? "null"}.${key}`;
    const full = /^(zookeeper|cassandra)\./.test(name) ? name : `agent.${name}`;
    const moved = MOVED.get(full);
    const unit = moved !== undefined && /^\d+$/.test(value) ? moved.unit : "";
    root = setAt(root, parsePath(moved?.key ?? full), stringOf(`${value}${unit}`));
  }
  return root;
}
