import { NsdbError } from "./error.ts";
import { formatHost, formatNsdbUrl, type NsdbUrl } from "./nsdb-url.ts";
import { assertPath, parentPath } from "./paths.ts";
import type { SessionState, Store, WriteOp, Znode } from "./store.ts";
import { aclAbove, isMasked, type ReadAcl } from "./zookeeper-acl.ts";
import { ConnectionEnd, type ZookeeperConnection } from "./zookeeper-connection.ts";
import { Listeners } from "./zookeeper-listeners.ts";
import {
  commit,
  type FailedStep,
  type Request,
  readAcl,
  readChildren,
  readData,
  type Step,
  watchExistence,
  ZOOKEEPER_ERRORS,
} from "./zookeeper-requests.ts";
import { ZookeeperSession } from "./zookeeper-session.ts";

export interface ZookeeperOptions {
  /** How long opening may take. */
  readonly connectTimeoutMs?: number;
  /** How long one operation may take, and wait for a connection. */
  readonly operationTimeoutMs?: number;
  /** A server that is silent for two thirds of it is left for another; the servers have bounds of their own. */
  readonly sessionTimeoutMs?: number;
  /** A tree without its root key is away, not empty: for those who act on what is missing. */
  readonly rootMustExist?: boolean;
}

type ZookeeperUrl = Extract<NsdbUrl, { readonly kind: "zookeeper" }>;

const DEFAULTS = {
  connectTimeoutMs: 8_000,
  operationTimeoutMs: 10_000,
  sessionTimeoutMs: 10_000,
  rootMustExist: false,
};
/**
 * More only lengthens the package's queues, and what is in them lives through collections of garbage.
 *
 * @source measured: 100,000 halve the rate; with 1,000, a start with 2,000 ports takes 5 MiB more
 */
const MOST_IN_FLIGHT = 128;
/** How often missing parents are made when somebody else makes and removes them at the same time. */
const PARENT_ATTEMPTS = 5;
const ONE_MIB = 1_048_576;

/** The znodes of a ZooKeeper ensemble below a root key. Reads are repeated on a lost connection, writes are not. */
export class ZookeeperStore implements Store {
  readonly url: string;
  readonly #root: string;
  readonly #session: ZookeeperSession;
  readonly #operationTimeoutMs: number;
  readonly #rootMustExist: boolean;
  readonly #hasCredentials: boolean;
  readonly #listeners = new Listeners();
  #inFlight = 0;
  readonly #waiting: (() => void)[] = [];

  /** @throws {NsdbError} `unreachable`: which servers, what each said, and what to do. */
  static async connect(url: ZookeeperUrl, options: ZookeeperOptions = {}): Promise<ZookeeperStore> {
    const store = new ZookeeperStore(url, { ...DEFAULTS, ...options });
    const { connectTimeoutMs } = { ...DEFAULTS, ...options };
    try {
      await store.#session.connection(connectTimeoutMs);
    } catch {
      const said = store.#session.lastFailures;
      await store.close();
      throw new NsdbError(
        "unreachable",
        `Cannot reach ZooKeeper at "${url.hosts.map(formatHost).join(",")}" within ${connectTimeoutMs / 1_000} s: ${said}; ` +
          `start it, or name the right servers with --nsdb`,
      );
    }
    return store;
  }

  private constructor(url: ZookeeperUrl, options: Required<ZookeeperOptions>) {
    this.url = formatNsdbUrl(url);
    this.#root = url.rootKey === "/" ? "" : url.rootKey;
    this.#operationTimeoutMs = options.operationTimeoutMs;
    this.#rootMustExist = options.rootMustExist && this.#root !== "";
    this.#hasCredentials = url.digest !== undefined;
    this.#session = new ZookeeperSession(url.hosts, {
      digest: url.digest,
      sessionTimeoutMs: options.sessionTimeoutMs,
    });
  }

  get session(): SessionState {
    return this.#session.state;
  }

  onSession(listener: (state: SessionState, detail?: string) => void): () => void {
    return this.#session.onState(listener);
  }

  async close(): Promise<void> {
    await this.#session.close();
  }

  async get(path: string, onChange?: () => void): Promise<Znode | undefined> {
    const full = this.#full(path);
    const watcher = this.#listeners.once("data", full, onChange);
    return this.#read(path, async (send) => {
      for (;;) {
        const found = await send(readData(full, watcher));
        if (found === undefined) await this.#lookForRoot(send);
        if (found !== undefined || watcher === undefined) return found;
        if (!(await send(watchExistence(full, watcher)))) return undefined;
        // It came to be between the two.
      }
    });
  }

  async children(path: string, onChange?: () => void): Promise<readonly string[] | undefined> {
    const full = this.#full(path);
    const watcher = this.#listeners.once("children", full, onChange);
    return this.#read(path, async (send) => {
      for (;;) {
        const found = await send(readChildren(full, watcher));
        if (found === undefined) await this.#lookForRoot(send);
        if (found !== undefined || watcher === undefined) return found;
        if (!(await send(watchExistence(full, watcher)))) return undefined;
      }
    });
  }

  async write(ops: readonly WriteOp[]): Promise<void> {
    if (ops.length === 0) return;
    const steps = ops.map((op) => ({ ...op, path: this.#full(op.path) }));
    let parents: readonly string[] = [];
    for (let attempt = 1; ; attempt += 1) {
      const created = parents.map((path) => ({ kind: "create", path, data: Buffer.alloc(0) }) as const);
      const failed = await this.#commit(ops[0]?.path ?? "/", await this.#withAcls([...created, ...steps]));
      if (failed === undefined) return;
      const op = ops[failed.index - parents.length];
      const parentIsMissing =
        failed.code === "no-node" && steps[failed.index - parents.length]?.kind === "create";
      const parentWasMade = op === undefined && (failed.code === "node-exists" || failed.code === "no-node");
      if (attempt === PARENT_ATTEMPTS || !(parentIsMissing || parentWasMade))
        throw this.#stepFailed(op ?? ops[0], failed);
      parents = await this.#missingParents(steps);
    }
  }

  /** With credentials, what is created is for those whom the znode above admits; without, for everybody as with MidoNet. */
  async #withAcls(steps: readonly WriteOp[]): Promise<readonly Step[]> {
    if (!this.#hasCredentials) return steps;
    const known = new Map<string, ReturnType<ReadAcl>>();
    const read: ReadAcl = (path) => {
      const acl = known.get(path) ?? this.#read(this.#short(path), (send) => send(readAcl(path)));
      known.set(path, acl);
      return acl;
    };
    const withAcls: Step[] = [];
    for (const step of steps) {
      const acl = step.kind === "create" ? await aclAbove(step.path, read) : undefined;
      if (acl !== undefined && isMasked(acl)) throw this.#aclUnknown(this.#short(step.path));
      withAcls.push(acl === undefined ? step : { ...step, acl });
    }
    return withAcls;
  }

  #aclUnknown(path: string): NsdbError {
    return new NsdbError(
      "denied",
      `Cannot create "${path}" in ${this.url}: it should get the ACL of the znode above, which is not shown whole; give a user with "admin" permission there in the NSDB URL`,
      { path },
    );
  }

  async #commit(path: string, steps: readonly Step[]): Promise<FailedStep | undefined> {
    const deadline = performance.now() + this.#operationTimeoutMs;
    try {
      const connection = await this.#connection(deadline, path);
      return await this.#send(connection, deadline, commit(steps));
    } catch (error) {
      const size = steps.reduce((sum, step) => sum + ("data" in step ? step.data.length : 0), 0);
      const tooLarge =
        size > ONE_MIB * 0.9
          ? `; it has ${size} bytes, and a server cuts off what exceeds its jute.maxbuffer`
          : "";
      if (error instanceof ConnectionEnd && this.#session.isOpen) {
        throw new NsdbError(
          "unreachable",
          `Cannot tell whether "${path}" was written to ${this.url}: ${error.message} before the answer came${tooLarge}; read it again`,
          { path, cause: error },
        );
      }
      throw this.#failure("write", path, error);
    }
  }

  /** The ancestors, top first, of all that is created, as far as they neither exist nor are created with it. */
  async #missingParents(steps: readonly WriteOp[]): Promise<string[]> {
    const created = new Set(steps.filter((step) => step.kind === "create").map((step) => step.path));
    const wanted = new Set<string>();
    for (const path of created) {
      for (let above = parentPath(path); above !== "/"; above = parentPath(above)) {
        if (!created.has(above)) wanted.add(above);
      }
    }
    const missing: string[] = [];
    for (const path of wanted) {
      const exists = await this.#read(path, (send) => send(readData(path, undefined)));
      if (exists === undefined) missing.push(path);
    }
    return missing.sort((a, b) => a.length - b.length);
  }

  async #read<T>(
    path: string,
    action: (send: <R>(request: Request<R>) => Promise<R>) => Promise<T>,
  ): Promise<T> {
    const deadline = performance.now() + this.#operationTimeoutMs;
    for (;;) {
      const connection = await this.#connection(deadline, path);
      try {
        return await action((request) => this.#send(connection, deadline, request));
      } catch (error) {
        if (!(error instanceof ConnectionEnd) || !this.#session.isOpen)
          throw this.#failure("read", path, error);
      }
    }
  }

  /** A server that lost its data, or a root key with a slip in it, must not look like a cloud whose objects were all deleted. */
  async #lookForRoot(send: <R>(request: Request<R>) => Promise<R>): Promise<void> {
    if (!this.#rootMustExist || (await send(readData(this.#root, undefined))) !== undefined) return;
    throw new NsdbError(
      "unreachable",
      `Cannot read ${this.url}: ZooKeeper has no "${this.#root}"; see whether it lost its data, and name the right root key with --nsdb. Where this is a new database, "mn-conf deploy" begins it`,
    );
  }

  async #connection(deadline: number, path: string): Promise<ZookeeperConnection> {
    try {
      return await this.#session.connection(deadline - performance.now());
    } catch (error) {
      throw this.#failure("reach", path, error);
    }
  }

  async #send<T>(connection: ZookeeperConnection, deadline: number, request: Request<T>): Promise<T> {
    if (this.#inFlight >= MOST_IN_FLIGHT) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#inFlight += 1;
    try {
      return await withDeadline(connection.request(request), deadline);
    } finally {
      this.#inFlight -= 1;
      this.#waiting.shift()?.();
    }
  }

  #failure(verb: "read" | "write" | "reach", path: string, error: unknown): NsdbError {
    if (error instanceof NsdbError) return error;
    const cannot = `Cannot ${verb} "${path}" ${verb === "read" ? "of" : "at"} ${this.url}`;
    if (!this.#session.isOpen)
      return new NsdbError("closed", `${cannot}: the store has been closed`, { path });
    if (error instanceof ConnectionEnd) {
      const why = `no connection within ${this.#operationTimeoutMs / 1_000} s (${this.#session.lastFailures})`;
      return new NsdbError("unreachable", `${cannot}: ${why}`, { path, cause: error });
    }
    if (error instanceof DeadlinePassed) {
      const why = `no answer within ${this.#operationTimeoutMs / 1_000} s; see whether the server is overloaded`;
      return new NsdbError("timeout", `${cannot}: ${why}`, { path, cause: error });
    }
    const number = error instanceof Error && "code" in error ? Number(error.code) : Number.NaN;
    const code = ZOOKEEPER_ERRORS.get(number) ?? "protocol";
    const message = error instanceof Error ? error.message : String(error);
    const why = code === "denied" ? this.#notAdmitted() : message;
    return new NsdbError(code, `${cannot}: ${why}`, { path, cause: error });
  }

  #stepFailed(op: WriteOp | undefined, failed: FailedStep): NsdbError {
    const path = op?.path ?? "/";
    const reasons: Readonly<Record<string, string>> = {
      "no-node": "it does not exist",
      "node-exists": "it exists already",
      "bad-version": "it was changed by somebody else since it was read",
      "not-empty": "there are znodes below it",
      denied: this.#notAdmitted(),
    };
    const why = reasons[failed.code] ?? `the server answered with error ${failed.number}`;
    return new NsdbError(failed.code, `Cannot ${op?.kind ?? "write"} "${path}" in ${this.url}: ${why}`, {
      path,
    });
  }

  #notAdmitted(): string {
    return this.#hasCredentials
      ? "its ACL does not admit the user and password given in the NSDB URL; see whether they are right"
      : 'its ACL does not admit us; give "user:password@" in the NSDB URL';
  }

  /** Below the root key, as it is for our callers; above it as it is. */
  #short(full: string): string {
    return full.startsWith(`${this.#root}/`) ? full.slice(this.#root.length) : full;
  }

  #full(path: string): string {
    assertPath(path);
    return path === "/" ? this.#root || "/" : this.#root + path;
  }
}

class DeadlinePassed extends Error {
  override readonly name = "DeadlinePassed";
}

function withDeadline<T>(promise: Promise<T>, deadline: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new DeadlinePassed()), Math.max(0, deadline - performance.now()));
    const settle = (how: () => void): void => {
      clearTimeout(timer);
      how();
    };
    promise.then(
      (value) => settle(() => resolve(value)),
      (error: unknown) => settle(() => reject(error)),
    );
  });
}
