import type { Secret } from "../../config/secret.ts";

/** What of the configuration the proxy acts on. Durations in milliseconds. */
export interface ProxySettings {
  /** Base URLs of nova-api-metadata: `http://host:8775`, `https://…`, `unix:/run/nova.sock`; never empty. */
  readonly novaUrls: readonly string[];
  readonly sharedSecret: Secret;
  /** Tried when nova refuses the signature made with {@link sharedSecret}: a rotation in progress. */
  readonly previousSharedSecret: Secret | undefined;
  /** How long a request may wait for its port to be known or for nova to come back, in all. */
  readonly holdMs: number;
  /** The same for documents that nova itself fetches from elsewhere (`vendor_data2.json`). */
  readonly slowDocumentMs: number;
  /** How long a whole answer to a safe request may be given again to the same instance; 0 is never. */
  readonly cacheTtlMs: number;
  readonly imdsv2: "optional" | "required";
  /**
   * Requests of one port per second in the long run, and how many it may send at once before that counts. They
   * hold only while another port asks as well; what is too much waits, half of {@link holdMs} at most.
   */
  readonly requestsPerSecond: number;
  readonly requestBurst: number;
  /** For `https` endpoints; paths of PEM files. */
  readonly tls: {
    readonly caFile: string | undefined;
    readonly certFile: string | undefined;
    readonly keyFile: string | undefined;
    /** SNI and name to verify where it is not the URL's host. */
    readonly serverName: string | undefined;
  };
}
