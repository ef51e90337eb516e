/**
 * The edge to the network state database: a tree of znodes, read with one-shot watches and written in
 * all-or-nothing transactions. Two real backends stand behind it: {@link ./zookeeper-store.ts} and
 * {@link ./directory-store.ts}; the contract suite in `test/contract/store.ts` runs on both.
 */

/** The content of one znode. A znode without data has an empty buffer. */
export interface Znode {
  readonly data: Buffer;
  /** Opaque; equal only if the content is the one that was read. Give it back to {@link WriteOp}. */
  readonly version: number;
}

/**
 * Where the session stands.
 *
 * - `connected`: reads are current.
 * - `suspended`: the connection is lost; what was read is the last known truth and must be kept.
 * - `renewed`: a new session took the place of an expired one. Every watch of the old one is gone, so
 *   every reader must read again. It is followed by `connected`.
 */
export type SessionState = "connected" | "suspended" | "renewed";

/**
 * One step of a transaction. Paths are absolute below the root key: `/config/templates/default`.
 * `create` also creates the parents that are missing, empty. A znode with children cannot be deleted.
 */
export type WriteOp =
  | { readonly kind: "create"; readonly path: string; readonly data: Buffer }
  | { readonly kind: "set"; readonly path: string; readonly data: Buffer; readonly version: number }
  | { readonly kind: "delete"; readonly path: string; readonly version: number }
  | { readonly kind: "check"; readonly path: string; readonly version: number };

export interface Store {
  /** What it is, for people: `zk://10.0.0.1:2181/midonet` or `dir:/var/lib/nsdb`. Never with credentials. */
  readonly url: string;
  /**
   * The znode, or undefined where there is none.
   *
   * @param onChange Called at most once, when the znode changes, appears, or goes: a hint to read again. Given again
   *   before it was called, it is not kept twice.
   * @throws {NsdbError} `unreachable`, `timeout`, `denied`, `closed`, `protocol`.
   */
  get(path: string, onChange?: () => void): Promise<Znode | undefined>;
  /**
   * The names below a znode, in no order, or undefined where the znode itself is missing.
   *
   * @param onChange Called at most once, when a child appears or goes, or the znode itself does.
   * @throws {NsdbError} As {@link Store.get}.
   */
  children(path: string, onChange?: () => void): Promise<readonly string[] | undefined>;
  /**
   * Carries out every step, or none.
   *
   * @throws {NsdbError} Also `no-node`, `node-exists`, `bad-version`, `not-empty`, whose `path` names the step; `usage`.
   */
  write(ops: readonly WriteOp[]): Promise<void>;
  /**
   * Listens to the session, from now on. Returns the way to stop.
   *
   * @param listener Also told the server, and why it was lost where it was: `10.0.0.1:2181: read ECONNRESET`.
   */
  onSession(listener: (state: SessionState, detail?: string) => void): () => void;
  /** The state now. */
  readonly session: SessionState;
  close(): Promise<void>;
}
