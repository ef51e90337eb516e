import { HoconError } from "./error.ts";
import { type HoconNode, type ObjectNode, objectOf } from "./tree.ts";

/** The value at a path as it was written, or undefined; a path that leads through a reference finds nothing. */
export function getAt(root: HoconNode, path: readonly string[]): HoconNode | undefined {
  let node: HoconNode | undefined = root;
  for (const key of path) node = node?.kind === "object" ? node.fields.get(key) : undefined;
  return node;
}

/** The object with a value at a path; what was there is gone, and what is no object on the way is replaced. */
export function setAt(root: ObjectNode, path: readonly string[], value: HoconNode): ObjectNode {
  const [key, ...rest] = path;
  if (key === undefined) throw new HoconError("path", "a key is expected, but there is none");
  const below = root.fields.get(key);
  const inner =
    rest.length === 0 ? value : setAt(below?.kind === "object" ? below : objectOf(new Map()), rest, value);
  return objectOf(new Map(root.fields).set(key, inner), root.sealed, root.origin);
}

/** The object without a path; objects that are left empty stay. */
export function unsetAt(root: ObjectNode, path: readonly string[]): ObjectNode {
  const without = removed(root, path);
  return without?.kind === "object" ? without : objectOf(new Map());
}

function removed(node: HoconNode, path: readonly string[]): HoconNode | undefined {
  const [key, ...rest] = path;
  if (key === undefined) return undefined;
  if (node.kind === "merge") {
    const stack = node.stack.map((value) => removed(value, path)).filter((value) => value !== undefined);
    return { ...node, stack };
  }
  if (node.kind !== "object") return node;
  const field = node.fields.get(key);
  if (field === undefined) return node;
  const fields = new Map(node.fields);
  const inner = removed(field, rest);
  if (inner === undefined) fields.delete(key);
  else fields.set(key, inner);
  return objectOf(fields, node.sealed, node.origin);
}

/** A value that is no object, and where it is. */
export interface Leaf {
  readonly path: readonly string[];
  readonly node: HoconNode;
}

/** All leaves of a tree, in the order of their keys. Empty objects have none. */
export function leaves(root: HoconNode): readonly Leaf[] {
  const found: Leaf[] = [];
  const walk = (node: HoconNode, path: readonly string[]): void => {
    if (node.kind !== "object") found.push({ path, node });
    else for (const key of sortedKeys(node)) walk(node.fields.get(key) ?? node, [...path, key]);
  };
  walk(root, []);
  return found;
}

/** The keys of an object as the reference implementation orders them: numbers by value, then text by UTF-16 unit. */
export function sortedKeys(node: ObjectNode): readonly string[] {
  const isNumber = (key: string): boolean => /^\d+$/.test(key);
  return [...node.fields.keys()].sort((a, b) => {
    if (isNumber(a) && isNumber(b)) return Number(a) - Number(b);
    if (isNumber(a) !== isNumber(b)) return isNumber(a) ? -1 : 1;
    return a < b ? -1 : a > b ? 1 : 0;
  });
}
