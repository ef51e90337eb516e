import type { Socket } from "node:net";
import type { Tenure } from "../ports/tenure.ts";
import type { Guest } from "./guest.ts";
import {
  type BodyListener,
  Conversation,
  type ConversationHandler,
  type Fault,
} from "./http/conversation.ts";
import type { Reply } from "./http/reply.ts";
import type { RequestHead, RequestParsers } from "./http/request-parser.ts";
import { removeFrom } from "./lists.ts";
import type { Outbox } from "./outbox.ts";
import type { PortShare, SharedConnection } from "./port-share.ts";

/** Who is who, as a connection needs to know it. */
export interface Register {
  /** Counts the changes of the port table: what was looked up at the same count still holds. */
  readonly version: number;
  readonly outbox: Outbox;
  tenureOf(peerAddress: string): Tenure | undefined;
  /** A share has lost a connection. */
  left(share: PortShare): void;
  guestOf(tenure: Tenure): Guest;
  /** The share of a port, or of an address that no port is known of. */
  shareOf(name: string): PortShare;
  requested(connection: Connection, head: RequestHead, reply: Reply): BodyListener | undefined;
  malformed(connection: Connection, fault: Fault): void;
  /** Less of a port's answers waits to be read. */
  roomMade(share: PortShare): void;
  closed(connection: Connection): void;
}

/** A request that has not been answered. */
export interface PendingRequest {
  /** Whether asking twice is the same as asking once. */
  readonly isSafe: boolean;
  /** Milliseconds. */
  readonly deadlineAt: number;
  abandon(): void;
  /** Its time is up. */
  expire(): void;
  /** The rest of it cannot be read. False when it is whole already. */
  spoil(status: number, text: string): boolean;
  /** One that came before it on the same connection has been answered. */
  earlierSettled(): void;
}

/** One TCP connection of a guest: whose it is, and what of it is unanswered. */
export class Connection implements SharedConnection, ConversationHandler {
  readonly socket: Socket;
  readonly peerAddress: string;
  readonly conversation: Conversation;
  readonly pending: PendingRequest[] = [];
  /** Its place among all connections of the proxy. */
  index = 0;
  /** Milliseconds; since then nothing is being asked over it. */
  idleSince: number;
  share: PortShare;
  #guest: Guest | undefined;
  #version = -1;
  readonly #register: Register;
  #written = 0;
  #stuckSince = 0;
  #unsent = 0;

  constructor(socket: Socket, register: Register, parsers: RequestParsers, now: number) {
    this.socket = socket;
    this.peerAddress = socket.remoteAddress ?? "";
    this.#register = register;
    this.idleSince = now;
    const tenure = register.tenureOf(this.peerAddress);
    this.share = register.shareOf(tenure?.portId ?? this.peerAddress);
    this.share.connections.push(this);
    this.conversation = new Conversation(socket, parsers, register.outbox, this, now);
  }

  requested(head: RequestHead, reply: Reply): BodyListener | undefined {
    return this.#register.requested(this, head, reply);
  }

  malformed(fault: Fault): void {
    this.#register.malformed(this, fault);
  }

  unsent(bytes: number): void {
    const isLess = bytes < this.#unsent;
    this.share.addUnsent(bytes - this.#unsent);
    this.#unsent = bytes;
    if (isLess) this.#register.roomMade(this.share);
  }

  hungUp(): void {
    for (const request of [...this.pending]) request.abandon();
  }

  closed(): void {
    removeFrom(this.share.connections, this);
    this.hungUp();
    this.unsent(0);
    this.#register.closed(this);
  }

  /**
   * Whose connection it is *now*. A connection whose tenure has ended, or whose address has become another
   * port's, is reset: what comes out of it was meant for somebody else.
   */
  guest(): Guest | undefined {
    if (this.#version === this.#register.version && this.#guest?.ended !== true) return this.#guest;
    this.#version = this.#register.version;
    const tenure = this.#register.tenureOf(this.peerAddress);
    const before = this.#guest;
    if (before !== undefined && (before.ended || tenure?.portId !== before.tenure.portId)) {
      this.#guest = undefined;
      this.socket.resetAndDestroy();
      return undefined;
    }
    if (tenure === undefined || tenure === before?.tenure) return before;
    const guest = this.#register.guestOf(tenure);
    if (guest.ended) {
      this.socket.resetAndDestroy();
      return undefined;
    }
    this.#guest = guest;
    this.#join(guest.share);
    return guest;
  }

  /**
   * Whether a request may be asked beside those before it: only where it does not matter which is first.
   *
   * @source RFC 9112 §9.3.2
   */
  isTurnOf(request: PendingRequest): boolean {
    if (this.pending[0] === request) return true;
    const before = this.pending.slice(0, this.pending.indexOf(request));
    return request.isSafe && before.every(({ isSafe }) => isSafe);
  }

  belongsTo(tenure: Tenure): boolean {
    return this.#guest?.tenure === tenure || this.#register.tenureOf(this.peerAddress) === tenure;
  }

  cut(): void {
    this.conversation.cut();
  }

  /** Whether an answer is waiting to be read and none of it has been for that long. */
  isStuck(now: number, forMs: number): boolean {
    const { writableLength } = this.socket;
    const sent = writableLength === 0 ? 0 : this.socket.bytesWritten - writableLength;
    if (writableLength === 0 || sent !== this.#written) {
      this.#written = sent;
      this.#stuckSince = now;
    }
    return now - this.#stuckSince > forMs;
  }

  #join(share: PortShare): void {
    const before = this.share;
    if (share === before) return;
    removeFrom(before.connections, this);
    before.addUnsent(-this.#unsent);
    share.addUnsent(this.#unsent);
    this.share = share;
    share.connections.push(this);
    this.#register.left(before);
  }
}
