import type { Delayable, PortShare } from "./port-share.ts";
import type { ProxySettings } from "./settings.ts";

/**
 * Holds each port to its rate, but only while others ask as well: a port that is alone may have all there is.
 * What comes too fast waits, since a boot that is slow is better than one that was refused.
 */
export class Pace {
  readonly #delayed = new Set<PortShare>();
  #lastShare: PortShare | undefined;
  #contendedUntil = Number.NEGATIVE_INFINITY;

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
    const mayTake = share.bucket.take(now, settings.requestsPerSecond, settings.requestBurst);
    if (share.delayed.length === 0 && (mayTake || now > this.#contendedUntil)) return "now";
    if (share.delayed.length >= MAX_DELAYED) return "never";
    share.delayed.push(request);
    this.#delayed.add(share);
    return "later";
  }

  /** To be called some times a second. */
  release(now: number, settings: ProxySettings): void {
    for (const share of this.#delayed) this.#releaseOf(share, now, settings);
  }

  #releaseOf(share: PortShare, now: number, settings: ProxySettings): void {
    while (share.delayed.length > 0) {
      const mayTake = share.bucket.take(now, settings.requestsPerSecond, settings.requestBurst);
      if (!mayTake && now <= this.#contendedUntil) return;
      share.delayed.shift()?.proceed();
    }
    this.#delayed.delete(share);
  }
}

const CONTENTION_MS = 1_000;
const MAX_DELAYED = 1_024;
