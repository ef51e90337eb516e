import { NsdbError } from "../nsdb/error.ts";
import { nodePath, SCHEMAS_PATH, schemaPath, TEMPLATE_MAPPINGS_PATH, templatePath } from "../nsdb/paths.ts";
import type { Store, Znode } from "../nsdb/store.ts";
import { type Watch, watchChildren, watchZnode } from "../nsdb/watch.ts";
import { setCommand, targetOf } from "./command-line.ts";
import { type Config, configOf } from "./config.ts";
import { defaultValues, type Effective, effectiveValues } from "./effective.ts";
import { EMPTY, type ObjectNode } from "./hocon/tree.ts";
import type { KeyValues } from "./keys.ts";
import {
  DEFAULT_TEMPLATE,
  inOrder,
  type Layers,
  mergeSchemas,
  parseZnode,
  reasonOf,
  sortSchemas,
  templateOf,
} from "./layers.ts";
import type { ConfigProblem } from "./problem.ts";

export type { ConfigProblem } from "./problem.ts";

/** Who wants to know. Neither is called before the first configuration is there, nor after `close()`. */
export interface ConfigListener {
  /** Every later configuration, if it differs from the one before. */
  onConfig(config: Config): void;
  /** All that is wrong now, whenever that changes, also at first; empty when everything is well again. */
  onProblems(problems: readonly ConfigProblem[]): void;
  /** Why the database cannot be read just now, also before the first configuration; undefined once it can. */
  onAway?(reason: string | undefined): void;
}

/** The configuration of this host, followed. */
export interface LiveConfig {
  readonly current: Config;
  readonly problems: readonly ConfigProblem[];
  close(): void;
}

/**
 * The configuration of a host, once. What cannot be used is left out, as {@link watchConfig} does.
 *
 * @throws {NsdbError} If the database cannot be read.
 */
export async function readConfig(store: Store, hostId: string): Promise<Config> {
  return new Promise((resolve, reject) => {
    const layers = new LiveLayers(store, hostId, {
      onChange: (effective) => {
        resolve(configOf(effective.values));
        layers.close();
      },
      onError: (error) => {
        reject(error);
        layers.close();
      },
    });
  });
}

/**
 * Follows the configuration of a host: resolves with the first one as soon as every layer is read, and calls back
 * with each later one. Watches the host's node, the mappings, the host's template, template `default` and the
 * schemas, and nothing else. While the database is away the last configuration stays; where it refuses to be read,
 * that is a problem as well.
 *
 * @throws {NsdbError} If the first read is refused.
 */
export async function watchConfig(
  store: Store,
  hostId: string,
  listener: ConfigListener,
): Promise<LiveConfig> {
  return new Promise((resolve, reject) => {
    let values: KeyValues | undefined;
    let live: { current: Config; problems: readonly ConfigProblem[]; close(): void } | undefined;
    const layers = new LiveLayers(store, hostId, {
      onChange: (next) => {
        const changed = JSON.stringify(next.values) !== JSON.stringify(values);
        const known = JSON.stringify(live?.problems ?? []);
        values = next.values;
        const current = changed || live === undefined ? configOf(next.values) : live.current;
        const isFirst = live === undefined;
        live ??= { current, problems: next.problems, close: () => layers.close() };
        Object.assign(live, { current, problems: next.problems });
        if (JSON.stringify(next.problems) !== known) listener.onProblems(next.problems);
        if (isFirst) resolve(live);
        else if (changed) listener.onConfig(current);
      },
      onError: (error) => {
        if (live !== undefined || error.passesByItself) return;
        reject(error);
        layers.close();
      },
      onAway: (reason) => listener.onAway?.(reason),
    });
  });
}

interface LayersListener {
  /** The values and problems may have changed; first called when every layer is there. */
  onChange(effective: Effective): void;
  /** A read failed; it is tried again. */
  onError(error: NsdbError): void;
  /** Whether all can be read has changed: why not. */
  onAway?(reason: string | undefined): void;
}

interface Layer {
  /** What the znode last said that could be read. */
  readonly object: ObjectNode;
  readonly problem: ConfigProblem | undefined;
  /** It could never be read: what it would say of a host is not known, and "nothing" is no good guess. */
  readonly isUnknown: boolean;
}

/**
 * How often all is read again without having been told to.
 *
 * @source ZooKeeper 3.8.4: a change behind an ACL that keeps us out uses our watch up and tells nothing
 */
const CHECK_MS = 60_000;

const STILL = "still using what it said before";
const UNTIL_THEN = "until then the configuration stays as it is";

/** Watches the znodes that make up a host's configuration. */
class LiveLayers {
  readonly #store: Store;
  readonly #hostId: string;
  readonly #listener: LayersListener;
  readonly #layers = new Map<string, Layer>();
  /** The znodes that refuse to be read now. */
  readonly #refused = new Map<string, ConfigProblem>();
  /** The znodes that cannot be read for what passes by itself. */
  readonly #away = new Set<string>();
  readonly #watches = new Map<string, Watch>();
  readonly #fixed: readonly string[];
  readonly #check: NodeJS.Timeout;
  #schemas: readonly string[] | undefined;
  /** What was last made of all layers; undefined until all are there. */
  #effective: Effective | undefined;
  #due: NodeJS.Immediate | undefined;
  #closed = false;

  constructor(store: Store, hostId: string, listener: LayersListener) {
    this.#store = store;
    this.#hostId = hostId;
    this.#listener = listener;
    this.#fixed = [nodePath(hostId), TEMPLATE_MAPPINGS_PATH, templatePath(DEFAULT_TEMPLATE)];
    this.#follow();
    const onNames = (names: readonly string[] | undefined): void => {
      this.#schemas = sortSchemas(names ?? []).map(schemaPath);
      this.#follow();
    };
    const onError = (error: NsdbError | undefined): void => this.#failed(SCHEMAS_PATH, error);
    this.#watches.set(SCHEMAS_PATH, watchChildren(store, SCHEMAS_PATH, onNames, onError));
    this.#check = setInterval(() => {
      for (const watch of this.#watches.values()) watch.refresh();
    }, CHECK_MS);
  }

  close(): void {
    this.#closed = true;
    clearImmediate(this.#due);
    clearInterval(this.#check);
    for (const watch of this.#watches.values()) watch.close();
  }

  /** The values of the layers as they are now; what cannot be used is as before, or as the schemas say. */
  #evaluate(): Effective {
    const layers = this.#parsed();
    const before = this.#effective?.values;
    const values = before ?? defaultValues(mergeSchemas(layers.schemas));
    return effectiveValues(inOrder(layers), { values, inForce: before !== undefined });
  }

  #parsed(): Layers {
    const object = (path: string | undefined): ObjectNode =>
      (path === undefined ? undefined : this.#layers.get(path)?.object) ?? EMPTY;
    return {
      node: object(nodePath(this.#hostId)),
      template: object(this.#templatePath()),
      defaultTemplate: object(templatePath(DEFAULT_TEMPLATE)),
      schemas: (this.#schemas ?? []).map(object),
    };
  }

  /** The znode of the host's own template; undefined if it has none beside `default`. */
  #templatePath(): string | undefined {
    const mappings = this.#layers.get(TEMPLATE_MAPPINGS_PATH)?.object ?? EMPTY;
    const name = templateOf(mappings, this.#hostId);
    return name === DEFAULT_TEMPLATE || name === "" ? undefined : templatePath(name);
  }

  /** Watches what is wanted now, and stops watching what is not. */
  #follow(): void {
    const template = this.#templatePath();
    const wanted = new Set([
      ...this.#fixed,
      ...(template === undefined ? [] : [template]),
      ...(this.#schemas ?? []),
    ]);
    for (const [path, watch] of this.#watches) {
      if (wanted.has(path) || path === SCHEMAS_PATH) continue;
      watch.close();
      this.#watches.delete(path);
      this.#layers.delete(path);
      this.#refused.delete(path);
      this.#tellAway(path, undefined);
    }
    for (const path of wanted) {
      if (this.#watches.has(path)) continue;
      const onValue = (znode: Znode | undefined): void => this.#read(path, znode);
      const onError = (error: NsdbError | undefined): void => this.#failed(path, error);
      this.#watches.set(path, watchZnode(this.#store, path, onValue, onError));
    }
    // Several znodes may change in one turn; that is one configuration.
    const isComplete = this.#schemas !== undefined && [...wanted].every((path) => this.#layers.has(path));
    clearImmediate(this.#due);
    this.#due = setImmediate(() => this.#tell(isComplete));
  }

  /** What a layer says that was never read cannot be guessed: until it is, all stays as it was. */
  #tell(isComplete: boolean): void {
    if (this.#closed) return;
    if (isComplete) this.#adopt();
    if (this.#effective === undefined) return;
    const { problems } = this.#effective;
    const malformed = [...this.#layers.values()].map(({ problem }) => problem);
    const ofZnodes = [...this.#refused.values(), ...malformed].filter((problem) => problem !== undefined);
    this.#listener.onChange({ ...this.#effective, problems: [...ofZnodes, ...problems] });
  }

  /**
   * With a layer that could never be read, what was before stays. At start there is nothing before: the others count, but
   * not for taking all guests' metadata away, which only a layer that can be read may say, and only with a value that
   * can be used.
   */
  #adopt(): void {
    const unknown = [...this.#layers].filter(([, layer]) => layer.isUnknown);
    const next = unknown.length === 0 || this.#effective === undefined ? this.#evaluate() : undefined;
    if (next === undefined) return;
    const refusal = next.values.enabled ? undefined : (unknown[0]?.[1].problem ?? next.undecided);
    if (refusal !== undefined) {
      const at = refusal.znode === undefined ? {} : { path: refusal.znode };
      this.#listener.onError(new NsdbError("malformed", refusal.sentence, at));
      return;
    }
    for (const [path, layer] of unknown) this.#layers.set(path, { ...layer, isUnknown: false });
    this.#effective = next;
  }

  #failed(path: string, error: NsdbError | undefined): void {
    if (error !== undefined) this.#listener.onError(error);
    this.#tellAway(path, error);
    if (this.#closed || error?.message === this.#refused.get(path)?.reason) return;
    if (error === undefined) this.#refused.delete(path);
    else if (!error.passesByItself) this.#refused.set(path, this.#refusal(path, error));
    this.#follow();
  }

  #tellAway(path: string, error: NsdbError | undefined): void {
    const wasAway = this.#away.size > 0;
    if (error?.passesByItself) this.#away.add(path);
    else this.#away.delete(path);
    const isAway = this.#away.size > 0;
    if (!this.#closed && isAway !== wasAway) this.#listener.onAway?.(error?.message);
  }

  #refusal(path: string, { message: reason }: NsdbError): ConfigProblem {
    const isKnown = path === SCHEMAS_PATH || this.#layers.has(path);
    const still = isKnown ? STILL : UNTIL_THEN;
    return { key: undefined, znode: path, reason, sentence: `${reason}; ${still}` };
  }

  #read(path: string, znode: Znode | undefined): void {
    this.#layers.set(path, this.#parse(path, znode));
    this.#follow();
  }

  #parse(path: string, znode: Znode | undefined): Layer {
    const target = targetOf(path);
    const anew =
      target === "" ? "Write its text anew" : `To write it anew: ${setCommand(`--clear ${target}`, "…")}`;
    if (znode !== undefined && isBlank(znode)) {
      const reason = `Cannot read "${path}": it is empty: somebody is writing it, or failed to`;
      return this.#unreadable(path, reason, `${anew} (or {} if it is to say nothing)`);
    }
    try {
      const object = parseZnode(path, znode?.data);
      if (path === TEMPLATE_MAPPINGS_PATH) templatePath(templateOf(object, this.#hostId) || DEFAULT_TEMPLATE);
      return { object, problem: undefined, isUnknown: false };
    } catch (error) {
      return this.#unreadable(path, reasonOf(error), anew);
    }
  }

  #unreadable(path: string, reason: string, remedy: string): Layer {
    const before = this.#layers.get(path);
    const isUnknown = (before?.isUnknown ?? true) && !(this.#schemas?.includes(path) ?? false);
    const sentence = `${reason}; ${isUnknown ? UNTIL_THEN : STILL}. ${remedy}`;
    const problem = { key: undefined, znode: path, reason, sentence };
    return { object: before?.object ?? EMPTY, problem, isUnknown };
  }
}

/**
 * Whether somebody is writing a layer, as while `command > file` runs, or failed to. Who means to say nothing writes
 * `{}`, or no znode at all. @source MidoNet MidoConf.scala, ZookeeperConf.modify
 */
function isBlank({ data }: Znode): boolean {
  return data.toString("utf8").trim() === "";
}
