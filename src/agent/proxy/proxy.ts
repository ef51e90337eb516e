import type { Tenure } from "../ports/tenure.ts";
import type { ProxySettings } from "./settings.ts";

/** Where the proxy listens. */
export interface ListenAddress {
  /** `169.254.169.254`, or `fe80::a9fe:a9fe%mn-metadata` with its zone. */
  readonly host: string;
  readonly tcpPort: number;
}

/** The last request of a port, for `explain`: no path query, no body, no header. */
export interface LastRequest {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly method: string;
  /** Without the query string. */
  readonly path: string;
  readonly status: number;
  readonly durationMs: number;
  readonly requestId: string;
}

/** Counters since start and state now; plain data for `status` and, later, metrics. */
export interface ProxyStatus {
  readonly listening: readonly string[];
  readonly connections: number;
  readonly inFlight: number;
  readonly held: number;
  readonly requests: number;
  readonly responsesByClass: Readonly<Record<"1xx" | "2xx" | "3xx" | "4xx" | "5xx", number>>;
  readonly counters: Readonly<Record<string, number>>;
  readonly endpoints: readonly {
    readonly url: string;
    readonly state: "healthy" | "ejected" | "unknown";
    readonly reason?: string;
  }[];
}

export interface Proxy {
  /**
   * Listens; again on the same address after its interface was made anew, because a link-local IPv6 listener
   * stays with the interface that is gone.
   *
   * @throws {ProxyError} `address-in-use`, `address-not-available`, `listen-failed`, as a sentence with the remedy.
   */
  listen(address: ListenAddress): Promise<void>;
  /** Takes new settings for all requests from now on; nothing in flight is cut. */
  reconfigure(settings: ProxySettings): void;
  /** Destroys every socket of this tenure at once, and whatever is cached for it. Resolves when none is left. */
  endTenure(tenure: Tenure): Promise<void>;
  /** The newest first, at most 16. */
  lastRequests(portId: string): readonly LastRequest[];
  status(): ProxyStatus;
  /** Stops listening, lets requests in flight end within `drainMs`, then cuts them. */
  close(drainMs: number): Promise<void>;
}
