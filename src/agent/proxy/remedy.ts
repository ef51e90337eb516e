import type { FailureKind } from "./upstream/line.ts";

/**
 * What to do about a question that came to nothing.
 *
 * - `elsewhere`: ask another endpoint, and wait where all have been asked.
 * - `again`: ask the same one over a new connection.
 * - `once more`: either of them, but only this time.
 * - `reset`: show the guest that its answer broke off.
 * - `refuse`: tell it that nova failed.
 */
export type Remedy = "elsewhere" | "again" | "once more" | "reset" | "refuse";

/**
 * The remedy for a failure. Nova has seen all but `unsent`, so only a safe question is asked twice. What breaks off may
 * be its own fault, or that of a nova that is being restarted: once more costs little, and a guest that is booting may
 * take a failure for final.
 *
 * @param hasFailed Whether it was asked once more already.
 * @param hadHead Whether the head of an answer had come.
 * @source cloud-init DataSourceOpenStack: any status from 400 on ends the search
 */
export function remedyFor(kind: FailureKind, isSafe: boolean, hasFailed: boolean, hadHead: boolean): Remedy {
  if (kind === "unsent") return "elsewhere";
  if (isSafe && kind === "stale") return "again";
  if (isSafe && kind === "reset") return "elsewhere";
  if (isSafe && !hasFailed) return "once more";
  return kind === "cut" && (hadHead || isSafe) ? "reset" : "refuse";
}

/** Whether an answer may be that of one nova, with another secret or without its database, and not of all. */
export function isPerhapsItsOwn(status: number): boolean {
  return status === 403 || status === 500;
}
