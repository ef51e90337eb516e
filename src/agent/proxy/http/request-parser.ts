import { HTTPParser, type SocketHandle } from "node:_http_common";
import { METHODS } from "node:http";
import type { Socket } from "node:net";
import { ProxyError } from "../error.ts";

/** The head of a request, as the guest sent it. */
export interface RequestHead {
  readonly method: string;
  /** Byte for byte, one character each. */
  readonly target: string;
  /** Name, value, name, value; in the order and letter case of the guest. */
  readonly headers: readonly string[];
  readonly major: number;
  readonly minor: number;
  /** Whether the guest wants to ask more over its connection. */
  readonly keepsAlive: boolean;
}

/** Hears what is read of one connection. */
export interface RequestEvents {
  /** The first byte of a request. */
  requestBegan(): void;
  headRead(head: RequestHead): void;
  /** The bytes are the listener's own. */
  bodyRead(part: Buffer): void;
  requestRead(): void;
  /** All requests that came in one piece have been heard: others may be heard before the next. */
  pieceRead(): void;
  /** What came is no request. Nothing more is to be made of what is read. */
  unreadable(error: NodeJS.ErrnoException): void;
}

/**
 * The parser of node:http (llhttp, as strict as it comes), put on sockets as node:http puts it there, but without the
 * objects that node:http makes around each connection and each request: they cost more than everything else here.
 *
 * @source measured, a connection for each request: a constant answer costs 170 µs of CPU with node:http, 105 µs so;
 *   haproxy as Neutron configures it, which does ask an upstream, 183 µs
 */
export class RequestParsers {
  readonly #methods: readonly string[];
  readonly #idle: RequestParser[] = [];

  /** @throws {ProxyError} `unknown-node` where node's parser is not the one that this was written for. */
  constructor() {
    this.#methods = learnMethods();
  }

  /** @returns One that reads what this socket receives from now on. */
  take(socket: Socket, events: RequestEvents): RequestParser {
    const parser = this.#idle.pop() ?? new RequestParser(this.#methods);
    parser.begin(socket, events);
    return parser;
  }

  /** Takes one back whose socket is closed. */
  give(parser: RequestParser): void {
    parser.stop();
    if (this.#idle.length < MAX_IDLE) this.#idle.push(parser);
  }
}

/** Reads one connection after another. */
export class RequestParser {
  readonly #parser = new HTTPParser();
  #events: RequestEvents | undefined;
  #handle: SocketHandle | undefined;
  /** Headers come thirty-two at a time. */
  #headers: string[] | undefined;
  #target = "";
  /** Whether it may stop before the end of what was received: from the first request to upgrade on, whose body may be yet to come. */
  #stopsEarly = false;

  constructor(methods: readonly string[]) {
    this.#parser[HTTPParser.kOnMessageBegin] = () => {
      this.#headers = undefined;
      this.#target = "";
      this.#events?.requestBegan();
    };
    this.#parser[HTTPParser.kOnHeaders] = (headers: string[], target: string) => {
      this.#headers = this.#headers === undefined ? headers : this.#headers.concat(headers);
      this.#target += target;
    };
    this.#parser[HTTPParser.kOnHeadersComplete] = (
      major: number,
      minor: number,
      headers: string[] | undefined,
      method: number,
      target: string | undefined,
      _status: undefined,
      _statusText: undefined,
      upgrades: boolean,
      keepsAlive: boolean,
    ) => {
      if (upgrades) this.#stopsEarly = true;
      const name = methods[method];
      if (name === undefined) {
        this.#events?.unreadable(NO_METHOD);
        return READ_ON;
      }
      this.#events?.headRead({
        method: name,
        target: target ?? this.#target,
        headers: headers ?? this.#headers ?? [],
        major,
        minor,
        keepsAlive,
      });
      return READ_ON;
    };
    this.#parser[HTTPParser.kOnBody] = (part: Buffer) => this.#events?.bodyRead(part);
    this.#parser[HTTPParser.kOnMessageComplete] = () => this.#events?.requestRead();
    this.#parser[HTTPParser.kOnExecute] = (read: number | NodeJS.ErrnoException) => this.#executed(read);
  }

  begin(socket: Socket, events: RequestEvents): void {
    this.#events = events;
    this.#handle = handleOf(socket);
    this.#stopsEarly = false;
    this.#parser.initialize(HTTPParser.REQUEST, this.#parser, MAX_HEAD_BYTES, HTTPParser.kLenientNone);
    this.#parser.consume(this.#handle);
  }

  stop(): void {
    this.#parser.unconsume();
    this.#events = undefined;
    this.#handle = undefined;
    this.#headers = undefined;
  }

  /** Reads no more for now. */
  pause(): void {
    this.#handle?.readStop();
  }

  resume(): void {
    this.#handle?.readStart();
  }

  /** Nothing more will come. @returns What is wrong with that. */
  finish(): Error | undefined {
    return this.#parser.finish();
  }

  #executed(read: number | NodeJS.ErrnoException): void {
    if (typeof read !== "number") this.#events?.unreadable(read);
    else if (this.#stopsEarly) this.#readBehindUpgrade(read);
    this.#events?.pieceRead();
  }

  /** It stops behind a request to upgrade, of which nothing comes: what follows is HTTP as before. */
  #readBehindUpgrade(read: number): void {
    let rest = Buffer.from(this.#parser.getCurrentBuffer().subarray(read));
    while (rest.length > 0) {
      const more = this.#parser.execute(rest);
      if (typeof more !== "number") {
        this.#events?.unreadable(more);
        return;
      }
      if (more === 0) return;
      rest = rest.subarray(more);
    }
  }
}

/** A socket keeps it to itself; node:http takes it so too. */
function handleOf(socket: Socket): SocketHandle {
  return (socket as Socket & { readonly _handle: SocketHandle })._handle;
}

/**
 * The parser tells methods as numbers. Asking it about each that node knows teaches them, and proves that it speaks
 * as it is expected to before a guest's request depends on that.
 */
function learnMethods(): readonly string[] {
  const methods: string[] = [];
  for (const method of METHODS) {
    const target = method === "CONNECT" ? "a:1" : "/x";
    const heard = hear(Buffer.from(`${method} ${target} HTTP/1.1\r\nHost: a\r\n\r\n`));
    if (heard?.target !== target || String(heard.headers) !== "Host,a" || heard.minor !== 1) {
      throw new ProxyError(
        "unknown-node",
        `Cannot read HTTP with Node ${process.versions.node}: its parser is not the one that mn-metadata was written for; run mn-metadata with Node 20, 22, 24 or 26`,
      );
    }
    methods[heard.number] = method;
  }
  return methods;
}

function hear(
  request: Buffer,
): { target: string; headers: string[]; minor: number; number: number } | undefined {
  const parser = new HTTPParser();
  let heard: ReturnType<typeof hear>;
  parser[HTTPParser.kOnHeadersComplete] = (...facts: unknown[]) => {
    const [, minor, headers, number, target] = facts as [number, number, string[], number, string]; // checked by the caller
    heard = { target, headers, minor, number };
    return READ_ON;
  };
  parser.initialize(HTTPParser.REQUEST, parser, MAX_HEAD_BYTES, HTTPParser.kLenientNone);
  parser.execute(request);
  return heard;
}

/** What the parser is told of each head: a body may follow, and nobody takes the connection over. */
/** Node's parser reads RTSP as well, and its methods are none of HTTP. */
const NO_METHOD = Object.assign(new Error("no method of HTTP"), { code: "HPE_INVALID_METHOD" });
const READ_ON = 0;
/** @source nova contract §5: uwsgi takes 64 KiB, eventlet 16 KiB a header */
const MAX_HEAD_BYTES = 32 * 1024;
const MAX_IDLE = 512;
