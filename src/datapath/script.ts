import { addElements, nameMap, PORT_CHAIN_PREFIX, portChainRules, TABLE } from "./base-ruleset.ts";
import { type Element, elementComment, type Fact, type PortChain } from "./fact.ts";

/** The lines of an nft script that take some facts away and put others in; flat, because blocks cost nft 20 times the memory. */
export function scriptOf(deletes: readonly Fact[], adds: readonly Fact[]): readonly string[] {
  const chains = adds.filter((fact) => fact.kind === "chain");
  return [
    ...deletes.filter((fact) => fact.kind === "chain").flatMap(({ portId }) => chainRemoval(portId)),
    ...byMap(deletes, keyText).map(
      ([map, keys]) => `delete element netdev ${TABLE} ${map} { ${keys.join(", ")} }`,
    ),
    ...byMap(adds, elementText).map(([map, elements]) => addElements(map, elements)),
    ...(chains.some(({ isIpv6Only }) => isIpv6Only) ? [nameMap("learned_ip")] : []),
    ...chains.map(chainLine),
  ];
}

/** Never fails: before Linux 6.16 the kernel drops a base chain with its device, and may have done so already. */
function chainRemoval(portId: string): readonly string[] {
  const chain = `netdev ${TABLE} ${PORT_CHAIN_PREFIX}${portId}`;
  return [`add chain ${chain}`, `delete chain ${chain}`];
}

/** With its rules, for the reason that {@link addElements} has. */
function chainLine({ portId, interfaceName, ifindex, twinOf, isIpv6Only }: PortChain): string {
  const rules = portChainRules({ ifindex, twinOf, isIpv6Only });
  const comment = `comment "${chainComment(interfaceName, ifindex, twinOf)}"`;
  const body = [
    `type filter hook ingress device "${interfaceName}" priority -500`,
    "policy accept",
    ...rules.slice(0, -1),
    `${rules.at(-1)} ${comment}`,
  ];
  return `add chain netdev ${TABLE} ${PORT_CHAIN_PREFIX}${portId} { ${body.join("; ")}; }`;
}

/** What only the comment of a port's last rule tells an observer: nft 1.0 leaves the device out of its JSON. */
export function chainComment(interfaceName: string, ifindex: number, twinOf: number): string {
  return `interface ${interfaceName} ifindex ${ifindex} number ${twinOf}`;
}

/** The elements among some facts, each made into something, by the map that they belong to. */
export function byMap<T>(
  facts: readonly Fact[],
  make: (element: Element) => T,
): readonly (readonly [string, readonly T[]])[] {
  const made = new Map<string, T[]>();
  for (const fact of facts) {
    if (fact.kind !== "element") continue;
    const lot = made.get(fact.map);
    if (lot === undefined) made.set(fact.map, [make(fact)]);
    else lot.push(make(fact));
  }
  return [...made];
}

function elementText(element: Element): string {
  const text = elementComment(element);
  const comment = text === undefined ? "" : ` comment "${text}"`;
  const data = element.data === undefined ? "" : ` : ${element.data}`;
  return `${keyText(element)}${comment}${data}`;
}

/** Interface names are the only keys that need quotes, and always stand first. */
function keyText({ map, key }: Element): string {
  const [first = "", ...rest] = key;
  const startsWithInterface = map === "ident" || map === "ident6" || map === "only6";
  return [startsWithInterface ? `"${first}"` : first, ...rest].join(" . ");
}
