import type { Answer, Joinable, Question, Waiter } from "./answer.ts";
import type { Complaints } from "./complaints.ts";
import { isSlowDocument } from "./documents.ts";
import type { Guest } from "./guest.ts";
import { AnswerHead } from "./http/answer-head.ts";
import type { FairGate, PortShare, Turn } from "./port-share.ts";
import type { ProxySettings } from "./settings.ts";
import type { Endpoint, Unheard } from "./upstream/endpoint.ts";
import type { AnswerListener, FailureKind, Line } from "./upstream/line.ts";
import { nextOf, type Upstream } from "./upstream/upstream.ts";

/** What all flights share. */
export interface FlightContext {
  readonly settings: ProxySettings;
  readonly upstream: Upstream;
  readonly gate: FairGate;
  readonly complaints: Complaints;
  /** Flights that try again at their {@link Flight.retryAt}. */
  readonly retrying: Set<Flight>;
  /** Called with every whole answer, once per flight. */
  landed(flight: Flight, answer: Answer): void;
}

/**
 * One question on its way to nova and back: for as many of a guest's requests as ask the same at the same time,
 * over as many endpoints, connections and secrets as it takes. It ends with an answer, or when nobody waits any
 * longer; deadlines are the waiters'.
 */
export class Flight implements AnswerListener, Joinable, Turn, Unheard {
  readonly guest: Guest;
  readonly question: Question;
  /** Whether others may join. */
  readonly isShared: boolean;
  readonly waiters: Waiter[] = [];
  retryAt = 0;
  askedAt = 0;
  overtakers = 0;
  readonly #context: FlightContext;
  #state: "queued" | "asking" | "retrying" | "done" = "queued";
  #endpoint: Endpoint | undefined;
  #line: Line | undefined;
  #secretIndex = 0;
  #otherSecretTried = false;
  #wasOvertaken = false;
  #tried: Set<Endpoint> | undefined;
  #rounds = 0;
  #cuts = 0;
  #head: AnswerHead = NO_HEAD;
  #text: string | undefined;
  #chunks: Buffer[] = [];
  #size = 0;
  #stream: Waiter | undefined;
  #paused = false;
  /** Nova's own 503, for whoever has waited long enough. */
  #unavailable: Answer | undefined;

  constructor(context: FlightContext, guest: Guest, question: Question, isShared: boolean) {
    this.#context = context;
    this.guest = guest;
    this.question = question;
    this.isShared = isShared;
  }

  get share(): PortShare {
    return this.guest.share;
  }

  start(waiter: Waiter): void {
    this.waiters.push(waiter);
    if (this.isShared) this.guest.offer(this);
    this.#context.gate.enter(this);
  }

  granted(): void {
    this.#state = "asking";
    this.#ask(false);
  }

  /** The last one takes the flight with it. */
  leave(waiter: Waiter): void {
    const at = this.waiters.indexOf(waiter);
    if (at >= 0) this.waiters.splice(at, 1);
    if (this.waiters.length === 0) this.#cancel();
  }

  expire(waiter: Waiter): void {
    if (this.#unavailable !== undefined) waiter.answer(this.#unavailable);
    else if (this.#state === "asking") waiter.refuse(504, "nova has not answered in time");
    else waiter.refuse(503, "nova cannot be reached at the moment");
    this.leave(waiter);
  }

  /** To be called when {@link retryAt} has come. */
  retry(): void {
    this.#context.retrying.delete(this);
    this.#state = "queued";
    this.#tried?.clear();
    this.#otherSecretTried = false;
    this.#context.gate.enter(this);
  }

  stalled(): void {
    const endpoint = this.#endpoint;
    if (endpoint === undefined || !this.question.isSafe) return;
    if (!this.#mayGoElsewhere(endpoint)) return;
    this.#turnFrom(endpoint);
    this.#tryElsewhere(endpoint);
  }

  overtaken(now: number): void {
    const { settings, complaints } = this.#context;
    const endpoint = this.#endpoint;
    const { isSafe, path } = this.question;
    const hasMs = isSlowDocument(path) ? settings.slowDocumentMs : settings.holdMs;
    const hasWaited = now - this.askedAt > hasMs / 2;
    if (endpoint === undefined || !hasWaited || this.#wasOvertaken || !isSafe) return;
    this.#wasOvertaken = true;
    complaints.overtaken(endpoint.address.url);
    this.#turnFrom(endpoint);
    if (this.#mayGoElsewhere(endpoint)) this.#tryElsewhere(endpoint);
    else this.#ask(true);
  }

  onHead(head: AnswerHead): void {
    this.#endpoint?.settled(this, true);
    this.#head = head;
  }

  onWholeBody(text: string): void {
    this.#text = text;
  }

  onBody(chunk: Buffer): void {
    if (this.#stream !== undefined) {
      this.#forward(this.#stream, chunk);
      return;
    }
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#size > HELD_WHOLE_BYTES) this.#beginStream();
  }

  onEnd(): void {
    const endpoint = this.#endpoint;
    if (endpoint === undefined) return;
    if (endpoint.state !== "healthy") endpoint.markHealthy();
    if (this.#stream !== undefined) {
      this.#land();
      this.#stream.finish();
      return;
    }
    if (this.#head.status === 403 && this.#tryOtherSecret(endpoint)) return;
    if (this.#head.status !== 403) endpoint.secretIndex = this.#secretIndex;
    const answer = this.#takeAnswer();
    if (answer.head.status === 503 && this.question.isSafe) {
      this.#unavailable = answer;
      this.#tryElsewhere(endpoint);
      return;
    }
    if (this.#line !== undefined && this.guest.lastLine?.line !== this.#line)
      this.guest.lastLine = { endpoint, line: this.#line };
    this.#land();
    this.#context.landed(this, answer);
    for (const waiter of this.waiters.splice(0)) waiter.answer(answer);
  }

  onFailure(kind: FailureKind, error: Error): void {
    const endpoint = this.#endpoint;
    if (endpoint === undefined) return;
    endpoint.settled(this, false);
    this.#forgetAnswer();
    if (this.#stream !== undefined) {
      this.#land();
      this.#stream.reset();
      return;
    }
    if (kind === "unsent") {
      endpoint.eject(error.message, performance.now());
      this.#tryElsewhere(endpoint);
    } else if (kind === "stale" && this.question.isSafe) {
      this.#ask(true);
    } else if (kind === "reset" && this.question.isSafe) {
      endpoint.suspect();
      this.#tryElsewhere(endpoint);
    } else if (kind === "cut") {
      endpoint.suspect();
      if (this.question.isSafe && this.#cuts++ === 0) this.#ask(true);
      else this.#end((waiter) => waiter.reset());
    } else {
      this.#context.complaints.novaFailed(this.share, {
        endpoint: endpoint.address.url,
        failure: kind,
        reason: error.message,
      });
      this.#end((waiter) => waiter.refuse(502, "nova failed to answer this request"));
    }
  }

  /** Asks the best endpoint that is left. @param cold Over a connection that cannot have gone stale. */
  #ask(cold: boolean): void {
    const { settings, upstream } = this.#context;
    const again = cold || this.#otherSecretTried ? this.#endpoint : undefined;
    const endpoint = again ?? nextOf(this.guest.ranking(upstream), this.#tried ?? NONE);
    if (endpoint === undefined) {
      this.#retryLater();
      return;
    }
    if (!this.#otherSecretTried) this.#secretIndex = endpoint.secretIndex;
    this.#endpoint = endpoint;
    const { method, headers, headerLines, body, isSafe } = this.question;
    const path = endpoint.address.basePath + this.question.path;
    const last = this.guest.lastLine;
    const preferred = last?.endpoint === endpoint ? last.line : undefined;
    const wants = { cold: cold || !isSafe, bodiless: body === undefined && isSafe };
    const line = endpoint.borrow(preferred, wants);
    this.#line = line;
    const identity = this.guest.identity(settings, this.#secretIndex);
    this.askedAt = performance.now();
    endpoint.asked(this);
    line.ask({ method, path, headers, headerLines, body, identity }, this);
  }

  #mayGoElsewhere(endpoint: Endpoint): boolean {
    const tried = new Set(this.#tried).add(endpoint);
    return nextOf(this.guest.ranking(this.#context.upstream), tried)?.state === "healthy";
  }

  /** Stops waiting for what was asked there. */
  #turnFrom(endpoint: Endpoint): void {
    endpoint.settled(this, false);
    this.#line?.abandon();
  }

  #tryElsewhere(endpoint: Endpoint): void {
    this.#tried ??= new Set();
    this.#tried.add(endpoint);
    this.#otherSecretTried = false;
    this.#ask(false);
  }

  #tryOtherSecret(endpoint: Endpoint): boolean {
    if (this.#otherSecretTried || this.#context.settings.previousSharedSecret === undefined) {
      this.#context.complaints.secretsDiffer(endpoint.address.url);
      return false;
    }
    this.#forgetAnswer();
    this.#otherSecretTried = true;
    this.#secretIndex = 1 - this.#secretIndex;
    this.#ask(false);
    return true;
  }

  /** Every endpoint has been tried: waits a little, without its place at the gate. */
  #retryLater(): void {
    this.#context.gate.leave(this.share);
    this.#endpoint = undefined;
    this.#line = undefined;
    this.#state = "retrying";
    this.retryAt = performance.now() + Math.min(MIN_RETRY_MS << this.#rounds++, MAX_RETRY_MS);
    this.#context.retrying.add(this);
  }

  #beginStream(): void {
    const [first, ...rest] = this.waiters.splice(0);
    if (first === undefined) return;
    this.waiters.push(first);
    this.#stream = first;
    if (this.isShared) this.guest.withdraw(this);
    first.begin(this.#head, () => this.#resume());
    for (const chunk of this.#chunks.splice(0)) this.#forward(first, chunk);
    for (const waiter of rest) waiter.askAlone();
  }

  #forward(stream: Waiter, chunk: Buffer): void {
    if (stream.part(chunk) || this.#paused) return;
    this.#paused = true;
    this.#line?.pause();
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#line?.resume();
  }

  #takeAnswer(): Answer {
    const [only = EMPTY] = this.#chunks;
    const body = this.#text ?? (this.#chunks.length > 1 ? Buffer.concat(this.#chunks) : only);
    const answer = { head: this.#head, body };
    this.#forgetAnswer();
    return answer;
  }

  #forgetAnswer(): void {
    this.#text = undefined;
    this.#chunks = [];
    this.#size = 0;
  }

  #end(tell: (waiter: Waiter) => void): void {
    this.#land();
    for (const waiter of this.waiters.splice(0)) tell(waiter);
  }

  /** Gives back what it held. */
  #land(): void {
    if (this.isShared) this.guest.withdraw(this);
    const state = this.#state;
    this.#state = "done";
    this.#endpoint?.settled(this, false);
    this.#endpoint = undefined;
    if (state === "asking") this.#context.gate.leave(this.share);
    else if (state === "queued") this.#context.gate.cancel(this);
    else if (state === "retrying") this.#context.retrying.delete(this);
  }

  #cancel(): void {
    if (this.#state === "done") return;
    const line = this.#state === "asking" ? this.#line : undefined;
    this.#land();
    line?.abandon();
  }
}

/** Nova's documents end at 64 KiB; what is held whole can be shown as broken before a byte of it went out. */
const HELD_WHOLE_BYTES = 256 * 1024;
const MIN_RETRY_MS = 50;
const MAX_RETRY_MS = 400;
const EMPTY = Buffer.alloc(0);
const NO_HEAD = new AnswerHead(502, "Bad Gateway", []);
const NONE: ReadonlySet<Endpoint> = new Set();
