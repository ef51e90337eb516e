import type { Socket } from "node:net";
import zookeeper, { type Client } from "node-zookeeper-client";
import type { ZookeeperHost } from "./nsdb-url.ts";

/**
 * One connection to one server, with a session of its own, over node-zookeeper-client 1.1.3: made once, used until
 * it ends, then thrown away with all that hangs on it. What that package does *after* a connection's end (stale
 * bytes, watches and credentials sent again and again, operations that never call back, sessions that expire for
 * good) therefore cannot happen. What it lacks *during* one is put in here:
 *
 * - the handshake has a deadline, and a server that falls silent is noticed in two thirds of the session's time;
 * - replies are cut into frames here, so a broken one ends this connection and nothing else;
 * - every request is answered, at the latest with the connection's end;
 * - thousands of requests and their answers leave the event loop to others;
 * - error codes that the package does not know are errors, not a crash; request numbers start again before they overflow.
 *
 * It reaches into private parts, so the package's version is pinned and its shape asserted.
 */
export class ZookeeperConnection {
  readonly server: ZookeeperHost;
  readonly #client: Client;
  readonly #manager: ConnectionManager;
  readonly #rejects = new Set<(error: ConnectionEnd) => void>();
  #end: ConnectionEnd | undefined;
  #isGathering = false;
  #lastSocketError = "the server closed the connection";
  #silence: NodeJS.Timeout | undefined;
  #resolveEnded: (end: ConnectionEnd) => void = () => undefined;
  /** Settles when the connection is gone, with why. */
  readonly ended: Promise<ConnectionEnd>;

  /** @throws {ConnectionEnd} where no session comes about within `handshakeMs`. */
  static async open(server: ZookeeperHost, options: ConnectionOptions): Promise<ZookeeperConnection> {
    const connection = new ZookeeperConnection(server, options);
    await connection.#handshake(options);
    return connection;
  }

  private constructor(server: ZookeeperHost, options: ConnectionOptions) {
    this.server = server;
    this.#client = zookeeper.createClient("127.0.0.1", { sessionTimeout: options.sessionTimeoutMs });
    this.#manager = connectionManagerOf(this.#client);
    // Given as an object, since the package's own parser takes an IPv6 address apart.
    this.#manager.servers = [{ host: server.host, port: server.tcpPort }];
    this.#manager.zxid.writeBigInt64BE(options.seenZxid);
    if (options.digest !== undefined) this.#client.addAuthInfo("digest", Buffer.from(options.digest, "utf8"));
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#takeOver();
  }

  /** The newest transaction that a reply came after. */
  get seenZxid(): bigint {
    return this.#manager.zxid.readBigInt64BE();
  }

  /** Sends one request. @throws {ConnectionEnd} Or the package's own error with a numeric `code`. */
  request<T>(send: (client: Client, done: (error: unknown, value: T) => void) => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#end !== undefined) return reject(this.#end);
      this.#rejects.add(reject);
      const done = (error: unknown, value: T): void => {
        this.#rejects.delete(reject);
        if (error) reject(error);
        else resolve(value);
      };
      if (this.#manager.xid > LARGEST_XID) this.#manager.xid = 1;
      this.#writeTogether();
      try {
        send(this.#client, done);
      } catch (error) {
        this.#rejects.delete(reject);
        reject(error);
      }
    });
  }

  /** What is asked in one turn goes out in one piece: the package writes each request by itself. */
  #writeTogether(): void {
    const { socket } = this.#manager;
    if (socket === undefined || this.#isGathering) return;
    this.#isGathering = true;
    socket.cork();
    process.nextTick(() => {
      this.#isGathering = false;
      socket.uncork();
    });
  }

  /** Ends the session at the server too, if it answers soon. */
  async close(): Promise<void> {
    if (this.#end !== undefined) return;
    this.#client.close();
    const timer = setTimeout(() => this.destroy("it was closed"), CLOSE_MS);
    await this.ended;
    clearTimeout(timer);
  }

  /** Ends the connection at once; the session ends at the server when its time is over. */
  destroy(why: string): void {
    if (this.#end !== undefined) return;
    this.#end = new ConnectionEnd(why);
    clearTimeout(this.#silence);
    clearTimeout(this.#manager.connectTimeoutHandler ?? undefined);
    this.#manager.state = CLOSED;
    // The package makes its socket one tick after connect().
    setImmediate(() => this.#manager.socket?.destroy());
    for (const reject of this.#rejects) reject(this.#end);
    this.#rejects.clear();
    this.#resolveEnded(this.#end);
  }

  async #handshake({ handshakeMs, signal }: ConnectionOptions): Promise<void> {
    const abort = (): void => this.destroy("it was closed");
    signal.addEventListener("abort", abort);
    const timer = setTimeout(() => this.destroy(`no answer within ${handshakeMs} ms`), handshakeMs);
    this.#manager.connectTimeout = handshakeMs;
    const connected = new Promise<void>((resolve) => this.#client.once("connected", resolve));
    this.#client.once("expired", () => this.destroy("the server refused the session"));
    this.#client.once("authenticationFailed", () => this.destroy("the server refused the credentials"));
    this.#client.connect();
    const end = await Promise.race([connected, this.ended]);
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    if (end !== undefined) throw end;
    this.#watchForSilence();
  }

  #takeOver(): void {
    const manager = this.#manager;
    const handleFrame = manager.onSocketData.bind(manager);
    const frames = new Frames();
    manager.onSocketData = (chunk) => {
      this.#silence?.refresh();
      this.#letOthersTurn();
      try {
        for (const frame of frames.add(chunk)) {
          if (this.#end === undefined) handleFrame(frame);
        }
      } catch (error) {
        this.destroy(
          `the server sent what cannot be read (${error instanceof Error ? error.message : String(error)})`,
        );
      }
    };
    manager.onSocketError = (error) => {
      this.#lastSocketError = error.message;
    };
    manager.onSocketConnectTimeout = () => undefined; // The handshake's own deadline covers it.
    // The package would connect again here.
    manager.onSocketClosed = () => this.destroy(this.#lastSocketError);
  }

  /** Thousands of answers at once would be one turn of the event loop: libuv reads a socket up to 32 times in a row. */
  #letOthersTurn(): void {
    const { socket } = this.#manager;
    socket?.pause();
    setImmediate(() => socket?.resume());
  }

  /** The package pings when a third of the session's time was quiet, so an answer is due before two thirds. */
  #watchForSilence(): void {
    const silenceMs = Math.ceil((this.#client.getSessionTimeout() * 2) / 3);
    this.#silence = setTimeout(() => {
      // Were we the ones who were stopped, then what came meanwhile is read before this.
      const { bytesRead } = this.#manager.socket ?? { bytesRead: 0 };
      setImmediate(() => {
        if (bytesRead === this.#manager.socket?.bytesRead)
          this.destroy(`the server was silent for ${silenceMs} ms`);
      });
    }, silenceMs);
  }
}

export interface ConnectionOptions {
  readonly sessionTimeoutMs: number;
  readonly handshakeMs: number;
  /** Ends the handshake; afterwards it has no meaning. */
  readonly signal: AbortSignal;
  /** A server that is behind this transaction refuses the session: what we read never goes back in time. */
  readonly seenZxid: bigint;
  /** `user:password`. */
  readonly digest: string | undefined;
}

/** Why a connection is gone; what was in flight may or may not have been carried out. */
export class ConnectionEnd extends Error {
  override readonly name = "ConnectionEnd";
}

const CLOSE_MS = 1_000;
/** A request's number is a signed 32-bit integer; far fewer than the margin are sent at a time. */
const LARGEST_XID = 0x7fff_0000;
/** Far above any jute.maxbuffer in use (1 MiB by default, 4 MiB with MidoNet). */
const LARGEST_FRAME = 64 * 1024 * 1024;
/** @source node-zookeeper-client 1.1.3, lib/ConnectionManager.js, STATES */
const CLOSED = -2;

/** Cuts a stream into frames, each with its length in front as the package wants it. */
class Frames {
  #chunks: Buffer[] = [];
  #held = 0;
  #wanted = 4;

  *add(chunk: Buffer): Generator<Buffer> {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    if (this.#held < this.#wanted) return;
    let bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    while (bytes.length >= 4) {
      const length = bytes.readInt32BE(0);
      if (length < 0 || length > LARGEST_FRAME) throw new Error(`a frame of ${length} bytes`);
      if (bytes.length < length + 4) break;
      yield bytes.subarray(0, length + 4);
      bytes = bytes.subarray(length + 4);
    }
    this.#chunks = bytes.length === 0 ? [] : [bytes];
    this.#held = bytes.length;
    this.#wanted = bytes.length < 4 ? 4 : bytes.readInt32BE(0) + 4;
  }
}

/** The private parts that we touch. */
interface ConnectionManager {
  servers: readonly { readonly host: string; readonly port: number }[];
  state: number;
  xid: number;
  zxid: Buffer;
  connectTimeout: number;
  connectTimeoutHandler: NodeJS.Timeout | null;
  socket?: Socket;
  onSocketData(chunk: Buffer): void;
  onSocketError(error: Error): void;
  onSocketClosed(): void;
  onSocketConnectTimeout(): void;
}

function connectionManagerOf(client: Client): ConnectionManager {
  const manager = (client as Client & { readonly connectionManager?: Partial<ConnectionManager> })
    .connectionManager;
  const isAsPinned =
    Array.isArray(manager?.servers) &&
    typeof manager.xid === "number" &&
    typeof manager.state === "number" &&
    Buffer.isBuffer(manager.zxid) &&
    typeof manager.connectTimeout === "number" &&
    typeof manager.onSocketData === "function" &&
    typeof manager.onSocketError === "function" &&
    typeof manager.onSocketClosed === "function" &&
    typeof manager.onSocketConnectTimeout === "function";
  if (!isAsPinned)
    throw new Error("node-zookeeper-client is not the pinned version 1.1.3: its inside is different");
  return manager as ConnectionManager; // Just checked.
}

/**
 * An error for any code: by itself the package throws, in the middle of a reply, at one that is newer than itself
 * (throttled, quota, …). It reads this function from its own exports, so it is replaced there, once.
 */
function acceptAnyErrorCode(): void {
  const exceptions = zookeeper.Exception as unknown as { create: (code: number, path?: string) => Error };
  const original = exceptions.create;
  const known = new Set(Object.values(zookeeper.Exception).filter((value) => typeof value === "number"));
  exceptions.create = (code, path) => {
    if (known.has(code)) return original(code, path);
    const error = original(zookeeper.Exception.SYSTEM_ERROR, path);
    return Object.assign(error, { code, message: `ZooKeeper error ${code}` });
  };
}

acceptAnyErrorCode();
