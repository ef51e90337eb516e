/** What the NSDB says of this host, decoded and checked; nothing of the kernel is in it. */

/** A guest's port that is bound to an interface of this host. */
export interface ComputePort {
  /** Lower-case UUID of the Neutron/MidoNet port. */
  readonly portId: string;
  /** The netdev that the binding names, whether or not it exists. */
  readonly interfaceName: string;
  /** Lower case, colon-separated. */
  readonly mac: string;
  /** Fixed addresses, then host entries of the allowed address pairs; canonical, without repetition; may be empty. */
  readonly fixedAddresses: readonly string[];
  /** None of its fixed addresses is IPv4; an allowed address pair may be. */
  readonly isIpv6Only?: boolean;
  /** Nova server (`device_id`); empty when Neutron has none yet. */
  readonly instanceId: string;
  /** Keystone project (`tenant_id`). */
  readonly projectId: string;
}

/** Whether a name of the NSDB, which may hold anybody's text, can go to nova in a header. */
export function fitsHeader(name: string): boolean {
  return /^[\x21-\x7e]{0,255}$/.test(name);
}

/** An object of the NSDB that could not be used, for one warn line and for `status`. */
export interface TopologyProblem {
  /** `/zoom/0/models/Port/<uuid>`. */
  readonly znode: string;
  /** Names the field and the reason. */
  readonly reason: string;
}

/** The newest complete knowledge; whoever is slow skips the states between. */
export interface TopologySnapshot {
  /** False until every object that this host needs has been read once. Nothing may be removed before then. */
  readonly inSync: boolean;
  /** Follows the NSDB: thousands of ports are not copied for each that changes. */
  readonly ports: ReadonlyMap<string, ComputePort>;
  readonly problems: readonly TopologyProblem[];
  /** False when the NSDB has no `Host` object with this host's id. */
  readonly hostIsKnown: boolean;
}
