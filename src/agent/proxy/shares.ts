import { PortShare } from "./port-share.ts";

/** The shares of all ports, and of the addresses that no port is known of. */
export class Shares {
  readonly #byName = new Map<string, PortShare>();
  /** Of ports whose tenure has ended, the oldest first. */
  readonly #gone = new Set<PortShare>();

  /** @param name A port, or an address. @param burst Of requests, for one that is new. */
  of(name: string, burst: number): PortShare {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    const share = new PortShare(name, burst, performance.now());
    this.#byName.set(name, share);
    return share;
  }

  find(name: string): PortShare | undefined {
    return this.#byName.get(name);
  }

  /** It is used again, or still: a port may have other tenures than the one that ended. */
  revive(share: PortShare): void {
    if (!share.isGone) return;
    share.isGone = false;
    this.#gone.delete(share);
    this.#byName.set(share.name, share);
  }

  /** A tenure of its port has ended. What is known of the newest of such ports stays for `explain`. */
  ended(share: PortShare): void {
    share.isGone = true;
    this.#gone.delete(share);
    this.#gone.add(share);
    for (const oldest of this.#gone) {
      if (this.#gone.size <= MAX_GONE) break;
      this.#gone.delete(oldest);
      this.#forget(oldest);
    }
  }

  /** One of its connections is gone. An address without one is nobody. */
  left(share: PortShare): void {
    if (!UUID.test(share.name)) this.#forget(share);
  }

  largest(): PortShare | undefined {
    let largest: PortShare | undefined;
    for (const share of this.#byName.values()) {
      if (share.connections.length > (largest?.connections.length ?? 0)) largest = share;
    }
    return largest;
  }

  #forget(share: PortShare): void {
    const isAlone = share.connections.length === 0 && this.#byName.get(share.name) === share;
    if (isAlone) this.#byName.delete(share.name);
  }
}

const UUID = /^[0-9a-f]{8}-[0-9a-f-]{27}$/;
/** About 10 KiB each. */
const MAX_GONE = 256;
