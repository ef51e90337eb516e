import { nodePath } from "../../nsdb/paths.ts";
import type { Store } from "../../nsdb/store.ts";
import { mergeObjects } from "../hocon/merge.ts";
import { parsePath } from "../hocon/path.ts";
import { type RenderStyle, render } from "../hocon/render.ts";
import { resolve, resolveAt } from "../hocon/resolve.ts";
import { type HoconNode, type ObjectNode, objectOf } from "../hocon/tree.ts";
import { isSecretKey } from "../keys.ts";
import {
  DEFAULT_TEMPLATE,
  mergeLayers,
  mergeSchemas,
  readLayers,
  readObject,
  readSchemas,
  readTemplates,
} from "../layers.ts";
import { maskBelow, maskSecrets } from "../mask.ts";
import { siblingText } from "../validate.ts";
import { type GlobalOptions, hostIdIfAny, hostIdOf, withNsdb } from "./nsdb.ts";
import { EXIT, type Outcome, UsageError } from "./outcome.ts";

/** Which configuration to look at, and how to print it. */
export interface QueryOptions {
  readonly host?: string;
  readonly template?: string;
  readonly hostOnly?: true;
  readonly schema?: true;
  readonly json?: true;
  readonly comments?: true;
  readonly showSecrets?: true;
}

function shownOf(root: ObjectNode, query: QueryOptions): ObjectNode {
  const shown = withoutCompanions(root);
  return query.showSecrets ? shown : maskSecrets(shown);
}

/** A list of a secret's own key was asked for by its name, as a single secret is; other lists may hold some. */
function shownAt(path: readonly string[], value: HoconNode, query: QueryOptions): HoconNode {
  if (value.kind === "object") return shownOf(value, query);
  return query.showSecrets || isSecretKey(path) ? value : maskBelow([], value);
}

interface Found {
  readonly root: ObjectNode;
  readonly notes: readonly string[];
}

/** `mn-conf dump`. */
export function dump(query: QueryOptions, options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    const { root, notes } = await find(store, query, options);
    const resolved = resolve(root);
    return { out: `${render(shownOf(resolved, query), styleOf(query, resolved))}\n`, notes };
  });
}

/** `mn-conf get`. A secret is shown if it was asked for by its own key; inside of an object or a list it is masked. */
export function get(key: string, query: QueryOptions, options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    const path = parsePath(key);
    const { root, notes } = await find(store, query, options);
    const value = resolveAt(root, path);
    if (value === undefined || value.kind === "null") return { notes, exitCode: EXIT.noSuchKey };
    const shown = shownAt(path, value, query);
    return { out: `${key} = ${render(shown, styleOf(query, value))}\n`, notes };
  });
}

async function find(store: Store, query: QueryOptions, options: GlobalOptions): Promise<Found> {
  const { template, hostOnly, schema } = query;
  const exclusive = [
    template && "-t/--template",
    hostOnly && "-H/--host-only",
    schema && "-s/--schema",
  ].filter(Boolean);
  if (exclusive.length > 1)
    throw new UsageError(`${exclusive.join(" and ")} exclude each other: give one of them`);
  if (schema) return { root: mergeSchemas(await readSchemas(store)), notes: [] };
  if (template !== undefined) {
    const found = await readTemplates(store, template);
    return { root: mergeObjects(found.template, found.defaultTemplate), notes: [] };
  }
  if (hostOnly) return { root: await readObject(store, nodePath(hostIdOf(query.host, options))), notes: [] };
  const hostId = hostIdIfAny(query.host, options);
  if (hostId !== undefined) return { root: mergeLayers(await readLayers(store, hostId)), notes: [] };
  const { defaultTemplate } = await readTemplates(store, DEFAULT_TEMPLATE);
  return {
    root: mergeObjects(defaultTemplate, mergeSchemas(await readSchemas(store))),
    notes: ["Note: this host has no host id, so this is what template default and the schemas say"],
  };
}

function styleOf(query: QueryOptions, described: HoconNode): RenderStyle {
  const json = query.json === true && query.schema !== true;
  if (!query.comments && !query.schema) return { json };
  return { json, commentsOf: (path, node) => commentsOf(described, path, node) };
}

/** What a value is for, and where it was written. */
function commentsOf(root: HoconNode, path: readonly string[], node: HoconNode): readonly string[] {
  if (node.kind === "object" || root.kind !== "object") return [];
  const description = siblingText(root, path, "_description")?.replace(/\s+/g, " ").trim();
  const origin = node.origin === undefined ? [] : [`${node.origin.source}: ${node.origin.line}`];
  return description === undefined ? origin : [description, ...origin];
}

/** Leaves out what a schema says about its keys. @source MidoNet MidoConf.scala, dropSchema */
export function withoutCompanions(root: ObjectNode): ObjectNode {
  const dropped = new Set<string>();
  for (const [key, node] of root.fields) {
    if (node.kind === "object" || node.kind === "null") continue;
    dropped.add(`${key}_type`).add(`${key}_description`);
  }
  const fields = new Map<string, HoconNode>();
  for (const [key, node] of root.fields) {
    if (!dropped.has(key)) fields.set(key, node.kind === "object" ? withoutCompanions(node) : node);
  }
  return objectOf(fields, root.sealed, root.origin);
}
