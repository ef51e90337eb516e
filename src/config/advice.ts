import { defaultValues, effectiveValues } from "./effective.ts";
import { HoconError } from "./hocon/error.ts";
import { parseHocon } from "./hocon/parser.ts";
import { parsePath } from "./hocon/path.ts";
import type { ObjectNode } from "./hocon/tree.ts";
import { isSecretKey } from "./keys.ts";

/**
 * `key : value` with the value in double quotes, if a text is a key and a value that only lacks them. The value
 * of a secret is not repeated.
 */
export function quotedForm(text: string): string | undefined {
  const [, key, separator, value] = /^\s*([^\s:={}[\],"]+)\s*([:=])\s*([^"'\n{}[\]]+?)\s*$/.exec(text) ?? [];
  if (key === undefined || separator === undefined || value === undefined) return undefined;
  const form = (shown: string): string => `${key} ${separator} ${JSON.stringify(shown)}`;
  try {
    parseHocon(form(value), "");
    return form(isSecretKey(parsePath(key)) ? "…" : value);
  } catch (error) {
    if (error instanceof HoconError) return undefined;
    throw error;
  }
}

/** What the agent would refuse of an input: it is stored all the same, as MidoNet does. */
export function refusals(input: ObjectNode, schemas: ObjectNode): readonly string[] {
  const source = input.origin?.source;
  const { problems } = effectiveValues([input, schemas], { values: defaultValues(schemas), inForce: true });
  return problems
    .filter(({ znode }) => znode === source)
    .map(({ key, reason }) => `Warning: stored, but mn-metadata will keep its old ${key}: ${reason}`);
}
