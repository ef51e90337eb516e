/** One port's hold on one link-local address, from start to end: all that the request path knows of a guest. */
export interface Tenure {
  readonly number: number;
  /** 169.254.x.y; the IPv6 twin of the same number resolves to the same tenure. */
  readonly linkLocal: string;
  readonly portId: string;
  readonly interfaceName: string;
  /** The guest's own address that this tenure stands for: goes to nova as X-Forwarded-For. */
  readonly fixedAddress: string;
  /** Nova server; empty when the port has none (yet). */
  readonly instanceId: string;
  /** Keystone project; `tenant_id` in the NSDB and on the wire. */
  readonly projectId: string;
}

/** All that the proxy may know of the port table. Synchronous: nothing on the request path waits for control. */
export interface TenureLookup {
  /**
   * The tenure that holds an address *now*. Always ask again after waiting: an ended tenure is not found, and a
   * changed one (another instance on the port, another fixed address) is a new object.
   *
   * @param peerAddress As the socket gives it: `169.254.0.5`, `fd69:fe00:0:5::1` (any spelling of the kernel's).
   */
  tenureOf(peerAddress: string): Tenure | undefined;
  /** False until the first complete read of the NSDB: an unknown address may still turn out to be a guest's. */
  readonly inSync: boolean;
  /** Calls back after each change of the table (or of `inSync`), for requests that are being held. Returns the way to stop. */
  onChange(listener: () => void): () => void;
}
