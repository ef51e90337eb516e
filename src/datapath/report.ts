import type { SyncReport } from "./datapath.ts";
import type { Plan, PortChange } from "./plan.ts";

/** A plan, and what of it the kernel refused. */
export interface Applied {
  readonly plan: Plan;
  readonly failed: SyncReport["failed"];
}

/** @param rounds What was planned and done, one after the other; the last says what stands. */
export function reportOf(rounds: readonly Applied[], madeHost: boolean): SyncReport {
  const done = (kind: PortChange["kind"]) => [
    ...new Set(
      rounds.flatMap(({ plan, failed }) => {
        const lost = new Set(failed.map(({ portId }) => portId));
        return plan.changes
          .filter((change) => change.kind === kind && change.portId !== "" && !lost.has(change.portId))
          .map(({ portId }) => portId);
      }),
    ),
  ];
  const last = rounds.at(-1);
  return {
    added: done("added"),
    replaced: done("replaced"),
    removed: done("removed"),
    failed: [...(last?.plan.failed ?? []), ...(last?.failed ?? [])],
    repairedBase: madeHost || rounds.some(({ plan }) => plan.rebuildsBase),
  };
}
