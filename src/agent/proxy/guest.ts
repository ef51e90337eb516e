import type { Tenure } from "../ports/tenure.ts";
import { isSameQuestion, type Joinable, type Question } from "./answer.ts";
import { isSlowDocument } from "./documents.ts";
import type { Timed } from "./flight-context.ts";
import { headerLinesOf } from "./headers.ts";
import { identityHeaders, isSendable } from "./identity.ts";
import { tokenExpiry } from "./imds-token.ts";
import { KeptAnswers } from "./kept-answers.ts";
import { removeFrom } from "./lists.ts";
import type { Effort } from "./places.ts";
import type { PortShare } from "./port-share.ts";
import type { ProxySettings } from "./settings.ts";
import type { Endpoint } from "./upstream/endpoint.ts";
import type { Identity, Line } from "./upstream/line.ts";
import type { Upstream } from "./upstream/upstream.ts";

/** One tenure as the proxy serves it: everything that is the same for all its requests, made once. */
export class Guest {
  readonly tenure: Tenure;
  readonly share: PortShare;
  /** False while its port has no instance, or the NSDB holds something of it that no header can. */
  readonly isServable: boolean;
  readonly answers: KeptAnswers;
  /** Where its last answer came from: that process of nova has it in its cache. */
  lastLine: { readonly endpoint: Endpoint; readonly line: Line } | undefined;
  /** When that was, on the clock of `performance.now()`. */
  answeredAt = 0;
  ended = false;
  /** Questions on their way that other requests may join. */
  readonly #flights: Joinable[] = [];
  #settings: ProxySettings | undefined;
  #upstream: Upstream | undefined;
  #ranking: readonly Endpoint[] = [];
  #identities: Identity[] = [];
  #lastToken = { text: "", expiresAt: 0 };

  /** @param timed Where what it keeps for a moment is found when the moment is over. */
  constructor(tenure: Tenure, share: PortShare, timed: Set<Timed>) {
    this.tenure = tenure;
    this.share = share;
    this.answers = new KeptAnswers(timed);
    this.isServable = tenure.instanceId !== "" && isSendable(tenure);
  }

  /** Whether nova would give both the same: a tenure is a new object also when only its interface changed. */
  isSameAs(other: Guest | undefined): boolean {
    if (this === other) return true;
    const [a, b] = [this.tenure, other?.tenure];
    return (
      a.portId === b?.portId &&
      a.instanceId === b.instanceId &&
      a.projectId === b.projectId &&
      a.fixedAddress === b.fixedAddress
    );
  }

  /** A question on its way that is the same, if there is one: none that was asked under other settings. */
  flightFor(question: Question, settings: ProxySettings): Joinable | undefined {
    this.#follow(settings);
    for (const flight of this.#flights) if (isSameQuestion(flight.question, question)) return flight;
    return undefined;
  }

  /** Lets others join a flight, unless so many are joinable already that looking for one would cost more. */
  offer(flight: Joinable): void {
    if (this.#flights.length < MAX_JOINABLE) this.#flights.push(flight);
  }

  withdraw(flight: Joinable): void {
    removeFrom(this.#flights, flight);
  }

  /** Something is about to change, or may have: no later request gets an answer from before. */
  forgetAnswers(): void {
    this.#flights.length = 0;
    this.answers.forget();
  }

  /** @param secretIndex 0 signs with the current secret, 1 with the previous one. */
  identity(settings: ProxySettings, secretIndex: number): Identity {
    this.#follow(settings);
    const secret = secretIndex === 0 ? settings.sharedSecret : settings.previousSharedSecret;
    const known = this.#identities[secretIndex];
    if (known !== undefined) return known;
    const headers = identityHeaders(this.tenure, secret ?? settings.sharedSecret);
    const identity = { headers, lines: headerLinesOf(headers) };
    this.#identities[secretIndex] = identity;
    return identity;
  }

  ranking(upstream: Upstream): readonly Endpoint[] {
    if (this.#upstream !== upstream) {
      this.#upstream = upstream;
      this.#ranking = upstream.rankingFor(this.tenure.instanceId);
      this.lastLine = undefined;
    }
    return this.#ranking;
  }

  /** The line to an endpoint that it was answered on last. */
  lineTo(endpoint: Endpoint): Line | undefined {
    return this.lastLine?.endpoint === endpoint ? this.lastLine.line : undefined;
  }

  /** What an endpoint has to do for it now. */
  effortFor(path: string, endpoint: Endpoint, now: number): Effort {
    if (isSlowDocument(path)) return "slow";
    const isKept = this.lastLine?.endpoint === endpoint && now - this.answeredAt < KEPT_MS;
    return isKept ? "warm" : "cold";
  }

  /** Whether an IMDSv2 token is this guest's and has not ended. A client sends one token many times. */
  holdsToken(settings: ProxySettings, token: string, nowMs: number): boolean {
    this.#follow(settings);
    if (this.#lastToken.text !== token) {
      const expiresAt =
        tokenExpiry(settings.sharedSecret, this.tenure, token) ??
        (settings.previousSharedSecret && tokenExpiry(settings.previousSharedSecret, this.tenure, token));
      if (expiresAt === undefined) return false;
      this.#lastToken = { text: token, expiresAt };
    }
    return nowMs < this.#lastToken.expiresAt;
  }

  /** Forgets what was asked, signed and verified under other settings: there may be another nova or secret now. */
  #follow(settings: ProxySettings): void {
    if (this.#settings === settings) return;
    this.#settings = settings;
    this.forgetAnswers();
    this.#identities = [];
    this.#lastToken = { text: "", expiresAt: 0 };
  }
}

const MAX_JOINABLE = 64;
/** Less than nova keeps what it built. @source nova/conf/api.py, metadata_cache_expiration: 15 s */
const KEPT_MS = 10_000;
