import { NODES_PATH, TEMPLATE_MAPPINGS_PATH, TEMPLATES_PATH, templatePath } from "../../nsdb/paths.ts";
import type { Store } from "../../nsdb/store.ts";
import { shellWord } from "../command-line.ts";
import { setAt, sortedKeys, unsetAt } from "../hocon/edit.ts";
import { asText } from "../hocon/read.ts";
import { stringOf } from "../hocon/tree.ts";
import { DEFAULT_TEMPLATE, readObject } from "../layers.ts";
import { updateZnode } from "../update.ts";
import { type GlobalOptions, hostIdOf, withNsdb } from "./nsdb.ts";
import { type Outcome, UsageError } from "./outcome.ts";

export interface HostOption {
  readonly host?: string;
}

/** `mn-conf template-get`. */
export function templateGet(given: HostOption & { all?: true }, options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    if (given.all && given.host !== undefined)
      throw new UsageError("-a/--all and -h/--host exclude each other: give one of them");
    const only = given.all ? undefined : hostIdOf(given.host, options);
    const lines = [...(await readMappings(store))]
      .filter(([host]) => only === undefined || host === only)
      .map(([host, template]) => `${host}  ${template}\n`);
    return { out: lines.join("") };
  });
}

/** `mn-conf template-set`. */
export function templateSet(
  given: HostOption & { template: string },
  options: GlobalOptions,
): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    const host = hostIdOf(given.host, options);
    const exists = (await store.get(templatePath(given.template))) !== undefined;
    await updateZnode(store, TEMPLATE_MAPPINGS_PATH, (current) =>
      setAt(current, [host], stringOf(given.template)),
    );
    const note = `Note: there is no template "${given.template}" yet; make it with: mn-conf set -t ${shellWord(given.template)} …`;
    return { notes: exists || given.template === DEFAULT_TEMPLATE ? [] : [note] };
  });
}

/** `mn-conf template-clear`. */
export function templateClear(given: HostOption, options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    const host = hostIdOf(given.host, options);
    await updateZnode(store, TEMPLATE_MAPPINGS_PATH, (current) => unsetAt(current, [host]));
    return {};
  });
}

/** `mn-conf template-list`: each template, and below it the hosts that have it. */
export function templateList(options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    const [names, mappings] = await Promise.all([store.children(TEMPLATES_PATH), readMappings(store)]);
    const lines = [...(names ?? [])].sort().flatMap((name) => {
      const hosts = [...mappings].filter(([, template]) => template === name);
      return [`${name}\n`, ...hosts.map(([host]) => `    ${host}\n`)];
    });
    return { out: lines.join("") };
  });
}

/** `mn-conf hosts`: each host that has a configuration or a template of its own, and what applies to it. */
export function hosts(options: GlobalOptions): Promise<Outcome> {
  return withNsdb(options, async (store) => {
    const [nodes, mappings] = await Promise.all([store.children(NODES_PATH), readMappings(store)]);
    const custom = [...(nodes ?? [])].sort();
    const lines = custom.map((host) => {
      const template = mappings.get(host) ?? DEFAULT_TEMPLATE;
      return sourcesLine(host, [
        "custom",
        ...(template === DEFAULT_TEMPLATE ? [] : [`template(${template})`]),
      ]);
    });
    const mapped = [...mappings].filter(
      ([host, name]) => !custom.includes(host) && name !== DEFAULT_TEMPLATE,
    );
    return {
      out: [...lines, ...mapped.map(([host, name]) => sourcesLine(host, [`template(${name})`]))].join(""),
    };
  });
}

function sourcesLine(host: string, own: readonly string[]): string {
  return `${host} -> ${[...own, "template(default)", "schema"].join(" : ")}\n`;
}

/** Host id → template, sorted by host. */
async function readMappings(store: Store): Promise<ReadonlyMap<string, string>> {
  const root = await readObject(store, TEMPLATE_MAPPINGS_PATH);
  const mappings = new Map<string, string>();
  for (const host of sortedKeys(root)) {
    const node = root.fields.get(host);
    const template = node === undefined ? undefined : asText(node);
    if (template !== undefined) mappings.set(host, template);
  }
  return mappings;
}
