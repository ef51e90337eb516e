import { formatHost, type ZookeeperHost } from "./nsdb-url.ts";
import type { SessionState } from "./store.ts";
import { ConnectionEnd, ZookeeperConnection } from "./zookeeper-connection.ts";

/** How long a host may take to answer. */
const HANDSHAKE_MS = 5_000;
/** A host that has not answered by then is asked on, and the next one beside it: it may be slow, or never answer. */
const NEXT_HOST_MS = 1_000;
/** Between rounds over all hosts; jittered to between half and all of it. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1_000;
/** A connection that lives shorter than this does not reset the pauses. */
const STABLE_MS = 1_000;

/**
 * A server that only lags has caught up by then; one that still refuses us for having seen more than it knows belongs
 * to an ensemble that was restored from a backup or made anew, and is the truth now.
 */
const REMEMBER_ZXID_MS = 10_000;

/**
 * Keeps one connection to one of the servers. When it ends, another is made with a *new* session, for as long as it
 * takes: nothing of ours is ephemeral, so an old session is worth nothing, and "lost" and "expired" are one case.
 */
export class ZookeeperSession {
  readonly #hosts: readonly ZookeeperHost[];
  readonly #options: { readonly digest: string | undefined; readonly sessionTimeoutMs: number };
  readonly #listeners = new Set<(state: SessionState, detail?: string) => void>();
  readonly #waiters = new Set<() => void>();
  readonly #failures = new Map<string, string>();
  readonly #asked = new Set<string>();
  readonly #closing = new AbortController();
  readonly #ended: Promise<void>;
  #connection: ZookeeperConnection | undefined;
  #state: SessionState = "suspended";
  #seenZxid = 0n;
  #lostAt = 0;
  #lostHost: ZookeeperHost | undefined;

  constructor(
    hosts: readonly ZookeeperHost[],
    options: { readonly digest: string | undefined; readonly sessionTimeoutMs: number },
  ) {
    this.#hosts = hosts;
    this.#options = options;
    this.#ended = this.#run();
  }

  get state(): SessionState {
    return this.#state;
  }

  get isOpen(): boolean {
    return !this.#closing.signal.aborted;
  }

  /** What each server said last, for people. */
  get lastFailures(): string {
    const silent = [...this.#asked].map((host) => [host, "no answer yet"] as const);
    const said = [...new Map([...this.#failures, ...silent])].map(([host, why]) => `${host}: ${why}`);
    return said.length === 0 ? "no server has answered yet" : said.join("; ");
  }

  onState(listener: (state: SessionState, detail?: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The connection, as soon as there is one. @throws {ConnectionEnd} after `waitMs`, or when closed. */
  async connection(waitMs: number): Promise<ZookeeperConnection> {
    if (this.#connection === undefined && this.isOpen && waitMs > 0) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          this.#waiters.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, waitMs);
        this.#waiters.add(wake);
      });
    }
    if (this.#connection === undefined) throw new ConnectionEnd(this.isOpen ? "no connection" : "closed");
    return this.#connection;
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#closing.abort();
    for (const wake of this.#waiters) wake();
    await connection?.close();
    await this.#ended;
  }

  async #run(): Promise<void> {
    let failedRounds = 0;
    let isFirst = true;
    while (this.isOpen) {
      const connection = await this.#connectSomewhere();
      if (connection === undefined) {
        failedRounds += 1;
        await this.#pause(failedRounds);
        continue;
      }
      const since = performance.now();
      const server = formatHost(connection.server);
      this.#connection = connection;
      for (const wake of this.#waiters) wake();
      if (!isFirst) this.#become("renewed", server);
      isFirst = false;
      this.#become("connected", server);
      const end = await connection.ended;
      this.#failures.set(server, end.message);
      this.#connection = undefined;
      this.#lostAt = performance.now();
      this.#lostHost = connection.server;
      if (connection.seenZxid > this.#seenZxid) this.#seenZxid = connection.seenZxid;
      this.#become("suspended", `${server}: ${end.message}`);
      failedRounds = performance.now() - since < STABLE_MS ? failedRounds + 1 : 0;
      await this.#pause(failedRounds);
    }
  }

  /**
   * Asks every host once, in an order of its own each time, so that the others share the load of a lost server; that
   * one comes last, for it may accept and not answer. The first that answers ends the others' tries.
   */
  async #connectSomewhere(): Promise<ZookeeperConnection | undefined> {
    const isLost = (host: ZookeeperHost): number => (host === this.#lostHost ? 1 : 0);
    const round = new AbortController();
    const stop = (): void => round.abort();
    this.#closing.signal.addEventListener("abort", stop);
    let found: ZookeeperConnection | undefined;
    const ask = async (host: ZookeeperHost): Promise<void> => {
      const connection = await this.#ask(host, round.signal);
      if (round.signal.aborted) return connection?.destroy("another was faster, or it was closed");
      if (connection === undefined) return;
      found = connection;
      stop();
    };
    const asked: Promise<void>[] = [];
    for (const host of shuffled(this.#hosts).sort((a, b) => isLost(a) - isLost(b))) {
      if (round.signal.aborted || !this.isOpen) break;
      const answered = ask(host);
      asked.push(answered);
      await Promise.race([answered, wait(NEXT_HOST_MS, round.signal)]);
    }
    await Promise.all(asked);
    this.#closing.signal.removeEventListener("abort", stop);
    return found;
  }

  /** A connection to this host; undefined where none comes about, which is noted. */
  async #ask(host: ZookeeperHost, signal: AbortSignal): Promise<ZookeeperConnection | undefined> {
    const name = formatHost(host);
    if (performance.now() - this.#lostAt > REMEMBER_ZXID_MS) this.#seenZxid = 0n;
    this.#asked.add(name);
    try {
      const seenZxid = this.#seenZxid;
      const options = { ...this.#options, handshakeMs: HANDSHAKE_MS, signal, seenZxid };
      const connection = await ZookeeperConnection.open(host, options);
      this.#failures.delete(name);
      return connection;
    } catch (error) {
      if (!(error instanceof ConnectionEnd)) throw error;
      if (!signal.aborted) this.#failures.set(name, error.message);
      return undefined;
    } finally {
      this.#asked.delete(name);
    }
  }

  async #pause(failedRounds: number): Promise<void> {
    const pauseMs =
      failedRounds === 0
        ? FIRST_PAUSE_MS
        : Math.min(FIRST_PAUSE_MS * 2 ** Math.min(failedRounds, 8), LONGEST_PAUSE_MS);
    await wait(pauseMs * (0.5 + Math.random() / 2), this.#closing.signal);
  }

  #become(state: SessionState, detail: string): void {
    this.#state = state;
    // From an empty stack: what a listener throws is its own affair.
    for (const listener of this.#listeners) queueMicrotask(() => listener(state, detail));
  }
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
}

/** For that long, or until aborted. */
function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const wake = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    signal.addEventListener("abort", wake);
  });
}
