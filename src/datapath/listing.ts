import { BASE_MAPS, DELIVER, PEER, PORT_CHAIN_PREFIX, SHARED_CHAINS } from "./base-ruleset.ts";
import { DatapathError } from "./error.ts";
import {
  type Element,
  type Fact,
  factId,
  factsOf,
  factValue,
  isForAnyIpv4,
  leavesElsewhere,
  type PortChain,
  readElementComment,
  wayOut,
} from "./fact.ts";
import { NUMBER_COUNT, numberOf } from "./link-local.ts";
import type { Identity, Plumbing } from "./plumbing.ts";
import { portRuleCount, portRulesLike, sharedRulesStand } from "./rule-model.ts";

/** Our part of the kernel's ruleset, read back, with what follows from it at hand: thousands of ports change one at a time. */
export interface Ruleset {
  /** By {@link factId}. */
  readonly facts: ReadonlyMap<string, Fact>;
  /** The same by port; what belongs to none is under the empty name. */
  readonly byPort: ReadonlyMap<string, readonly Fact[]>;
  /** The ports that are complete, by their ids. */
  readonly whole: ReadonlyMap<string, Plumbing>;
  /** True when our three tables stand as this version makes them. */
  readonly baseIntact: boolean;
}

/** What there is before anything was made. */
export function emptyRuleset(): Ruleset {
  return { facts: new Map(), byPort: new Map(), whole: new Map(), baseIntact: false };
}

/**
 * Reads the objects of `nft -j list table` for each of our tables.
 *
 * @throws {DatapathError} `malformed` if they are not what nft prints.
 */
export function readListing(objects: readonly unknown[]): Ruleset {
  const chains = new Map<string, ListedChain>();
  const maps = new Set<string>();
  const elements: Element[] = [];
  for (const object of objects) {
    const [kind, body] = only(object);
    if (kind === "chain") {
      const { hook, policy } = body;
      const chain = { name: text(body["name"]), hook, policy, rules: [] };
      chains.set(`${text(body["family"])} ${chain.name}`, chain);
    } else if (kind === "rule") {
      chains.get(`${text(body["family"])} ${text(body["chain"])}`)?.rules.push(body);
    } else if (kind === "map" || kind === "set") {
      const name = text(body["name"]);
      maps.add(name);
      if (name !== "learned_ip") elements.push(...elementsOf(name, kind, body["elem"]));
    }
  }
  const facts = new Map<string, Fact>(elements.map((element) => [factId(element), element]));
  const rulesOf = (id: string) => chains.get(id)?.rules;
  const isLikeModel = portRulesLike(rulesOf);
  const [alike, unlike]: [PortChain[], PortChain[]] = [[], []];
  let strangers = 0;
  for (const [id, chain] of chains) {
    if (SHARED_CHAINS.has(id)) continue;
    const fact = portChainOf(chain, facts);
    if (fact === undefined) strangers += 1;
    else if (fact.ifindex === 0 || isLikeModel(chain.rules, fact)) alike.push(fact);
    else unlike.push(fact);
  }
  // Where most of a kind are not like the model, it is the model that somebody changed.
  const modelStands = [true, false].every((kind) => {
    const countOf = (ports: readonly PortChain[]) => ports.filter((port) => port.isIpv6Only === kind).length;
    return countOf(unlike) <= countOf(alike);
  });
  const ofPorts = [...alike, ...unlike.map((fact) => (modelStands ? { ...fact, ifindex: 0 } : fact))];
  for (const fact of ofPorts) facts.set(factId(fact), fact);
  const hooked = [...SHARED_CHAINS].every(([id, { hook, policy }]) => {
    const chain = chains.get(id);
    return chain !== undefined && chain.hook === hook && chain.policy === policy;
  });
  const leavesRight = !ofPorts.some((fact) => leavesElsewhere(facts, fact));
  const delivers = forwardsTo(chains.get(`netdev ${DELIVER}`)?.rules[0]) === PEER;
  const stands =
    hooked && modelStands && delivers && leavesRight && strangers === 0 && sharedRulesStand(rulesOf);
  const baseIntact = stands && BASE_MAPS.every((name) => maps.has(name));
  const { byPort, isClear } = factsByPort(facts);
  const whole = new Map<string, Plumbing>();
  for (const [portId, owned] of byPort) {
    const plumbing = plumbingOf(owned);
    if (plumbing === undefined) continue;
    const needed = [wayOut(plumbing.ifindex), ...factsOf(plumbing)];
    if (needed.every((fact) => isHeld(facts, fact))) whole.set(portId, plumbing);
  }
  return { facts, byPort, whole, baseIntact: baseIntact && isClear };
}

interface ListedChain {
  readonly name: string;
  readonly hook: unknown;
  readonly policy: unknown;
  readonly rules: Json[];
}

type Json = Readonly<Record<string, unknown>>;

/** A damaged chain of a port is given ifindex 0, so that it is what nobody wants and gets replaced. */
function portChainOf(chain: ListedChain, facts: ReadonlyMap<string, Fact>): PortChain | undefined {
  if (!chain.name.startsWith(PORT_CHAIN_PREFIX)) return undefined;
  const portId = chain.name.slice(PORT_CHAIN_PREFIX.length);
  const last = chain.rules.at(-1);
  const [, interfaceName = "", ...numbers] =
    /^interface (\S+) ifindex (\d+) number (\d+)$/.exec(String(last?.["comment"])) ?? [];
  const [ifindex = 0, twinOf = 0] = numbers.map(Number);
  const isIpv6Only = facts.has(`only6 ${interfaceName}`);
  const isWhole =
    chain.hook === "ingress" &&
    chain.policy === "accept" &&
    twinOf >= 1 &&
    twinOf <= NUMBER_COUNT &&
    chain.rules.length === portRuleCount(isIpv6Only);
  return {
    kind: "chain",
    portId,
    interfaceName,
    ifindex: isWhole ? ifindex : 0,
    twinOf,
    isIpv6Only,
  };
}

/** Which interface a rule forwards to; nft prints one that is gone as a number. */
function forwardsTo(rule: Json | undefined): unknown {
  const statements = Array.isArray(rule?.["expr"]) ? (rule["expr"] as readonly unknown[]) : [];
  for (const statement of statements) {
    const [kind, body] = only(statement);
    if (kind === "fwd") return body["dev"];
  }
  return undefined;
}

function elementsOf(map: string, kind: "map" | "set", listed: unknown): readonly Element[] {
  if (listed === undefined) return [];
  if (!Array.isArray(listed)) throw malformed(`elements of "${map}"`, listed);
  return (listed as readonly unknown[]).map((entry) => {
    const [left, right] = kind === "map" && Array.isArray(entry) ? (entry as readonly unknown[]) : [entry];
    const wrapped = isObject(left) && isObject(left["elem"]) ? left["elem"] : { val: left };
    const value = wrapped["val"];
    const key =
      isObject(value) && Array.isArray(value["concat"]) ? (value["concat"] as readonly unknown[]) : [value];
    // nft prints the name of whatever has that index now, if anything has; we always write the key itself.
    const isNamed = map === "interface" && typeof right === "string" && right !== String(key[0]);
    const shownAs = isNamed ? right : undefined;
    const data = shownAs === undefined ? right : key[0];
    return {
      kind: "element",
      map,
      key: key.map(text),
      data: data === undefined ? undefined : text(data),
      ...readElementComment(wrapped["comment"]),
      ...(shownAs === undefined ? {} : { shownAs }),
    };
  });
}

/** Every port that a listing shows any part of, with all that belongs to it; not clear where two claim one thing. */
function factsByPort(facts: ReadonlyMap<string, Fact>): {
  readonly byPort: ReadonlyMap<string, readonly Fact[]>;
  readonly isClear: boolean;
} {
  const ownerOfNumber = new Map<number, string>();
  const marks = new Map<number, string>();
  const ownerOfInterface = new Map<string, string>();
  let isClear = true;
  const claim = <T>(owners: Map<T, string>, what: T, portId: string): void => {
    if (owners.has(what)) isClear = false;
    owners.set(what, portId);
  };
  for (const fact of facts.values()) {
    if (fact.kind === "chain") {
      claim(marks, fact.ifindex, fact.portId);
      claim(ownerOfInterface, fact.interfaceName, fact.portId);
    } else if (fact.portId !== undefined) {
      const number = numberOf(fact.data ?? "");
      if (number !== undefined) claim(ownerOfNumber, number, fact.portId);
    }
  }
  const owned = new Map<string, Fact[]>();
  for (const fact of facts.values()) {
    if (fact.kind === "element" && fact.map === "interface") continue;
    const owner = ownerOf(fact) ?? "";
    const list = owned.get(owner);
    if (list === undefined) owned.set(owner, [fact]);
    else list.push(fact);
  }
  return { byPort: owned, isClear };

  function ownerOf(fact: Fact): string | undefined {
    if (fact.kind === "chain" || fact.portId !== undefined) return fact.portId;
    const [key = ""] = fact.key;
    if (fact.map === "only6") return ownerOfInterface.get(key);
    const number = numberOf(key);
    return number === undefined ? undefined : ownerOfNumber.get(number);
  }
}

/** Whether the kernel holds exactly that. */
export function isHeld(facts: ReadonlyMap<string, Fact>, wanted: Fact): boolean {
  const held = facts.get(factId(wanted));
  return held !== undefined && factValue(held) === factValue(wanted);
}

function plumbingOf(owned: readonly Fact[]): Plumbing | undefined {
  const chain = owned.find((fact) => fact.kind === "chain");
  const mac = owned.find((fact) => fact.kind === "element" && fact.map === "guest_mac");
  if (chain?.kind !== "chain" || mac?.kind !== "element" || mac.data === undefined) return undefined;
  const identities = owned.flatMap((fact): readonly Identity[] => {
    if (fact.kind !== "element" || fact.portId === undefined || fact.data === undefined) return [];
    const [, fixedAddress] = fact.key;
    const number = numberOf(fact.data);
    if (number === undefined || fixedAddress === undefined) return [];
    return [{ number, fixedAddress, ...(fact.heldFor === undefined ? {} : { heldFor: fact.heldFor }) }];
  });
  if (identities.length === 0) return undefined;
  // The one that serves IPv6 first: order is how a plumbing says which that is.
  identities.sort(
    (a, b) => Number(b.number === chain.twinOf) - Number(a.number === chain.twinOf) || a.number - b.number,
  );
  const { portId, interfaceName, ifindex, isIpv6Only } = chain;
  const plumbing = { portId, interfaceName, ifindex, mac: mac.data, identities };
  // Told only where it does not follow from the addresses.
  return isForAnyIpv4(plumbing) === isIpv6Only ? plumbing : { ...plumbing, isIpv6Only };
}

function only(object: unknown): readonly [string, Json] {
  if (!isObject(object)) throw malformed("an object", object);
  const [entry] = Object.entries(object);
  if (entry === undefined) throw malformed("an object", object);
  return [entry[0], isObject(entry[1]) ? entry[1] : {}];
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function text(value: unknown): string {
  if (typeof value === "string" || typeof value === "number") return String(value);
  throw malformed("a name or a number", value);
}

function malformed(what: string, value: unknown): DatapathError {
  const shown = JSON.stringify(value)?.slice(0, 120);
  return new DatapathError(
    "malformed",
    `Cannot read the ruleset: nft printed ${shown} where ${what} was expected; is this nftables 1.0 or newer?`,
  );
}
