/** Why the network state database could not do what was asked. */
export type NsdbErrorCode =
  | "no-node"
  | "node-exists"
  | "bad-version"
  | "not-empty"
  | "unreachable"
  | "timeout"
  | "denied"
  | "closed"
  | "protocol"
  | "malformed"
  | "no-host-id"
  | "usage";

/** The one error of the NSDB edge. `message` is a sentence for an operator. */
export class NsdbError extends Error {
  override readonly name = "NsdbError";
  readonly code: NsdbErrorCode;
  readonly path: string | undefined;

  constructor(code: NsdbErrorCode, message: string, options: { path?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.path = options.path;
  }

  /** Whether waiting is all that can help: the servers are away or slow, and nothing is wrong with what was asked. */
  get passesByItself(): boolean {
    return this.code === "unreachable" || this.code === "timeout";
  }
}
