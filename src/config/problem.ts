import { setCommand, shellWord, targetOf } from "./command-line.ts";
import type { HoconError } from "./hocon/error.ts";
import { isUnmergeable } from "./hocon/merge.ts";
import { renderPath } from "./hocon/path.ts";
import { renderString } from "./hocon/render-text.ts";
import type { HoconNode, Origin } from "./hocon/tree.ts";
import { KEYS, type KeySpec, type KeyValues } from "./keys.ts";
import { inOneLine } from "./one-line.ts";

/** Something in the NSDB that cannot be used; what was good before stays in force. */
export interface ConfigProblem {
  /** The key, or that above several keys that it concerns, or the first of them; undefined if a whole znode cannot be read. */
  readonly key: string | undefined;
  /** Where it is, if that is known: `/config/templates/default`. */
  readonly znode: string | undefined;
  /** Value (never of a secret) and what is wrong with it, as the rest of a sentence. */
  readonly reason: string;
  /** Key, value, place, reason and remedy, for the log and for `status`. */
  readonly sentence: string;
}

/** The name of a key in {@link KEYS}. */
export type Property = keyof KeyValues;

/** What stands in for keys that cannot be used. */
export interface StandIn {
  readonly values: KeyValues;
  /** They were in force; else nothing is yet, and they are the defaults. */
  readonly inForce: boolean;
}

/** A value above keys that is no object, so that nothing can be below it. */
export interface Block {
  readonly path: readonly string[];
  readonly node: HoconNode;
  /** What all keys would be if it were not there. */
  readonly without: KeyValues;
}

/**
 * Whether the stand-in for `enabled` would take all guests' metadata away although nobody has said so: nothing is in
 * force, and the default is not to serve.
 */
export function decidesAlone(properties: readonly Property[], { values, inForce }: StandIn): boolean {
  return !inForce && !values.enabled && properties.includes("enabled");
}

/** Of one key: its value has the wrong type, or is refused. */
export function problemOfValue(
  property: Property,
  node: HoconNode,
  why: string,
  standIn: StandIn,
): ConfigProblem {
  const { key, secret } = KEYS[property];
  const reason = `its value is ${secret ? "a secret" : inOneLine(node)}, but ${why}`;
  const { origin } = node;
  const meanwhile = meanwhileOf([property], standIn);
  const sentence = `Cannot use ${key}${placeOf(origin)}: ${reason}; ${meanwhile}. ${repair(property, origin?.source, standIn)}`;
  return { key, znode: origin?.source, reason, sentence };
}

/** Of keys whose value, or a value above them, has the same mistake in its references. */
export function problemOfReference(
  properties: readonly [Property, ...Property[]],
  { message: reason, source }: HoconError,
  standIn: StandIn,
): ConfigProblem {
  const [first, ...more] = properties;
  const { key } = KEYS[first];
  const keys = more.length === 0 ? key : `${key} and ${more.length} more ${more.length > 1 ? "keys" : "key"}`;
  // For more than one, to set what is referred to is the repair, and the reason says so.
  const remedy = more.length === 0 ? `. ${repair(first, source, standIn)}` : "";
  const sentence = `Cannot use ${keys}: ${reason}; ${meanwhileOf(properties, standIn)}${remedy}`;
  return { key, znode: source, reason, sentence };
}

/** Of all the keys below a value that is no object: told once. */
export function problemOfBlock(
  properties: readonly Property[],
  block: Block,
  standIn: StandIn,
): ConfigProblem {
  const { path, node } = block;
  const key = renderPath(path);
  const reason =
    node.kind === "object"
      ? "the same text also gives it a value that is no object"
      : `its value is ${inOneLine(node)}, but it should be an object`;
  const meanwhile = meanwhileOf(properties, standIn, "for all keys below it");
  const remedy = repairBlock(properties, block, standIn);
  const sentence = `Cannot use ${key}${placeOf(node.origin)}: ${reason}; ${meanwhile}. ${remedy}`;
  return { key, znode: node.origin?.source, reason, sentence };
}

function placeOf(origin: Origin | undefined): string {
  return origin === undefined ? "" : ` of "${origin.source}", line ${origin.line}`;
}

/** @param whom Said in place of the value of one key. */
function meanwhileOf(
  properties: readonly Property[],
  standIn: StandIn,
  whom = properties.length > 1 ? "for them" : "",
): string {
  if (decidesAlone(properties, standIn))
    return "nothing else says whether to serve, so the kernel is left as it is";
  const [property] = properties;
  if (property === undefined || whom !== "")
    return `still using ${standIn.inForce ? "what was in force" : "the defaults"} ${whom}`;
  const { secret, type } = KEYS[property];
  const value = standIn.values[property];
  if (secret) return `still using ${value === "" ? "none" : "the secret of before"}`;
  return `still using ${JSON.stringify(value)}${type === "duration" ? " ms" : ""}`;
}

/** With the value that stands in: to paste it changes nothing on any host. */
function repair(property: Property, znode: string | undefined, standIn: StandIn): string {
  if (decidesAlone([property], standIn)) return `To repair it: ${enable(znode)}`;
  return `To repair it: ${setCommand(targetFor(znode), assignment(property, standIn.values))}`;
}

function repairBlock(
  properties: readonly Property[],
  { path, node, without }: Block,
  standIn: StandIn,
): string {
  const znode = node.origin?.source;
  if (targetOf(znode) === "") return "Repair its text.";
  if (decidesAlone(properties, standIn) && !without.enabled)
    return `To repair it: ${enable(znode)}, and what else belongs below it`;
  const { values, inForce } = standIn;
  const lost = properties.filter(
    (property) => inForce && JSON.stringify(values[property]) !== JSON.stringify(without[property]),
  );
  if (lost.length === 0)
    return `To repair it: mn-conf unset ${targetOf(znode)}${shellWord(renderPath(path))}`;
  if (isUnmergeable(node)) return "To repair it: let it refer to an object";
  const text = lost.map((property) => assignment(property, values)).join(", ");
  return `To repair it: ${setCommand(targetOf(znode), text)}`;
}

function enable(znode: string | undefined): string {
  return `${setCommand(targetFor(znode), `${KEYS.enabled.key} : true`)} (or false)`;
}

/** No command changes a schema; template default hides it on every host. */
function targetFor(znode: string | undefined): string {
  return targetOf(znode?.startsWith("/config/schemas/") ? "/config/templates/default" : znode);
}

function assignment(property: Property, values: KeyValues): string {
  const spec = KEYS[property];
  return `${spec.key} : ${spec.secret ? '"…"' : inHocon(values[property], spec.type)}`;
}

function inHocon(value: KeyValues[Property], type: KeySpec<unknown>["type"]): string {
  if (type === "duration") return Number(value) % 1_000 === 0 ? `${Number(value) / 1_000}s` : `${value}ms`;
  if (typeof value === "string") return renderString(value);
  return typeof value === "object" ? `[${value.map(renderString).join(", ")}]` : String(value);
}
