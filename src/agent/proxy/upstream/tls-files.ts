import { readFileSync, statSync } from "node:fs";
import { createSecureContext, type SecureContext } from "node:tls";
import type { Logger } from "../../log.ts";
import { ProxyError } from "../error.ts";
import type { ProxySettings } from "../settings.ts";

/** The operator's CA and client certificate: read again when a file has changed, so that one can be renewed in place. */
export class TlsFiles {
  readonly #tls: ProxySettings["tls"];
  readonly #log: Logger;
  readonly #paths: readonly string[];
  #stamp: string;
  #context: SecureContext;

  /** @throws {ProxyError} `bad-settings` where they cannot be used. */
  constructor(tls: ProxySettings["tls"], log: Logger) {
    this.#tls = tls;
    this.#log = log;
    this.#paths = [tls.caFile, tls.certFile, tls.keyFile].filter((path) => path !== undefined);
    this.#stamp = this.#look();
    this.#context = this.#read();
  }

  /** For a connection that is about to be made. Where files are half changed or broken, it is the one from before. */
  current(): SecureContext {
    const stamp = this.#look();
    if (stamp === this.#stamp) return this.#context;
    this.#stamp = stamp;
    try {
      this.#context = this.#read();
    } catch (error) {
      this.#log.warn({ reason: (error as Error).message }, "the TLS files from before are used on");
    }
    return this.#context;
  }

  #look(): string {
    const stamps = this.#paths.map((path) => {
      const { ino, size, mtimeMs } = statSync(path, { throwIfNoEntry: false }) ?? {};
      return `${ino} ${size} ${mtimeMs}`;
    });
    return stamps.join();
  }

  #read(): SecureContext {
    const { caFile, certFile, keyFile } = this.#tls;
    try {
      return createSecureContext({
        ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }),
        ...(certFile === undefined ? {} : { cert: readFileSync(certFile) }),
        ...(keyFile === undefined ? {} : { key: readFileSync(keyFile) }),
      });
    } catch (cause) {
      throw new ProxyError(
        "bad-settings",
        `Cannot read the TLS files "${this.#paths.join(", ")}": ${(cause as Error).message}; they should be PEM files that this user may read`,
        cause,
      );
    }
  }
}
