import { DatapathError } from "./error.ts";
import { type HostStep, missingSteps } from "./host-interface.ts";
import { numbersOfHost } from "./link-local.ts";
import type { Rtnetlink } from "./rtnetlink-socket.ts";

/** Making one thing can make the next one due (an interface, then its addresses), and the kernel completes some later. */
const ROUNDS = 15;
/** Longer with each round: about a second in all. @source linux/net/ipv6/addrconf.c: an address counts once a work queue ran */
const WAIT_MS = 10;
/** Of IPv6 that could not be had before: without waiting, since guests and closing ports wait behind it. */
const ROUNDS_AGAIN = 3;
/** When it is tried again: at once after the first failure, then twice as long after each. */
const [RETRY_MS, LONGEST_RETRY_MS] = [1_000, 60_000];

/** Why guests are not served over IPv6. */
interface Ipv6Trouble {
  readonly sentence: string;
  readonly failures: number;
  /** When it is to be tried again, by `performance.now()`. */
  readonly dueAt: number;
}

/**
 * Our interface in the host with all that belongs to it, as it is kept. IPv6 that cannot be had is told and tried again, and
 * keeps nothing else from being done.
 */
export class Host {
  readonly #rtnetlink: Rtnetlink;
  #trouble: Ipv6Trouble | undefined;
  #ownNumbers: ReadonlySet<number> = new Set();

  constructor(rtnetlink: Rtnetlink) {
    this.#rtnetlink = rtnetlink;
  }

  /** Why guests are not served over IPv6, as a sentence; undefined where they are, or nobody has tried. */
  get ipv6Trouble(): string | undefined {
    return this.#trouble?.sentence;
  }

  /** Whether there is nothing for {@link Host.make} to do or to find out. @throws {DatapathError} */
  async stands(): Promise<boolean> {
    const { others, ipv6 } = await this.#missing();
    if (others.length > 0) return false;
    if (this.#trouble === undefined) return ipv6.length === 0;
    // That it can be had again is to be told, too.
    return ipv6.length > 0 && performance.now() < this.#trouble.dueAt;
  }

  /** Whether all is there that can be had. @throws {DatapathError} */
  async isIntact(): Promise<boolean> {
    const { others, ipv6 } = await this.#missing();
    return others.length === 0 && (ipv6.length === 0 || this.#trouble !== undefined);
  }

  /**
   * Makes what is missing, until nothing is.
   *
   * @param onStep Called after each round of changes.
   * @returns Whether anything was made, or IPv6 is there again.
   * @throws {DatapathError} Also where something undoes it; never for IPv6.
   */
  async make(onStep: () => void): Promise<boolean> {
    const before = this.#trouble;
    let reason = before !== undefined && performance.now() < before.dueAt ? before.sentence : undefined;
    const isEarly = reason !== undefined;
    let hasMade = false;
    let undone: readonly HostStep[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const { others, ipv6 } = await this.#missing();
      if (others.length === 0 && ipv6.length === 0) {
        this.#trouble = undefined;
        return hasMade || round > 0 || before !== undefined;
      }
      undone = [...others, ...ipv6];
      const isOver = reason !== undefined || (before !== undefined && round >= ROUNDS_AGAIN);
      if (others.length === 0 && isOver) break;
      if (round > 2) await new Promise((resolve) => setTimeout(resolve, WAIT_MS * (round - 2)));
      for (const step of others) await step.make();
      reason ??= await whyNot(ipv6);
      if (others.length > 0) {
        hasMade = true;
        onStep();
      }
    }
    const noEffect = `this still has no effect: ${undone.map(({ text }) => text).join("; ")}. Is something else undoing it, or another route or rule before ours?`;
    if (undone.some(({ isIpv6 }) => !isIpv6))
      throw new DatapathError("failed", `Cannot make the interface: ${noEffect}`);
    if (!isEarly) this.#trouble = troubleAfter(before, reason ?? noEffect);
    return hasMade;
  }

  /** Whether a number's address was the host's own when it was last looked. */
  isOwn(number: number): boolean {
    return this.#ownNumbers.has(number);
  }

  /** Looks which numbers are the host's own. @returns Whether they are others than before. @throws {DatapathError} */
  async lookForOwn(): Promise<boolean> {
    const before = this.#ownNumbers;
    const now = numbersOfHost(await this.#rtnetlink.ipv4Addresses());
    this.#ownNumbers = now;
    return now.size !== before.size || [...now].some((number) => !before.has(number));
  }

  async #missing(): Promise<Readonly<Record<"others" | "ipv6", readonly HostStep[]>>> {
    const missing = await missingSteps(this.#rtnetlink);
    return {
      others: missing.filter(({ isIpv6 }) => !isIpv6),
      ipv6: missing.filter(({ isIpv6 }) => isIpv6),
    };
  }
}

/** Carries steps out; what the first refusal says, or undefined. */
async function whyNot(steps: readonly HostStep[]): Promise<string | undefined> {
  try {
    for (const step of steps) await step.make();
    return undefined;
  } catch (error) {
    if (!(error instanceof DatapathError)) throw error;
    return error.message;
  }
}

function troubleAfter(before: Ipv6Trouble | undefined, reason: string): Ipv6Trouble {
  const failures = (before?.failures ?? 0) + 1;
  const waitMs = failures === 1 ? 0 : Math.min(RETRY_MS * 2 ** (failures - 2), LONGEST_RETRY_MS);
  return {
    sentence: `Guests are served over IPv4 only, and IPv6 is tried again: ${reason}`,
    failures,
    dueAt: performance.now() + waitMs,
  };
}
