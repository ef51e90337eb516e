/** What one port may ask for: refilled steadily, never holding more than a burst. */
export class TokenBucket {
  #tokens: number;
  #refilledAt: number;

  constructor(burst: number, now: number) {
    this.#tokens = burst;
    this.#refilledAt = now;
  }

  /** Takes one token if there is one. @param now Milliseconds, never going back. */
  take(now: number, perSecond: number, burst: number): boolean {
    const refilled = this.#tokens + ((now - this.#refilledAt) / 1000) * perSecond;
    this.#tokens = Math.min(burst, refilled);
    this.#refilledAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
