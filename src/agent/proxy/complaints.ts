import type { Logger } from "../log.ts";
import type { PortShare } from "./port-share.ts";

/** The log lines that guests can cause: one a minute for each port and matter, so that none can fill the log. */
export class Complaints {
  readonly #log: Logger;
  /** When the last line that is about no port was logged, by what it was about. */
  readonly #loggedAt = new Map<string, number>();

  constructor(log: Logger) {
    this.#log = log;
  }

  secretsDiffer(endpointUrl: string): void {
    if (!isDue(this.#loggedAt, "secrets")) return;
    this.#log.error(
      { endpoint: endpointUrl },
      "the shared secrets differ: nova refuses our signature; set agent.openstack.metadata.shared_secret (mn-conf) to what nova has as [neutron] metadata_proxy_shared_secret",
    );
  }

  overtaken(endpointUrl: string): void {
    if (!isDue(this.#loggedAt, "overtaken")) return;
    this.#log.warn(
      { endpoint: endpointUrl },
      "nova leaves requests unanswered while it answers later ones: they are asked again; a process of nova-api-metadata there may have stopped or wait for its database (QueuePool limit in its log)",
    );
  }

  asksTooMuch(share: PortShare, requestsPerSecond: number): void {
    this.#once(
      share,
      "rate",
      { requestsPerSecond },
      "a guest asks more than its share while others ask too: its requests wait",
    );
  }

  novaFailed(share: PortShare, endpoint: string, failure: string, reason: string): void {
    this.#once(
      share,
      "nova",
      { endpoint, failure, reason },
      "nova did not answer one request, the others are not concerned: the log of nova-api-metadata has the exception",
    );
  }

  /** @param fields What tells this request from others: nothing of its headers, its query or its body. */
  notServed(share: PortShare, fields: { status: number; requestId: string; peer: string }): void {
    if (fields.status === 404) {
      this.#once(
        share,
        "unknown",
        fields,
        "no instance is known for this guest: check device_id of the Neutron port in the NSDB",
      );
    } else {
      this.#once(
        share,
        "failed",
        fields,
        "a guest did not get its metadata: `mn-metadata status` shows nova's endpoints",
      );
    }
  }

  #once(share: PortShare, matter: string, fields: object, message: string): void {
    if (!isDue(share.loggedAt, matter)) return;
    this.#log.warn({ portId: share.name, ...fields }, message);
  }
}

/** Whether a line about that may be logged now; if so, it counts as logged. */
function isDue(loggedAt: Map<string, number>, matter: string): boolean {
  const now = performance.now();
  if (now - (loggedAt.get(matter) ?? Number.NEGATIVE_INFINITY) < REPEAT_MS) return false;
  loggedAt.set(matter, now);
  return true;
}

const REPEAT_MS = 60_000;
