import { MODEL, MODEL_PORT, portChainRules, SHARED_CHAINS } from "./base-ruleset.ts";
import { linkLocalOf, twinPrefixOf } from "./link-local.ts";

/** A rule as `nft -j` prints it, as far as it is read here. */
export interface ListedRule {
  readonly expr?: unknown;
}

/** The rules of a chain by `family name`; undefined where there is no such chain. */
export type RulesOf = (chainId: string) => readonly ListedRule[] | undefined;

/**
 * Whether every shared chain has the rules that its family's model has. Only what nft prints of one thing made twice is
 * compared, so it does not matter which words a version of it has for a rule.
 */
export function sharedRulesStand(rulesOf: RulesOf): boolean {
  const at = new Map<string, number>();
  for (const [id, { family, ruleCount }] of SHARED_CHAINS) {
    const [rules, model] = [rulesOf(id), rulesOf(`${family} ${MODEL}`)];
    if (rules?.length !== ruleCount || model === undefined) return false;
    if (rules === model) continue;
    const first = at.get(family) ?? 0;
    at.set(family, first + ruleCount);
    if (!rules.every((rule, index) => likeness(model[first + index]?.expr)(rule.expr, MODEL_PORT)))
      return false;
  }
  return true;
}

/** What the rules of a port's chain tell of it by themselves. */
export type PortRules = Parameters<typeof portChainRules>[0];

const PORT_RULE_COUNT = portChainRules(MODEL_PORT).length;
/** The rules that only a port without an IPv4 address has. */
const [ANY_IPV4_FROM, ANY_IPV4_TO] = [
  1,
  1 + PORT_RULE_COUNT - portChainRules({ ...MODEL_PORT, isIpv6Only: false }).length,
];

/**
 * Looks at a listing's model of a port's chain.
 *
 * @returns Tells whether the rules of one port's chain, if as many, are like that but for the port's own numbers.
 */
export function portRulesLike(rulesOf: RulesOf): (rules: readonly ListedRule[], port: PortRules) => boolean {
  const model = rulesOf(`netdev ${MODEL}`) ?? [];
  // Another version's table has none, or another one; its ports are known by the number of their rules.
  const isWhole = model.length === SHARED_CHAINS.get(`netdev ${MODEL}`)?.ruleCount;
  const ofPort = isWhole ? model.slice(-PORT_RULE_COUNT) : [];
  const printed = JSON.stringify(ofPort.map(({ expr }) => expr));
  // Where nft has other words for what is the port's own, only the form of rules is compared.
  const isReadable = [MODEL_TWIN, MODEL_ADDRESS, String(MODEL_PORT.ifindex)].every((text) =>
    printed.includes(text),
  );
  const forAny = ofPort.map(({ expr }) => likeness(expr, isReadable ? leafLikeness : anyLeaf));
  const plain = forAny.filter((_, at) => at < ANY_IPV4_FROM || at >= ANY_IPV4_TO);
  return (rules, port) => {
    const likenesses = port.isIpv6Only ? forAny : plain;
    return !isWhole || rules.every(({ expr }, at) => likenesses[at]?.(expr, port) === true);
  };
}

/** How many rules a port's chain has. */
export function portRuleCount(isIpv6Only: boolean): number {
  return PORT_RULE_COUNT - (isIpv6Only ? 0 : ANY_IPV4_TO - ANY_IPV4_FROM);
}

/** How a number shows in rules: the words of its IPv6 prefix, which may have others behind them, and its address. */
function textsOf(number: number): readonly [string, string] {
  return [twinPrefixOf(number).slice(0, -1), linkLocalOf(number)];
}

const [MODEL_TWIN, MODEL_ADDRESS] = textsOf(MODEL_PORT.twinOf);

/** Whether something is what a part of the model is, for a port. */
type Likeness = (other: unknown, port: PortRules) => boolean;

/** Made once of each part of the model, and asked for every port. */
function likeness(model: unknown, ofLeaf: (leaf: unknown) => Likeness = leafLikeness): Likeness {
  if (!isBranch(model)) return ofLeaf(model);
  const keys = Object.keys(model);
  // What has been counted is no part of a rule, and the members of a set have no order.
  const parts = keys
    .filter((key) => key !== "counter")
    .map((key) => [key, key === "set" ? setLikeness(model[key]) : likeness(model[key], ofLeaf)] as const);
  const isArray = Array.isArray(model);
  return (other, port) =>
    isBranch(other) &&
    Array.isArray(other) === isArray &&
    Object.keys(other).length === keys.length &&
    parts.every(([key, isLike]) => isLike(other[key], port)) &&
    (parts.length === keys.length || "counter" in other);
}

function anyLeaf(): Likeness {
  return (other) => !isBranch(other);
}

function leafLikeness(model: unknown): Likeness {
  if (model === MODEL_PORT.ifindex) return (other, port) => other === port.ifindex;
  if (typeof model !== "string") return (other) => other === model;
  if (model.includes(MODEL_TWIN))
    return (other, port) => other === model.replace(MODEL_TWIN, textsOf(port.twinOf)[0]);
  if (model.includes(MODEL_ADDRESS))
    return (other, port) => other === model.replace(MODEL_ADDRESS, textsOf(port.twinOf)[1]);
  return (other) => other === model;
}

function setLikeness(members: unknown): Likeness {
  const ordered = (some: unknown): string =>
    JSON.stringify(Array.isArray(some) ? some.map((member) => JSON.stringify(member)).sort() : some);
  const model = ordered(members);
  return (other) => ordered(other) === model;
}

function isBranch(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}
