import { createHash } from "node:crypto";
import type { Logger } from "../../log.ts";
import type { Outbox } from "../outbox.ts";
import type { ProxyStatus } from "../proxy.ts";
import type { ProxySettings } from "../settings.ts";
import { parseNovaUrl } from "./connect.ts";
import { Endpoint, MUTE } from "./endpoint.ts";
import { TlsFiles } from "./tls-files.ts";

/** All nova endpoints of one configuration, and which of them an instance belongs to. */
export class Upstream {
  /** One at least. */
  readonly endpoints: readonly Endpoint[];
  readonly #belongsTo = new Map<string, Endpoint>();
  /** How many instances belong to each. */
  readonly #instances = new Map<Endpoint, number>();
  /** The one of the configuration before, while it still has questions. */
  #before: Upstream | undefined;

  /**
   * @param before The one that this one follows: what it was asked is looked after until it is answered, or asked here.
   * @throws {ProxyError} `bad-settings` for a URL or a TLS file that cannot be used.
   */
  constructor(settings: ProxySettings, log: Logger, outbox: Outbox, before?: Upstream) {
    this.#before = before;
    const addresses = [...new Set(settings.novaUrls)].map(parseNovaUrl);
    const files = addresses.some(({ tls }) => tls) ? new TlsFiles(settings.tls, log) : undefined;
    const tls = { files, serverName: settings.tls.serverName };
    this.endpoints = addresses.map((address) => new Endpoint(address, tls, log, outbox));
  }

  /**
   * The endpoints in the order in which an instance asks them: always the same one first, because nova's cache
   * is per process, and another one first for another instance: by rendezvous hashing, but so that none has many more
   * of them than another. By chance alone one of two would have 54 or more of 100 guests that boot at once, and they
   * would wait for it.
   */
  rankingFor(instanceId: string): readonly Endpoint[] {
    if (this.endpoints.length === 1) return this.endpoints;
    const ranking = this.#byWeight(instanceId);
    const first = this.#belongsTo.get(instanceId) ?? this.#assign(instanceId, ranking);
    return [first, ...ranking.filter((endpoint) => endpoint !== first)];
  }

  /** The instance has left this host, or is to be given an endpoint anew. */
  forget(instanceId: string): void {
    const endpoint = this.#belongsTo.get(instanceId);
    if (endpoint === undefined) return;
    this.#belongsTo.delete(instanceId);
    this.#instances.set(endpoint, this.#instancesOf(endpoint) - 1);
  }

  #assign(instanceId: string, ranking: readonly Endpoint[]): Endpoint {
    const fewest = Math.min(...ranking.map((endpoint) => this.#instancesOf(endpoint)));
    const chosen = ranking.find((endpoint) => this.#instancesOf(endpoint) <= fewest + MOST_AHEAD);
    // One has the fewest.
    const endpoint = chosen as Endpoint;
    this.#belongsTo.set(instanceId, endpoint);
    this.#instances.set(endpoint, this.#instancesOf(endpoint) + 1);
    return endpoint;
  }

  #instancesOf(endpoint: Endpoint): number {
    return this.#instances.get(endpoint) ?? 0;
  }

  #byWeight(instanceId: string): readonly Endpoint[] {
    const weight = ({ address }: Endpoint) =>
      createHash("sha256").update(`${instanceId} ${address.url}`).digest("hex");
    return this.endpoints
      .map((endpoint) => ({ endpoint, weight: weight(endpoint) }))
      .sort((a, b) => (a.weight < b.weight ? -1 : 1))
      .map(({ endpoint }) => endpoint);
  }

  tick(now: number): void {
    for (const endpoint of this.endpoints) {
      endpoint.tick(now);
      endpoint.findOvertaken(now);
      if (this.endpoints.length > 1) endpoint.watch(now, this.#answeredBeside(endpoint));
    }
    if (this.#before?.tickRetired(now) === false) this.#before = undefined;
  }

  /** To be called instead of {@link tick} once it is retired. @returns Whether it still has questions. */
  tickRetired(now: number): boolean {
    if (this.#before?.tickRetired(now) === false) this.#before = undefined;
    let hasQuestions = this.#before !== undefined;
    for (const endpoint of this.endpoints) if (endpoint.watchRetired(now)) hasQuestions = true;
    return hasQuestions;
  }

  /** When another endpoint last gave a guest its document. */
  #answeredBeside(endpoint: Endpoint): number {
    return Math.max(...this.endpoints.map((one) => (one === endpoint ? 0 : one.answeredAt)));
  }

  retire(): void {
    for (const endpoint of this.endpoints) endpoint.retire();
  }

  status(): ProxyStatus["endpoints"] {
    return this.endpoints.map(({ address, state, reason, isMute }) => {
      const why = reason ?? (isMute ? MUTE : undefined);
      return { url: address.url, state, ...(why === undefined ? {} : { reason: why }) };
    });
  }
}

/** So many instances may an endpoint be ahead of another when it gets one more. */
const MOST_AHEAD = 1;
