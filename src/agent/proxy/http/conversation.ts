import type { Socket } from "node:net";
import type { AnswerHead } from "./answer-head.ts";
import { type Outlet, Reply } from "./reply.ts";
import type { RequestEvents, RequestHead, RequestParser, RequestParsers } from "./request-parser.ts";

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
  /** The connection is gone. */
  closed(): void;
}

/** Why there is no request in what a guest sent. */
export type Fault = "not-http" | "head-too-large" | "too-late" | "too-many" | "connect";

/** A guest's TCP connection as HTTP/1: requests come out of it, and the answers go back in the same order. */
export class Conversation implements RequestEvents, Outlet {
  readonly socket: Socket;
  readonly #handler: ConversationHandler;
  readonly #parsers: RequestParsers;
  readonly #parser: RequestParser;
  /** The oldest first; all that are not complete and written. */
  readonly #replies: Reply[] = [];
  /** The one whose request is being read. */
  #reading: Reply | undefined;
  #body: BodyListener | undefined;
  /** Milliseconds; since then a request is being waited for or read. 0 while none is. */
  #since: number;
  #mayAskMore = true;
  #isPaused = false;

  constructor(socket: Socket, parsers: RequestParsers, handler: ConversationHandler, now: number) {
    this.socket = socket;
    this.#handler = handler;
    this.#parsers = parsers;
    this.#parser = parsers.take(socket, this);
    this.#since = now;
    (socket as GuestSocket)[CONVERSATION] = this; // ours alone, by a symbol
    socket.on("end", onEnd);
    socket.on("error", onError);
    socket.on("close", onClose);
  }

  /** Whether a guest has taken longer over a request than it may. */
  isLate(now: number): boolean {
    if (this.#since === 0 || !this.#mayAskMore) return false;
    return now - this.#since > (this.#reading === undefined ? HEAD_MS : REQUEST_MS);
  }

  /** Ends the reading of what does not come. */
  tooLate(): void {
    this.#fault("too-late");
  }

  /** An answer to what is no request, after those to all requests before it, and the end. */
  refuse(head: AnswerHead, body: string): void {
    const reply = new Reply(this, NO_REQUEST);
    this.#replies.push(reply);
    reply.whole(head, body);
  }

  requestBegan(): void {
    this.#since = performance.now();
  }

  headRead(head: RequestHead): void {
    if (!this.#mayAskMore || this.socket.destroyed) return;
    if (head.method === "CONNECT") {
      this.#fault("connect");
      return;
    }
    if (this.#replies.length >= MAX_PIPELINED) {
      this.#fault("too-many");
      return;
    }
    const reply = new Reply(this, head);
    this.#replies.push(reply);
    this.#reading = reply;
    this.#body = this.#handler.requested(head, reply);
  }

  bodyRead(part: Buffer): void {
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

  unreadable({ code }: NodeJS.ErrnoException): void {
    this.#fault(code === "HPE_HEADER_OVERFLOW" ? "head-too-large" : "not-http");
  }

  isNext(reply: Reply): boolean {
    return this.#replies[0] === reply;
  }

  write(data: string | Buffer): boolean {
    const { socket } = this;
    if (!socket.writable) return true;
    const isWanted = typeof data === "string" ? socket.write(data, "latin1") : socket.write(data);
    // Who does not read its answers is not asked for more requests.
    if (!isWanted && !this.#isPaused) {
      this.#isPaused = true;
      this.#parser.pause();
      socket.once("drain", onDrain);
    }
    return isWanted;
  }

  together(writes: () => void): void {
    this.socket.cork();
    writes();
    this.socket.uncork();
  }

  ended(reply: Reply): void {
    this.#replies.shift();
    if (!reply.keepsAlive) {
      this.#replies.length = 0;
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
    if (!this.socket.destroyed) this.#parser.resume();
    this.#replies[0]?.onDrain?.();
  }

  closed(): void {
    this.#mayAskMore = false;
    this.#parsers.give(this.#parser);
    this.#handler.closed();
  }

  #fault(fault: Fault): void {
    if (!this.#mayAskMore || this.socket.destroyed) return;
    this.#mayAskMore = false;
    this.#handler.malformed(fault);
  }

  /** @param isQuiet Nothing of the guest can be on its way, which the kernel would answer with a reset. */
  #hangUp(isQuiet = false): void {
    // What the kernel has taken goes out after this too, and it is half the cost of an orderly farewell.
    if (isQuiet && this.socket.writableLength === 0) this.socket.destroy();
    else this.socket.destroySoon();
  }
}

/** On the socket itself: functions for each of its events, once for all, instead of some for each socket. */
const CONVERSATION = Symbol("conversation");

interface GuestSocket extends Socket {
  [CONVERSATION]?: Conversation;
}

function onEnd(this: GuestSocket): void {
  this[CONVERSATION]?.guestEnded();
}

function onDrain(this: GuestSocket): void {
  this[CONVERSATION]?.drained();
}

function onError(this: GuestSocket): void {
  this.destroy();
}

function onClose(this: GuestSocket): void {
  this[CONVERSATION]?.closed();
}

/** What a refusal answers. */
const NO_REQUEST = { method: "", minor: 1, keepsAlive: false };
/** Requests of one connection that are not answered. */
const MAX_PIPELINED = 64;
/** For the head of a request, from its first byte or from the connection's. */
const HEAD_MS = 10_000;
/** For all of a request. */
const REQUEST_MS = 15_000;
