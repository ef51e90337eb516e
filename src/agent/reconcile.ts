import type { Datapath, SyncReport } from "../datapath/datapath.ts";
import type { Logger } from "./log.ts";
import { type Activity, activity, Incumbents, idleSentence, type LinkState } from "./ports/active.ts";
import type { PortTable } from "./ports/port-table.ts";
import type { Tenure } from "./ports/tenure.ts";
import type { TopologySnapshot } from "./topology/model.ts";

/** All that reconciling needs of the rest; the real ones are put together in `service.ts`. */
export interface ReconcileInputs {
  readonly datapath: Pick<Datapath, "sync">;
  readonly table: PortTable;
  /** The newest snapshot. */
  readonly snapshot: () => TopologySnapshot;
  readonly linkOf: (interfaceName: string) => LinkState | undefined;
  /** False until the links of this host have been listed once. */
  readonly linksAreComplete: () => boolean;
  /** Destroys the sockets of a tenure. */
  readonly endTenure: (tenure: Tenure) => Promise<void>;
  /** Called after interface, tables and routes had to be made or repaired. */
  readonly onRepair: () => Promise<void>;
  readonly log: Logger;
  /** How long to wait before the same failure is tried again, in milliseconds; grows to 16 times as much. */
  readonly retryMs?: number;
}

/** What the last pass made of it, for `status` and `explain`. */
export interface ReconcileStatus {
  readonly inSync: boolean;
  readonly passes: number;
  readonly lastPassMs: number | undefined;
  readonly idle: ReadonlyMap<string, string>;
  readonly failing: ReadonlyMap<string, string>;
  /** Why the last pass failed as a whole. */
  readonly broken: string | undefined;
}

/**
 * Makes the kernel and the port table follow the newest snapshot: one pass at a time, the newest input wins,
 * and a failure is tried again. The order inside a pass is what keeps identities apart:
 * rows before the kernel opens; the kernel closes before sockets die, and only then a number is given back.
 */
export class Reconciler {
  readonly #in: ReconcileInputs;
  #dirty = false;
  #running: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failures = 0;
  #stopped = false;
  #passes = 0;
  #lastPassMs: number | undefined;
  #idleSentences: ReadonlyMap<string, string> = new Map();
  #failing: ReadonlyMap<string, string> = new Map();
  #broken: string | undefined;
  #exactOnce = false;
  readonly #incumbents = new Incumbents();

  constructor(inputs: ReconcileInputs) {
    this.#in = inputs;
  }

  /** Something may have changed: a pass will start soon, unless one that starts later covers it. */
  trigger(): void {
    this.#dirty = true;
    if (this.#stopped) return;
    this.#running ??= this.#run();
  }

  /** Resolves when no pass is running or due. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  /** Lets the pass that runs end, and starts no other. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    await this.idle();
  }

  status(): ReconcileStatus {
    return {
      inSync: this.#exactOnce && this.#broken === undefined,
      passes: this.#passes,
      lastPassMs: this.#lastPassMs,
      idle: this.#idleSentences,
      failing: this.#failing,
      broken: this.#broken,
    };
  }

  async #run(): Promise<void> {
    try {
      // Events come in bursts (Host, then Port, then link); what arrived in this turn is one pass.
      await new Promise((resolve) => setImmediate(resolve));
      while (this.#dirty && !this.#stopped) {
        this.#dirty = false;
        await this.#pass();
      }
    } finally {
      this.#running = undefined;
    }
    if (this.#dirty && !this.#stopped) this.trigger();
  }

  async #pass(): Promise<void> {
    const began = performance.now();
    clearTimeout(this.#retry);
    try {
      const clean = await this.#reconcile();
      this.#broken = undefined;
      if (clean) this.#failures = 0;
      else this.#tryAgain();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.#broken !== reason)
        this.#in.log.error({ error: reason }, "the kernel could not be brought in line; trying again");
      this.#broken = reason;
      this.#tryAgain();
    }
    this.#passes += 1;
    this.#lastPassMs = performance.now() - began;
  }

  /** @returns Whether everything that was wanted is now so. */
  async #reconcile(): Promise<boolean> {
    const { datapath, table, snapshot, linkOf, linksAreComplete } = this.#in;
    const { inSync, ports } = snapshot();
    const exact = inSync && linksAreComplete();
    const { active, idle } = activity(
      ports.values(),
      linkOf,
      (portId, interfaceName) =>
        table.holds(portId, interfaceName) || this.#incumbents.isIt(portId, interfaceName),
    );
    this.#incumbents.learn(active, ports);
    this.#idleSentences = this.#tellIdle(ports, idle);

    const { want, refused } = table.open(active);
    const synced = await datapath.sync(want, exact ? "exact" : "add-only");
    const failed = [...refused].map(([portId, reason]) => ({ portId, reason }));
    const report = failed.length === 0 ? synced : { ...synced, failed: [...synced.failed, ...failed] };
    this.#tellReport(report);
    if (report.repairedBase) await this.#in.onRepair();
    if (!exact) return report.failed.length === 0;

    await this.#endLeaving(synced);
    table.releaseAdopted();
    this.#exactOnce = true;
    table.markInSync();
    return report.failed.length === 0;
  }

  /** The kernel has stopped for them: their sockets go, then their rows. A port that could not be changed keeps both. */
  async #endLeaving(report: SyncReport): Promise<void> {
    const stuck = new Set(report.failed.map((failure) => failure.portId));
    const leaving = this.#in.table.leaving().filter((tenure) => !stuck.has(tenure.portId));
    await Promise.all(
      leaving.map(async (tenure) => {
        await this.#in.endTenure(tenure);
        this.#in.table.close(tenure);
        this.#in.log.info(
          { port: tenure.portId, interface: tenure.interfaceName, linkLocal: tenure.linkLocal },
          "link-local address released",
        );
      }),
    );
  }

  #tellIdle(ports: TopologySnapshot["ports"], idle: Activity["idle"]): ReadonlyMap<string, string> {
    const sentences = new Map<string, string>();
    for (const [portId, reason] of idle) {
      const port = ports.get(portId);
      if (port === undefined) continue;
      const sentence = idleSentence(port, reason);
      sentences.set(portId, sentence);
      if (reason.kind === "interface-taken" && this.#idleSentences.get(portId) !== sentence) {
        this.#in.log.warn({ port: portId, interface: port.interfaceName }, `port is not served: ${sentence}`);
      }
    }
    return sentences;
  }

  #tellReport(report: SyncReport): void {
    const failing = new Map(report.failed.map(({ portId, reason }) => [portId, reason]));
    for (const [port, reason] of failing) {
      if (this.#failing.get(port) !== reason)
        this.#in.log.warn({ port, error: reason }, "port could not be plumbed; trying again");
    }
    this.#failing = failing;
    if (report.repairedBase) this.#in.log.info({}, "interface, table and routes made or repaired");
    const plumbed = new Set([...report.added, ...report.replaced]);
    for (const tenure of plumbed.size === 0 ? [] : this.#in.table.tenures()) {
      if (!plumbed.has(tenure.portId)) continue;
      const { portId, interfaceName, linkLocal, fixedAddress, instanceId } = tenure;
      this.#in.log.info(
        { port: portId, interface: interfaceName, linkLocal, fixedAddress, instance: instanceId },
        "port is served",
      );
    }
  }

  #tryAgain(): void {
    if (this.#stopped) return;
    const waitMs = (this.#in.retryMs ?? 250) * 2 ** Math.min(this.#failures, 4);
    this.#failures += 1;
    this.#retry = setTimeout(() => this.trigger(), waitMs);
    this.#retry.unref();
  }
}
