import { NsdbError } from "../nsdb/error.ts";
import { nodePath, SCHEMAS_PATH, schemaPath, TEMPLATE_MAPPINGS_PATH, templatePath } from "../nsdb/paths.ts";
import type { Store } from "../nsdb/store.ts";
import { HoconError } from "./hocon/error.ts";
import { mergeObjects } from "./hocon/merge.ts";
import { parseHocon } from "./hocon/parser.ts";
import { asText } from "./hocon/read.ts";
import { EMPTY, type ObjectNode } from "./hocon/tree.ts";
import { bundledSchema } from "./schema.ts";

/** The template that applies to every host. */
export const DEFAULT_TEMPLATE = "default";

/** Schemas that MidoNet has, in the order in which one hides another. */
const KNOWN_SCHEMAS = ["agent", "cluster", "nsdb"];

/** The parts of a host's configuration, parsed. Absent ones are empty. */
export interface Layers {
  readonly node: ObjectNode;
  /** Of the host's own template; empty if that is `default`. */
  readonly template: ObjectNode;
  readonly defaultTemplate: ObjectNode;
  /** In the order in which one hides another. */
  readonly schemas: readonly ObjectNode[];
}

/** A host's configuration, unresolved: node, its template, template `default`, schemas; each hides what follows. */
export function mergeLayers(layers: Layers): ObjectNode {
  return inOrder(layers).reduce(mergeObjects);
}

/** The layers, each of which hides what follows; all schemas are one. */
export function inOrder({ node, template, defaultTemplate, schemas }: Layers): readonly ObjectNode[] {
  return [node, template, defaultTemplate, mergeSchemas(schemas)];
}

/** The stored schemas, and ours below them for what they do not have. */
export function mergeSchemas(schemas: readonly ObjectNode[]): ObjectNode {
  return [...schemas, bundledSchema()].reduce(mergeObjects, EMPTY);
}

/** The order in which schemas hide each other. ZooKeeper lists them in none, so MidoNet has none. */
export function sortSchemas(names: readonly string[]): readonly string[] {
  const rank = (name: string): number => (KNOWN_SCHEMAS.includes(name) ? KNOWN_SCHEMAS.indexOf(name) : 9);
  return [...names].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** The name of the template that a host has, by the content of the znode of mappings. */
export function templateOf(mappings: ObjectNode, hostId: string): string {
  const name = mappings.fields.get(hostId);
  return (name === undefined ? undefined : asText(name)) ?? DEFAULT_TEMPLATE;
}

/**
 * The object that a znode's text describes; an absent or empty one is empty.
 *
 * @throws {HoconError} With the znode and the line.
 */
export function parseZnode(path: string, data: Buffer | undefined): ObjectNode {
  return data === undefined ? EMPTY : parseHocon(data.toString("utf8"), path);
}

/** @throws {NsdbError} @throws {HoconError} */
export async function readObject(store: Store, path: string): Promise<ObjectNode> {
  return parseZnode(path, (await store.get(path))?.data);
}

/** The stored schemas, in order. @throws {NsdbError} @throws {HoconError} */
export async function readSchemas(store: Store): Promise<readonly ObjectNode[]> {
  const names = sortSchemas((await store.children(SCHEMAS_PATH)) ?? []);
  return Promise.all(names.map((name) => readObject(store, schemaPath(name))));
}

/** The template of a host. @throws {NsdbError} @throws {HoconError} */
export async function readTemplateOf(store: Store, hostId: string): Promise<string> {
  return templateOf(await readObject(store, TEMPLATE_MAPPINGS_PATH), hostId);
}

/** The templates that apply to a host or were asked for: the named one, and `default` below it. */
export async function readTemplates(
  store: Store,
  name: string,
): Promise<Pick<Layers, "template" | "defaultTemplate">> {
  const [template, defaultTemplate] = await Promise.all([
    name === DEFAULT_TEMPLATE ? EMPTY : readObject(store, templatePath(name)),
    readObject(store, templatePath(DEFAULT_TEMPLATE)),
  ]);
  return { template, defaultTemplate };
}

/** All that applies to a host. @throws {NsdbError} @throws {HoconError} */
export async function readLayers(store: Store, hostId: string): Promise<Layers> {
  const [node, templates, schemas] = await Promise.all([
    readObject(store, nodePath(hostId)),
    readTemplateOf(store, hostId).then((name) => readTemplates(store, name)),
    readSchemas(store),
  ]);
  return { node, ...templates, schemas };
}

/** Why a znode could not be used, for a caller that goes on without it. What is no error of ours is thrown on. */
export function reasonOf(error: unknown): string {
  if (error instanceof HoconError || error instanceof NsdbError) return error.message;
  throw error;
}
