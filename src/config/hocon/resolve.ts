import { HoconError } from "./error.ts";
import { isUnmergeable, join, remainder, withFallback } from "./merge.ts";
import { renderPath } from "./path.ts";
import {
  EMPTY,
  type HoconNode,
  isResolved,
  listOf,
  type MergeNode,
  type ObjectNode,
  objectOf,
  type ReferenceNode,
} from "./tree.ts";

/** References that refer to references that … grow exponentially; no honest configuration comes near. */
const MAX_STEPS = 200_000;
/** Nested values and references in a row: some hundred of these, and the stack holds. */
const MAX_RESOLVE_DEPTH = 1_000;

/**
 * The same tree with every reference replaced by what it refers to; optional ones without a target are left out.
 * The process environment is not consulted: the database means the same on every host.
 *
 * @throws {HoconError} `reference` (nothing there), `cycle`, `type`, `limit`.
 */
export function resolve(root: ObjectNode): ObjectNode {
  if (root.resolved) return root;
  const resolved = new Resolver(root).node(root, undefined, []);
  return resolved?.kind === "object" ? resolved : EMPTY;
}

/**
 * The resolved value at one path, or undefined. What is broken elsewhere does not matter.
 *
 * @throws {HoconError} As {@link resolve}.
 */
export function resolveAt(root: ObjectNode, path: readonly string[]): HoconNode | undefined {
  return new Resolver(root).at(path, undefined);
}

/**
 * While a value of a merge is resolved, a reference back to the same key sees only what lies below that value:
 * that is what `path = ${path}":more"` means.
 */
interface Scope {
  readonly merge: MergeNode;
  readonly below: HoconNode | undefined;
  /** What `below` resolves to along the path `wanted`: values are resolved from the lowest up. */
  readonly resolved: HoconNode | undefined;
  readonly wanted: readonly string[];
  readonly outer: Scope | undefined;
}

class Resolver {
  readonly #root: ObjectNode;
  readonly #inProgress = new Set<HoconNode>();
  #steps = 0;
  #depth = 0;

  constructor(root: ObjectNode) {
    this.#root = root;
  }

  /** The resolved value at a path, of which only what lies along the path is resolved. */
  at(
    path: readonly string[],
    scope: Scope | undefined,
    wanted: readonly string[] = [],
  ): HoconNode | undefined {
    let node = this.node(this.#root, scope, [...path, ...wanted]);
    for (const key of path) node = node?.kind === "object" ? node.fields.get(key) : undefined;
    return node;
  }

  /**
   * @param wanted The path inside of the node that the caller will look at: nothing else needs resolving.
   * @returns Undefined if the node is, in the end, an optional reference to nothing.
   */
  node(node: HoconNode, scope: Scope | undefined, wanted: readonly string[]): HoconNode | undefined {
    this.#steps += 1;
    if (this.#steps > MAX_STEPS)
      throw new HoconError("limit", `more than ${MAX_STEPS} steps are needed to resolve the references`);
    if (this.#depth >= MAX_RESOLVE_DEPTH)
      throw new HoconError("limit", "references refer to references in too long a row");
    this.#depth += 1;
    try {
      return this.#kind(node, scope, wanted);
    } finally {
      this.#depth -= 1;
    }
  }

  #kind(node: HoconNode, scope: Scope | undefined, wanted: readonly string[]): HoconNode | undefined {
    switch (node.kind) {
      case "object":
        return this.#object(node, scope, wanted);
      case "list":
        return isResolved(node) ? node : listOf(this.#all(node.items, scope), node.origin);
      case "merge":
        return this.#merge(node, scope, wanted);
      case "concat":
        return join(this.#all(node.pieces, scope));
      case "reference":
        return this.#reference(node, scope, wanted);
      default:
        return node;
    }
  }

  #all(nodes: readonly HoconNode[], scope: Scope | undefined): HoconNode[] {
    return nodes.map((node) => this.node(node, scope, [])).filter((node) => node !== undefined);
  }

  #object(node: ObjectNode, scope: Scope | undefined, wanted: readonly string[]): ObjectNode {
    if (node.resolved) return node;
    const [only, ...rest] = wanted;
    const fields = new Map<string, HoconNode>();
    for (const [key, field] of node.fields) {
      if (only !== undefined && key !== only) continue;
      const resolved = this.node(field, scope, rest);
      if (resolved !== undefined) fields.set(key, resolved);
    }
    return objectOf(fields, node.sealed, node.origin);
  }

  #merge(node: MergeNode, scope: Scope | undefined, wanted: readonly string[]): HoconNode | undefined {
    for (let seen = scope; seen !== undefined; seen = seen.outer) {
      if (seen.merge !== node) continue;
      if (seen.wanted.every((key, index) => key === wanted[index])) return seen.resolved;
      return seen.below === undefined ? undefined : this.node(seen.below, scope, wanted);
    }
    let merged: HoconNode | undefined;
    for (let index = node.stack.length - 1; index >= 0; index -= 1) {
      const value = node.stack[index] ?? node;
      const below = remainder(node, index + 1);
      const inner = isUnmergeable(value)
        ? { merge: node, below, resolved: merged, wanted, outer: scope }
        : scope;
      const resolved = this.node(value, inner, wanted);
      if (resolved !== undefined) merged = merged === undefined ? resolved : withFallback(resolved, merged);
    }
    return merged;
  }

  #reference(
    node: ReferenceNode,
    scope: Scope | undefined,
    wanted: readonly string[],
  ): HoconNode | undefined {
    const name = `\${${renderPath(node.path)}}`;
    const { line, source } = node.origin ?? {};
    const where = node.origin === undefined ? "" : ` in "${source}", line ${line}`;
    if (this.#inProgress.has(node))
      throw new HoconError("cycle", `${name}${where} refers to itself`, line, source);
    this.#inProgress.add(node);
    try {
      const target = this.at(node.path, scope, wanted);
      if (target !== undefined || node.optional) return target;
    } catch (error) {
      if (!(error instanceof HoconError && error.code === "cycle" && node.optional)) throw error;
      return undefined;
    } finally {
      this.#inProgress.delete(node);
    }
    throw new HoconError(
      "reference",
      `${name}${where} refers to nothing; set that key, or write \${?…}`,
      line,
      source,
    );
  }
}
