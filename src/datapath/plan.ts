import { baseScript } from "./base-ruleset.ts";
import type { SyncMode } from "./datapath.ts";
import {
  type Fact,
  factId,
  factsOf,
  isSamePlumbing,
  leavesElsewhere,
  wayOut,
  waysOutAround,
  whyInvalid,
} from "./fact.ts";
import { emptyRuleset, isHeld, type Ruleset } from "./listing.ts";
import type { Plumbing } from "./plumbing.ts";
import { scriptOf } from "./script.ts";

/** What to take away and to put in for one port, or, without a port, what belongs to none. */
export interface PortChange {
  readonly portId: string;
  readonly kind: "added" | "replaced" | "removed";
  readonly deletes: readonly Fact[];
  readonly adds: readonly Fact[];
  /** What the port is then; undefined where it is gone. */
  readonly after: Wanted | undefined;
}

/** The way from an observed ruleset to the wanted one. */
export interface Plan {
  /** True when our tables are made anew; the changes then put everything in and take nothing away. */
  readonly rebuildsBase: boolean;
  readonly changes: readonly PortChange[];
  /** What was refused before the kernel saw it. */
  readonly failed: readonly { readonly portId: string; readonly reason: string }[];
}

/**
 * Pure: what `sync` has to do. `add-only` leaves ports that are not wanted alone, unless one is in the way
 * of a wanted one; where the base must be made anew it carries them over.
 */
export function planOf(observed: Ruleset, want: readonly Plumbing[], mode: SyncMode): Plan {
  const { done, changing, failed } = accept(observed, want);
  const leavesRight = ![...changing.values()].some((plumbing) => leavesElsewhere(observed.facts, plumbing));
  if (observed.baseIntact && !leavesRight) return planOf({ ...observed, baseIntact: false }, want, mode);
  const left: Wanted[] = [...changing.values()].map(wantedOf);
  const isKept = keeper(done, left, observed, mode);
  const gone: string[] = [];
  for (const portId of observed.byPort.keys()) {
    if (done.has(portId) || changing.has(portId)) continue;
    if (!isKept(portId)) gone.push(portId);
    else if (!observed.baseIntact) left.push(...keptWhole(observed, portId));
  }
  const desired = new Map(left.flatMap(({ facts }) => facts).map((fact) => [factId(fact), fact]));
  const changes: PortChange[] = [...waysOut(observed, left)];
  const deletesOf = (portId: string) =>
    observed.baseIntact ? (observed.byPort.get(portId) ?? []).filter((fact) => !isHeld(desired, fact)) : [];
  for (const one of left) {
    const { facts } = one;
    const { portId } = one.plumbing;
    const adds = observed.baseIntact ? facts.filter((fact) => !isHeld(observed.facts, fact)) : facts;
    const kind = observed.byPort.has(portId) ? "replaced" : "added";
    changes.push({ portId, kind, deletes: deletesOf(portId), adds, after: one });
  }
  for (const portId of gone) {
    changes.push({ portId, kind: "removed", deletes: deletesOf(portId), adds: [], after: undefined });
  }
  return { rebuildsBase: !observed.baseIntact, changes, failed };
}

/** What ports need that is nobody's: the ways out that are not there yet. */
function waysOut(observed: Ruleset, left: readonly Wanted[]): readonly PortChange[] {
  const adds = new Map<string, Fact>();
  for (const { plumbing } of left) {
    const own = wayOut(plumbing.ifindex);
    if (adds.has(factId(own)) || (observed.baseIntact && isHeld(observed.facts, own))) continue;
    for (const fact of waysOutAround(plumbing.ifindex)) adds.set(factId(fact), fact);
  }
  return adds.size === 0
    ? []
    : [{ portId: "", kind: "added", deletes: [], adds: [...adds.values()], after: undefined }];
}

/** A port with all that follows from it. */
interface Wanted {
  readonly plumbing: Plumbing;
  readonly facts: readonly Fact[];
}

function wantedOf(plumbing: Plumbing): Wanted {
  return { plumbing, facts: factsOf(plumbing) };
}

function keptWhole(observed: Ruleset, portId: string): readonly Wanted[] {
  const whole = observed.whole.get(portId);
  return whole === undefined ? [] : [wantedOf(whole)];
}

/** Whether a port of the kernel that is not wanted stays: in `add-only`, unless it is in a wanted one's way. */
function keeper(
  done: ReadonlyMap<string, Plumbing>,
  changing: readonly Wanted[],
  observed: Ruleset,
  mode: SyncMode,
): (portId: string) => boolean {
  if (mode === "exact") return () => false;
  const wanted = [...done.values(), ...changing.map(({ plumbing }) => plumbing)];
  const interfaces = new Set(wanted.map(({ interfaceName }) => interfaceName));
  const claimed = new Set(changing.flatMap(({ facts }) => facts.map(factId)));
  return (portId) =>
    portId !== "" &&
    !(observed.byPort.get(portId) ?? []).some(
      (fact) => claimed.has(factId(fact)) || (fact.kind === "chain" && interfaces.has(fact.interfaceName)),
    );
}

/** All that some changes take away, and all that they put in. */
export function factsIn(
  changes: readonly PortChange[],
): Readonly<Record<"deletes" | "adds", readonly Fact[]>> {
  return {
    deletes: changes.flatMap((change) => change.deletes),
    adds: changes.flatMap((change) => change.adds),
  };
}

/** One transaction for the whole plan; empty where nothing is to be done. */
export function planScript(plan: Pick<Plan, "rebuildsBase" | "changes">): readonly string[] {
  const { deletes, adds } = factsIn(plan.changes);
  return [...(plan.rebuildsBase ? baseScript() : []), ...scriptOf(deletes, adds)];
}

/**
 * What the ruleset is once the kernel has taken the plan. Changes `observed` itself, which must not be used after:
 * copying what thousands of ports hold would cost more than the change.
 */
export function rulesetAfter(observed: Ruleset, plan: Plan): Ruleset {
  const base = plan.rebuildsBase ? emptyRuleset() : observed;
  // Read-only for everybody else.
  const facts = base.facts as Map<string, Fact>;
  const byPort = base.byPort as Map<string, readonly Fact[]>;
  const whole = base.whole as Map<string, Plumbing>;
  for (const { deletes, portId } of plan.changes) {
    for (const fact of deletes) facts.delete(factId(fact));
    byPort.delete(portId);
    whole.delete(portId);
  }
  for (const { adds, portId, after } of plan.changes) {
    for (const fact of adds) facts.set(factId(fact), fact);
    if (after === undefined) continue;
    byPort.set(portId, after.facts);
    whole.set(portId, after.plumbing);
  }
  return { ...base, baseIntact: true };
}

/**
 * Parts what the kernel serves as wanted already from what is to change. Refuses what is invalid, and what claims
 * something that a port served already, or an earlier one, has.
 */
function accept(
  observed: Ruleset,
  want: readonly Plumbing[],
): Pick<Plan, "failed"> & Readonly<Record<"done" | "changing", ReadonlyMap<string, Plumbing>>> {
  const done = new Map<string, Plumbing>();
  const others: Plumbing[] = [];
  for (const plumbing of want) {
    const held = observed.baseIntact ? observed.whole.get(plumbing.portId) : undefined;
    const isDone = held !== undefined && isSamePlumbing(held, plumbing) && !done.has(plumbing.portId);
    if (isDone) done.set(plumbing.portId, plumbing);
    else others.push(plumbing);
  }
  const changing = new Map<string, Plumbing>();
  const failed: { portId: string; reason: string }[] = [];
  if (others.length === 0) return { done, changing, failed };
  // What the kernel holds was valid when it was put there, and no two of those clash: only what one of the others
  // may clash with is looked at, since there are thousands and the others are few.
  const wanted = new Claims();
  for (const plumbing of others) wanted.add(plumbing);
  const claims = new Claims();
  for (const plumbing of done.values()) if (wanted.touches(plumbing)) claims.add(plumbing);
  for (const plumbing of others) {
    const { portId } = plumbing;
    const reason = whyInvalid(plumbing) ?? claims.clashOf(plumbing);
    if (reason !== undefined) {
      failed.push({ portId, reason });
      continue;
    }
    claims.add(plumbing);
    changing.set(portId, plumbing);
  }
  return { done, changing, failed };
}

/** What plumbings have taken so far. Keyed by the values themselves: this is done for every port on every change. */
class Claims {
  readonly #ports = new Set<string>();
  readonly #interfaces = new Map<string, string>();
  readonly #ifindexes = new Map<number, string>();
  readonly #numbers = new Map<number, string>();

  add({ portId, interfaceName, ifindex, identities }: Plumbing): void {
    this.#ports.add(portId);
    this.#interfaces.set(interfaceName, portId);
    this.#ifindexes.set(ifindex, portId);
    for (const { number } of identities) this.#numbers.set(number, portId);
  }

  /** Whether a plumbing has anything of them. */
  touches({ portId, interfaceName, ifindex, identities }: Plumbing): boolean {
    return (
      this.#ports.has(portId) ||
      this.#interfaces.has(interfaceName) ||
      this.#ifindexes.has(ifindex) ||
      identities.some(({ number }) => this.#numbers.has(number))
    );
  }

  /** Why a plumbing cannot stand beside them, or with itself; undefined where it can. */
  clashOf({ portId, interfaceName, ifindex, identities }: Plumbing): string | undefined {
    if (this.#ports.has(portId)) return clash(portId, `port "${portId}"`, portId);
    const interfaceHolder = this.#interfaces.get(interfaceName);
    if (interfaceHolder !== undefined) return clash(portId, `interface "${interfaceName}"`, interfaceHolder);
    const indexHolder = this.#ifindexes.get(ifindex);
    if (indexHolder !== undefined) return clash(portId, `interface number ${ifindex}`, indexHolder);
    for (const [at, { number, fixedAddress }] of identities.entries()) {
      const holder = this.#numbers.get(number);
      if (holder !== undefined) return clash(portId, `link-local number ${number}`, holder);
      for (const other of identities.slice(0, at)) {
        if (other.number === number) return clash(portId, `link-local number ${number}`, portId);
        if (other.fixedAddress === fixedAddress) {
          return clash(portId, `address "${fixedAddress}" on interface "${interfaceName}"`, portId);
        }
      }
    }
    return undefined;
  }
}

function clash(portId: string, what: string, holder: string): string {
  return `Cannot plumb port "${portId}": ${what} is taken by port "${holder}"; each may belong to one port only`;
}
