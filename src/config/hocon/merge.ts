import { HoconError } from "./error.ts";
import {
  type HoconNode,
  isResolved,
  listOf,
  type MergeNode,
  type ObjectNode,
  objectOf,
  scalarText,
  typeName,
} from "./tree.ts";

/** A string made of neighbours, and a reference chain that doubles it, must end somewhere. */
const MAX_TEXT = 4 * 1024 * 1024;
/** Values that wait for a reference, or stand side by side: more than anybody writes. */
export const MAX_PIECES = 2_000;

/**
 * `top` where it says something, `below` where it does not: objects merge field by field, and what may turn out to
 * be an object, being a reference, waits in a {@link MergeNode} until it is resolved.
 */
export function withFallback(top: HoconNode, below: HoconNode): HoconNode {
  if (ignoresFallbacks(top)) return top;
  if (top.kind === "object" && below.kind === "object") return mergeObjects(top, below);
  if (top.kind === "object" && top.resolved && !isUnmergeable(below)) return { ...top, sealed: true };
  const stack = [...unmerged(top), ...unmerged(below)];
  if (stack.length > MAX_PIECES) throw new HoconError("limit", `a key has more than ${MAX_PIECES} values`);
  return { kind: "merge", stack, origin: top.origin };
}

/** The first over the second, and so on; objects stay objects. */
export function mergeObjects(top: ObjectNode, below: ObjectNode): ObjectNode {
  if (top.sealed || below.fields.size === 0) return top.sealed ? top : { ...top, sealed: below.sealed };
  const fields = new Map(top.fields);
  for (const [key, node] of below.fields) {
    const over = top.fields.get(key);
    fields.set(key, over === undefined ? node : withFallback(over, node));
  }
  return objectOf(fields, below.sealed, top.origin ?? below.origin);
}

/**
 * Joins neighbours: objects merge, lists are appended, scalars form a string. References stay apart.
 *
 * @throws {HoconError} `type` if a list or an object stands beside a scalar.
 */
export function join(pieces: readonly HoconNode[]): HoconNode | undefined {
  const joined: HoconNode[] = [];
  for (const piece of pieces.flatMap((node) => (node.kind === "concat" ? node.pieces : [node]))) {
    const left = joined.at(-1);
    const both = left === undefined ? undefined : joinTwo(left, piece);
    if (both === undefined) joined.push(piece);
    else joined[joined.length - 1] = both;
  }
  const [only] = joined;
  return joined.length < 2 ? only : { kind: "concat", pieces: joined, origin: only?.origin };
}

/** What is left of a merge once its first `count` values are taken away. */
export function remainder(merge: MergeNode, count: number): HoconNode | undefined {
  const stack = merge.stack.slice(count);
  return stack.length < 2 ? stack[0] : { ...merge, stack };
}

/** Whether a value may turn out to be anything, being a reference. */
export function isUnmergeable(node: HoconNode): boolean {
  return node.kind === "reference" || node.kind === "concat" || node.kind === "merge";
}

function ignoresFallbacks(node: HoconNode): boolean {
  if (node.kind === "object") return node.sealed;
  if (node.kind === "merge") {
    const last = node.stack.at(-1);
    return last !== undefined && ignoresFallbacks(last);
  }
  return isResolved(node);
}

function unmerged(node: HoconNode): readonly HoconNode[] {
  return node.kind === "merge" ? node.stack : [node];
}

function joinTwo(left: HoconNode, right: HoconNode): HoconNode | undefined {
  if (left.kind === "object" && right.kind === "object") return withFallback(right, left);
  const leftItems = itemsOf(left, right);
  const rightItems = itemsOf(right, left);
  if (leftItems !== undefined && rightItems !== undefined)
    return listOf([...leftItems, ...rightItems], left.origin);
  const isContainer = left.kind === "list" || left.kind === "object";
  if (isContainer && right.kind === "string" && !right.quoted) return left;
  if (isUnmergeable(left) || isUnmergeable(right)) return undefined;
  const leftText = scalarText(left);
  const rightText = scalarText(right);
  if (leftText === undefined || rightText === undefined)
    throw new HoconError(
      "type",
      `${typeName(left)} and ${typeName(right)} cannot stand side by side; put a comma or a line end between them`,
      right.origin?.line,
      right.origin?.source,
    );
  if (leftText.length + rightText.length > MAX_TEXT)
    throw new HoconError("limit", `a string has more than ${MAX_TEXT} characters`, right.origin?.line);
  return { kind: "string", text: leftText + rightText, quoted: true, origin: left.origin };
}

/** The items of a list, or of an object with the keys 0, 1, … that stands beside one. */
function itemsOf(node: HoconNode, neighbour: HoconNode): readonly HoconNode[] | undefined {
  if (node.kind === "list") return node.items;
  if (node.kind !== "object" || neighbour.kind !== "list") return undefined;
  const numbered = [...node.fields].filter(([key]) => /^\d+$/.test(key));
  if (numbered.length === 0) return undefined;
  return numbered.sort(([a], [b]) => Number(a) - Number(b)).map(([, item]) => item);
}
