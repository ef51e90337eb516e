import type { Plumbing } from "./plumbing.ts";

/** `add-only` never removes (before the first complete read of the NSDB); `exact` leaves only what is wanted. */
export type SyncMode = "add-only" | "exact";

/** What is in the kernel now, read back, never remembered. */
export interface Observed {
  /** Complete and usable plumbings, each with the `ifindex` that the kernel holds for it. */
  readonly ports: readonly Plumbing[];
  /**
   * True when the shared part (interface, table, guards, routes) stands as this version makes it; without IPv6 where a
   * {@link Datapath.sync} could not have that.
   */
  readonly baseIntact: boolean;
}

/** Something of the host that an operator should know of. */
export interface HostFinding {
  /** With the rule to add, where there is one. */
  readonly sentence: string;
  /** Guests are not heard at all, and not only over IPv6. */
  readonly silencesGuests: boolean;
}

export interface SyncReport {
  readonly added: readonly string[];
  readonly replaced: readonly string[];
  readonly removed: readonly string[];
  /** Ports that could not be plumbed, each with a sentence; everything else was. */
  readonly failed: readonly { readonly portId: string; readonly reason: string }[];
  /** True when the shared part had to be made or repaired. */
  readonly repairedBase: boolean;
}

export interface Datapath {
  /** What of ours is in the kernel. @throws {DatapathError} */
  observe(): Promise<Observed>;
  /** Makes the kernel serve `want`; safe to repeat. @throws {DatapathError} if the shared part cannot be made, but for IPv6. */
  sync(want: readonly Plumbing[], mode: SyncMode): Promise<SyncReport>;
  /** What {@link Datapath.sync} would do, as text that `nft -f` accepts plus comment lines for links and routes. */
  plan(want: readonly Plumbing[], mode: SyncMode): Promise<string>;
  /** Removes everything of ours; needs nothing but the kernel. Returns what it removed, one line each. */
  sweep(): Promise<readonly string[]>;
  /** What went through a port's chain to the proxy since the chain was made, or undefined where it has none. @throws {DatapathError} */
  counters(portId: string): Promise<{ readonly packets: number; readonly bytes: number } | undefined>;
  /** What of the host keeps guests from the proxy, or lets them have it over IPv4 only. @throws {DatapathError} */
  inspectHostFirewall(): Promise<readonly HostFinding[]>;
  /**
   * Whether a number's address is the host's own, so that no guest can have it: as of the last {@link Datapath.observe},
   * or of a moment ago where somebody listens to {@link Datapath.onDrift}.
   */
  isHosts(number: number): boolean;
  /**
   * Calls back soon (within 2 s) after somebody else changed what is ours (table, interface, address, route or
   * rule), or which addresses of 169.254/16 are the host's. The remedy is another {@link Datapath.sync}. Returns the way to stop.
   */
  onDrift(listener: () => void): () => void;
  close(): Promise<void>;
}
