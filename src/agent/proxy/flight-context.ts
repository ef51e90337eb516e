import type { Complaints } from "./complaints.ts";
import type { FairGate } from "./fair-gate.ts";
import type { ProxySettings } from "./settings.ts";
import type { Upstream } from "./upstream/upstream.ts";

/** What all flights share. Settings and upstream change while they are on their way: what is tried next is tried with the new ones. */
export interface FlightContext {
  readonly settings: ProxySettings;
  readonly upstream: Upstream;
  readonly gate: FairGate;
  readonly complaints: Complaints;
  readonly timed: Set<Timed>;
}

/** What has something to do at a time. */
export interface Timed {
  /** Milliseconds. */
  readonly dueAt: number;
  /** To be called when {@link dueAt} has come. */
  due(): void;
}
