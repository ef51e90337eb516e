import { PORT_CHAIN_PREFIX, TABLE, TABLE_FAMILIES } from "./base-ruleset.ts";
import { fitsBatch } from "./batch.ts";
import type { Datapath, HostFinding, Observed, SyncMode, SyncReport } from "./datapath.ts";
import { DatapathError } from "./error.ts";
import { Host } from "./host.ts";
import { inspectHostFirewall } from "./host-firewall.ts";
import { missingSteps, sweepHost } from "./host-interface.ts";
import { emptyRuleset, isHeld, type Ruleset, readListing } from "./listing.ts";
import { ABSENT, ASLEEP, type NfTables } from "./nf-tables.ts";
import type { Nft } from "./nft-process.ts";
import { factsIn, type Plan, type PortChange, planOf, planScript, rulesetAfter } from "./plan.ts";
import type { Plumbing } from "./plumbing.ts";
import { type Applied, reportOf } from "./report.ts";
import type { Rtnetlink } from "./rtnetlink-socket.ts";

/** Somebody else may change the ruleset between reading and writing it; not this often in a row. */
const APPLY_TRIES = 3;
const DRIFT_POLL_MS = 500;
/** Reading our tables may take a tenth of the time where others change rules all the time, and run ahead of that by so much. */
const [DRIFT_SHARE, DRIFT_CREDIT_MS] = [10, 20_000];

/** Our part of the ruleset as it was last read or changed by us: never instead of reading where it may be another. */
interface Known {
  readonly ruleset: Ruleset;
  /** While they stand, so do our tables and their chains. */
  readonly marks: string;
  /** While it stands, nobody has changed any rule; undefined where somebody else did at the same time. */
  readonly generation: number | undefined;
}

const NO_TABLES = TABLE_FAMILIES.map(() => ABSENT).join(" ");
const NOTHING_KNOWN: Known = { ruleset: emptyRuleset(), marks: "", generation: undefined };

/**
 * {@link Datapath} on nf_tables and rtnetlink. Each call asks the kernel, plans and changes it. A whole reading
 * takes long with thousands of ports, and where others change rules all the time nft begins it again and again.
 * So `sync` trusts the last one while our tables stand, and what somebody did inside them is looked for beside it.
 */
export class KernelDatapath implements Datapath {
  readonly #nft: Nft;
  readonly #nfTables: NfTables;
  readonly #rtnetlink: Rtnetlink;
  readonly #host: Host;
  #known: Known | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #driftListeners = new Set<() => void>();
  #driftTimer: NodeJS.Timeout | undefined;
  #comparison: Promise<void> | undefined;
  #look: Promise<unknown> = Promise.resolve();
  /** Until when the readings so far have used up their share. */
  #spentUntil = 0;

  constructor(edges: { readonly nft: Nft; readonly nfTables: NfTables; readonly rtnetlink: Rtnetlink }) {
    this.#nft = edges.nft;
    this.#nfTables = edges.nfTables;
    this.#rtnetlink = edges.rtnetlink;
    this.#host = new Host(edges.rtnetlink);
  }

  observe(): Promise<Observed> {
    return this.#inTurn(async () => {
      if (await this.#host.lookForOwn()) this.#tellDrift();
      const { whole, baseIntact } = (await this.#current()).ruleset;
      const hostIsIntact = await this.#host.isIntact();
      return { ports: [...whole.values()], baseIntact: baseIntact && hostIsIntact };
    });
  }

  sync(want: readonly Plumbing[], mode: SyncMode): Promise<SyncReport> {
    return this.#inTurn(async () => {
      const stands = this.#known?.ruleset.baseIntact === true;
      const beside = stands ? await this.#applyBesideLook(want, mode) : undefined;
      if (beside?.hostStands === true) return reportOf([beside.applied], false);
      const madeHost = await this.#host.make(() => {
        // Rules hold the index of an interface, so another one makes them stale without their changing.
        this.#known = undefined;
      });
      const applied = await this.#applyPlan(want, mode);
      return reportOf(beside === undefined ? [applied] : [beside.applied, applied], madeHost);
    });
  }

  plan(want: readonly Plumbing[], mode: SyncMode): Promise<string> {
    return this.#inTurn(async () => {
      const steps = await missingSteps(this.#rtnetlink);
      const plan = planOf((await this.#current()).ruleset, want, mode);
      const lines = [
        ...plan.failed.map(({ reason }) => `# ${reason}`),
        ...steps.map(({ text }) => `# ${text}`),
        ...(steps.length > 0
          ? [
              "# and what that makes due: addresses, routes, rules; nft takes what follows once the interface is there",
            ]
          : []),
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
      this.#known = undefined;
      return [...removed, ...(await sweepHost(this.#rtnetlink))];
    });
  }

  counters(portId: string): Promise<{ readonly packets: number; readonly bytes: number } | undefined> {
    return this.#inTurn(async () => {
      const owned = (await this.#current()).ruleset.byPort.get(portId);
      if (!owned?.some((fact) => fact.kind === "chain")) return undefined;
      const listed = await this.#nft.listChain("netdev", TABLE, `${PORT_CHAIN_PREFIX}${portId}`);
      const counter = /"counter":\s*\{"packets":\s*(\d+),\s*"bytes":\s*(\d+)\}/.exec(JSON.stringify(listed));
      return counter === null ? undefined : { packets: Number(counter[1]), bytes: Number(counter[2]) };
    });
  }

  async inspectHostFirewall(): Promise<readonly HostFinding[]> {
    // Nothing of ours is in it, and a large firewall takes long to read: nobody waits for a turn behind it.
    const edges = { nft: this.#nft, nfTables: this.#nfTables, rtnetlink: this.#rtnetlink };
    const found = await inspectHostFirewall(edges);
    const { ipv6Trouble } = this.#host;
    return ipv6Trouble === undefined ? found : [...found, { sentence: ipv6Trouble, silencesGuests: false }];
  }

  isHosts(number: number): boolean {
    return this.#host.isOwn(number);
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
    await Promise.all([this.#turn, this.#comparison, this.#look]);
    this.#nfTables.close();
    this.#rtnetlink.close();
  }

  /**
   * Where our tables stand, the interface does too, nearly always: it is looked for while nft works. Rules that name one
   * that is gone do no harm meanwhile, and are made anew once it is back.
   */
  async #applyBesideLook(
    want: readonly Plumbing[],
    mode: SyncMode,
  ): Promise<{ readonly applied: Applied; readonly hostStands: boolean } | undefined> {
    const [looked, applied] = await Promise.allSettled([this.#host.stands(), this.#applyPlan(want, mode)]);
    if (looked.status === "rejected") throw looked.reason;
    const hostStands = looked.value;
    if (applied.status === "fulfilled") return { applied: applied.value, hostStands };
    if (hostStands) throw applied.reason;
    return undefined;
  }

  async #applyPlan(want: readonly Plumbing[], mode: SyncMode): Promise<Applied> {
    for (let tries = 1; ; tries++) {
      const { ruleset, generation } = await this.#planBase(mode);
      const plan = planOf(ruleset, want, mode);
      const script = planScript(plan);
      if (script.length === 0) return { plan, failed: [] };
      this.#known = undefined;
      try {
        // What was refused once is nft's to explain.
        if (tries > 1 || !(await this.#changeDirectly(plan))) await this.#nft.apply(script);
      } catch (error) {
        if (!(error instanceof DatapathError) || error.code !== "rejected") throw error;
        if (tries < APPLY_TRIES - 1) continue;
        const failed = await this.#applyOneByOne(plan);
        await this.#current();
        return { plan, failed };
      }
      await this.#keep(rulesetAfter(ruleset, plan), generation);
      return { plan, failed: [] };
    }
  }

  /** Without nft, where the change is small. False where that was not to be; nothing is done then. */
  async #changeDirectly({ rebuildsBase, changes }: Plan): Promise<boolean> {
    if (rebuildsBase) return false;
    const { deletes, adds } = factsIn(changes);
    return fitsBatch(deletes, adds) && this.#nfTables.change(deletes, adds);
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
  async #keep(ruleset: Ruleset, before: number | undefined): Promise<void> {
    // Asked in this order: who takes a table away in between is told by the generation.
    const [marks, generation] = await Promise.all([this.#marks(), this.#nfTables.generation()]);
    const isOurs = before !== undefined && generation === (before + 1) >>> 0;
    this.#known = { ruleset, marks, generation: isOurs ? generation : undefined };
  }

  /** What a plan can start from: what is known where our tables stand as they did, else what is there. */
  async #planBase(mode: SyncMode): Promise<Known> {
    const marks = await this.#marks();
    // Where a table does nothing, all are made anew at once, whatever is left of them.
    if (mode === "exact" && (marks.includes(ABSENT) || marks.includes(ASLEEP))) return NOTHING_KNOWN;
    if (this.#known?.marks === marks) return this.#known;
    try {
      return await this.#current();
    } catch (error) {
      // Others change rules faster than nft can read them; writing needs no reading.
      if (mode === "exact" && error instanceof DatapathError && error.code === "timeout")
        return NOTHING_KNOWN;
      throw error;
    }
  }

  /** What is there now, whatever it takes. */
  async #current(): Promise<Known> {
    const generation = await this.#nfTables.generation();
    const before = this.#known;
    if (before?.generation === generation) return before;
    const read = await this.#read(generation);
    this.#known = read;
    // Whoever asked, this is seen now, and the look for drift will not see it again.
    if (before !== undefined && !sameRuleset(before.ruleset, read.ruleset)) this.#tellDrift();
    return read;
  }

  async #read(generation: number): Promise<Known> {
    const marks = await this.#marks();
    const tables = await Promise.all(
      (marks === NO_TABLES ? [] : TABLE_FAMILIES).map((family) => this.#nft.listTable(family, TABLE, true)),
    );
    const ruleset = readListing(tables.flatMap((table) => table ?? []));
    const isStill = (await this.#nfTables.generation()) === generation;
    return { ruleset, marks, generation: isStill ? generation : undefined };
  }

  /** Our tables at a glance, however large they are. */
  async #marks(): Promise<string> {
    const marks = await Promise.all(TABLE_FAMILIES.map((family) => this.#nfTables.tableMark(family, TABLE)));
    return marks.join(" ");
  }

  #lookLater(): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#look = this.#hasDrifted()
        // Not to be readable is a drift as well: the next sync says why.
        .catch(() => true)
        .then((drifted) => {
          if (drifted) this.#tellDrift();
          this.#driftTimer = this.#driftListeners.size === 0 ? undefined : this.#lookLater();
        });
    }, DRIFT_POLL_MS);
    return timer.unref();
  }

  #tellDrift(): void {
    for (const listener of this.#driftListeners) listener();
  }

  /** Cheap, whoever changes rules how often: host, tables and chains. What is inside them is compared beside it. */
  async #hasDrifted(): Promise<boolean> {
    if (await this.#host.lookForOwn()) return true;
    if (!(await this.#inTurn(() => this.#host.stands()))) return true;
    const known = this.#known;
    const generation = await this.#nfTables.generation();
    if (known === undefined || known.generation === generation) return false;
    if ((await this.#marks()) !== known.marks) return this.#known === known;
    if (this.#spentUntil <= performance.now() + DRIFT_CREDIT_MS) {
      this.#comparison ??= this.#compare(known, generation)
        .catch(() => this.#tellDrift())
        .finally(() => {
          this.#comparison = undefined;
        });
    }
    return false;
  }

  /** Nothing waits for it: nft may have to begin again and again. */
  async #compare(known: Known, generation: number): Promise<void> {
    const began = performance.now();
    const read = await this.#read(generation).finally(() => {
      const ended = performance.now();
      this.#spentUntil = Math.max(ended, this.#spentUntil) + (ended - began) * DRIFT_SHARE;
    });
    // A sync came in between: it knows better.
    if (this.#known !== known) return;
    this.#known = read;
    if (!sameRuleset(known.ruleset, read.ruleset)) this.#tellDrift();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

function sameRuleset(a: Ruleset, b: Ruleset): boolean {
  if (a.baseIntact !== b.baseIntact || a.facts.size !== b.facts.size) return false;
  return [...a.facts.values()].every((fact) => isHeld(b.facts, fact));
}
