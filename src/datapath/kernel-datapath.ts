import { PORT_CHAIN_PREFIX, TABLE, TABLE_FAMILIES } from "./base-ruleset.ts";
import type { Datapath, Observed, SyncMode, SyncReport } from "./datapath.ts";
import { DatapathError } from "./error.ts";
import { inspectHostFirewall } from "./host-firewall.ts";
import { type HostStep, missingSteps, sweepHost } from "./host-interface.ts";
import { type Ruleset, readListing } from "./listing.ts";
import type { Nft } from "./nft-process.ts";
import { type Plan, type PortChange, planOf, planScript, rulesetAfter } from "./plan.ts";
import type { Plumbing } from "./plumbing.ts";
import type { Rtnetlink } from "./rtnetlink-socket.ts";

/** Making one thing can make the next one due (an interface, then its addresses), and the kernel completes some later. */
const HOST_ROUNDS = 15;
/** Longer with each round: about a second in all. @source linux/net/ipv6/addrconf.c: an address counts once a work queue ran */
const HOST_WAIT_MS = 10;
/** Somebody else may change the ruleset between reading and writing it; not this often in a row. */
const APPLY_TRIES = 3;
const DRIFT_POLL_MS = 1_000;
/** The share of time that looking for drift may take where others change the ruleset all the time. */
const DRIFT_SHARE = 10;

/**
 * {@link Datapath} on nf_tables and rtnetlink. Each call reads the kernel, plans and changes it. What was read
 * is trusted again only while the kernel's own generation counter says that nobody has changed a rule since.
 */
export class KernelDatapath implements Datapath {
  readonly #nft: Nft;
  readonly #rtnetlink: Rtnetlink;
  #read: { readonly generation: number; readonly ruleset: Ruleset } | undefined;
  /** What the last `sync` left behind: only to notice that somebody changed it, never instead of reading. */
  #left: { readonly ruleset: Ruleset; readonly marks: string } | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #driftListeners = new Set<() => void>();
  #driftTimer: NodeJS.Timeout | undefined;
  #nextFullLook = 0;

  constructor(edges: { readonly nft: Nft; readonly rtnetlink: Rtnetlink }) {
    this.#nft = edges.nft;
    this.#rtnetlink = edges.rtnetlink;
  }

  observe(): Promise<Observed> {
    return this.#inTurn(async () => {
      const { whole, baseIntact } = await this.#ruleset();
      const missing = await missingSteps(this.#rtnetlink);
      return {
        ports: [...whole.values()].map(({ plumbing }) => plumbing),
        baseIntact: baseIntact && missing.length === 0,
      };
    });
  }

  sync(want: readonly Plumbing[], mode: SyncMode): Promise<SyncReport> {
    return this.#inTurn(async () => {
      const madeHost = await this.#makeHost();
      const { plan, failed } = await this.#applyPlan(want, mode);
      const lost = new Set(failed.map(({ portId }) => portId));
      const done = (kind: PortChange["kind"]) =>
        plan.changes
          .filter((change) => change.kind === kind && change.portId !== "" && !lost.has(change.portId))
          .map(({ portId }) => portId);
      return {
        added: done("added"),
        replaced: done("replaced"),
        removed: done("removed"),
        failed: [...plan.failed, ...failed],
        repairedBase: madeHost || plan.rebuildsBase,
      };
    });
  }

  plan(want: readonly Plumbing[], mode: SyncMode): Promise<string> {
    return this.#inTurn(async () => {
      const steps = await missingSteps(this.#rtnetlink);
      const plan = planOf(await this.#ruleset(), want, mode);
      const lines = [
        ...plan.failed.map(({ reason }) => `# ${reason}`),
        ...steps.map(({ text }) => `# ${text}`),
        ...(steps.length > 0 ? ["# and what that makes due: addresses, routes, rules"] : []),
        ...planScript(plan),
      ];
      return lines.length === 0 ? "# nothing to do\n" : `${lines.join("\n")}\n`;
    });
  }

  sweep(): Promise<readonly string[]> {
    return this.#inTurn(async () => {
      const removed: string[] = [];
      for (const family of TABLE_FAMILIES) {
        if ((await this.#nft.listTable(family, TABLE)) === undefined) continue;
        await this.#nft.apply([`add table ${family} ${TABLE}`, `delete table ${family} ${TABLE}`]);
        removed.push(`table ${family} ${TABLE}`);
      }
      this.#read = undefined;
      this.#left = undefined;
      return [...removed, ...(await sweepHost(this.#rtnetlink))];
    });
  }

  counters(portId: string): Promise<{ readonly packets: number; readonly bytes: number } | undefined> {
    return this.#inTurn(async () => {
      const owned = (await this.#ruleset()).byPort.get(portId);
      if (!owned?.some((fact) => fact.kind === "chain")) return undefined;
      const listed = await this.#nft.listChain("netdev", TABLE, `${PORT_CHAIN_PREFIX}${portId}`);
      const counter = /"counter":\s*\{"packets":\s*(\d+),\s*"bytes":\s*(\d+)\}/.exec(JSON.stringify(listed));
      return counter === null ? undefined : { packets: Number(counter[1]), bytes: Number(counter[2]) };
    });
  }

  inspectHostFirewall(): Promise<readonly string[]> {
    return this.#inTurn(() => inspectHostFirewall(this.#nft, this.#rtnetlink));
  }

  onDrift(listener: () => void): () => void {
    this.#driftListeners.add(listener);
    this.#driftTimer ??= this.#lookLater();
    return () => {
      this.#driftListeners.delete(listener);
    };
  }

  async close(): Promise<void> {
    clearTimeout(this.#driftTimer);
    this.#driftListeners.clear();
    await this.#turn;
    this.#nft.close();
    this.#rtnetlink.close();
  }

  async #makeHost(): Promise<boolean> {
    let missing: readonly HostStep[] = [];
    for (let round = 0; round < HOST_ROUNDS; round++) {
      missing = await missingSteps(this.#rtnetlink);
      if (missing.length === 0) return round > 0;
      if (round > 2) await new Promise((resolve) => setTimeout(resolve, HOST_WAIT_MS * (round - 2)));
      for (const step of missing) await step.make();
      // Rules hold the index of an interface, so another one makes them stale without their changing.
      this.#read = undefined;
    }
    const undone = missing.map(({ text }) => text).join("; ");
    throw new DatapathError(
      "failed",
      `Cannot make the interface: after ${HOST_ROUNDS} rounds this still has no effect: ${undone}. Is something else undoing it, or another route or rule before ours?`,
    );
  }

  async #applyPlan(
    want: readonly Plumbing[],
    mode: SyncMode,
  ): Promise<{ readonly plan: Plan; readonly failed: SyncReport["failed"] }> {
    for (let tries = 1; ; tries++) {
      const observed = await this.#ruleset();
      const plan = planOf(observed, want, mode);
      try {
        await this.#apply(planScript(plan));
      } catch (error) {
        this.#read = undefined;
        if (!(error instanceof DatapathError) || error.code !== "rejected") throw error;
        if (tries < APPLY_TRIES - 1) continue;
        const failed = await this.#applyOneByOne(plan);
        const marks = await this.#marks();
        this.#left = { ruleset: await this.#ruleset(), marks };
        return { plan, failed };
      }
      const ruleset = rulesetAfter(observed, plan);
      this.#left = { ruleset, marks: await this.#marks() };
      await this.#confirm(ruleset);
      return { plan, failed: [] };
    }
  }

  async #apply(script: readonly string[]): Promise<void> {
    if (script.length > 0) await this.#nft.apply(script);
  }

  /** Something in the transaction is impossible: what goes, goes first; then the rest in halves until it is alone. */
  async #applyOneByOne(plan: Plan): Promise<SyncReport["failed"]> {
    const bare = plan.changes.map((change) => ({ ...change, adds: [] }));
    await this.#apply(planScript({ rebuildsBase: plan.rebuildsBase, changes: bare }));
    const failed: { portId: string; reason: string }[] = [];
    const tryOut = async (changes: readonly PortChange[]): Promise<void> => {
      try {
        await this.#apply(planScript({ rebuildsBase: false, changes }));
      } catch (error) {
        if (!(error instanceof DatapathError) || error.code !== "rejected") throw error;
        const [only] = changes;
        if (changes.length === 1 && only !== undefined) {
          failed.push({
            portId: only.portId,
            reason: `Cannot plumb port "${only.portId}": ${error.message}`,
          });
          return;
        }
        const half = Math.ceil(changes.length / 2);
        await tryOut(changes.slice(0, half));
        await tryOut(changes.slice(half));
      }
    };
    await tryOut(plan.changes.map((change) => ({ ...change, deletes: [] })));
    return failed;
  }

  /** Our own change moved the generation by one; anything else means that somebody else was there too. */
  async #confirm(ruleset: Ruleset): Promise<void> {
    const before = this.#read?.generation;
    const generation = await this.#nft.generation();
    const isOurs = before !== undefined && (generation === before || generation === (before + 1) >>> 0);
    this.#read = isOurs ? { generation, ruleset } : undefined;
  }

  async #ruleset(): Promise<Ruleset> {
    const generation = await this.#nft.generation();
    if (this.#read?.generation === generation) return this.#read.ruleset;
    const tables = await Promise.all(TABLE_FAMILIES.map((family) => this.#nft.listTable(family, TABLE)));
    const ruleset = readListing(tables.flatMap((table) => table ?? []));
    const isStill = (await this.#nft.generation()) === generation;
    this.#read = isStill ? { generation, ruleset } : undefined;
    return ruleset;
  }

  /** Our tables at a glance, however large they are. */
  async #marks(): Promise<string> {
    const marks = await Promise.all(TABLE_FAMILIES.map((family) => this.#nft.tableMark(family, TABLE)));
    return marks.join(" ");
  }

  #lookLater(): NodeJS.Timeout {
    const timer = setTimeout(() => {
      void this.#inTurn(() => this.#hasDrifted())
        // Not to be readable is a drift as well: the next sync says why.
        .catch(() => true)
        .then((drifted) => {
          if (this.#driftListeners.size === 0) {
            this.#driftTimer = undefined;
            return;
          }
          if (drifted) for (const listener of this.#driftListeners) listener();
          this.#driftTimer = this.#lookLater();
        });
    }, DRIFT_POLL_MS);
    return timer.unref();
  }

  /** Cheap while nobody changes rules; where somebody does, tables and chains at once, what is inside a little later. */
  async #hasDrifted(): Promise<boolean> {
    if ((await missingSteps(this.#rtnetlink)).length > 0) return true;
    const left = this.#left;
    if (left === undefined) return false;
    const isUntouched = this.#read?.generation === (await this.#nft.generation());
    if (isUntouched && this.#read?.ruleset === left.ruleset) return false;
    if ((await this.#marks()) !== left.marks) return true;
    const began = performance.now();
    if (began < this.#nextFullLook) return false;
    const ruleset = await this.#ruleset();
    const ended = performance.now();
    this.#nextFullLook = ended + (ended - began) * DRIFT_SHARE;
    return !sameRuleset(left.ruleset, ruleset);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

function sameRuleset(a: Ruleset, b: Ruleset): boolean {
  if (a.baseIntact !== b.baseIntact || a.facts.size !== b.facts.size) return false;
  const shape = ({ facts }: Ruleset) => JSON.stringify([...facts].sort(([x], [y]) => (x < y ? -1 : 1)));
  return shape(a) === shape(b);
}
