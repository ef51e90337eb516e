import { getAt, unsetAt } from "./hocon/edit.ts";
import { HoconError } from "./hocon/error.ts";
import { mergeObjects } from "./hocon/merge.ts";
import { parsePath, renderPath } from "./hocon/path.ts";
import { asBoolean, asInteger, asList, asMillis, asText } from "./hocon/read.ts";
import { resolveAt } from "./hocon/resolve.ts";
import { EMPTY, type HoconNode, type ObjectNode } from "./hocon/tree.ts";
import { KEYS, type KeySpec, type KeyType, type KeyValues } from "./keys.ts";
import {
  type ConfigProblem,
  decidesAlone,
  type Property,
  problemOfBlock,
  problemOfReference,
  problemOfValue,
  type StandIn,
} from "./problem.ts";
import { bundledSchema } from "./schema.ts";

/** The values that are in force, and what is wrong. */
export interface Effective {
  readonly values: KeyValues;
  readonly problems: readonly ConfigProblem[];
  /** What keeps `enabled` from being known where nothing is in force either: such values must not be acted on. */
  readonly undecided: ConfigProblem | undefined;
}

/**
 * Reads every key from the layers, each of which hides those that follow. References are resolved here, key by key,
 * so that a mistake costs the keys that it touches, and no other. A key that cannot be used keeps its stand-in.
 */
export function effectiveValues(layers: readonly ObjectNode[], standIn: StandIn): Effective {
  const { values, failures } = readKeys(layers, standIn.values);
  const problems: ConfigProblem[] = [];
  let undecided: ConfigProblem | undefined;
  for (const group of grouped(failures, layers)) {
    const problem = problemOf(group, layers, standIn);
    problems.push(problem);
    if (decidesAlone(group.properties, standIn)) undecided = problem;
  }
  return { values, problems, undecided };
}

/** What the schemas say, and our own where they say nothing of use. */
export function defaultValues(schemas: ObjectNode): KeyValues {
  const nothing = {} as KeyValues; // Our own schema has a valid value for every key; a test keeps it so.
  return readKeys([schemas], readKeys([bundledSchema()], nothing).values).values;
}

type Read =
  | { readonly kind: "value"; readonly value: unknown }
  | { readonly kind: "unusable"; readonly node: HoconNode; readonly why: string }
  | { readonly kind: "broken"; readonly error: HoconError }
  | { readonly kind: "blocked" };

type Failure = Exclude<Read, { readonly kind: "value" }>;

function readKeys(
  layers: readonly ObjectNode[],
  standIn: KeyValues,
): { readonly values: KeyValues; readonly failures: ReadonlyMap<Property, Failure> } {
  const merged = layers.reduce(mergeObjects, EMPTY);
  const failures = new Map<Property, Failure>();
  // The keys of the table are its own properties.
  const values = (Object.keys(KEYS) as Property[]).map((property) => {
    const read = readKey(merged, KEYS[property]);
    if (read.kind === "value") return [property, read.value];
    failures.set(property, read);
    return [property, standIn[property]];
  });
  // Every property of the table is there, each read by the type of its own spec.
  return { values: Object.fromEntries(values) as KeyValues, failures };
}

function readKey(merged: ObjectNode, spec: (typeof KEYS)[Property]): Read {
  let node: HoconNode | undefined;
  try {
    node = resolveAt(merged, parsePath(spec.key));
  } catch (error) {
    if (!(error instanceof HoconError)) throw error;
    return { kind: "broken", error };
  }
  if (node === undefined) return { kind: "blocked" };
  const value = readType(node, spec.type);
  if (value === undefined) return { kind: "unusable", node, why: `it should be ${spec.validity}` };
  // The value was read by the type of this very spec; the compiler cannot pair them in a union.
  const why = (spec as KeySpec<unknown>).refuse(value);
  return why === undefined ? { kind: "value", value } : { kind: "unusable", node, why };
}

function readType(node: HoconNode, type: KeyType): unknown {
  switch (type) {
    case "bool":
      return asBoolean(node);
    case "string":
      return asText(node);
    case "duration":
      return asMillis(node);
    case "int":
      return asInteger(node);
    case "string[]":
      return asList(node, asText);
    default: {
      const text = asText(node)?.toLowerCase() ?? "";
      return enumValues(type).includes(text) ? text : undefined;
    }
  }
}

/** The values of a schema type such as `enum[a, b]`, in lower case. */
export function enumValues(type: string): readonly string[] {
  const inside = /^enum\[([\w, ]+)\]$/.exec(type)?.[1] ?? "";
  return inside.split(",").map((value) => value.trim().toLowerCase());
}

/** Keys that one mistake costs. */
interface Group {
  readonly properties: [Property, ...Property[]];
  readonly failure: Failure;
  readonly culprit: Culprit | undefined;
}

/** A value above a key that is no object, in the layer that has it. */
interface Culprit {
  readonly path: readonly string[];
  readonly node: HoconNode;
  readonly layer: ObjectNode;
}

function grouped(failures: ReadonlyMap<Property, Failure>, layers: readonly ObjectNode[]): readonly Group[] {
  const groups = new Map<string, Group>();
  for (const [property, failure] of failures) {
    const culprit = failure.kind === "blocked" ? culpritAbove(property, layers) : undefined;
    const name = nameOf(property, failure, culprit);
    const group = groups.get(name);
    if (group === undefined) groups.set(name, { properties: [property], failure, culprit });
    else group.properties.push(property);
  }
  return [...groups.values()];
}

/** Equal for keys that the same mistake costs. */
function nameOf(property: Property, failure: Failure, culprit: Culprit | undefined): string {
  if (failure.kind === "broken") return failure.error.message;
  return culprit === undefined ? property : `${culprit.node.origin?.source} ${renderPath(culprit.path)}`;
}

/** The nearest to the root, in the highest layer. */
function culpritAbove(property: Property, layers: readonly ObjectNode[]): Culprit | undefined {
  const path = parsePath(KEYS[property].key);
  for (let length = 1; length < path.length; length += 1) {
    const above = path.slice(0, length);
    for (const layer of layers) {
      const node = getAt(layer, above);
      if (node !== undefined && (node.kind !== "object" || node.sealed)) return { path: above, node, layer };
    }
  }
  return undefined;
}

function problemOf(
  { properties, failure, culprit }: Group,
  layers: readonly ObjectNode[],
  standIn: StandIn,
): ConfigProblem {
  if (failure.kind === "broken") return problemOfReference(properties, failure.error, standIn);
  if (failure.kind === "unusable") return problemOfValue(properties[0], failure.node, failure.why, standIn);
  if (culprit === undefined) {
    const error = new HoconError("type", "a value above it is no object");
    return problemOfReference(properties, error, standIn);
  }
  const { path, node, layer } = culprit;
  const freed = layers.map((each) => (each === layer ? unsetAt(layer, path) : each));
  const without = readKeys(freed, standIn.values).values;
  return problemOfBlock(properties, { path, node, without }, standIn);
}
