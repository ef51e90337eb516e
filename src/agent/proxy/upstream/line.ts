import { Client, type Dispatcher, errors } from "undici";
import type { Connector } from "./connect.ts";

/** One request to nova. Everything in it has been validated: undici would refuse the rest in odd ways. */
export interface Ask {
  readonly method: string;
  readonly path: string;
  /** Name, value, name, value; the identity last. */
  readonly headers: readonly string[];
  readonly body: Buffer | undefined;
}

/**
 * How an ask came to nothing.
 *
 * - `unsent`: no connection was made, so nova has seen nothing of it.
 * - `stale`: a connection kept from before was gone.
 * - `reset`: a new connection broke before the first byte of an answer.
 * - `empty`: nova closed a new connection without a byte, which is how uwsgi shows an exception in nova.
 * - `cut`: the answer broke off.
 * - `garbage`: what came is not HTTP, or contradicts itself.
 */
export type FailureKind = "unsent" | "stale" | "reset" | "empty" | "cut" | "garbage";

/** Hears the answer to one ask; after `onEnd` or `onFailure` it hears nothing more. */
export interface AnswerListener {
  onHead(status: number, statusText: string, rawHeaders: readonly string[]): void;
  onBody(chunk: Buffer): void;
  onEnd(): void;
  onFailure(kind: FailureKind, error: Error): void;
}

/**
 * One connection's worth of undici to one nova: asks one thing at a time, connects when there is none, and
 * tells a broken old connection from a nova that breaks new ones.
 */
export class Line implements Dispatcher.DispatchHandler {
  /** Answers that came whole over the connection that is open now. */
  #answered = 0;
  #connected = false;
  #started = false;
  #headSeen = false;
  #listener: AnswerListener | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  readonly #client: Client;
  readonly #onIdle: (line: Line) => void;
  /** Whether {@link ask} may be called. */
  free = true;
  /** Whether its endpoint has it in its list of idle lines already. */
  shelved = false;
  closed = false;

  constructor(origin: string, connect: Connector, onIdle: (line: Line) => void) {
    this.#onIdle = onIdle;
    this.#client = new Client(origin, { ...CLIENT_OPTIONS, connect });
    this.#client.on("connect", () => {
      this.#connected = true;
      this.#answered = 0;
    });
    this.#client.on("disconnect", () => {
      this.#connected = false;
    });
  }

  /** Whether the next ask goes over a connection that was used before and may be gone by now. */
  get isWarm(): boolean {
    return this.#connected;
  }

  ask(ask: Ask, listener: AnswerListener): void {
    this.free = false;
    this.#listener = listener;
    this.#started = false;
    this.#headSeen = false;
    this.#controller = undefined;
    const { method, path, body } = ask;
    // undici types the method as those it knows; node's parser, which let it in, knows more.
    const options = { method: method as Dispatcher.HttpMethod, path, body: body ?? null };
    this.#client.dispatch({ ...options, headers: ask.headers as string[] }, this);
  }

  /** Stops hearing; the connection is closed, since an answer may still be on it. */
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
    this.#headSeen = true;
    const raw = (controller.rawHeaders ?? []) as Buffer[]; // undici 7 and 8 give it as Buffers
    const headers = new Array<string>(raw.length);
    for (let i = 0; i < raw.length; i++) headers[i] = (raw[i] as Buffer).toString("latin1");
    this.#listener?.onHead(status, statusText, headers);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#listener?.onBody(chunk);
  }

  onResponseEnd(): void {
    this.#answered++;
    const listener = this.#listener;
    this.#release();
    listener?.onEnd();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    const listener = this.#listener;
    const kind = this.#kindOf(error);
    this.#release();
    listener?.onFailure(kind, error);
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
    if (!this.#started) return "unsent";
    const isClosed = error instanceof errors.SocketError && error.message === "other side closed";
    const isBroken = BROKEN.has((error as NodeJS.ErrnoException).code ?? "");
    if (!isClosed && !isBroken) return "garbage";
    if (this.#answered > 0) return "stale";
    return isClosed ? "empty" : "reset";
  }
}

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
  maxHeaderSize: 65_536,
};

function ignoreClosing(): void {
  // Destroying a client that is being destroyed rejects; there is nothing left to do for it.
}
