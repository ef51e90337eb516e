/**
 * The syntax tree of HOCON. It may still hold `${}` references, concatenations and merges that wait for them:
 * a znode stores those as they are, and they are resolved only when every layer is merged. Every node is
 * immutable. Fields are a Map, so `__proto__` and `constructor` are keys like any other.
 */

/** Where a value was written. */
export interface Origin {
  readonly source: string;
  readonly line: number;
}

interface Located {
  readonly origin?: Origin | undefined;
}

export interface StringNode extends Located {
  readonly kind: "string";
  readonly text: string;
  readonly quoted: boolean;
}

/** A number keeps the text it was written with: read as a string, `1.50` stays `1.50`. */
export interface NumberNode extends Located {
  readonly kind: "number";
  readonly text: string;
}

export interface BooleanNode extends Located {
  readonly kind: "boolean";
  readonly value: boolean;
}

export interface NullNode extends Located {
  readonly kind: "null";
}

export interface ListNode extends Located {
  readonly kind: "list";
  readonly items: readonly HoconNode[];
  readonly resolved: boolean;
}

export interface ObjectNode extends Located {
  readonly kind: "object";
  readonly fields: ReadonlyMap<string, HoconNode>;
  readonly resolved: boolean;
  /** A value that is no object lies below: what lies below that no longer shows through. */
  readonly sealed: boolean;
}

export interface ReferenceNode extends Located {
  readonly kind: "reference";
  readonly path: readonly string[];
  readonly optional: boolean;
}

/** Values side by side, of which at least one is a reference. */
export interface ConcatNode extends Located {
  readonly kind: "concat";
  readonly pieces: readonly HoconNode[];
}

/** Values for one key, highest first, that cannot be merged before a reference among them is resolved. */
export interface MergeNode extends Located {
  readonly kind: "merge";
  readonly stack: readonly HoconNode[];
}

export type ScalarNode = StringNode | NumberNode | BooleanNode | NullNode;
export type HoconNode = ScalarNode | ListNode | ObjectNode | ReferenceNode | ConcatNode | MergeNode;

/** A list; it counts as resolved if every item does. */
export function listOf(items: readonly HoconNode[], origin?: Origin): ListNode {
  return { kind: "list", items, resolved: items.every(isResolved), origin };
}

/** An object; it counts as resolved if every field does. */
export function objectOf(
  fields: ReadonlyMap<string, HoconNode>,
  sealed = false,
  origin?: Origin,
): ObjectNode {
  let resolved = true;
  for (const node of fields.values()) resolved &&= isResolved(node);
  return { kind: "object", fields, resolved, sealed, origin };
}

/** A string value as if it had been written in quotes. */
export function stringOf(text: string): StringNode {
  return { kind: "string", text, quoted: true };
}

/** The object without fields. */
export const EMPTY: ObjectNode = objectOf(new Map());

/** False if a reference is left anywhere inside. */
export function isResolved(node: HoconNode): boolean {
  switch (node.kind) {
    case "object":
    case "list":
      return node.resolved;
    case "reference":
    case "concat":
    case "merge":
      return false;
    default:
      return true;
  }
}

/** What a value is called in a sentence, with its article. */
export function typeName(node: HoconNode): string {
  if (node.kind === "reference" || node.kind === "concat" || node.kind === "merge") return "a reference";
  return node.kind === "object" ? "an object" : `a ${node.kind}`;
}

/** The text of a scalar, as a string key would read it; undefined for a list, an object or a reference. */
export function scalarText(node: HoconNode): string | undefined {
  switch (node.kind) {
    case "string":
    case "number":
      return node.text;
    case "boolean":
      return String(node.value);
    case "null":
      return "null";
    default:
      return undefined;
  }
}
