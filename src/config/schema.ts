import { parseHocon } from "./hocon/parser.ts";
import type { ObjectNode } from "./hocon/tree.ts";
import { KEYS } from "./keys.ts";

/** The name of our schema in the NSDB: `/config/schemas/mn-metadata`. */
export const SCHEMA_NAME = "mn-metadata";

/** A stored schema is replaced by one with a greater version only. To be raised with each change of the keys. */
export const SCHEMA_VERSION = 1;

/** Where values of the bundled schema say that they come from. */
export const BUNDLED = "bundled schema";

/** All keys with their defaults, types and descriptions, in MidoNet's form of a schema. */
export function bundledSchema(): ObjectNode {
  const lines = Object.values(KEYS).flatMap((spec) => [
    `${spec.key} : ${spec.default}`,
    ...(spec.midonets ? [] : [`${spec.key}_type : ${JSON.stringify(spec.type)}`]),
    `${spec.key}_description : ${JSON.stringify(`${spec.documentation} Valid: ${spec.validity}. ${spec.reason}`)}`,
  ]);
  return parseHocon(lines.join("\n"), BUNDLED);
}

/** The bundled schema as `mn-conf deploy` stores it: with its version. */
export function deployableSchema(): ObjectNode {
  const version = parseHocon(`${SCHEMA_NAME}.schemaVersion : ${SCHEMA_VERSION}`, BUNDLED);
  return { ...bundledSchema(), fields: new Map([...bundledSchema().fields, ...version.fields]) };
}
