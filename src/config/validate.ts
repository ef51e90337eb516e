import { enumValues } from "./effective.ts";
import { getAt, leaves } from "./hocon/edit.ts";
import { HoconError } from "./hocon/error.ts";
import { mergeObjects } from "./hocon/merge.ts";
import { renderPath } from "./hocon/path.ts";
import { asBoolean, asBytes, asInteger, asList, asMillis, asNumber, asText } from "./hocon/read.ts";
import { resolve } from "./hocon/resolve.ts";
import { type HoconNode, type ObjectNode, typeName } from "./hocon/tree.ts";
import { isSecretKey } from "./keys.ts";
import { inOneLine } from "./one-line.ts";

const READERS: ReadonlyMap<string, (node: HoconNode) => unknown> = new Map<
  string,
  (node: HoconNode) => unknown
>([
  ["duration", asMillis],
  ["bool", asBoolean],
  ["string", asText],
  ["int", asInteger],
  ["size", asBytes],
  ["double", asNumber],
]);

/**
 * Checks what is to be stored against the schemas, as MidoNet does: by the declared type of a key if it has one,
 * else by the type of its default.
 *
 * @returns The keys that no schema knows: they are stored, and the operator is told.
 * @throws {HoconError} `type` with key, value, place and default; also if a reference cannot be resolved.
 * @source MidoNet MidoConf.scala, validate and validateKey
 */
export function validate(input: ObjectNode, mergedSchemas: ObjectNode): readonly string[] {
  const schemas = resolve(mergedSchemas);
  const resolved = resolve(mergeObjects(input, schemas));
  const unknown: string[] = [];
  for (const { path } of leaves(input)) {
    const value = getAt(resolved, path);
    if (value === undefined || value.kind === "null") continue;
    if (!checkLeaf(path, value, schemas)) unknown.push(renderPath(path));
  }
  return unknown;
}

/** @returns False if no schema knows the key. */
function checkLeaf(path: readonly string[], value: HoconNode, schemas: ObjectNode): boolean {
  const declared = siblingText(schemas, path, "_type");
  const standard = getAt(schemas, path);
  if (declared !== undefined) {
    if (!fits(value, declared)) throw mismatch(path, value, standard, `it should be of type ${declared}`);
    return true;
  }
  refuseBelowValue(path, value, schemas);
  if (standard === undefined || standard.kind === "null") return false;
  if (value.kind === standard.kind) return true;
  const quoted = standard.kind === "string" ? "; put it in double quotes" : "";
  throw mismatch(
    path,
    value,
    standard,
    `it is ${typeName(value)}, but should be ${typeName(standard)}${quoted}`,
  );
}

/** The text of a key's companion, such as its `_type` or `_description`. */
export function siblingText(root: ObjectNode, path: readonly string[], suffix: string): string | undefined {
  const node = getAt(root, [...path.slice(0, -1), `${path.at(-1)}${suffix}`]);
  return node === undefined ? undefined : asText(node);
}

function fits(value: HoconNode, type: string): boolean {
  if (type.startsWith("enum[")) return enumValues(type).includes(asText(value)?.toLowerCase() ?? "");
  const item = READERS.get(type.replace(/\[\]$/, ""));
  if (item === undefined)
    throw new HoconError("type", `The schema declares a type that does not exist: "${type}"`);
  return (type.endsWith("[]") ? asList(value, item) : item(value)) !== undefined;
}

/** A key above may have a value that is no object: what is stored below it would take its place. */
function refuseBelowValue(path: readonly string[], value: HoconNode, schemas: ObjectNode): void {
  for (let length = 1; length < path.length; length++) {
    const above = path.slice(0, length);
    const node = getAt(schemas, above);
    if (node === undefined || node.kind === "object" || node.kind === "null") continue;
    throw mismatch(
      path,
      value,
      node,
      `nothing can be below ${renderPath(above)}, which is ${typeName(node)}`,
    );
  }
}

function whatIsThere(standard: HoconNode): string {
  return standard.kind === "object"
    ? 'Set one of the keys below it; "mn-conf doc" lists them'
    : `The schema's default is ${inOneLine(standard)}`;
}

function mismatch(
  path: readonly string[],
  value: HoconNode,
  standard: HoconNode | undefined,
  why: string,
): HoconError {
  const shown = path.some((key) => isSecretKey([key])) ? "" : ` = ${inOneLine(value)}`;
  const where = value.origin === undefined ? "" : ` (${value.origin.source}, line ${value.origin.line})`;
  const fallback = standard === undefined ? "" : `. ${whatIsThere(standard)}`;
  return new HoconError("type", `Cannot set ${renderPath(path)}${shown}${where}: ${why}${fallback}`);
}
