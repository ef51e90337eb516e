import type { Delayable, PortShare } from "./port-share.ts";
import type { ProxySettings } from "./settings.ts";

/**
 * Holds each port to its rate, but only while others ask as well and only what asks several things at a time: a port
 * that is alone may have all there is.
 * What comes too fast waits, since a boot that is slow is better than one that was refused; half of its time at
 * most, so that what is left of it is enough for an answer.
 */
export class Pace {
  readonly #delayed = new Set<PortShare>();
  #lastShare: PortShare | undefined;
  #contendedUntil = Number.NEGATIVE_INFINITY;
  #settings: ProxySettings | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `now`: go on. `later`: it will be told to go on. `never`: too many of the port wait already. */
  admit(
    request: Delayable,
    share: PortShare,
    now: number,
    settings: ProxySettings,
  ): "now" | "later" | "never" {
    if (share !== this.#lastShare) {
      if (this.#lastShare !== undefined) this.#contendedUntil = now + CONTENTION_MS;
      this.#lastShare = share;
    }
    if (share.delayed.length === 0 && !share.readsTooLittle) {
      const mayTake = share.bucket.take(now, settings.requestsPerSecond, settings.requestBurst);
      if (mayTake || share.pending <= FEW || now > this.#contendedUntil) return "now";
    }
    if (share.delayed.length >= MAX_DELAYED) return "never";
    share.delayed.push(request);
    this.#delayed.add(share);
    this.#settings = settings;
    this.#timer ??= setInterval(() => this.#release(performance.now()), STEP_MS);
    return "later";
  }

  #release(now: number): void {
    for (const share of this.#delayed) this.#releaseOf(share, now);
    if (this.#delayed.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #releaseOf(share: PortShare, now: number): void {
    const { requestsPerSecond, requestBurst, holdMs } = this.#settings as ProxySettings;
    // Held here and not only at the gate: what is shared with a question on its way, or kept, needs no turn there.
    while (share.delayed.length > 0 && !share.readsTooLittle) {
      const mayTake = share.bucket.take(now, requestsPerSecond / RESTRAINT, requestBurst);
      const hasWaited = now - (share.delayed[0]?.startedAt ?? now) > holdMs / 2;
      if (!mayTake && !hasWaited && now <= this.#contendedUntil) return;
      share.delayed.shift()?.proceed();
    }
    if (share.delayed.length === 0) this.#delayed.delete(share);
  }
}

/** So many requests of a port at a time are let through at any rate: who asks one thing after another floods nobody. */
const FEW = 2;
/**
 * While requests of a port wait, it gets this part of its rate: a neighbour's request that finds one of them being
 * served is a neighbour's slow request, and at the whole rate that is one in ten.
 */
const RESTRAINT = 5;
const CONTENTION_MS = 1_000;
const MAX_DELAYED = 1_024;
/** Short, so that few go at a time: what goes at once is what a neighbour has to wait for. */
const STEP_MS = 10;
