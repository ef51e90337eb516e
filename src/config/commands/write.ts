import { readFileSync } from "node:fs";
import { quotedForm, refusals } from "../advice.ts";
import { shellWord } from "../command-line.ts";
import { leaves, setAt, unsetAt } from "../hocon/edit.ts";
import { HoconError } from "../hocon/error.ts";
import { mergeObjects } from "../hocon/merge.ts";
import { parseHocon } from "../hocon/parser.ts";
import { parsePath } from "../hocon/path.ts";
import { asText } from "../hocon/read.ts";
import { renderStored } from "../hocon/render.ts";
import { resolve, resolveAt } from "../hocon/resolve.ts";
import { EMPTY, type ObjectNode } from "../hocon/tree.ts";
import { mergeSchemas, readSchemas } from "../layers.ts";
import { importIni } from "../legacy-ini.ts";
import { maskedKeys, maskSecrets } from "../mask.ts";
import { updateZnode } from "../update.ts";
import { validate } from "../validate.ts";
import { type GlobalOptions, type Target, targetPath, withNsdb } from "./nsdb.ts";
import type { Outcome } from "./outcome.ts";

export interface SetOptions extends Target {
  readonly clear?: true;
}

/** `mn-conf set`: the words, or standard input if there are none. */
export function set(words: readonly string[], given: SetOptions, options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    const path = targetPath(given, options);
    const input =
      words.length > 0
        ? parseWords(words.join(" "), given, options)
        : parseHocon(readFileSync(0, "utf8"), "standard input");
    const [masked] = maskedKeys(input);
    if (masked !== undefined)
      throw new Error(
        `Cannot set ${masked}: its value is the mask that dump prints for a secret, or holds it; nothing was changed`,
      );
    const schemas = mergeSchemas(await readSchemas(store));
    const unknown = validate(input, schemas);
    await updateZnode(store, path, (current) => mergeObjects(input, current), given.clear);
    return {
      out: unknown.map((key) => `Installing config key that was not found in the schema: ${key}\n`).join(""),
      notes: refusals(input, schemas),
    };
  });
}

/** `mn-conf unset`. */
export function unset(key: string, given: Target, options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    await updateZnode(store, targetPath(given, options), (current) => unsetAt(current, parsePath(key)));
    return {};
  });
}

export interface ImportOptions extends Target {
  readonly file: string;
  readonly all?: true;
}

/** `mn-conf import`: an INI file of old; without `--all` only what differs from the schemas. */
export function importFile(given: ImportOptions, options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    const path = targetPath(given, options);
    const found = importIni(readIni(given.file));
    const input = given.all ? found : differing(found, mergeSchemas(await readSchemas(store)));
    await updateZnode(store, path, (current) => mergeObjects(input, current));
    return { out: `Importing legacy configuration:\n${renderStored(maskSecrets(input))}\n` };
  });
}

/** @throws {Error} With the remedy. */
function readIni(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new Error(`Cannot import "${file}": ${(error as Error).message}; name a midolman.conf with -f`);
  }
}

function differing(found: ObjectNode, schemas: ObjectNode): ObjectNode {
  const resolved = resolve(schemas);
  let input = EMPTY;
  for (const { path, node } of leaves(found)) {
    const standard = resolveAt(resolved, path);
    if (standard === undefined || asText(standard) !== asText(node)) input = setAt(input, path, node);
  }
  return input;
}

/** @throws {HoconError} With the form to type, where quotes are all that is missing. */
function parseWords(text: string, given: SetOptions, options: GlobalOptions): ObjectNode {
  try {
    return parseHocon(text, "command line");
  } catch (error) {
    const form = error instanceof HoconError ? quotedForm(text) : undefined;
    if (!(error instanceof HoconError) || form === undefined) throw error;
    throw new HoconError(
      error.code,
      `${error.message}. Put the value in double quotes:\n  ${commandWith(form, given, options)}`,
    );
  }
}

/** The same command for another text: what it would write to stays. */
function commandWith(text: string, given: SetOptions, options: GlobalOptions): string {
  const words = [
    ...(options.nsdb === undefined ? [] : ["--nsdb", options.nsdb.replace(/\/\/.*@/s, "//…@")]),
    ...(options.hostIdFile === undefined ? [] : ["--host-id-file", options.hostIdFile]),
    ...(options.createHostId ? ["--create-host-id"] : []),
    "set",
    ...(given.clear ? ["--clear"] : []),
    ...(given.host === undefined ? [] : ["-h", given.host]),
    ...(given.template === undefined ? [] : ["-t", given.template]),
  ];
  return ["mn-conf", ...words, text].map(shellWord).join(" ");
}
