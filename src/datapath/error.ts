/** Why the kernel could not be read or changed. `rejected` is about what was asked, all others about the host. */
export type DatapathErrorCode =
  | "no-nft"
  | "no-privilege"
  | "no-kernel-support"
  | "rejected"
  | "timeout"
  | "malformed"
  | "closed"
  | "failed";

/** The one error of the datapath's edges. `message` is a sentence for an operator. */
export class DatapathError extends Error {
  override readonly name = "DatapathError";
  readonly code: DatapathErrorCode;

  constructor(code: DatapathErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? {} : { cause });
    this.code = code;
  }
}
