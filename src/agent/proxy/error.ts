/** Why the proxy could not start listening or take its settings. */
export type ProxyErrorCode =
  | "address-in-use"
  | "address-not-available"
  | "listen-failed"
  | "bad-settings"
  | "unknown-node";

/** The one error of the proxy. `message` is a sentence for an operator, with the remedy. */
export class ProxyError extends Error {
  override readonly name = "ProxyError";
  readonly code: ProxyErrorCode;

  constructor(code: ProxyErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? {} : { cause });
    this.code = code;
  }
}
