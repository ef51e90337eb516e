import type { Answer, Joinable, Question, Waiter } from "./answer.ts";
import { BodyCollector, isHopeless } from "./body.ts";
import type { Connection } from "./connection.ts";
import { isSlowDocument } from "./documents.ts";
import { Flight } from "./flight.ts";
import type { FlightContext } from "./flight-context.ts";
import type { Guest } from "./guest.ts";
import { hasExpect, type Screened } from "./headers.ts";
import type { AnswerHead } from "./http/answer-head.ts";
import type { BodyListener } from "./http/conversation.ts";
import type { Reply } from "./http/reply.ts";
import type { RequestHead } from "./http/request-parser.ts";
import { isTokenPath, replyWithToken } from "./imds-token.ts";
import { removeFrom } from "./lists.ts";
import type { Pace } from "./pace.ts";
import type { PortShare } from "./port-share.ts";
import { refusalOf, unknownGuest } from "./refusal.ts";
import { pathOf } from "./target.ts";

/** What a request needs of the proxy. */
export interface Desk {
  readonly context: FlightContext;
  /** Whether the port table is complete. */
  readonly inSync: boolean;
  readonly isDraining: boolean;
  /** Requests that wait for their port to be known. */
  readonly held: Set<GuestRequest>;
  readonly pace: Pace;
  settled(request: GuestRequest, status: number): void;
  count(what: string): void;
}

/** One request of a guest, from its head to the end of its answer. */
export class GuestRequest implements Waiter {
  readonly connection: Connection;
  readonly startedAt: number;
  deadlineAt: number;
  readonly serial: number;
  method: string;
  /** Path and query, or the target as it came where it is none. */
  path: string;
  guest: Guest | undefined;
  readonly #desk: Desk;
  readonly #share: PortShare;
  readonly #reply: Reply;
  #screened: (Screened & { kind: "pass" }) | undefined;
  #body: Buffer | undefined;
  #collector: BodyCollector | undefined;
  #flight: Joinable | undefined;
  /** Of the answer that streams; 0 while none does. */
  #status = 0;
  #alone = false;
  #waitsItsTurn = false;
  #done = false;

  constructor(desk: Desk, connection: Connection, head: RequestHead, reply: Reply, serial: number) {
    this.#desk = desk;
    this.connection = connection;
    this.#share = connection.share;
    this.#reply = reply;
    this.serial = serial;
    this.method = head.method;
    this.path = head.target;
    this.startedAt = performance.now();
    this.deadlineAt = this.startedAt + desk.context.settings.holdMs;
    if (desk.isDraining) reply.keepsAlive = false;
    connection.pending.push(this);
    this.#share.pending++;
  }

  /** @returns Who hears its body, if it has one that is wanted. */
  receive({ major, minor, headers }: RequestHead): BodyListener | undefined {
    if (this.#share.pending > MAX_PENDING) return this.refuse(503, "too many requests at once");
    if (major !== 1 || minor > 1) return this.refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    const screened = this.#share.knownHeaders.screen(headers, minor === 1);
    if (screened.kind === "refuse") return this.refuse(screened.status, screened.reason, hasExpect(headers));
    const expects = minor === 1 ? screened.expects?.toLowerCase() : undefined;
    // Who is not told to go on sends no body, so where the next request begins could not be known.
    const closes = expects !== undefined && screened.bodyLength !== 0;
    if (expects !== undefined && expects !== CONTINUE)
      return this.refuse(417, "only 100-continue may be expected", closes);
    const path = pathOf(this.path);
    if (path === undefined) return this.refuse(400, "the request target is not a path", closes);
    this.path = path;
    this.#screened = screened;
    if (screened.bodyLength !== 0) return this.#collect(screened.bodyLength, expects !== undefined);
    this.identify();
    return undefined;
  }

  /** Goes on as the port's guest, or waits until there is one. */
  identify(): void {
    const guest = this.connection.guest();
    if (this.#done) return;
    if (guest === undefined || !guest.isServable) {
      this.guest = guest;
      this.#desk.held.add(this);
      return;
    }
    this.#desk.held.delete(this);
    this.guest = guest;
    const { settings, complaints } = this.#desk.context;
    const pace = this.#desk.pace.admit(this, guest.share, this.startedAt, settings);
    if (pace === "now") {
      this.proceed();
      return;
    }
    this.#desk.count("delayed");
    if (!guest.share.readsTooLittle) complaints.asksTooMuch(guest.share, settings.requestsPerSecond);
    if (pace === "never") this.refuse(429, "this port asks too much");
  }

  /** The port's limits have let it through. */
  proceed(): void {
    const { guest, connection } = this;
    if (this.#done || guest === undefined) return;
    if (connection.guest() !== guest) {
      this.identify();
    } else if (!connection.isTurnOf(this)) {
      this.#waitsItsTurn = true;
    } else if (isTokenPath(this.path)) {
      this.#giveToken(guest);
    } else if (this.#mayPass(guest)) {
      this.#ask(guest);
    }
  }

  earlierSettled(): void {
    // Where the connection ends, nobody would hear the answer; where its time is over, it is told so.
    if (!this.#waitsItsTurn || this.connection.conversation.isOver || !this.connection.isTurnOf(this)) return;
    if (performance.now() > this.deadlineAt) return;
    this.#waitsItsTurn = false;
    this.proceed();
  }

  /** Its time is up. */
  expire(): void {
    if (this.#flight !== undefined && this.#status !== 0) {
      this.#flight.leave(this);
      this.reset();
    } else if (this.#flight !== undefined) {
      if (!this.#mayTakeLonger(this.#flight)) this.#flight.expire(this);
    } else if (this.#desk.held.has(this)) {
      const { status, text } = unknownGuest(this.guest !== undefined, this.#desk.inSync);
      this.refuse(status, text);
    } else if (this.#waitsItsTurn) {
      this.refuse(503, "an earlier request of this connection is not answered yet");
    } else if (this.#isReading) {
      // What our own back-pressure kept from being read is not late.
      const dueAt = this.connection.conversation.readsSince + this.#desk.context.settings.holdMs;
      if (performance.now() < dueAt) this.deadlineAt = dueAt;
      else this.refuse(408, "the request body did not arrive in time", true);
    } else if (this.guest?.share.heldItselfUp(this.#desk.context.settings.holdMs) === true) {
      this.#novaHasTime();
    } else {
      this.refuse(429, "this port asks too much");
    }
  }

  /** The guest is gone, or must be: nobody hears the answer. */
  abandon(): void {
    if (this.#done) return;
    this.#flight?.leave(this);
    this.#settle(0);
  }

  spoil(status: number, text: string): boolean {
    if (!this.#isReading) return false;
    this.refuse(status, text, true);
    return true;
  }

  answer({ head, body }: Answer): void {
    if (!this.#mayAnswer()) return;
    if (this.#reply.whole(head, body)) this.#settle(head.status);
    else this.refuse(502, UNSENDABLE);
  }

  begin(head: AnswerHead, resume: () => void): void {
    if (!this.#mayAnswer()) return;
    this.#status = head.status;
    this.#reply.onDrain = () => {
      this.#novaHasTime();
      resume();
    };
    if (!this.#reply.begin(head)) {
      this.#flight?.leave(this);
      this.refuse(502, UNSENDABLE);
    }
  }

  part(chunk: Buffer): boolean {
    if (!this.#mayAnswer()) return true;
    const isWanted = this.#reply.part(chunk);
    // While the guest reads, nova is not waited for; a guest that does not is the connection's to end.
    if (isWanted) this.#novaHasTime();
    else this.deadlineAt = Number.POSITIVE_INFINITY;
    return isWanted;
  }

  finish(): void {
    if (!this.#mayAnswer()) return;
    this.#reply.end();
    this.#settle(this.#status);
  }

  refuse(status: number, text: string, closes = false): undefined {
    if (this.#done) return;
    if (closes) this.#reply.keepsAlive = false;
    const { head, body } = refusalOf(status, text, this.serial);
    this.#reply.whole(head, body);
    this.#settle(status);
  }

  reset(): void {
    if (this.#done) return;
    // First, so that nothing is asked for what waits behind it.
    this.connection.conversation.reset();
    this.#settle(0);
  }

  askAlone(): void {
    if (this.#done || this.guest === undefined) return;
    this.#alone = true;
    this.#flight = undefined;
    this.#ask(this.guest);
  }

  /** For the next part of the answer. */
  #novaHasTime(): void {
    this.deadlineAt = performance.now() + this.#desk.context.settings.holdMs;
  }

  get isSafe(): boolean {
    return SAFE.has(this.method);
  }

  get #isReading(): boolean {
    return this.#screened !== undefined && this.#screened.bodyLength !== 0 && this.#body === undefined;
  }

  #collect(announced: number | undefined, expectsContinue: boolean): BodyListener | undefined {
    if (isHopeless(announced, expectsContinue)) return this.refuse(413, TOO_LARGE, true);
    if (expectsContinue) this.#reply.writeContinue();
    this.#collector = new BodyCollector(this.#share, (outcome) => {
      if (outcome.kind === "too-large") return this.refuse(413, TOO_LARGE, !outcome.isRead);
      if (outcome.kind === "over-budget") return this.refuse(503, "this port sends too many bodies at once");
      // What we did not read for a while, nova is asked that much later.
      const { readsSince } = this.connection.conversation;
      this.deadlineAt = Math.max(this.deadlineAt, readsSince + this.#desk.context.settings.holdMs);
      this.#body = outcome.body;
      this.identify();
    });
    return this.#collector;
  }

  /** Nova itself fetches some documents, and is given its time; and what waits for the guest to read is not nova's delay. */
  #mayTakeLonger({ isAtNova }: Joinable): boolean {
    const { holdMs, slowDocumentMs } = this.#desk.context.settings;
    const isGuestsDelay = !isAtNova && this.connection.share.heldItselfUp(holdMs);
    if (isGuestsDelay) this.#novaHasTime();
    if (!isAtNova || !isSlowDocument(this.path)) return isGuestsDelay;
    return performance.now() < this.startedAt + slowDocumentMs;
  }

  #giveToken({ tenure }: Guest): void {
    const { imdsTtl, wasForwarded = false } = this.#screened ?? {};
    const asked = { method: this.method, ttl: imdsTtl, wasForwarded };
    const reply = replyWithToken(asked, this.#desk.context.settings.sharedSecret, tenure);
    if (reply.kind === "refuse") this.refuse(reply.status, reply.reason);
    else this.answer(reply.answer);
  }

  #mayPass(guest: Guest): boolean {
    const { settings } = this.#desk.context;
    const token = this.#screened?.imdsToken;
    if (token === undefined) {
      if (settings.imdsv2 === "optional") return true;
      this.#desk.count("imdsTokenMissing");
      this.refuse(401, "a session token is required: PUT /latest/api/token");
      return false;
    }
    if (guest.holdsToken(settings, token, Date.now())) return true;
    this.#desk.count("imdsTokenInvalid");
    this.refuse(401, "the session token is not valid");
    return false;
  }

  #ask(guest: Guest): void {
    const { context } = this.#desk;
    const { method, path, isSafe } = this;
    const { headers = [], headerLines = "" } = this.#screened ?? {};
    if (!isSafe) guest.forgetAnswers();
    const isShared = isSafe && this.#body === undefined && !this.#alone;
    const question: Question = { method, path, headers, headerLines, body: this.#body, isSafe };
    if (isShared && this.#joined(guest, question)) return;
    const flight = new Flight(context, guest, question, isShared);
    this.#flight = flight;
    flight.start(this);
  }

  /** Whether it shares in an answer that is on its way, or was given a moment ago. */
  #joined(guest: Guest, question: Question): boolean {
    const { settings } = this.#desk.context;
    const flight = guest.flightFor(question, settings);
    if (flight !== undefined) {
      this.#desk.count("coalesced");
      this.#flight = flight;
      flight.waiters.push(this);
      return true;
    }
    const kept = guest.answers.get(question, performance.now());
    if (kept === undefined) return false;
    this.#desk.count("cached");
    this.answer(kept);
    return true;
  }

  /** The last look before bytes go out: is it still the same guest at the other end? */
  #mayAnswer(): boolean {
    if (this.#done) return false;
    const now = this.connection.guest();
    if (now?.isSameAs(this.guest) === true) return true;
    this.connection.socket.resetAndDestroy();
    this.abandon();
    return false;
  }

  #settle(status: number): void {
    if (this.#done) return;
    this.#done = true;
    this.#flight = undefined;
    this.#share.pending--;
    this.#collector?.release();
    this.#body = undefined;
    const { pending } = this.connection;
    removeFrom(pending, this);
    if (pending.length > 0) for (const later of [...pending]) later.earlierSettled();
    this.#desk.held.delete(this);
    this.#desk.settled(this, status);
  }
}

const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);
const CONTINUE = "100-continue";
const UNSENDABLE = "nova's answer cannot be passed on";
const TOO_LARGE = "the request body is larger than 64 KiB";
/** Of one port, unanswered. */
const MAX_PENDING = 4096;
