import type { Socket } from "node:net";
import type { Dispatcher } from "undici";
// undici's own entry loads all there is to it, which stays resident: 8 MiB more than the client alone.
import errors from "undici/lib/core/errors.js";
import Client from "undici/lib/dispatcher/client.js";
import { AnswerStart } from "./answer-start.ts";
import { type Connector, type NovaAddress, wasReset } from "./connect.ts";
import { type AnswerListener, ASKED_TWICE, type Ask, type FailureKind, type Line } from "./line.ts";
import { answerHeadOf, type Framing, framingOf } from "./response-head.ts";

/** One connection's worth of undici: tells a broken old connection from a nova that breaks new ones. */
export class UndiciLine implements Line, Dispatcher.DispatchHandler {
  /** Answers that came whole over the connection that is open now. */
  #answered = 0;
  #connected = false;
  #started = false;
  #headSeen = false;
  #method = "";
  #framing: Framing | undefined;
  #wasReset = false;
  #listener: AnswerListener | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  readonly #start = new AnswerStart();
  readonly #client: Client;
  readonly #onIdle: (line: UndiciLine) => void;
  free = true;
  shelved = false;
  closed = false;

  constructor(address: NovaAddress, connect: Connector, onIdle: (line: UndiciLine) => void) {
    this.#onIdle = onIdle;
    const watched: Connector = (options, callback) =>
      connect(options, (error, socket) => {
        if (socket === null) {
          callback(error, socket);
          return;
        }
        this.#wasReset = false;
        // undici takes a reset for the end of a body without a length.
        socket.prependListener("error", () => {
          this.#wasReset = true;
        });
        socket.prependListener("end", () => {
          this.#wasReset ||= wasReset(socket, address);
        });
        this.#filter(socket);
        callback(null, socket);
      });
    this.#client = new Client(address.origin, { ...CLIENT_OPTIONS, connect: watched });
    this.#client.on("connect", () => {
      this.#connected = true;
      this.#answered = 0;
    });
    this.#client.on("disconnect", () => {
      this.#connected = false;
    });
  }

  get isWarm(): boolean {
    return this.#connected;
  }

  ask(ask: Ask, listener: AnswerListener): void {
    if (this.#listener !== undefined) throw new Error(ASKED_TWICE);
    this.free = false;
    this.#listener = listener;
    this.#started = false;
    this.#headSeen = false;
    this.#controller = undefined;
    this.#start.expect();
    const { method, path, body } = ask;
    this.#method = method;
    // undici types the method as those it knows; node's parser, which let it in, knows more.
    const options = { method: method as Dispatcher.HttpMethod, path, body: body ?? null };
    this.#client.dispatch({ ...options, headers: ask.headers.concat(ask.identity.headers) }, this);
  }

  abandon(): void {
    this.#listener = undefined;
    if (this.#controller === undefined) this.close();
    else this.#controller.abort(ABANDONED);
  }

  pause(): void {
    this.#controller?.pause();
  }

  resume(): void {
    this.#controller?.resume();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.free = false;
    this.#client.destroy(ABANDONED).catch(ignoreClosing);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    this.#started = true;
    if (this.#listener === undefined) controller.abort(ABANDONED);
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    _headers: object,
    statusText = "",
  ): void {
    if (status < 200) return;
    const raw = (controller.rawHeaders ?? []) as Buffer[]; // undici 7 and 8 give it as Buffers
    const headers = new Array<string>(raw.length);
    for (let i = 0; i < raw.length; i++) headers[i] = (raw[i] as Buffer).toString("latin1");
    this.#framing = framingOf(status, this.#method, headers);
    if (this.#framing === undefined) {
      controller.abort(new Error("the response head is not valid HTTP/1.1"));
      return;
    }
    this.#headSeen = true;
    // undici reads it as UTF-8, and what was none must not keep the answer back.
    const reason = LATIN1.test(statusText) ? statusText : "";
    this.#listener?.onHead(answerHeadOf(status, reason, headers));
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#listener?.onBody(chunk);
  }

  onResponseEnd(): void {
    const isCut = this.#framing?.kind === "until-close" && this.#wasReset;
    const listener = this.#listener;
    if (!isCut) this.#answered++;
    this.#release();
    if (isCut) listener?.onFailure("cut", new Error("nova reset the connection"));
    else listener?.onEnd();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    const isWhole = this.#headSeen && this.#framing?.kind === "none" && isLengthOfNothing(error);
    if (isWhole) {
      this.onResponseEnd();
      return;
    }
    const listener = this.#listener;
    const kind = this.#kindOf(error);
    this.#release();
    listener?.onFailure(kind, error);
  }

  /** undici takes what comes by `read()` alone; what has a size is node's own. */
  #filter(socket: Socket): void {
    const read = socket.read.bind(socket);
    // Also where undici has connected anew for the same ask, since the connection from before was gone.
    this.#start.expect();
    socket.read = (size?: number): Buffer | null => {
      if (size !== undefined) return read(size);
      for (let piece: Buffer | null = read(); piece !== null; piece = read()) {
        const wanted = this.#start.take(piece);
        if (wanted === undefined) {
          socket.destroy(new Error("the response head is not valid HTTP/1.1"));
          return null;
        }
        if (wanted.length > 0) return wanted;
      }
      return null;
    };
  }

  #release(): void {
    this.#listener = undefined;
    this.#controller = undefined;
    if (this.closed) return;
    this.free = true;
    this.#onIdle(this);
  }

  #kindOf(error: Error): FailureKind {
    if (this.#headSeen) return "cut";
    if (!this.#started) return error instanceof errors.InvalidArgumentError ? "garbage" : "unsent";
    const isClosed = error instanceof errors.SocketError && error.message === "other side closed";
    const isBroken = BROKEN.has((error as NodeJS.ErrnoException).code ?? "");
    if (!isClosed && !isBroken) return "garbage";
    if (this.#start.hasBegun) return "cut";
    if (this.#answered > 0) return "stale";
    return isClosed ? "empty" : "reset";
  }
}

/** A 304 has the length of what it does not send (RFC 9110 §8.6), which undici misses. */
function isLengthOfNothing(error: Error): boolean {
  return (error as NodeJS.ErrnoException).code === "UND_ERR_RES_CONTENT_LENGTH_MISMATCH";
}

const LATIN1 = /^[\t\x20-\x7e\x80-\xff]*$/;
const BROKEN: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE", "ETIMEDOUT"]);
const ABANDONED = new Error("the answer is no longer wanted");

const CLIENT_OPTIONS = {
  pipelining: 1,
  // Deadlines are the proxy's own: undici's clock goes in steps of a second and does not count waiting.
  headersTimeout: 0,
  bodyTimeout: 0,
  // Below the shortest idle time-out that nova is commonly run with. @source Apache KeepAliveTimeout 5 s
  keepAliveTimeout: 4_000,
  keepAliveMaxTimeout: 4_000,
  // A connection ends now and then, so that a name which moved is looked up again.
  maxRequestsPerClient: 10_000,
  maxHeaderSize: 32_768,
};

function ignoreClosing(): void {
  // Destroying a client that is being destroyed rejects; there is nothing left to do for it.
}
