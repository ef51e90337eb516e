import { readFileSync } from "node:fs";
import { NsdbError } from "./error.ts";
import { parseIni } from "./ini.ts";
import {
  DEFAULT_ROOT_KEY,
  DEFAULT_ZOOKEEPER_HOSTS,
  type NsdbUrl,
  parseHosts,
  parseNsdbUrl,
  parseRootKey,
} from "./nsdb-url.ts";

/** The answer to "which NSDB, and says who?". */
export interface ResolvedNsdb {
  readonly url: NsdbUrl;
  /** For error texts: `--nsdb`, `MN_NSDB`, `/etc/midonet/midonet.conf`, `default`, … */
  readonly from: string;
  /** Sentences for stderr or the log. */
  readonly warnings: readonly string[];
}

/** Gives a file's text, or undefined where it does not exist; throws where it cannot be read. */
export type ReadText = (path: string) => string | undefined;

interface Setting {
  readonly value: string;
  readonly from: string;
}

const LEGACY_ROOT_KEY = "/midonet/v1";

/**
 * Finds the NSDB: the `--nsdb` option, env `MN_NSDB`, else as MidoNet does, key by key: env
 * `MIDO_ZOOKEEPER_HOSTS` and `MIDO_ZOOKEEPER_ROOT_KEY`, `~/.midonetrc` (which MidoNet means to read, but
 * looks for in the wrong place), `/etc/midonet/midonet.conf`, `/etc/midolman/midolman.conf`, the defaults.
 *
 * @throws {NsdbError} `usage`, with where the bad value came from.
 * @source MidoNet MidoConf.scala, bootstrapConfig
 */
export function resolveNsdb(
  option: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
  readText: ReadText = readTextFile,
): ResolvedNsdb {
  if (option !== undefined)
    return { url: located("--nsdb", () => parseNsdbUrl(option)), from: "--nsdb", warnings: [] };
  const fromEnv = env["MN_NSDB"];
  if (fromEnv) return { url: located("MN_NSDB", () => parseNsdbUrl(fromEnv)), from: "MN_NSDB", warnings: [] };
  return midonetBootstrap(env, readText);
}

function midonetBootstrap(
  env: Readonly<Record<string, string | undefined>>,
  readText: ReadText,
): ResolvedNsdb {
  const warnings: string[] = [];
  const layers = [
    envLayer(env),
    ...bootstrapFiles(env["HOME"]).map((file) => fileLayer(file, readText, warnings)),
    new Map([
      ["zookeeper_hosts", { value: DEFAULT_ZOOKEEPER_HOSTS, from: "default" }],
      ["root_key", { value: DEFAULT_ROOT_KEY, from: "default" }],
    ]),
  ];
  const hosts = first(layers, "zookeeper_hosts");
  let rootKey = first(layers, "root_key");
  if (rootKey.value === LEGACY_ROOT_KEY) {
    warnings.push(
      `The root key "${LEGACY_ROOT_KEY}" of ${rootKey.from} is that of an old MidoNet: using "${DEFAULT_ROOT_KEY}" instead`,
    );
    rootKey = { value: DEFAULT_ROOT_KEY, from: rootKey.from };
  }
  return {
    url: {
      kind: "zookeeper",
      hosts: located(hosts.from, () => parseHosts(hosts.value)),
      rootKey: located(rootKey.from, () => parseRootKey(rootKey.value)),
      digest: undefined,
    },
    from: hosts.from,
    warnings,
  };
}

function bootstrapFiles(home: string | undefined): string[] {
  const own = home ? [`${home}/.midonetrc`] : [];
  return [...own, "/etc/midonet/midonet.conf", "/etc/midolman/midolman.conf"];
}

function envLayer(env: Readonly<Record<string, string | undefined>>): Map<string, Setting> {
  const layer = new Map<string, Setting>();
  const hosts = env["MIDO_ZOOKEEPER_HOSTS"];
  const rootKey = env["MIDO_ZOOKEEPER_ROOT_KEY"];
  if (hosts) layer.set("zookeeper_hosts", { value: hosts, from: "MIDO_ZOOKEEPER_HOSTS" });
  if (rootKey) layer.set("root_key", { value: rootKey, from: "MIDO_ZOOKEEPER_ROOT_KEY" });
  return layer;
}

function fileLayer(file: string, readText: ReadText, warnings: string[]): Map<string, Setting> {
  const layer = new Map<string, Setting>();
  let text: string | undefined;
  try {
    text = readText(file);
  } catch (error) {
    // As MidoNet does: a file that cannot be read does not stop the search. Unlike it, we say so.
    warnings.push(
      `Cannot read "${file}": ${error instanceof Error ? error.message : String(error)}; going on without it`,
    );
  }
  for (const { section, key, value } of parseIni(text ?? "")) {
    if (section === "zookeeper" && value !== "" && !layer.has(key)) layer.set(key, { value, from: file });
  }
  return layer;
}

function first(layers: readonly Map<string, Setting>[], key: string): Setting {
  for (const layer of layers) {
    const setting = layer.get(key);
    if (setting !== undefined) return setting;
  }
  throw new Error(`no default for ${key}`);
}

function located<T>(from: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof NsdbError)) throw error;
    throw new NsdbError("usage", `${error.message} (from ${from})`, { cause: error });
  }
}

function readTextFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))
      return undefined;
    throw error;
  }
}
