import type { Config } from "../config/config.ts";
import type { ConfigProblem } from "../config/live.ts";
import type { Datapath, HostFinding } from "../datapath/datapath.ts";
import type { LinkTable } from "../datapath/links.ts";
import type { SessionState, Store } from "../nsdb/store.ts";
import type { LeveledLogger } from "./log.ts";
import { ProxyError } from "./proxy/error.ts";
import { type Service, startService } from "./service.ts";

/** What the composition root opened before the agent could begin. */
export interface AgentParts {
  readonly store: Store;
  readonly hostId: string;
  readonly datapath: Datapath;
  readonly links: LinkTable;
  readonly log: LeveledLogger;
  readonly runFolder: string;
  readonly version: string;
}

/** How long requests in flight may take to end when the agent is told to stop. */
const DRAIN_MS = 2_000;

const RETRY_MS = 5_000;
const FIREWALL_MS = 60_000;
/** Beside the start it would compete with it: nft lists every chain of the host, and that is read here. */
const FIRST_LOOK_MS = 3_000;

/** Serves while the configuration says so, and knows everything that `status` and `explain` tell. */
export class Agent {
  readonly parts: AgentParts;
  readonly startedAt = Date.now();
  service: Service | undefined;
  config: Config | undefined;
  configProblems: readonly ConfigProblem[] = [];
  /** Why it does not serve although it should. */
  refusal: string | undefined;
  /** Which server the NSDB was lost with, and why; undefined while it is there. */
  nsdbLoss: string | undefined;
  /** Why the NSDB cannot be read although a server answers, as a sentence. */
  nsdbIsAway: string | undefined;
  firewall: readonly HostFinding[] = [];
  #turn: Promise<void> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;
  #firewallTimer: NodeJS.Timeout | undefined;
  #firewallLook: Promise<void> | undefined;
  #stopped = false;

  constructor(parts: AgentParts) {
    this.parts = parts;
  }

  /**
   * The first configuration: what keeps it from being served is the caller's to report, but for a setting that cannot be
   * used. That is told and tried again, as later: somebody will mend it, or the file that it names.
   */
  async begin(config: Config): Promise<void> {
    try {
      await this.#inTurn(() => this.#apply(config));
    } catch (error) {
      if (!(error instanceof ProxyError) || error.code !== "bad-settings") throw error;
      await this.follow(config);
    }
  }

  /** A later configuration: what keeps it from being served is logged, told in `status`, and tried again. */
  async follow(config: Config): Promise<void> {
    await this.#inTurn(async () => {
      clearTimeout(this.#retry);
      try {
        await this.#apply(config);
      } catch (error) {
        this.refusal = (error as Error).message;
        this.parts.log.error({ error: this.refusal }, "cannot serve as configured; trying again");
        this.#retry = setTimeout(() => void this.follow(config), RETRY_MS);
      }
    });
  }

  tellProblems(problems: readonly ConfigProblem[]): void {
    const known = new Set(this.configProblems.map(({ sentence }) => sentence));
    for (const { sentence } of problems) if (!known.has(sentence)) this.parts.log.error({}, sentence);
    if (problems.length === 0 && known.size > 0) this.parts.log.info({}, "the configuration is valid again");
    this.configProblems = problems;
  }

  tellAway(reason: string | undefined): void {
    this.nsdbIsAway = reason;
    if (reason !== undefined) this.parts.log.warn({ reason }, `the NSDB cannot be read: ${this.meanwhile}`);
    else this.parts.log.info({}, "the NSDB can be read again");
  }

  /** What becomes of guests while the NSDB cannot be read. */
  get meanwhile(): string {
    return this.config === undefined
      ? "nothing is changed, and nobody listens, before the configuration is known"
      : "guests are served from what was read last";
  }

  tellSession(state: SessionState, detail: string | undefined): void {
    if (state === "suspended") {
      this.nsdbLoss = detail ?? "no reason is known";
      this.parts.log.warn({ reason: this.nsdbLoss }, `the NSDB is lost: ${this.meanwhile}`);
    } else if (state === "connected") {
      this.nsdbLoss = undefined;
      this.parts.log.info({ server: detail }, "the NSDB is back: everything is read again");
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    await this.#inTurn(() => this.#stopService());
  }

  async #apply(config: Config): Promise<void> {
    if (this.#stopped) return;
    this.config = config;
    this.parts.log.setLevel(config.logLevel);
    if (!config.enabled) {
      await this.#stopService();
      const removed = await this.parts.datapath.sweep();
      this.parts.log.info(
        { removed: removed.length },
        "agent.openstack.metadata.enabled is false: nothing is plumbed",
      );
    } else if (this.service === undefined) {
      this.service = await startService(this.parts, config);
      this.#firewallTimer = setTimeout(() => void this.watchFirewall(), FIRST_LOOK_MS).unref();
    } else {
      this.service.reconfigure(config);
      this.parts.log.info({}, "configuration changed");
    }
    this.refusal = undefined;
  }

  async #stopService(): Promise<void> {
    const { service } = this;
    this.service = undefined;
    this.firewall = [];
    clearTimeout(this.#firewallTimer);
    await service?.stop(DRAIN_MS);
  }

  /** Looks now, and again every minute while serving: firewalls come and go with other services. */
  watchFirewall(): Promise<void> {
    this.#firewallLook ??= this.#lookAtFirewall().finally(() => {
      this.#firewallLook = undefined;
    });
    return this.#firewallLook;
  }

  async #lookAtFirewall(): Promise<void> {
    const { service, parts } = this;
    clearTimeout(this.#firewallTimer);
    let found: readonly HostFinding[] | Error;
    try {
      found = await parts.datapath.inspectHostFirewall();
    } catch (error) {
      found = error as Error;
    }
    // It may have been stopped meanwhile, and started anew.
    if (service === undefined || this.service !== service) return;
    if (found instanceof Error) {
      parts.log.warn({ error: found.message }, "firewall not inspected; it is looked at again in a minute");
    } else {
      const known = new Set(this.firewall.map(({ sentence }) => sentence));
      this.firewall = found;
      for (const { sentence } of found) if (!known.has(sentence)) parts.log.warn({}, sentence);
    }
    this.#firewallTimer = setTimeout(() => void this.watchFirewall(), FIREWALL_MS).unref();
  }

  /** One change at a time, in the order they came. */
  #inTurn(change: () => Promise<void>): Promise<void> {
    const result = this.#turn.then(change);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}
