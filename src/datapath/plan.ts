import { baseScript } from "./base-ruleset.ts";
import type { SyncMode } from "./datapath.ts";
import { type Fact, factId, factsOf, whyInvalid } from "./fact.ts";
import { factsByPort, isHeld, plumbingsOf, type Ruleset } from "./listing.ts";
import type { Plumbing } from "./plumbing.ts";
import { scriptOf } from "./script.ts";

/** What to take away and to put in for one port, or, without a port, what belongs to none. */
export interface PortChange {
  readonly portId: string;
  readonly kind: "added" | "replaced" | "removed";
  readonly deletes: readonly Fact[];
  readonly adds: readonly Fact[];
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
  const { accepted, failed } = accept(want);
  const desired = new Map(accepted.map((plumbing) => [plumbing.portId, factsOf(plumbing)]));
  const kept = mode === "add-only" ? keptPorts(observed, accepted) : [];
  for (const plumbing of kept) desired.set(plumbing.portId, factsOf(plumbing));
  const held = factsByPort(observed.facts);

  const allDesired = new Map([...desired.values()].flat().map((fact) => [factId(fact), fact]));
  const changes: PortChange[] = [];
  for (const [portId, facts] of desired) {
    const before = held.get(portId) ?? [];
    const deletes = observed.baseIntact ? before.filter((fact) => !isHeld(allDesired, fact)) : [];
    const adds = observed.baseIntact ? facts.filter((fact) => !isHeld(observed.facts, fact)) : facts;
    if (deletes.length + adds.length === 0) continue;
    changes.push({ portId, kind: before.length > 0 ? "replaced" : "added", deletes, adds });
  }
  for (const [portId, facts] of held) {
    if (desired.has(portId) || (mode === "add-only" && !isInTheWay(facts, allDesired, accepted))) continue;
    const deletes = observed.baseIntact ? facts.filter((fact) => !isHeld(allDesired, fact)) : [];
    changes.push({ portId, kind: "removed", deletes, adds: [] });
  }
  return { rebuildsBase: !observed.baseIntact, changes, failed };
}

/** One transaction for the whole plan; empty where nothing is to be done. */
export function planScript(plan: Pick<Plan, "rebuildsBase" | "changes">): readonly string[] {
  const deletes = plan.changes.flatMap((change) => change.deletes);
  const adds = plan.changes.flatMap((change) => change.adds);
  return [...(plan.rebuildsBase ? baseScript() : []), ...scriptOf(deletes, adds)];
}

/** What the ruleset is once the kernel has taken the plan. */
export function rulesetAfter(observed: Ruleset, plan: Plan): Ruleset {
  const facts = new Map(plan.rebuildsBase ? [] : observed.facts);
  for (const { deletes } of plan.changes) for (const fact of deletes) facts.delete(factId(fact));
  for (const { adds } of plan.changes) for (const fact of adds) facts.set(factId(fact), fact);
  return { facts, baseIntact: true };
}

/** Refuses what is invalid, and what claims something that an earlier plumbing has. */
function accept(
  want: readonly Plumbing[],
): Pick<Plan, "failed"> & { readonly accepted: readonly Plumbing[] } {
  const accepted: Plumbing[] = [];
  const failed: { portId: string; reason: string }[] = [];
  const taken = new Map<string, string>();
  for (const plumbing of want) {
    const { portId, interfaceName, ifindex, identities } = plumbing;
    const claims = [
      `port "${portId}"`,
      `interface "${interfaceName}"`,
      `interface number ${ifindex}`,
      ...identities.map(({ number }) => `link-local number ${number}`),
      ...identities.map(({ fixedAddress }) => `address "${fixedAddress}" on interface "${interfaceName}"`),
    ];
    const clash = claims.find((claim, at) => taken.has(claim) || claims.indexOf(claim) !== at);
    const reason =
      whyInvalid(plumbing) ??
      (clash === undefined
        ? undefined
        : `Cannot plumb port "${portId}": ${clash} is taken by port "${taken.get(clash) ?? portId}"; each may belong to one port only`);
    if (reason !== undefined) {
      failed.push({ portId, reason });
      continue;
    }
    for (const claim of claims) taken.set(claim, portId);
    accepted.push(plumbing);
  }
  return { accepted, failed };
}

/** Whole ports of the kernel that nobody wants yet, and that stand in no wanted port's way. */
function keptPorts(observed: Ruleset, wanted: readonly Plumbing[]): readonly Plumbing[] {
  const ports = new Set(wanted.map(({ portId }) => portId));
  const desired = new Map(wanted.flatMap(factsOf).map((fact) => [factId(fact), fact]));
  return plumbingsOf(observed.facts).filter(
    (plumbing) => !ports.has(plumbing.portId) && !isInTheWay(factsOf(plumbing), desired, wanted),
  );
}

function isInTheWay(
  facts: readonly Fact[],
  desired: ReadonlyMap<string, Fact>,
  wanted: readonly Plumbing[],
): boolean {
  const interfaces = new Set(wanted.map(({ interfaceName }) => interfaceName));
  return facts.some(
    (fact) => desired.has(factId(fact)) || (fact.kind === "chain" && interfaces.has(fact.interfaceName)),
  );
}
