import { INTERFACE, PEER, TABLE } from "./base-ruleset.ts";
import type { HostFinding } from "./datapath.ts";
import { DatapathError } from "./error.ts";
import { type OurPacket, verdictOf } from "./firewall-verdict.ts";
import { hostHasIpv6 } from "./host-interface.ts";
import { ASLEEP, type NfTables } from "./nf-tables.ts";
import type { Nft } from "./nft-process.ts";
import type { Rtnetlink } from "./rtnetlink-socket.ts";

interface BaseChain {
  readonly family: Parameters<NfTables["tableMark"]>[0];
  readonly table: string;
  readonly name: string;
  readonly hook: string;
  readonly policy: string;
  readonly prio: number;
}

/** Which of our packets a chain meets, and how they look there. */
type Way = Pick<OurPacket, "isInbound" | "iifname" | "oifname">;

const INBOUND: Way = { isInbound: true, iifname: INTERFACE, oifname: "" };
const OUTBOUND: Way = { isInbound: false, iifname: "", oifname: INTERFACE };
/** Where our packets pass: a drop there is final, whatever our own tables say. */
const WAYS: Readonly<Record<string, Way>> = {
  prerouting: INBOUND,
  input: INBOUND,
  output: OUTBOUND,
  postrouting: OUTBOUND,
  [`ingress of ${INTERFACE}`]: INBOUND,
  [`egress of ${INTERFACE}`]: OUTBOUND,
  [`ingress of ${PEER}`]: { isInbound: false, iifname: PEER, oifname: "" },
  [`egress of ${PEER}`]: { isInbound: true, iifname: undefined, oifname: PEER },
};
/** Our own chain takes all that comes into {@link PEER} there. */
const OURS_AT = -500;
/** Our own chains take them from connection tracking there, at prerouting and output. */
const UNTRACKED_FROM = -310;
/** A connection's first packet and the others, each way. */
const TCP_FLAGS = { inbound: [["syn"], ["ack"]], outbound: [["syn", "ack"], ["ack"]] } as const;
/** Where more chains of one table are wanted, it is read whole: nft is a process for each reading. */
const MANY_CHAINS = 6;

/**
 * The foreign chains that drop our packets. What cannot be told from a rule is not held against it.
 *
 * @source measured: a drop on prerouting, input or output silences the proxy, and an accept elsewhere cannot undo it
 */
export async function inspectHostFirewall({
  nft,
  nfTables,
  rtnetlink,
}: {
  readonly nft: Nft;
  readonly nfTables: NfTables;
  readonly rtnetlink: Rtnetlink;
}): Promise<readonly HostFinding[]> {
  const findings: HostFinding[] = [];
  const tables = new Map<string, TableRules>();
  for (const chain of (await nft.listChains()).flatMap((object) => baseChain(object) ?? [])) {
    const { family, table } = chain;
    const id = `${family} ${table}`;
    const known = tables.get(id) ?? new TableRules(nft, family, table);
    tables.set(id, known);
    for (const place of await placesOf(nft, chain)) {
      const dropped = await droppedFamilies(chain, place, known);
      if (dropped.length === 0 || (await nfTables.tableMark(family, table)) === ASLEEP) continue;
      findings.push(findingOf(chain, place, dropped));
    }
  }
  return [...findings, ...(await ownMetadataService(rtnetlink))];
}

/** Keys of {@link WAYS}: a chain of a device has as many as it has devices of ours. */
async function placesOf(
  nft: Nft,
  { family, table, name, hook, prio }: BaseChain,
): Promise<readonly string[]> {
  if (hook in WAYS) return [hook];
  const [head = ""] = (await orGone(nft.printChain(family, table, name)))?.match(/ hook .* priority /) ?? [];
  const devices = new Set(head.split(/[\s",{}=;]+/));
  return [INTERFACE, PEER]
    .filter((device) => devices.has(device) && !(device === PEER && hook === "ingress" && prio >= OURS_AT))
    .map((device) => `${hook} of ${device}`);
}

async function droppedFamilies(
  { family, name, hook, prio, policy }: BaseChain,
  place: string,
  table: TableRules,
): Promise<readonly OurPacket["family"][]> {
  const way = WAYS[place];
  const rulesOf = (wanted: string) => table.of(wanted);
  const rules = await rulesOf(name);
  // Gone meanwhile: a firewall is being loaded, and is looked at again in a minute.
  if (rules === undefined || way === undefined) return [];
  const seen: readonly OurPacket["family"][] =
    family === "ip" || family === "ip6" ? [family] : hostHasIpv6() ? ["ip", "ip6"] : ["ip"];
  const isEarly = ["prerouting", "output"].includes(hook) && prio < UNTRACKED_FROM;
  const ctState = isEarly || hook === "ingress" ? "invalid" : "untracked";
  const dropped = new Set<OurPacket["family"]>();
  for (const one of seen) {
    for (const tcpFlags of TCP_FLAGS[way.isInbound ? "inbound" : "outbound"]) {
      const packet = { ...way, family: one, ctState, tcpFlags } as const;
      if ((await verdictOf(rules, policy === "drop", packet, rulesOf)) === "dropped") dropped.add(one);
    }
  }
  return [...dropped];
}

function findingOf(
  { family, table, name }: BaseChain,
  place: string,
  dropped: readonly OurPacket["family"][],
): HostFinding {
  const { iifname, oifname } = WAYS[place] ?? INBOUND;
  const match = iifname ? `iifname "${iifname}"` : `oifname "${oifname}"`;
  const silencesGuests = dropped.includes("ip");
  const only = silencesGuests && !dropped.includes("ip6") ? " over IPv4" : "";
  const what = `${silencesGuests ? "The" : "Over IPv6 the"} host's firewall drops metadata requests${only}`;
  const which = `chain "${name}" of table "${family} ${table}" (${place}) drops them`;
  const remedy = `nft insert rule ${family} ${table} ${name} ${match} accept`;
  return { sentence: `${what}: ${which}. Add: ${remedy}`, silencesGuests };
}

function baseChain(object: unknown): BaseChain | undefined {
  const { chain } = object as { readonly chain?: Readonly<Record<string, unknown>> };
  // Address translation sees tracked connections only, and ours are not.
  if (chain === undefined || chain["table"] === TABLE || chain["type"] === "nat") return undefined;
  const { family, table, name, hook, policy, prio } = chain as unknown as BaseChain;
  const isOnDevice = hook === "ingress" || hook === "egress";
  const isSeen = isOnDevice ? ["inet", "netdev"].includes(family) : ["inet", "ip", "ip6"].includes(family);
  return isSeen && (isOnDevice || hook in WAYS) ? { family, table, name, hook, policy, prio } : undefined;
}

/** Undefined where what was asked for is not there any more. */
async function orGone<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof DatapathError && error.code === "rejected") return undefined;
    throw error;
  }
}

/** The rules of one foreign table, read as they are wanted. */
class TableRules {
  readonly #nft: Nft;
  readonly #family: string;
  readonly #table: string;
  readonly #chains = new Map<string, readonly unknown[] | undefined>();
  readonly #resolved = new Set<string>();
  #isWhole = false;

  constructor(nft: Nft, family: string, table: string) {
    this.#nft = nft;
    this.#family = family;
    this.#table = table;
  }

  /** Of one chain; undefined where it is gone. */
  async of(name: string): Promise<readonly unknown[] | undefined> {
    if (this.#resolved.has(name)) return this.#chains.get(name);
    if (!this.#isWhole && this.#chains.size >= MANY_CHAINS) await this.#readWhole();
    if (!this.#isWhole)
      this.#chains.set(name, await orGone(this.#nft.listChain(this.#family, this.#table, name)));
    this.#resolved.add(name);
    const rules = this.#chains.get(name);
    if (rules === undefined) return undefined;
    const resolved = await Promise.all(rules.map((rule) => this.#withInterfaces(rule)));
    this.#chains.set(name, resolved);
    return resolved;
  }

  /** A rule with the members in place of a set's name, where it holds interfaces: those are few, addresses may be many. */
  async #withInterfaces(object: unknown): Promise<unknown> {
    const { rule } = object as { readonly rule?: { readonly expr?: readonly unknown[] } };
    if (rule?.expr === undefined || !/"@/.test(JSON.stringify(rule.expr))) return object;
    const expr = await Promise.all(rule.expr.map((statement) => this.#withMembers(statement)));
    return { rule: { ...rule, expr } };
  }

  async #withMembers(statement: unknown): Promise<unknown> {
    const { match } = (statement ?? {}) as {
      readonly match?: { readonly left?: { readonly meta?: { readonly key?: string } }; right?: unknown };
    };
    const [, name] = /^@(.+)$/.exec(String(match?.right)) ?? [];
    if (name === undefined || !/^[io]ifname$/.test(match?.left?.meta?.key ?? "")) return statement;
    const listed = (await orGone(this.#nft.listSet(this.#family, this.#table, name))) ?? [];
    for (const object of listed) {
      const { set } = object as { readonly set?: { readonly elem?: unknown } };
      if (set !== undefined) return { match: { ...match, right: { set: set.elem ?? [] } } };
    }
    return statement;
  }

  async #readWhole(): Promise<void> {
    this.#isWhole = true;
    this.#chains.clear();
    this.#resolved.clear();
    for (const object of (await this.#nft.listTable(this.#family, this.#table)) ?? []) {
      const { chain, rule } = object as {
        readonly chain?: { name: string };
        readonly rule?: { chain: string };
      };
      if (chain !== undefined) this.#chains.set(chain.name, []);
      const rules = this.#chains.get(rule?.chain ?? "");
      if (rules !== undefined) (rules as unknown[]).push(object);
    }
  }
}

/** A host that is itself a guest of some cloud reaches its own metadata service by a route of its own. */
async function ownMetadataService(rtnetlink: Rtnetlink): Promise<readonly HostFinding[]> {
  const [metadata, route] = [
    await rtnetlink.linkNamed(INTERFACE),
    await rtnetlink.routeInMain("169.254.169.254"),
  ];
  if (route === undefined || route.ifindex === metadata?.ifindex) return [];
  const link = await rtnetlink.linkAt(route.ifindex);
  const sentence = `This host has a route of its own to 169.254.169.254 (by "${link?.name ?? route.ifindex}"), so it may be a cloud's guest itself: while mn-metadata runs, the host's own requests to that address are answered by no one. See docs/datapath.md, "A host that is a guest"`;
  return [{ sentence, silencesGuests: false }];
}
