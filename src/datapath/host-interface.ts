import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { INTERFACE, INTERFACE_MAC, PEER, PEER_MAC } from "./base-ruleset.ts";
import { DatapathError } from "./error.ts";
import type { Link } from "./link.ts";
import {
  linkLocalOf,
  METADATA_ADDRESS,
  METADATA_ADDRESS_V6,
  TWIN_RANGE,
  twinPrefixOf,
} from "./link-local.ts";
import type { Rtnetlink } from "./rtnetlink-socket.ts";

/** Our routing table, and the priority of the rules that lead to it: far behind `local`, before `main`. */
export const ROUTE_TABLE = 9697;
const IPV4_RANGE = "169.254.0.0/16";
/** Of both ends: with less the kernel takes IPv6 away, and drops what is longer. @source linux/net/ipv6.h IPV6_MIN_MTU */
const MTU = 1_500;

/** One thing to make, as the `ip` command would. */
export interface HostStep {
  readonly text: string;
  /** Guests are served over IPv4 without it. */
  readonly isIpv6: boolean;
  readonly make: () => Promise<void>;
}

/**
 * What is missing of the interface, its addresses, its routes and their rules. Asks the kernel where packets
 * would go instead of listing what is there: six questions in two goes, however many links a host has. A step may make
 * later ones due, so ask again until there is none.
 *
 * @throws {DatapathError}
 */
export async function missingSteps(rtnetlink: Rtnetlink): Promise<readonly HostStep[]> {
  const [link, peer] = await Promise.all([rtnetlink.linkNamed(INTERFACE), rtnetlink.linkNamed(PEER)]);
  if (link === undefined || peer === undefined || !arePair(link, peer))
    return [await remake(rtnetlink, link, peer)];
  const down = stepsForLinks(rtnetlink, link, peer);
  if (down.length > 0) return down;
  const steps = await Promise.all([
    stepsForIpv4(rtnetlink, link),
    hostHasIpv6() ? stepsForIpv6(rtnetlink, link).catch(unknownIpv6) : [],
  ]);
  return steps.flat();
}

/** What cannot be asked cannot be told from what is missing. */
function unknownIpv6(error: unknown): readonly HostStep[] {
  if (!(error instanceof DatapathError)) throw error;
  const make = () => Promise.reject(error);
  return [{ text: error.message, isIpv6: true, make }];
}

/**
 * Takes interface and rules away; addresses and routes go with the interface.
 *
 * @returns What it removed, one line each.
 */
export async function sweepHost(rtnetlink: Rtnetlink): Promise<readonly string[]> {
  const removed: string[] = [];
  for (const from of [METADATA_ADDRESS, METADATA_ADDRESS_V6]) {
    while (await rtnetlink.deleteRule(from, ROUTE_TABLE, ROUTE_TABLE)) {
      removed.push(`rule from ${from} lookup ${ROUTE_TABLE}`);
    }
  }
  for (const name of [INTERFACE, PEER]) {
    const link = await rtnetlink.linkNamed(name);
    if (link === undefined || !(await isOurs(rtnetlink, link))) continue;
    await rtnetlink.deleteLink(link.ifindex);
    removed.push(`interface ${name}`);
  }
  return removed;
}

function arePair(link: Link, peer: Link): boolean {
  return (
    link.linkKind === "veth" &&
    peer.linkKind === "veth" &&
    link.otherEnd === peer.ifindex &&
    peer.otherEnd === link.ifindex
  );
}

/** Whoever took one of our names has neither our MAC nor the other name; ours may have lost one of the two. */
async function isOurs(rtnetlink: Rtnetlink, link: Link): Promise<boolean> {
  if (link.linkKind !== "veth") return false;
  if (hasOurMac(link)) return true;
  const other = link.otherEnd === 0 ? undefined : await rtnetlink.linkAt(link.otherEnd);
  if (other === undefined) return false;
  return hasOurMac(other) || [link.name, other.name].sort().join() === [INTERFACE, PEER].join();
}

function hasOurMac({ mac }: Link): boolean {
  return mac === INTERFACE_MAC || mac === PEER_MAC;
}

async function remake(
  rtnetlink: Rtnetlink,
  link: Link | undefined,
  peer: Link | undefined,
): Promise<HostStep> {
  const old = [link, peer].filter((one) => one !== undefined);
  let foreign: Link | undefined;
  for (const one of old) if (!(await isOurs(rtnetlink, one))) foreign ??= one;
  return {
    text: foreign
      ? notOurs(foreign).message
      : `ip link add ${INTERFACE} address ${INTERFACE_MAC} type veth peer name ${PEER}`,
    isIpv6: false,
    make: async () => {
      if (foreign !== undefined) throw notOurs(foreign);
      for (const { ifindex } of old) {
        // The first may have taken the second along.
        if ((await rtnetlink.linkAt(ifindex)) !== undefined) await rtnetlink.deleteLink(ifindex);
      }
      await rtnetlink.addVeth(INTERFACE, PEER, INTERFACE_MAC);
    },
  };
}

function notOurs(link: Link): DatapathError {
  return new DatapathError(
    "rejected",
    `Cannot create the interface "${link.name}": one of that name is there that is not ours (it is no veth with our other end or our MAC). Rename it: ip link set ${link.name} name …`,
  );
}

function stepsForLinks(rtnetlink: Rtnetlink, link: Link, peer: Link): readonly HostStep[] {
  const enslaved = [link, peer].find(({ master }) => master !== 0);
  if (enslaved !== undefined) return [freeing(rtnetlink, enslaved, link, peer)];
  const steps: HostStep[] = [];
  if (!peer.up || peer.mac !== PEER_MAC || peer.mtu !== MTU) {
    steps.push({
      text: `ip link set ${PEER} address ${PEER_MAC} mtu ${MTU} up`,
      isIpv6: false,
      make: async () => {
        tryIpv6(PEER, "addr_gen_mode", "1");
        const mac = peer.mac === PEER_MAC ? {} : { mac: PEER_MAC };
        await rtnetlink.setUp(peer.ifindex, { noArp: false, mtu: MTU, ...mac });
      },
    });
  }
  if (!link.up || !link.noArp || link.mac !== INTERFACE_MAC || link.mtu !== MTU) {
    steps.push({
      text: `ip link set ${INTERFACE} address ${INTERFACE_MAC} mtu ${MTU} arp off up`,
      isIpv6: false,
      make: async () => {
        tryIpv6(INTERFACE, "disable_ipv6", "0");
        tryIpv6(INTERFACE, "addr_gen_mode", "1");
        const mac = link.mac === INTERFACE_MAC ? {} : { mac: INTERFACE_MAC };
        await rtnetlink.setUp(link.ifindex, { noArp: true, mtu: MTU, ...mac });
      },
    });
  }
  return steps;
}

/** A bridge or switch takes all that comes in by its port; some (Open vSwitch) let none go but with the port. */
function freeing(rtnetlink: Rtnetlink, end: Link, link: Link, peer: Link): HostStep {
  return {
    text: `ip link set ${end.name} nomaster`,
    isIpv6: false,
    make: async () => {
      try {
        await rtnetlink.release(end.ifindex);
      } catch (error) {
        if (!(error instanceof DatapathError)) throw error;
        await (await remake(rtnetlink, link, peer)).make();
      }
    },
  };
}

async function stepsForIpv4(rtnetlink: Rtnetlink, link: Link): Promise<readonly HostStep[]> {
  const steps: HostStep[] = [];
  const [here, back] = await Promise.all([rtnetlink.routeTo(METADATA_ADDRESS), wayBack(rtnetlink)]);
  if (here?.isLocal !== true) {
    steps.push({
      text: `ip addr add ${METADATA_ADDRESS}/32 dev ${INTERFACE} scope link`,
      isIpv6: false,
      make: () => rtnetlink.addAddress(link.ifindex, METADATA_ADDRESS, 32),
    });
  }
  if (back !== undefined && back !== link.ifindex)
    steps.push(...stepsForRange(rtnetlink, link, IPV4_RANGE, METADATA_ADDRESS));
  return steps;
}

/**
 * Where answers to guests go: an interface's index, 0 for nowhere; undefined where it cannot be told. An address that
 * is the host's own says nothing of the others.
 */
async function wayBack(rtnetlink: Rtnetlink): Promise<number | undefined> {
  for (const number of PROBES) {
    const answer = await rtnetlink.routeTo(linkLocalOf(number), METADATA_ADDRESS);
    if (answer?.isLocal !== true) return answer?.ifindex ?? 0;
  }
  return undefined;
}

/** Far from each other: a host has few addresses of the range. */
const PROBES = [1, 2, 300, 20_000, 60_000];

async function stepsForIpv6(rtnetlink: Rtnetlink, link: Link): Promise<readonly HostStep[]> {
  const steps: HostStep[] = [];
  const [here, back] = await Promise.all([
    rtnetlink.routeTo(METADATA_ADDRESS_V6, undefined, link.ifindex),
    rtnetlink.routeTo(`${twinPrefixOf(1)}1`, METADATA_ADDRESS_V6, link.ifindex),
  ]);
  if (here?.isLocal !== true) {
    steps.push({
      text: `ip addr add ${METADATA_ADDRESS_V6}/64 dev ${INTERFACE} nodad`,
      isIpv6: true,
      make: async () => {
        setIpv6(INTERFACE, "disable_ipv6", "0");
        await rtnetlink.addAddress(link.ifindex, METADATA_ADDRESS_V6, 64);
      },
    });
  }
  if (back?.table !== ROUTE_TABLE)
    steps.push(...stepsForRange(rtnetlink, link, TWIN_RANGE, METADATA_ADDRESS_V6));
  return steps;
}

function stepsForRange(rtnetlink: Rtnetlink, link: Link, range: string, from: string): readonly HostStep[] {
  const isIpv6 = range.includes(":");
  const ip = isIpv6 ? "ip -6" : "ip";
  return [
    {
      text: `${ip} route replace ${range} dev ${INTERFACE} scope link table ${ROUTE_TABLE}`,
      isIpv6,
      make: () => rtnetlink.addRoute(range, link.ifindex, ROUTE_TABLE),
    },
    {
      text: `${ip} rule add from ${from} lookup ${ROUTE_TABLE} priority ${ROUTE_TABLE}`,
      isIpv6,
      make: () => rtnetlink.addRule(from, ROUTE_TABLE, ROUTE_TABLE),
    },
  ];
}

const IPV6_SETTINGS = "/proc/sys/net/ipv6/conf";

/** Whether the kernel has IPv6 at all. */
export function hostHasIpv6(): boolean {
  return existsSync(IPV6_SETTINGS);
}

/** There is no netlink for these in the package. What a read-only /proc already holds is left as it is. */
function setIpv6(name: string, setting: string, value: string): void {
  const path = `${IPV6_SETTINGS}/${name}/${setting}`;
  if (!existsSync(path) || readFileSync(path, "utf8").trim() === value) return;
  try {
    writeFileSync(path, value);
  } catch (error) {
    throw new DatapathError("failed", `Cannot set "${path}" to ${value}: ${(error as Error).message}`, error);
  }
}

/** Where it matters, the step for the address meets the same refusal, and that is told. */
function tryIpv6(name: string, setting: string, value: string): void {
  try {
    setIpv6(name, setting, value);
  } catch (error) {
    if (!(error instanceof DatapathError)) throw error;
  }
}
