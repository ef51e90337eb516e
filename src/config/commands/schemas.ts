import { schemaPath } from "../../nsdb/paths.ts";
import { getAt, leaves, sortedKeys } from "../hocon/edit.ts";
import { parsePath, renderPath } from "../hocon/path.ts";
import { asInteger, asText } from "../hocon/read.ts";
import { renderStored } from "../hocon/render.ts";
import { renderNumber } from "../hocon/render-text.ts";
import { resolve } from "../hocon/resolve.ts";
import type { HoconNode, ObjectNode } from "../hocon/tree.ts";
import { mergeSchemas, readSchemas } from "../layers.ts";
import { maskBelow } from "../mask.ts";
import { deployableSchema, SCHEMA_NAME, SCHEMA_VERSION } from "../schema.ts";
import { updateZnode } from "../update.ts";
import { siblingText } from "../validate.ts";
import { type GlobalOptions, withNsdb } from "./nsdb.ts";
import type { Outcome } from "./outcome.ts";
import { withoutCompanions } from "./read.ts";

/** `mn-conf doc`: what the schemas say of one key, or of all. */
export function doc(key: string | undefined, options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    const schemas = resolve(mergeSchemas(await readSchemas(store)));
    if (key !== undefined) return { out: docOf(schemas, parsePath(key), key) };
    const all = leaves(withoutCompanions(schemas))
      .filter(({ path, node }) => path.at(-1) !== "schemaVersion" && node.kind !== "null")
      .map(({ path }) => `${docOf(schemas, path, renderPath(path))}\n----------------------\n\n`);
    return { out: all.join("") };
  });
}

function docOf(schemas: ObjectNode, path: readonly string[], key: string): string {
  const standard = getAt(schemas, path);
  if (standard === undefined || standard.kind === "null") return "";
  const type = siblingText(schemas, path, "_type");
  const description = siblingText(schemas, path, "_description");
  return [
    `Key: ${key}\n`,
    type === undefined ? "" : `Type: ${type}\n`,
    `Default value: ${plain(maskBelow(path, standard))}\n`,
    description === undefined ? "" : `Documentation: ${description.replace(/\s+/g, " ").trim()}\n`,
  ].join("");
}

/** A value as Java prints it. */
function plain(node: HoconNode): string {
  if (node.kind === "list") return `[${node.items.map(plain).join(", ")}]`;
  if (node.kind === "number") return renderNumber(node.text);
  if (node.kind !== "object") return asText(node) ?? "null";
  const fields = sortedKeys(node).map((key) => `${key}=${plain(node.fields.get(key) ?? node)}`);
  return `{${fields.join(", ")}}`;
}

/** `mn-conf deploy`: stores our schema, unless one that is as new is there. */
export function deploy(options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    const isWritten = await updateZnode(store, schemaPath(SCHEMA_NAME), (current) => {
      const version = getAt(current, [SCHEMA_NAME, "schemaVersion"]);
      const stored = version === undefined ? -1 : (asInteger(version) ?? -1);
      return stored >= SCHEMA_VERSION ? current : deployableSchema();
    });
    return { out: isWritten ? "Deployed schema\n" : "Deployed schema is up to date, nothing to do\n" };
  });
}

/** `mn-conf dump-bundled-config`. */
export function dumpBundledConfig(): Promise<Outcome> {
  return Promise.resolve({ out: `Found a bundled schema:\n${renderStored(deployableSchema())}\n` });
}
