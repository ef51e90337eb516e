import type { Answer, Joinable, Question, Waiter } from "./answer.ts";
import { timeFor } from "./documents.ts";
import type { Trickle } from "./fair-gate.ts";
import type { FlightContext, Timed } from "./flight-context.ts";
import type { Guest } from "./guest.ts";
import { HeldAnswer } from "./held-answer.ts";
import type { AnswerHead } from "./http/answer-head.ts";
import { removeFrom } from "./lists.ts";
import type { Effort } from "./places.ts";
import type { Lane, PortShare } from "./port-share.ts";
import { isPerhapsItsOwn, remedyFor } from "./remedy.ts";
import { Stream } from "./stream.ts";
import type { Endpoint, Unheard } from "./upstream/endpoint.ts";
import type { AnswerListener, FailureKind, Line } from "./upstream/line.ts";
import { Route } from "./upstream/route.ts";

/**
 * One question on its way to nova and back: for as many of a guest's requests as ask the same at the same time,
 * over as many endpoints, connections and secrets as it takes. It ends with an answer, or when nobody waits any
 * longer; deadlines are the waiters'.
 */
export class Flight implements AnswerListener, Joinable, Timed, Trickle, Unheard {
  readonly guest: Guest;
  readonly share: PortShare;
  readonly question: Question;
  /** Whether others may join. */
  readonly isShared: boolean;
  readonly waiters: Waiter[] = [];
  dueAt = 0;
  askedAt = 0;
  overtakers = 0;
  effort: Effort = "cold";
  beside = 0;
  lane: Lane | undefined;
  kind: Trickle["kind"] = "counted";
  readonly #context: FlightContext;
  readonly #generation: number;
  #state: "queued" | "asking" | "trickling" | "retrying" | "forsaken" | "done" = "queued";
  #endpoint: Endpoint | undefined;
  #line: Line | undefined;
  #wasOvertaken = false;
  readonly #route = new Route();
  #hasFailed = false;
  readonly #held = new HeldAnswer();
  #stream: Stream | undefined;
  /** Nova's own 503, for whoever has waited long enough. */
  #unavailable: Answer | undefined;

  constructor(context: FlightContext, guest: Guest, question: Question, isShared: boolean) {
    this.#context = context;
    this.guest = guest;
    this.share = guest.share;
    this.question = question;
    this.isShared = isShared;
    this.#generation = guest.answers.generation;
  }

  get isAtNova(): boolean {
    return this.#state === "asking" && this.#line?.isWarm === true;
  }

  /** From when it is asked. */
  get #mayTakeMs(): number {
    return timeFor(this.question.path, this.#context.settings);
  }

  start(waiter: Waiter): void {
    this.waiters.push(waiter);
    if (this.isShared) this.guest.offer(this);
    this.#context.gate.enter(this);
  }

  wants(): Lane {
    const ranking = this.guest.ranking(this.#context.upstream);
    // One is left: it is asked for at the start of a round.
    return (this.#route.next(ranking) as Endpoint).lane;
  }

  granted(): void {
    this.#state = "asking";
    this.#ask(false);
  }

  leave(waiter: Waiter): void {
    removeFrom(this.waiters, waiter);
    if (this.waiters.length === 0) this.#forsake();
  }

  expire(waiter: Waiter): void {
    if (this.#unavailable !== undefined) waiter.answer(this.#unavailable);
    else if (this.isAtNova) waiter.refuse(504, "nova has not answered in time");
    else if (this.#state === "queued" && this.#route.rounds === 0) waiter.refuse(503, BUSY);
    else waiter.refuse(503, "nova cannot be reached at the moment");
    removeFrom(this.waiters, waiter);
    // Who asks from now on has a better chance with a question of its own.
    if (this.isShared) this.guest.withdraw(this);
    if (this.waiters.length === 0) this.#cancel();
  }

  due(): void {
    if (this.#state === "forsaken") this.#cancel();
    else if (this.#stream !== undefined) this.#trickle();
    else {
      this.#context.timed.delete(this);
      this.#state = "queued";
      this.#context.gate.enter(this);
    }
  }

  cut(): void {
    this.#cancel();
    this.#stream?.reset();
  }

  stalled(): void {
    const endpoint = this.#endpoint;
    if (endpoint === undefined || this.#state === "forsaken" || !this.#mayGoElsewhere(endpoint)) return;
    this.#turnFrom(endpoint);
    this.#tryElsewhere(endpoint);
  }

  overtaken(now: number): void {
    const endpoint = this.#endpoint;
    const hasWaited = now - this.askedAt > this.#mayTakeMs / 4;
    if (endpoint === undefined || !hasWaited || this.#wasOvertaken || !this.question.isSafe) return;
    if (this.#state === "forsaken") return;
    this.#wasOvertaken = true;
    this.#context.complaints.overtaken(endpoint.address.url);
    this.#turnFrom(endpoint);
    this.#askOnceMore(endpoint);
  }

  late(): void {
    this.#context.gate.setAside(this);
  }

  onHead(head: AnswerHead): void {
    this.#endpoint?.settled(this, true);
    this.#held.begin(head);
  }

  onWholeBody(text: string): void {
    this.#held.setWhole(text);
  }

  onBody(chunk: Buffer): void {
    if (this.#stream !== undefined) {
      this.#stream.part(chunk);
      return;
    }
    this.#held.add(chunk);
    if (this.#held.size <= HELD_WHOLE_BYTES) return;
    if (this.#state === "forsaken") this.#cancel();
    else this.#beginStream();
  }

  onEnd(): void {
    const endpoint = this.#endpoint;
    if (endpoint === undefined) return;
    if (endpoint.state !== "healthy") endpoint.markHealthy();
    if (this.#stream !== undefined || this.#state === "forsaken") {
      this.#land();
      this.#stream?.finish();
      return;
    }
    const { status } = this.#held.head;
    if (status === 403 && this.#tryOtherSecret(endpoint)) return;
    if (status !== 403) endpoint.secretIndex = this.#route.secretIndex;
    if (isPerhapsItsOwn(status) && !this.#hasFailed && this.#mayGoElsewhere(endpoint)) {
      this.#held.forget();
      this.#askOnceMore(endpoint);
      return;
    }
    const answer = this.#held.take();
    if (status === 503 && this.question.isSafe) {
      this.#unavailable = answer;
      this.#tryElsewhere(endpoint);
      return;
    }
    if (this.#line !== undefined && this.guest.lastLine?.line !== this.#line)
      this.guest.lastLine = { endpoint, line: this.#line };
    this.guest.answeredAt = endpoint.answeredAt;
    this.#land();
    const { cacheTtlMs } = this.#context.settings;
    if (this.isShared) this.guest.answers.keep(this.question, answer, this.#generation, cacheTtlMs);
    for (const waiter of this.waiters.splice(0)) waiter.answer(answer);
  }

  onFailure(kind: FailureKind, error: Error): void {
    const endpoint = this.#endpoint;
    if (endpoint === undefined) return;
    endpoint.settled(this, false);
    const { hasHead } = this.#held;
    this.#held.forget();
    if (this.#stream !== undefined || this.#state === "forsaken") {
      this.#land();
      this.#stream?.reset();
      return;
    }
    const remedy = remedyFor(kind, this.question.isSafe, this.#hasFailed, hasHead);
    if (kind === "unsent") endpoint.eject(error.message, performance.now());
    else if (remedy !== "refuse" && kind !== "stale") endpoint.suspect();
    if (remedy === "elsewhere") this.#tryElsewhere(endpoint);
    else if (remedy === "again") this.#ask(true);
    else if (remedy === "once more") this.#askOnceMore(endpoint);
    else if (remedy === "reset") this.#end((waiter) => waiter.reset());
    else {
      this.#context.complaints.novaFailed(this.share, endpoint.address.url, kind, error.message);
      this.#end((waiter) => waiter.refuse(502, "nova failed to answer this request"));
    }
  }

  #askOnceMore(endpoint: Endpoint): void {
    this.#hasFailed = true;
    if (this.#mayGoElsewhere(endpoint)) this.#tryElsewhere(endpoint);
    else this.#ask(true);
  }

  /** Asks the best endpoint that is left. @param cold Over a connection that cannot have gone stale. */
  #ask(cold: boolean): void {
    const { settings, upstream } = this.#context;
    const ranking = this.guest.ranking(upstream);
    const endpoint = this.#route.next(
      ranking,
      cold || this.#route.isOnOtherSecret ? this.#endpoint : undefined,
    );
    if (endpoint === undefined) {
      this.#retryLater();
      return;
    }
    this.#route.arrive(endpoint);
    this.#endpoint = endpoint;
    this.#context.gate.move(this, endpoint.lane);
    const { method, headers, headerLines, body, isSafe } = this.question;
    const path = endpoint.address.basePath + this.question.path;
    const wants = { cold: cold || !isSafe, bodiless: body === undefined && isSafe };
    this.#line = endpoint.borrow(this.guest.lineTo(endpoint), wants);
    const identity = this.guest.identity(settings, this.#route.secretIndex);
    this.askedAt = performance.now();
    this.effort = this.guest.effortFor(this.question.path, endpoint, this.askedAt);
    endpoint.asked(this);
    this.#line.ask({ method, path, headers, headerLines, body, identity }, this);
    if (this.effort === "slow") this.late(); // nova waits for somebody else, and does nothing
  }

  #mayGoElsewhere(endpoint: Endpoint): boolean {
    return this.question.isSafe && this.#route.leadsOn(this.guest.ranking(this.#context.upstream), endpoint);
  }

  /** Stops waiting for what was asked there. */
  #turnFrom(endpoint: Endpoint): void {
    endpoint.settled(this, false);
    this.#line?.abandon();
  }

  #tryElsewhere(endpoint: Endpoint): void {
    this.#route.leave(endpoint);
    this.#ask(false);
  }

  #tryOtherSecret(endpoint: Endpoint): boolean {
    if (this.#route.isOnOtherSecret || this.#context.settings.previousSharedSecret === undefined) {
      this.#context.complaints.secretsDiffer(endpoint.address.url);
      return false;
    }
    this.#held.forget();
    this.#route.turnSecret();
    this.#ask(false);
    return true;
  }

  /** Every endpoint has been tried: waits a little, without its place at the gate. */
  #retryLater(): void {
    this.#context.gate.leave(this);
    this.#endpoint = undefined;
    this.#line = undefined;
    this.#state = "retrying";
    this.dueAt = performance.now() + Math.min(MIN_RETRY_MS << this.#route.rounds, MAX_RETRY_MS);
    this.#route.startOver();
    this.#context.timed.add(this);
  }

  #beginStream(): void {
    const [first, ...rest] = this.waiters.splice(0);
    if (first === undefined) return;
    this.waiters.push(first);
    this.#stream = new Stream(first, this.#line);
    this.dueAt = performance.now() + QUICK_MS;
    this.#context.timed.add(this);
    if (this.isShared) this.guest.withdraw(this);
    this.#stream.begin(this.#held.head, this.#held.takeChunks());
    for (const waiter of rest) waiter.askAlone();
  }

  /** It goes out no faster than its guest reads, and others must not wait for that. */
  #trickle(): void {
    this.dueAt += QUICK_MS;
    if (!this.#context.gate.trickle(this)) return;
    this.#state = "trickling";
    this.#context.timed.delete(this);
  }

  #end(tell: (waiter: Waiter) => void): void {
    this.#land();
    for (const waiter of this.waiters.splice(0)) tell(waiter);
  }

  /** Gives back what it held. */
  #land(): void {
    if (this.isShared) this.guest.withdraw(this);
    // Who asked while it was being carried out may have been answered from before it.
    if (!this.question.isSafe) this.guest.forgetAnswers();
    this.#state = "done";
    this.#stream?.leaveLine();
    this.#endpoint?.settled(this, false);
    this.#endpoint = undefined;
    this.#context.timed.delete(this);
    this.#context.gate.leave(this);
  }

  /**
   * Nobody waits any longer, but nova works on what it was asked all the same. It is heard out, in its place at the gate:
   * who asks and hangs up, again and again, has nova do no more at a time than who waits. Not for so long that a
   * guest's next request would wait in vain for a place.
   */
  #forsake(): void {
    if (this.#state !== "asking" || this.#stream !== undefined) {
      this.#cancel();
      return;
    }
    this.#state = "forsaken";
    if (this.isShared) this.guest.withdraw(this);
    this.dueAt = this.askedAt + this.#mayTakeMs / 2;
    this.#context.timed.add(this);
  }

  #cancel(): void {
    if (this.#state === "done") return;
    this.#land();
    this.#line?.abandon();
  }
}

/** Nova's documents end at 64 KiB; what is held whole can be shown as broken before a byte of it went out. */
const HELD_WHOLE_BYTES = 256 * 1024;
const BUSY = "this agent has as much at nova as it may at the moment";
/** For so long an answer that is not held has its place at nova, whoever reads it. */
const QUICK_MS = 500;
const [MIN_RETRY_MS, MAX_RETRY_MS] = [50, 400];
