/**
 * What the kernel should hold for one port. The consumer of this room (the agent) makes these; the room
 * knows neither the NSDB, nor nova, nor HTTP.
 */
export interface Plumbing {
  /** The Neutron/MidoNet port: a lower-case UUID. */
  readonly portId: string;
  /** The host netdev that the guest is plugged into; at most 15 bytes. @source linux/if.h IFNAMSIZ */
  readonly interfaceName: string;
  /** Its kernel index; a re-created netdev of the same name has another. */
  readonly ifindex: number;
  /** The guest's address, lower case, `fa:16:3e:…`: replies go to it whatever the guest wrote as source. */
  readonly mac: string;
  /** One for each fixed address of the port; never empty. */
  readonly identities: readonly Identity[];
  /**
   * Whatever its guest asks from over IPv4 is the port's too, since it was given no address for that. Without it: where
   * no identity is IPv4.
   */
  readonly isIpv6Only?: boolean;
}

/** One fixed address of a port and the number that stands for it on this host. */
export interface Identity {
  /** See {@link ./link-local.ts}: a bijection with a 169.254/16 address and an IPv6 twin. */
  readonly number: number;
  /** The guest's own address, IPv4 dotted or IPv6 in canonical lower case; it overlaps between networks. */
  readonly fixedAddress: string;
  /**
   * For whom: an opaque word of hex digits, the same for the same guest. Kept in the kernel, so that an agent that finds
   * the number there can tell whether the port is another's by now.
   */
  readonly heldFor?: string;
}
