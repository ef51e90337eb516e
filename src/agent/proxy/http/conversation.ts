import type { Socket } from "node:net";
import type { Outbox, Sender } from "../outbox.ts";
import type { AnswerHead } from "./answer-head.ts";
import { type Outlet, Reply } from "./reply.ts";
import type { RequestEvents, RequestHead, RequestParser, RequestParsers } from "./request-parser.ts";
import { type SocketEvents, tellDrained, tellSocketEvents } from "./socket-events.ts";

/** Hears the body of one request. */
export interface BodyListener {
  /** The bytes are the listener's own. */
  bodyPart(part: Buffer): void;
  bodyWhole(): void;
}

/** What comes of a conversation. */
export interface ConversationHandler {
  /** @returns Who hears the body, if anybody is to. */
  requested(head: RequestHead, reply: Reply): BodyListener | undefined;
  /** What came is no request, or the rest of one does not come; nothing more is read. */
  malformed(fault: Fault): void;
  /** So many bytes of answers wait here for the guest to read what is before them. Small amounts are not told. */
  unsent(bytes: number): void;
  /** The last answer has been written: requests that have none get none. */
  hungUp(): void;
  /** The connection is gone. */
  closed(): void;
}

/** Why there is no request in what a guest sent. */
export type Fault = "not-http" | "head-too-large" | "too-late" | "too-many" | "connect";

/** A guest's TCP connection as HTTP/1: requests come out of it, and the answers go back in the same order. */
export class Conversation implements RequestEvents, SocketEvents, Outlet, Sender {
  readonly socket: Socket;
  readonly #handler: ConversationHandler;
  readonly #parsers: RequestParsers;
  readonly #parser: RequestParser;
  readonly #outbox: Outbox;
  /** The oldest first; all that are not complete and written. */
  readonly #replies: Reply[] = [];
  /** The one whose request is being read. */
  #reading: Reply | undefined;
  #body: BodyListener | undefined;
  /** Milliseconds; since then a request is being waited for or read. 0 while none is. */
  #since: number;
  /** Of requests, in what was received last. */
  #headsInPiece = 0;
  #mayAskMore = true;
  #isPaused = false;
  /** Milliseconds; since then it reads, as far as it does. */
  #readsSince: number;
  /** Bytes of answers, since the connection was made. */
  #written = 0;
  /** Small answers, until the turn in which they are written ends. */
  #unsent = "";
  /** Where it is hung up as soon as those are sent: whether that is quiet. */
  #leavesQuiet: boolean | undefined;
  /** Bytes of answers whose turn has not come. */
  #kept = 0;
  /** How much had been read when the farewell was said; only then. */
  #readAtFarewell: number | undefined;
  /** Milliseconds; when everything was found to be written after that. */
  #lingersSince: number | undefined;

  constructor(
    socket: Socket,
    parsers: RequestParsers,
    outbox: Outbox,
    handler: ConversationHandler,
    now: number,
  ) {
    this.socket = socket;
    this.#outbox = outbox;
    this.#handler = handler;
    this.#parsers = parsers;
    this.#parser = parsers.take(socket, this);
    this.#since = now;
    this.#readsSince = now;
    tellSocketEvents(socket, this);
  }

  /** Whether nothing more can be answered, though what was answered last may still be on its way out. */
  get isOver(): boolean {
    return this.#leavesQuiet !== undefined || !this.socket.writable;
  }

  /** Breaks it off, behind the answers that are complete. */
  reset(): void {
    this.flush();
    this.socket.resetAndDestroy();
  }

  /** Whether a request has begun to arrive, or the first one is being waited for. */
  get isReading(): boolean {
    return this.#since !== 0;
  }

  /** Milliseconds. What a guest sent before then may have come only now, for it was not read: that is not its lateness. */
  get readsSince(): number {
    return this.#isPaused ? performance.now() : this.#readsSince;
  }

  /** Whether a guest has taken longer over a request than it may. */
  isLate(now: number): boolean {
    if (this.#since === 0 || !this.#mayAskMore || this.#isPaused) return false;
    const since = Math.max(this.#since, this.#readsSince);
    return now - since > (this.#reading === undefined ? HEAD_MS : REQUEST_MS);
  }

  /** Whether a guest has had its time to take the last answer and to leave. */
  hasLingered(now: number): boolean {
    if (this.#readAtFarewell === undefined || !this.socket.writableFinished) return false;
    this.#lingersSince ??= now;
    return now - this.#lingersSince > LINGER_MS;
  }

  /** Ends the reading of what does not come. */
  tooLate(): void {
    this.#fault("too-late");
  }

  /** An answer to what is no request, after those to all requests before it, and the end. */
  refuse({ head, body }: { readonly head: AnswerHead; readonly body: string | Buffer }): void {
    const reply = new Reply(this, NO_REQUEST);
    this.#replies.push(reply);
    reply.whole(head, body);
  }

  /** Ends it now: by a reset where the guest could take what it got of an answer for the whole. */
  cut(): void {
    this.flush();
    if (this.socket.writableLength > 0 || this.#replies[0]?.hasBegun === true) this.socket.resetAndDestroy();
    else this.socket.destroy();
  }

  /** Ends it when what has been written is out. */
  leave(): void {
    this.#mayAskMore = false;
    this.flush();
    if (this.socket.writableLength > 0) this.#hangUp();
    else if (this.#readAtFarewell === undefined) this.socket.destroy();
  }

  requestBegan(): void {
    this.#since = performance.now();
  }

  headRead(head: RequestHead): void {
    this.#discard();
    if (!this.#mayAskMore || this.socket.destroyed) return;
    if (head.method === "CONNECT") {
      this.#fault("connect");
      return;
    }
    // What is refused is answered at once, and a piece may hold thousands: everybody else would wait for all of them.
    this.#headsInPiece++;
    if (this.#replies.length >= MAX_PIPELINED || this.#headsInPiece > MAX_PIPELINED) {
      this.#fault("too-many");
      return;
    }
    const reply = new Reply(this, head);
    this.#replies.push(reply);
    this.#reading = reply;
    this.#body = this.#handler.requested(head, reply);
  }

  bodyRead(part: Buffer): void {
    this.#discard();
    this.#body?.bodyPart(part);
  }

  requestRead(): void {
    this.#since = 0;
    const body = this.#body;
    // Some clients send a line end too many after a body.
    if (this.#reading !== undefined) this.#reading.isRequestOver = body === undefined;
    this.#reading = undefined;
    this.#body = undefined;
    body?.bodyWhole();
  }

  pieceRead(): void {
    this.#headsInPiece = 0;
  }

  unreadable({ code }: NodeJS.ErrnoException): void {
    this.#discard();
    this.#fault(code === "HPE_HEADER_OVERFLOW" ? "head-too-large" : "not-http");
  }

  isNext(reply: Reply): boolean {
    return this.#replies[0] === reply;
  }

  write(data: string | Buffer): boolean {
    if (!this.socket.writable) return true;
    this.#written += data.length;
    const isSmall = typeof data === "string" && this.#unsent.length + data.length <= AT_ONCE_BYTES;
    if (isSmall && this.socket.writableCorked === 0) {
      if (this.#unsent === "") this.#outbox.add(this);
      this.#unsent += data;
      return true;
    }
    this.flush();
    return this.#send(data);
  }

  flush(): void {
    const data = this.#unsent;
    this.#unsent = "";
    if (data !== "" && this.socket.writable) this.#send(data);
    if (this.#leavesQuiet !== undefined) this.#hangUp(this.#leavesQuiet);
  }

  #send(data: string | Buffer): boolean {
    const isWanted = this.socket.write(data, "latin1");
    // Who does not read its answers is not asked for more requests.
    if (!isWanted && !this.#isPaused) {
      this.#isPaused = true;
      this.#parser.pause();
      tellDrained(this.socket);
    }
    if (!isWanted) this.#tellUnsent();
    return isWanted;
  }

  kept(bytes: number): void {
    this.#kept += bytes;
    this.#tellUnsent();
  }

  together(writes: () => void): void {
    this.socket.cork();
    this.flush();
    writes();
    this.socket.uncork();
  }

  ended(reply: Reply): void {
    this.#replies.shift();
    if (!reply.keepsAlive) {
      // Not at once: the one that has just ended is still being settled.
      if (this.#replies.length > 0) queueMicrotask(() => this.#handler.hungUp());
      this.#replies.length = 0;
      this.#kept = 0;
      this.#mayAskMore = false;
      this.#hangUp(reply.isRequestOver);
    } else if (this.#replies.length > 0) {
      this.#replies[0]?.release();
    } else if (!this.#mayAskMore) {
      this.#hangUp();
    }
  }

  /** The guest sends no more. It may still listen. */
  guestEnded(): void {
    if (!this.#mayAskMore) return;
    if (this.#parser.finish() !== undefined) {
      this.#fault("not-http");
      return;
    }
    this.#mayAskMore = false;
    const last = this.#replies.at(-1);
    if (last === undefined) this.#hangUp();
    else last.keepsAlive = false;
  }

  drained(): void {
    this.#isPaused = false;
    this.#readsSince = performance.now();
    this.#tellUnsent();
    if (!this.socket.destroyed) this.#parser.resume();
    this.#replies[0]?.onDrain?.();
  }

  closed(): void {
    this.#mayAskMore = false;
    this.#parsers.give(this.#parser);
    this.#handler.closed();
  }

  #tellUnsent(): void {
    this.#handler.unsent(this.#kept + this.socket.writableLength);
  }

  #fault(fault: Fault): void {
    if (!this.#mayAskMore || this.socket.destroyed) return;
    this.#mayAskMore = false;
    this.#handler.malformed(fault);
  }

  /**
   * Closed with input unread, or with input on its way, the kernel sends a reset and throws away what the guest has not
   * taken yet. So it is read on for a while, to be thrown away here.
   *
   * @param isQuiet Nothing that belongs to a request of the guest can be on its way.
   * @source RFC 9112 §9.6
   */
  #hangUp(isQuiet = false): void {
    const { socket } = this;
    if (this.#readAtFarewell !== undefined) return;
    if (this.#unsent !== "") {
      this.#leavesQuiet = isQuiet;
      return;
    }
    // What went out at once has arrived before any reset would, and this is half the cost of an orderly farewell.
    if (isQuiet && this.#written <= AT_ONCE_BYTES && socket.writableLength === 0) {
      socket.destroy();
      return;
    }
    this.#readAtFarewell = socket.bytesRead;
    // There is no "drain" any more.
    socket.end(() => this.#tellUnsent());
    if (this.#isPaused) this.#parser.resume();
  }

  /** Who floods after the farewell is read no further, but may still take its answer. */
  #discard(): void {
    const before = this.#readAtFarewell ?? Number.POSITIVE_INFINITY;
    if (this.socket.bytesRead - before > MAX_DISCARDED_BYTES) this.#parser.pause();
  }
}

/** What a refusal answers. */
const NO_REQUEST = { method: "", minor: 1, keepsAlive: false };
/** Requests of one connection that are not answered, or come in one piece. */
const MAX_PIPELINED = 64;
/** For the head of a request, from its first byte or from the connection's. */
const HEAD_MS = 10_000;
/** For all of a request. */
const REQUEST_MS = 15_000;
/** What the first flight of a connection holds. @source RFC 6928: ten segments */
const AT_ONCE_BYTES = 14_000;
/** After the last answer and the FIN. @source nginx waits as long (lingering_timeout) */
const LINGER_MS = 5_000;
const MAX_DISCARDED_BYTES = 1024 * 1024;
