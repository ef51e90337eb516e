import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { AgentProcess } from "./agent.ts";
import { nowMs } from "./crowd.ts";
import type { Attempt } from "./crowd-client.ts";

/** One SIGKILL and start; times as {@link nowMs}. */
export interface Round {
  readonly killedMs: number;
  readonly startedMs: number;
  readonly listeningMs: number;
}

/** Kills the agent at once, starts it again, and returns when it listens. */
export async function killAndStart(agent: AgentProcess): Promise<Round> {
  const killedMs = nowMs();
  await agent.stop("SIGKILL");
  const startedMs = nowMs();
  agent.start();
  const deadline = startedMs + 60_000;
  while (!isListening()) {
    if (nowMs() > deadline)
      throw new Error(`the agent does not listen; its log:\n${agent.log.slice(-20).join("\n")}`);
    await sleep(1);
  }
  return { killedMs, startedMs, listeningMs: nowMs() };
}

/** Whether somebody listens on 169.254.169.254:9697 in this namespace, without asking them. @source proc(5), /proc/net/tcp */
export function isListening(): boolean {
  return /: FEA9FEA9:25E1 00000000:0000 0A /.test(readFileSync("/proc/net/tcp", "utf8"));
}

/** What guests were told while the agent was killed again and again. */
export interface RestartVerdict {
  readonly own: number;
  /** Somebody else's data, at any time. */
  readonly foreign: readonly Attempt[];
  /** Failed although the agent listened from before they began until they ended. */
  readonly failedWhileListening: readonly Attempt[];
  /** Failed because they met a round's outage. */
  readonly failedInOutage: number;
}

/** Judges every attempt by the rounds: a failure is excused only by an outage that it overlaps. */
export function judge(attempts: readonly Attempt[], rounds: readonly Round[]): RestartVerdict {
  const failed = attempts.filter(({ outcome }) => outcome !== "own" && outcome !== "foreign");
  const met = (attempt: Attempt) =>
    rounds.some((round) => attempt.beganMs <= round.listeningMs && attempt.endedMs >= round.killedMs);
  const failedWhileListening = failed.filter((attempt) => !met(attempt));
  return {
    own: attempts.filter(({ outcome }) => outcome === "own").length,
    foreign: attempts.filter(({ outcome }) => outcome === "foreign"),
    failedWhileListening,
    failedInOutage: failed.length - failedWhileListening.length,
  };
}
