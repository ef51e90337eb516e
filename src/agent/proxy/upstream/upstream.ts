import { createHash } from "node:crypto";
import type { Logger } from "../../log.ts";
import type { ProxyStatus } from "../proxy.ts";
import type { ProxySettings } from "../settings.ts";
import { parseNovaUrl, secureContextOf } from "./connect.ts";
import { Endpoint } from "./endpoint.ts";

/** All nova endpoints of one configuration, and which of them an instance belongs to. */
export class Upstream {
  readonly #endpoints: readonly Endpoint[];

  /** @throws {ProxyError} `bad-settings` for a URL or a TLS file that cannot be used. */
  constructor(settings: ProxySettings, log: Logger) {
    const addresses = [...new Set(settings.novaUrls)].map(parseNovaUrl);
    const secureContext = addresses.some(({ tls }) => tls) ? secureContextOf(settings.tls) : undefined;
    const tls = { secureContext, serverName: settings.tls.serverName };
    this.#endpoints = addresses.map((address) => new Endpoint(address, tls, log));
  }

  /**
   * The endpoints in the order in which an instance asks them: always the same one first, because nova's cache
   * is per process, and another one first for another instance (rendezvous hashing).
   */
  rankingFor(instanceId: string): readonly Endpoint[] {
    if (this.#endpoints.length === 1) return this.#endpoints;
    const weight = ({ address }: Endpoint) =>
      createHash("sha256").update(`${instanceId} ${address.url}`).digest("hex");
    return this.#endpoints
      .map((endpoint) => ({ endpoint, weight: weight(endpoint) }))
      .sort((a, b) => (a.weight < b.weight ? -1 : 1))
      .map(({ endpoint }) => endpoint);
  }

  tick(now: number): void {
    for (const endpoint of this.#endpoints) {
      endpoint.tick(now);
      endpoint.findOvertaken(now);
      if (this.#endpoints.length > 1) endpoint.watch(now);
    }
  }

  retire(): void {
    for (const endpoint of this.#endpoints) endpoint.retire();
  }

  status(): ProxyStatus["endpoints"] {
    return this.#endpoints.map(({ address, state, reason }) => ({
      url: address.url,
      state,
      ...(reason === undefined ? {} : { reason }),
    }));
  }
}

/**
 * The best endpoint of a ranking that has not been tried: a healthy one, else one that nothing is known of,
 * else an ejected one, since trying is better than giving up.
 */
export function nextOf(ranking: readonly Endpoint[], tried: ReadonlySet<Endpoint>): Endpoint | undefined {
  let ejected: Endpoint | undefined;
  for (const endpoint of ranking) {
    if (tried.has(endpoint)) continue;
    if (endpoint.state !== "ejected") return endpoint;
    ejected ??= endpoint;
  }
  return ejected;
}
