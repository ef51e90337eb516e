import { HoconError } from "./hocon/error.ts";
import { parsePath } from "./hocon/path.ts";
import { asBoolean, asInteger, asList, asMillis, asText } from "./hocon/read.ts";
import { render } from "./hocon/render.ts";
import { resolveAt } from "./hocon/resolve.ts";
import type { HoconNode, ObjectNode, Origin } from "./hocon/tree.ts";
import { KEYS, type KeySpec, type KeyType, type KeyValues } from "./keys.ts";
import { bundledSchema } from "./schema.ts";

/** Something in the NSDB that cannot be used; what was good before stays in force. */
export interface ConfigProblem {
  /** The key, or undefined if a whole znode cannot be read. */
  readonly key: string | undefined;
  /** Where it is, if that is known: `/config/templates/default`. */
  readonly znode: string | undefined;
  /** Value (never of a secret) and what is wrong with it, as the rest of a sentence. */
  readonly reason: string;
  /** Key, value, place, reason and remedy, for the log and for `status`. */
  readonly sentence: string;
}

/** The values that are in force, and what is wrong. */
export interface Effective {
  readonly values: KeyValues;
  readonly problems: readonly ConfigProblem[];
}

/**
 * Reads every key from merged layers. References are resolved here, key by key, so that a mistake costs the keys
 * that it touches, and no other. A key that cannot be used keeps the value that it had.
 *
 * @param before The values that were in force; at the first time those of the schemas.
 */
export function effectiveValues(merged: ObjectNode, before: KeyValues): Effective {
  const problems: ConfigProblem[] = [];
  const values = Object.entries(KEYS).map(([property, spec]) => {
    const kept = before[property as keyof KeyValues];
    const read = readKey(merged, spec);
    if (read.kind === "value") return [property, read.value];
    problems.push(problemOf(spec, read, kept));
    return [property, kept];
  });
  // Every property of the table is there, each read by the type of its own spec.
  return { values: Object.fromEntries(values) as KeyValues, problems };
}

/** What the schemas say, and our own where they say nothing of use. */
export function defaultValues(schemas: ObjectNode): KeyValues {
  const nothing = {} as KeyValues; // Our own schema has a valid value for every key; a test keeps it so.
  return effectiveValues(schemas, effectiveValues(bundledSchema(), nothing).values).values;
}

type Read =
  | { readonly kind: "value"; readonly value: unknown }
  | { readonly kind: "bad"; readonly node: HoconNode | undefined; readonly why: string };

function readKey(merged: ObjectNode, spec: (typeof KEYS)[keyof KeyValues]): Read {
  let node: HoconNode | undefined;
  try {
    node = resolveAt(merged, parsePath(spec.key));
  } catch (error) {
    if (!(error instanceof HoconError)) throw error;
    return { kind: "bad", node, why: error.message };
  }
  if (node === undefined)
    return { kind: "bad", node, why: "a part of the key above it has a value that is no object" };
  const value = readType(node, spec.type);
  if (value === undefined) return { kind: "bad", node, why: `it should be ${spec.validity}` };
  // The value was read by the type of this very spec; the compiler cannot pair them in a union.
  const why = (spec as KeySpec<unknown>).refuse(value);
  return why === undefined ? { kind: "value", value } : { kind: "bad", node, why };
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

function problemOf(
  spec: (typeof KEYS)[keyof KeyValues],
  { node, why }: Read & { kind: "bad" },
  kept: unknown,
): ConfigProblem {
  const origin = node?.origin;
  const value = node === undefined ? "" : `its value is ${spec.secret ? "a secret" : shown(node)}, but `;
  const where = origin === undefined ? "" : ` of "${origin.source}", line ${origin.line}`;
  const still = spec.secret ? "the secret of before" : JSON.stringify(kept);
  const unit = spec.type === "duration" ? " ms" : "";
  const example = spec.secret ? '"…"' : spec.default.includes("$") ? "INFO" : spec.default;
  const target = targetOf(origin);
  return {
    key: spec.key,
    znode: origin?.source,
    reason: `${value}${why}`,
    sentence: `Cannot use ${spec.key}${where}: ${value}${why}; still using ${still}${unit}. To repair it: mn-conf set ${target}'${spec.key} : ${example}'`,
  };
}

/** The option of `mn-conf set` that names a znode, with a blank behind it. */
export function targetOf(origin: Pick<Origin, "source"> | undefined): string {
  const [, kind, name] = /^\/config\/(nodes|templates)\/(.+)$/.exec(origin?.source ?? "") ?? [];
  if (name === undefined) return "";
  return kind === "nodes" ? `-h ${name} ` : `-t ${name} `;
}

/** A value for a sentence: one line, and no password of a URL. */
function shown(node: HoconNode): string {
  const text = render(node, { json: true })
    .replace(/\s+/g, " ")
    .replace(/\/\/[^/@\s]*@/g, "//…@")
    .trim();
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}
