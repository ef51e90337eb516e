import { METHODS } from "node:http";
import { HTTPParser } from "_http_common";
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

/** Hears what is read; the calls come while {@link RequestParser.execute} runs. */
export interface RequestEvents {
  /** The first byte of a request. */
  requestBegan(): void;
  headRead(head: RequestHead): void;
  /** The bytes are the listener's own. */
  bodyRead(part: Buffer): void;
  requestRead(): void;
}

/** One reader of requests, which may read one connection after another. */
export interface RequestParser {
  /** Who hears it. */
  events: RequestEvents | undefined;
  /** @returns How many bytes were read (fewer after a request to upgrade), or why they are no request. */
  execute(bytes: Buffer): number | Error;
  /** Nothing more will come. @returns What is wrong with that. */
  finish(): Error | undefined;
}

/**
 * The parser of node:http (llhttp, as strict as it comes) without the objects that node:http makes around each
 * connection and each request, which cost more than everything else that the proxy does.
 *
 * @source measured, a connection for each request: a constant answer costs 170 µs of CPU with node:http, 110 µs so;
 *   haproxy as Neutron configures it, which does ask an upstream, 183 µs
 */
export class RequestParsers {
  readonly #methods: readonly string[];
  readonly #idle: NodeParser[] = [];

  /** @throws {ProxyError} `unknown-node` where node's parser is not the one that this was written for. */
  constructor() {
    this.#methods = learnMethods();
  }

  take(events: RequestEvents): RequestParser {
    const parser = this.#idle.pop() ?? makeParser(this.#methods);
    parser.events = events;
    parser.initialize(HTTPParser.REQUEST, parser, MAX_HEAD_BYTES, HTTPParser.kLenientNone);
    return parser;
  }

  /** Takes one back that reads nothing any more. */
  give(parser: RequestParser): void {
    const node = parser as NodeParser; // there are no others
    node.events = undefined;
    node.flushed = undefined;
    node.flushedTarget = "";
    if (this.#idle.length < MAX_IDLE) this.#idle.push(node);
  }
}

interface NodeParser extends HTTPParser, RequestParser {
  execute(bytes: Buffer): number | Error;
  finish(): Error | undefined;
  /** Headers come thirty-two at a time. */
  flushed: string[] | undefined;
  flushedTarget: string;
}

function makeParser(methods: readonly string[]): NodeParser {
  const parser = Object.assign(new HTTPParser(), {
    events: undefined as RequestEvents | undefined,
    flushed: undefined as string[] | undefined,
    flushedTarget: "",
  });
  parser[HTTPParser.kOnMessageBegin] = () => {
    parser.flushed = undefined;
    parser.flushedTarget = "";
    parser.events?.requestBegan();
  };
  parser[HTTPParser.kOnHeaders] = (headers: string[], target: string) => {
    parser.flushed = parser.flushed === undefined ? headers : parser.flushed.concat(headers);
    parser.flushedTarget += target;
  };
  parser[HTTPParser.kOnHeadersComplete] = (
    major: number,
    minor: number,
    headers: string[] | undefined,
    method: number,
    target: string | undefined,
    _status: undefined,
    _statusText: undefined,
    _upgrades: boolean,
    keepsAlive: boolean,
  ) => {
    parser.events?.headRead({
      method: methods[method] ?? "",
      target: target ?? parser.flushedTarget,
      headers: headers ?? parser.flushed ?? [],
      major,
      minor,
      keepsAlive,
    });
    return READ_ON;
  };
  parser[HTTPParser.kOnBody] = (part: Buffer) => parser.events?.bodyRead(part);
  parser[HTTPParser.kOnMessageComplete] = () => parser.events?.requestRead();
  return parser;
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
const READ_ON = 0;
/** @source nova contract §5: uwsgi takes 64 KiB, eventlet 16 KiB a header */
const MAX_HEAD_BYTES = 32 * 1024;
const MAX_IDLE = 512;
