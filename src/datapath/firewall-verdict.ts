import { isIPv4, isIPv6 } from "node:net";
import { METADATA_ADDRESS, METADATA_ADDRESS_V6, METADATA_TCP_PORT, TWIN_RANGE } from "./link-local.ts";
import { addressBytes } from "./netlink-bytes.ts";
import { flagsMatch } from "./tcp-flags.ts";

/** One packet between a guest and the proxy, as a chain of the host's sees it. */
export interface OurPacket {
  readonly family: "ip" | "ip6";
  /** From the guest (prerouting, input), or back to it (output, postrouting). */
  readonly isInbound: boolean;
  /** The interfaces that it comes and goes by, as far as the chain can see them: empty for none, undefined if unknown. */
  readonly iifname: string | undefined;
  readonly oifname: string | undefined;
  /** What connection tracking calls it: `invalid` until a chain of ours has said that it is none of its business. */
  readonly ctState: "invalid" | "untracked";
  /** The TCP flags that it has, as nft names them. */
  readonly tcpFlags: readonly string[];
}

/** What becomes of it: `unknown` where it depends on what cannot be told from the rules. */
export type Verdict = "passes" | "dropped" | "unknown";

/**
 * Follows one packet through a base chain, rule by rule, as the kernel would.
 *
 * @param rules The objects of `nft -j list chain`.
 * @param rulesOf The same of a chain that a rule jumps to; undefined where it is not there any more.
 */
export async function verdictOf(
  rules: readonly unknown[],
  policyIsDrop: boolean,
  packet: OurPacket,
  rulesOf: (chain: string) => Promise<readonly unknown[] | undefined>,
): Promise<Verdict> {
  const outcome = await walk(rules, packet, rulesOf, 0);
  if (outcome !== "end") return outcome;
  return policyIsDrop ? "dropped" : "passes";
}

type Json = Readonly<Record<string, unknown>>;
/** Whether a rule is for the packet. `maybe`: it depends on what is not known here. */
type Truth = "yes" | "no" | "maybe";
type RulesOf = Parameters<typeof verdictOf>[3];

/** `end`: the chain ended without a word. */
async function walk(
  rules: readonly unknown[],
  packet: OurPacket,
  rulesOf: RulesOf,
  depth: number,
): Promise<Verdict | "end"> {
  let mayHaveLeft = false;
  for (const object of rules) {
    const { expr } = ((object as Json)["rule"] ?? {}) as { readonly expr?: readonly Json[] };
    if (expr === undefined) continue;
    const { truth, action } = read(expr, packet);
    if (truth === "no" || action === undefined) continue;
    const said = await carryOut(action, packet, rulesOf, depth);
    if (said === "on") continue;
    if (said === "end") {
      if (truth === "yes") return "end";
      mayHaveLeft = true;
    } else if (truth === "yes") {
      // Who left before is not dropped here: then the rest is up to whoever jumped here, or to the policy.
      return said === "dropped" && mayHaveLeft ? "end" : said;
    } else if (said !== "dropped") {
      // It may be let through here. What may be dropped here is not said to be.
      return "unknown";
    }
  }
  return "end";
}

/** @returns `on`: the next rule; `end`: the rest of the chain is left out. */
async function carryOut(
  [kind, target]: Action,
  packet: OurPacket,
  rulesOf: RulesOf,
  depth: number,
): Promise<Verdict | "end" | "on"> {
  if (kind === "accept") return "passes";
  if (kind === "drop") return "dropped";
  if (kind === "return") return "end";
  if (kind === "queue") return "unknown";
  const rules = depth < MOST_JUMPS ? await rulesOf(target) : undefined;
  if (rules === undefined) return "unknown";
  const outcome = await walk(rules, packet, rulesOf, depth + 1);
  if (outcome !== "end") return outcome;
  return kind === "jump" ? "on" : "end";
}

type Action = readonly [kind: "accept" | "drop" | "return" | "queue" | "jump" | "goto", target: string];

/** @source linux/netfilter/nf_tables.h NFT_JUMP_STACK_SIZE */
const MOST_JUMPS = 16;

function read(
  statements: readonly Json[],
  packet: OurPacket,
): { readonly truth: Truth; readonly action: Action | undefined } {
  let truth: Truth = "yes";
  let action: Action | undefined;
  for (const statement of statements) {
    const [kind, body] = only(statement);
    const verdict = actionOf(kind, body);
    if (verdict !== undefined) action = verdict;
    else if (kind === "vmap") [truth, action] = vmapFor(truth, body, packet);
    else truth = both(truth, truthOf(kind, body, packet));
  }
  return { truth, action };
}

function actionOf(kind: string, body: Json): Action | undefined {
  if (kind === "accept" || kind === "drop" || kind === "return" || kind === "queue") return [kind, ""];
  // What is forwarded at the ingress or egress of a device goes on nowhere else.
  if (kind === "reject" || kind === "fwd") return ["drop", ""];
  if (kind === "jump" || kind === "goto") return [kind, String(body["target"])];
  if (kind === "xt" && body["type"] === "target") {
    if (body["name"] === "REJECT" || body["name"] === "DROP") return ["drop", ""];
    if (body["name"] === "NFQUEUE") return ["queue", ""];
  }
  return undefined;
}

/** Where several entries may be for the packet, nothing is known; `*` is for what no other one is for. */
function vmapFor(truth: Truth, { key, data }: Json, packet: OurPacket): [Truth, Action | undefined] {
  const entries = (data as Json | undefined)?.["set"];
  const subject = subjectOf(key as Json, packet);
  if (subject.kind === "absent") return ["no", undefined];
  if (!Array.isArray(entries)) return [both(truth, "maybe"), ["queue", ""]];
  const candidates: [Truth, Action | undefined][] = [];
  for (const [value, verdict] of entries as readonly (readonly [unknown, Json])[]) {
    const matches = value === "*" ? "maybe" : equals(subject, value);
    const action = actionOf(...only(verdict));
    if (matches === "yes") return [truth, action];
    // It is listed last.
    const isLeft = value === "*" && candidates.length === 0;
    if (matches === "maybe") candidates.push([isLeft ? truth : both(truth, "maybe"), action]);
  }
  const [candidate, ...others] = candidates;
  if (candidate === undefined) return ["no", undefined];
  return others.length === 0 ? candidate : [both(truth, "maybe"), ["queue", ""]];
}

/** Statements that only note something change nothing; what is not known may hold or not. */
function truthOf(kind: string, body: Json, packet: OurPacket): Truth {
  // A limit on each element decides as one on the rule does; which element is the packet's is not known.
  const inside = kind === "set" && Array.isArray(body["stmt"]) ? (body["stmt"] as readonly unknown[]) : [];
  if (!inside.every((statement) => NEUTRAL.has(only(statement)[0]))) return "maybe";
  if (NEUTRAL.has(kind)) return "yes";
  // A boot goes over any limit, and is then as if the rule were not there.
  if (RARELY.has(kind)) return "no";
  if (kind === "xt") {
    const name = String(body["name"]);
    if (body["type"] === "target" || name === "comment") return "yes";
    return RARELY.has(name) ? "no" : "maybe";
  }
  if (kind !== "match") return "maybe";
  const { op, left, right } = body;
  const flags = flagsMatch(body, packet.tcpFlags);
  if (flags !== undefined) return flags ? "yes" : "no";
  const subject = subjectOf(left as Json, packet);
  const matches = equals(subject, right);
  if (op === "==" || op === "in") return matches;
  // A packet that has no such header is not another one's either.
  if (op !== "!=" || subject.kind === "absent") return subject.kind === "absent" ? "no" : "maybe";
  return matches === "maybe" ? "maybe" : matches === "yes" ? "no" : "yes";
}

const NEUTRAL: ReadonlySet<string> = new Set([
  "counter",
  "log",
  "comment",
  "notrack",
  "mangle",
  "set",
  "dup",
]);
/** Of nft's statements, and of iptables' matches: connection tracking knows none of our packets. */
const RARELY: ReadonlySet<string> = new Set(
  "limit quota conntrack state hashlimit connlimit recent statistic time".split(" "),
);

/** What a rule looks at, as far as our packets have it. */
type Subject =
  | { readonly kind: "is"; readonly text: string }
  /** Any address of a range, since every guest has another. */
  | { readonly kind: "within"; readonly range: string }
  | { readonly kind: "absent" }
  | { readonly kind: "unknown" };

type KnownSubject = Extract<Subject, { readonly kind: "is" } | { readonly kind: "within" }>;

const ABSENT: Subject = { kind: "absent" };
const UNKNOWN: Subject = { kind: "unknown" };

function subjectOf(left: Json, { family, isInbound, iifname, oifname, ctState }: OurPacket): Subject {
  const is = (text: string): Subject => ({ kind: "is", text });
  const [kind, facts] = only(left);
  const { key, protocol, field } = facts as Readonly<Record<string, string>>;
  if (kind === "ct") return key === "state" ? is(ctState) : ABSENT;
  if (kind === "meta") {
    if (key === "iifname" || key === "iif") return iifname === undefined ? UNKNOWN : is(iifname);
    if (key === "oifname" || key === "oif") return oifname === undefined ? UNKNOWN : is(oifname);
    if (key === "l4proto") return is("tcp");
    if (key === "nfproto") return is(family === "ip" ? "ipv4" : "ipv6");
    return key === "protocol" ? is(family) : UNKNOWN;
  }
  if (kind !== "payload" || protocol === undefined) return UNKNOWN;
  if (protocol === "tcp" || protocol === "th") {
    const isOurs = field === (isInbound ? "dport" : "sport");
    return isOurs ? is(String(METADATA_TCP_PORT)) : UNKNOWN;
  }
  if (protocol !== family) return protocol === "ether" ? UNKNOWN : ABSENT;
  if (field === "protocol" || field === "nexthdr") return is("tcp");
  if (field !== "saddr" && field !== "daddr") return UNKNOWN;
  const isProxy = (field === "daddr") === isInbound;
  const [proxy, guests] =
    family === "ip" ? [METADATA_ADDRESS, "169.254.0.0/16"] : [METADATA_ADDRESS_V6, TWIN_RANGE];
  return isProxy ? is(proxy) : { kind: "within", range: guests };
}

function equals(subject: Subject, right: unknown): Truth {
  if (subject.kind === "absent") return "no";
  if (subject.kind === "unknown") return "maybe";
  const { set } = (isObject(right) ? right : {}) as { readonly set?: unknown };
  const values = Array.isArray(right) ? right : Array.isArray(set) ? set : [right];
  return (values as readonly unknown[]).map((value) => equalsOne(subject, value)).reduce(either, "no");
}

function equalsOne(subject: KnownSubject, value: unknown): Truth {
  if (isObject(value)) {
    const [prefix, range] = [value["prefix"] as Json | undefined, value["range"]];
    if (isObject(value["elem"])) return equalsOne(subject, value["elem"]["val"]);
    if (prefix !== undefined) return inPrefix(subject, String(prefix["addr"]), Number(prefix["len"]));
    if (!Array.isArray(range)) return "maybe";
    const [first, last] = range.map(Number);
    if (subject.kind === "within" || Number.isNaN(first)) return "maybe";
    return Number(subject.text) >= (first ?? 0) && Number(subject.text) <= (last ?? 0) ? "yes" : "no";
  }
  const text = String(value);
  // A named set, whose elements are elsewhere.
  if (text.startsWith("@")) return "maybe";
  if (text === "*") return "yes";
  if (subject.kind === "within") return inPrefix(subject, text, text.includes(":") ? 128 : 32);
  if (text.endsWith("*")) return subject.text.startsWith(text.slice(0, -1)) ? "yes" : "no";
  return subject.text === (text === "6" && subject.text === "tcp" ? "tcp" : text) ? "yes" : "no";
}

function inPrefix(subject: KnownSubject, addr: string, len: number): Truth {
  const [ours = "", length] = (subject.kind === "is" ? subject.text : subject.range).split("/");
  if ((!isIPv4(addr) || !isIPv4(ours)) && (!isIPv6(addr) || !isIPv6(ours))) return "no";
  const [a, b] = [addressBytes(ours).bytes, addressBytes(addr).bytes];
  const ownLength = length === undefined ? a.length * 8 : Number(length);
  if (!sameUpTo(a, b, Math.min(len, ownLength))) return "no";
  return len <= ownLength ? "yes" : "maybe";
}

function sameUpTo(a: Buffer, b: Buffer, bits: number): boolean {
  for (let bit = 0; bit < bits; bit++) {
    const [at, mask] = [bit >> 3, 0x80 >> (bit & 7)];
    if (((a[at] ?? 0) & mask) !== ((b[at] ?? 0) & mask)) return false;
  }
  return true;
}

/** The one entry of an object; nft prints null for what it has no words for. */
function only(object: unknown): readonly [string, Json] {
  const [[kind = "", body] = []] = isObject(object) ? Object.entries(object) : [];
  return [kind, isObject(body) ? body : {}];
}

function both(a: Truth, b: Truth): Truth {
  if (a === "no" || b === "no") return "no";
  return a === "yes" && b === "yes" ? "yes" : "maybe";
}

function either(a: Truth, b: Truth): Truth {
  if (a === "yes" || b === "yes") return "yes";
  return a === "no" && b === "no" ? "no" : "maybe";
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
