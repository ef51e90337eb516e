import { DELIVER, INTERFACE_MAC, PORT_CHAIN_PREFIX, TABLE } from "./base-ruleset.ts";
import type { Element, Fact, PortChain } from "./fact.ts";
import { linkLocalOf, METADATA_TCP_PORT, twinPrefixOf } from "./link-local.ts";

/** The lines of an nft script that take some facts away and put others in; flat, because blocks cost nft 20 times the memory. */
export function scriptOf(deletes: readonly Fact[], adds: readonly Fact[]): readonly string[] {
  return [
    ...deletes.filter((fact) => fact.kind === "chain").flatMap(({ portId }) => chainRemoval(portId)),
    ...elementLines("delete", deletes),
    ...elementLines("add", adds),
    ...adds.filter((fact) => fact.kind === "chain").flatMap(chainLines),
  ];
}

/** Never fails: before Linux 6.16 the kernel drops a base chain with its device, and may have done so already. */
function chainRemoval(portId: string): readonly string[] {
  const chain = `netdev ${TABLE} ${PORT_CHAIN_PREFIX}${portId}`;
  return [`add chain ${chain}`, `delete chain ${chain}`];
}

function chainLines({ portId, interfaceName, ifindex, twinOf, isIpv6Only }: PortChain): readonly string[] {
  const chain = `netdev ${TABLE} ${PORT_CHAIN_PREFIX}${portId}`;
  const toProxy = `ether daddr set ${INTERFACE_MAC} tcp dport set ${METADATA_TCP_PORT}`;
  const learn = "@learned_ip { meta mark : ip saddr }";
  const mark = `meta mark set ${ifindex}`;
  // `update` renews an element without changing what it maps to, so each new connection forgets first.
  const anyIpv4 = [
    `add rule ${chain} meta protocol ip tcp flags & (syn | ack) == syn ${mark} delete ${learn}`,
    `add rule ${chain} meta protocol ip ${mark} update ${learn} ip saddr set ${linkLocalOf(twinOf)} ${toProxy} meta mark set 0`,
  ];
  return [
    `add chain ${chain} { type filter hook ingress device "${interfaceName}" priority -500; policy accept; }`,
    `add rule ${chain} jump from_guest`,
    ...(isIpv6Only ? anyIpv4 : []),
    `add rule ${chain} ip6 saddr set ip6 saddr & ::ffff:ffff:ffff:ffff | ${twinPrefixOf(twinOf)} ${toProxy}`,
    `add rule ${chain} counter goto ${DELIVER} comment "${chainComment(interfaceName, ifindex, twinOf)}"`,
  ];
}

/** What only the comment of a port's last rule tells an observer: nft 1.0 leaves the device out of its JSON. */
export function chainComment(interfaceName: string, ifindex: number, twinOf: number): string {
  return `interface ${interfaceName} ifindex ${ifindex} number ${twinOf}`;
}

/** How many rules {@link chainComment}'s chain has. */
export function portRuleCount(isIpv6Only: boolean): number {
  return isIpv6Only ? 5 : 3;
}

function elementLines(verb: "add" | "delete", facts: readonly Fact[]): readonly string[] {
  const byMap = new Map<string, string[]>();
  for (const fact of facts) {
    if (fact.kind !== "element") continue;
    const texts = byMap.get(fact.map) ?? [];
    byMap.set(fact.map, texts);
    texts.push(verb === "add" ? elementText(fact) : keyText(fact));
  }
  return [...byMap].map(([map, texts]) => `${verb} element netdev ${TABLE} ${map} { ${texts.join(", ")} }`);
}

function elementText(element: Element): string {
  const comment = element.portId === undefined ? "" : ` comment "${element.portId}"`;
  const data = element.data === undefined ? "" : ` : ${element.data}`;
  return `${keyText(element)}${comment}${data}`;
}

/** Interface names are the only keys that need quotes, and always stand first. */
function keyText({ map, key }: Element): string {
  const [first = "", ...rest] = key;
  const startsWithInterface = map === "ident" || map === "ident6" || map === "only6";
  return [startsWithInterface ? `"${first}"` : first, ...rest].join(" . ");
}
