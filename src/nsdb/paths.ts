import { NsdbError } from "./error.ts";

/** The parent of all configuration. @source MidoNet MidoConf.scala, for all of `/config` */
export const CONFIG_PATH = "/config";

/** The parent of the hosts' own configurations. */
export const NODES_PATH = "/config/nodes";

/** The parent of the templates. */
export const TEMPLATES_PATH = "/config/templates";

/** One JSON object: host id → template. */
export const TEMPLATE_MAPPINGS_PATH = "/config/template-mappings";

/** The parent of the schemas, which hold types and defaults. */
export const SCHEMAS_PATH = "/config/schemas";

/** The classes of objects that concern us; the name is the znode's. */
export type ModelClass = "Host" | "Port" | "NeutronPort";

/** The configuration of one host: `/config/nodes/<host id>`. @throws {NsdbError} `usage`. */
export function nodePath(hostId: string): string {
  return childPath(NODES_PATH, hostId);
}

/** A template's text. @throws {NsdbError} `usage` for a name that cannot be a znode's. */
export function templatePath(name: string): string {
  return childPath(TEMPLATES_PATH, name);
}

/** A schema's text; `agent`, `cluster` and `nsdb` exist. @throws {NsdbError} `usage`. */
export function schemaPath(name: string): string {
  return childPath(SCHEMAS_PATH, name);
}

/** The parent of a class's objects: `/zoom/0/models/Port`. @source MidoNet ZookeeperObjectMapper.scala */
export function modelsPath(modelClass: ModelClass): string {
  return `/zoom/0/models/${modelClass}`;
}

/** One object: `/zoom/0/models/Port/<uuid>`. @throws {NsdbError} `usage`. */
export function modelPath(modelClass: ModelClass, id: string): string {
  return childPath(modelsPath(modelClass), id);
}

/**
 * A znode's path from its parent's and a name that came from outside.
 *
 * @throws {NsdbError} `usage` where the name would leave the parent or be refused by ZooKeeper.
 * @source ZooKeeper's PathUtils.validatePath
 */
export function childPath(parent: string, name: string): string {
  if (!isZnodeName(name)) {
    throw new NsdbError(
      "usage",
      `Cannot name a znode ${JSON.stringify(name)} below "${parent}": a name has no "/", no control character, and is not empty, "." or ".."`,
    );
  }
  return parent === "/" ? `/${name}` : `${parent}/${name}`;
}

/** The path of the parent; that of `/` and of `/a` is `/`. */
export function parentPath(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** @throws {NsdbError} `usage` unless the path is absolute, without a trailing slash, of valid names. */
export function assertPath(path: string): void {
  if (path === "/" || PLAIN_PATH.test(path)) return;
  if (path.startsWith("/") && path.slice(1).split("/").every(isZnodeName)) return;
  throw new NsdbError("usage", `Cannot use ${JSON.stringify(path)} as a path: it should look like "/a/b"`, {
    path,
  });
}

/** What nearly all paths look like, told without taking them apart: names of visible ASCII that do not begin with a dot. */
const PLAIN_PATH = /^(?:\/[!-\-0-~][!-.0-~]*)+$/;

function isZnodeName(name: string): boolean {
  if (name === "" || name === "." || name === "..") return false;
  return !/[/\p{Cc}]/u.test(name) && !/[\ud800-\uf8ff\ufff0-\uffff]/.test(name);
}
