import { isIPv4, isIPv6, SocketAddress } from "node:net";
import { linkLocalOf, NUMBER_COUNT, twinPrefixOf } from "./link-local.ts";
import type { Identity, Plumbing } from "./plumbing.ts";

/** One thing of a port that the kernel holds: desired and observed are compared as sets of these. */
export type Fact = Element | PortChain;

/** An element of one of our maps; `data` is undefined in a set, `portId` and `heldFor` are its comment where it has one. */
export interface Element {
  readonly kind: "element";
  readonly map: string;
  readonly key: readonly string[];
  readonly data: string | undefined;
  readonly portId: string | undefined;
  /** See {@link Identity}. */
  readonly heldFor?: string;
  /** In a way out: what the interface that has that index is called, as nft printed it. It may be called otherwise by now. */
  readonly shownAs?: string;
}

/** The comment that an element carries in the kernel. */
export function elementComment({ portId, heldFor }: Element): string | undefined {
  return portId === undefined || heldFor === undefined ? portId : `${portId} ${heldFor}`;
}

/** What {@link elementComment} made a comment of. */
export function readElementComment(comment: unknown): Pick<Element, "portId" | "heldFor"> {
  const [portId, heldFor] = typeof comment === "string" ? comment.split(" ") : [];
  return { portId, ...(heldFor === undefined ? {} : { heldFor }) };
}

/** The base chain on a guest's interface. */
export interface PortChain {
  readonly kind: "chain";
  readonly portId: string;
  readonly interfaceName: string;
  readonly ifindex: number;
  /** The number that the port's IPv6 requests are known by. */
  readonly twinOf: number;
  /** The port has no fixed IPv4 address, so whatever else it asks from over IPv4 is known by {@link twinOf} as well. */
  readonly isIpv6Only: boolean;
}

/** What a fact is about; two with one id exclude each other. */
export function factId(fact: Fact): string {
  return fact.kind === "chain" ? `chain ${fact.portId}` : `${fact.map} ${fact.key.join(" ")}`;
}

/** What a fact says about it. */
export function factValue(fact: Fact): string {
  if (fact.kind === "element") return `${fact.data} ${elementComment(fact)}`;
  return `${fact.interfaceName} ${fact.ifindex} ${fact.twinOf} ${fact.isIpv6Only}`;
}

/** The identity that a port's IPv6 requests are known by: they come from fe80::/64, which tells nothing. */
export function identityForIpv6(identities: readonly Identity[]): Identity | undefined {
  return identities.find(({ fixedAddress }) => fixedAddress.includes(":")) ?? identities[0];
}

/** Whether a port is served over IPv4 from any address. */
export function isForAnyIpv4({ isIpv6Only, identities }: Plumbing): boolean {
  return isIpv6Only ?? !identities.some(({ fixedAddress }) => isIPv4(fixedAddress));
}

/** All that makes one port served; the plumbing must be valid ({@link whyInvalid}). */
export function factsOf(plumbing: Plumbing): readonly Fact[] {
  const { portId, interfaceName, ifindex, mac, identities } = plumbing;
  const forIpv6 = identityForIpv6(identities);
  if (forIpv6 === undefined) return [];
  const isIpv6Only = isForAnyIpv4(plumbing);
  const mark = String(ifindex);
  const twin = twinPrefixOf(forIpv6.number);
  const element = (map: string, key: readonly string[], data?: string): Element => ({
    kind: "element",
    map,
    key,
    data,
    portId: undefined,
  });
  return [
    { kind: "chain", portId, interfaceName, ifindex, twinOf: forIpv6.number, isIpv6Only },
    element("guest_mac6", [twin], mac),
    element("guest_mark6", [twin], mark),
    ...(isIpv6Only ? [element("only6", [interfaceName])] : []),
    ...identities.flatMap(({ number, fixedAddress, heldFor }) => {
      const owner = { portId, ...(heldFor === undefined ? {} : { heldFor }) };
      const linkLocal = linkLocalOf(number);
      const [map, address] = isIPv4(fixedAddress)
        ? ["ident", fixedAddress]
        : ["ident6", canonicalIpv6(fixedAddress)];
      return [
        { ...element(map, [interfaceName, address], linkLocal), ...owner },
        element("guest_mac", [linkLocal], mac),
        element("guest_mark", [linkLocal], mark),
        ...(map === "ident" ? [element("guest_ip", [linkLocal], fixedAddress)] : []),
      ];
    }),
  ];
}

/** How many neighbouring interfaces get their way out at once. */
const BLOCK = 256;

/**
 * What lets answers out by an interface: its number, named by itself. It says nothing of a port and stays.
 * nft prints it as a name, so it leads elsewhere once that was saved and is loaded where numbers are others.
 */
export function wayOut(ifindex: number): Element {
  const itself = String(ifindex);
  return { kind: "element", map: "interface", key: [itself], data: itself, portId: undefined };
}

/**
 * The ways out of an interface and its neighbours. nft asks the kernel for every link before it takes one of
 * these, so the next taps of a host find theirs there.
 *
 * @source measured: 20 of 40 ms for one port on a host with 2,000 links
 */
export function waysOutAround(ifindex: number): readonly Element[] {
  const first = ifindex - (ifindex % BLOCK);
  return Array.from({ length: BLOCK }, (_, at) => first + at)
    .filter((index) => index > 0)
    .map(wayOut);
}

/** Whether what goes to a port would leave by another interface. */
export function leavesElsewhere(
  facts: ReadonlyMap<string, Fact>,
  { ifindex, interfaceName }: Pick<Plumbing, "ifindex" | "interfaceName">,
): boolean {
  const own = wayOut(ifindex);
  const held = facts.get(factId(own));
  if (held?.kind !== "element") return false;
  return held.data !== own.data || (held.shownAs ?? interfaceName) !== interfaceName;
}

/**
 * Whether two plumbings of one port have the same facts: in which order identities come matters only for IPv6.
 * Asked of every port on every change, so nothing is made to find out.
 */
export function isSamePlumbing(a: Plumbing, b: Plumbing): boolean {
  if (a === b) return true;
  return (
    a.interfaceName === b.interfaceName &&
    a.ifindex === b.ifindex &&
    a.mac === b.mac &&
    a.identities.length === b.identities.length &&
    (a.isIpv6Only === b.isIpv6Only || isForAnyIpv4(a) === isForAnyIpv4(b)) &&
    identityForIpv6(a.identities)?.number === identityForIpv6(b.identities)?.number &&
    a.identities.every((one) => b.identities.some((other) => isSameIdentity(one, other)))
  );
}

function isSameIdentity(a: Identity, b: Identity): boolean {
  if (a.number !== b.number || a.heldFor !== b.heldFor) return false;
  if (a.fixedAddress === b.fixedAddress) return true;
  return (
    isIPv6(a.fixedAddress) &&
    isIPv6(b.fixedAddress) &&
    canonicalIpv6(a.fixedAddress) === canonicalIpv6(b.fixedAddress)
  );
}

/** As nft prints it, or a difference would be seen where there is none. */
export function canonicalIpv6(address: string): string {
  return new SocketAddress({ address, family: "ipv6" }).address;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** IFNAMSIZ without its NUL; nothing that could end a quoted string in a script, nor a wildcard. */
const INTERFACE_NAME = /^[A-Za-z0-9_.:@+=-]{1,15}$/;
const MAC = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/;

/** Why a plumbing must not go into a script, as a sentence, or undefined where it may. */
export function whyInvalid({
  portId,
  interfaceName,
  ifindex,
  mac,
  identities,
}: Plumbing): string | undefined {
  const cannot = `Cannot plumb port "${portId}"`;
  if (!UUID.test(portId)) return `${cannot}: its id must be a UUID in lower case`;
  if (!INTERFACE_NAME.test(interfaceName)) {
    return `${cannot}: interface "${interfaceName}" must be 1 to 15 letters, digits or _.:@+=-`;
  }
  if (!Number.isInteger(ifindex) || ifindex < 1)
    return `${cannot}: ifindex "${ifindex}" must be a positive integer`;
  if (!MAC.test(mac)) return `${cannot}: MAC "${mac}" must look like fa:16:3e:00:00:01`;
  if (identities.length === 0) return `${cannot}: it has no fixed address`;
  for (const { number, fixedAddress, heldFor } of identities) {
    if (!/^[0-9a-f]{0,32}$/.test(heldFor ?? "")) return `${cannot}: "${heldFor}" must be hex digits`;
    if (!Number.isInteger(number) || number < 1 || number > NUMBER_COUNT) {
      return `${cannot}: number "${number}" must be from 1 to ${NUMBER_COUNT}`;
    }
    if (!isIPv4(fixedAddress) && (!isIPv6(fixedAddress) || fixedAddress.includes("%"))) {
      return `${cannot}: fixed address "${fixedAddress}" must be an IPv4 or IPv6 address`;
    }
  }
  return undefined;
}
