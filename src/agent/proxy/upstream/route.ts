import type { Endpoint } from "./endpoint.ts";

/** Where one question has been asked and with which secret, and where it is worth asking next. */
export class Route {
  /** How often all of a ranking have been tried. */
  rounds = 0;
  /** 0 is the current secret, 1 the previous one. */
  secretIndex = 0;
  /** Whether the endpoint is asked once more, with the secret that it does not usually take. */
  isOnOtherSecret = false;
  #tried: Set<Endpoint> | undefined;

  /** The one to ask, or undefined where all have been tried. @param again The one to ask once more, if it is still wanted. */
  next(ranking: readonly Endpoint[], again?: Endpoint): Endpoint | undefined {
    return again !== undefined && ranking.includes(again) ? again : bestOf(ranking, this.#tried);
  }

  /** Whether another one than this would surely take it. */
  leadsOn(ranking: readonly Endpoint[], from: Endpoint): boolean {
    const next = bestOf(ranking, new Set(this.#tried).add(from));
    return next?.state === "healthy" && !next.isMute;
  }

  arrive({ secretIndex }: Endpoint): void {
    if (!this.isOnOtherSecret) this.secretIndex = secretIndex;
  }

  turnSecret(): void {
    this.isOnOtherSecret = true;
    this.secretIndex = 1 - this.secretIndex;
  }

  leave(endpoint: Endpoint): void {
    this.#tried ??= new Set();
    this.#tried.add(endpoint);
    this.isOnOtherSecret = false;
  }

  startOver(): void {
    this.rounds++;
    this.#tried = undefined;
    this.isOnOtherSecret = false;
  }
}

/**
 * The best endpoint of a ranking that has not been tried: a healthy one, else one that nothing is known of,
 * else one that is ejected or mute, since trying is better than giving up.
 */
function bestOf(
  ranking: readonly Endpoint[],
  tried: ReadonlySet<Endpoint> | undefined,
): Endpoint | undefined {
  let last: Endpoint | undefined;
  for (const endpoint of ranking) {
    if (tried?.has(endpoint)) continue;
    if (endpoint.state !== "ejected" && !endpoint.isMute) return endpoint;
    last ??= endpoint;
  }
  return last;
}
