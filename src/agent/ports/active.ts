import type { ComputePort } from "../topology/model.ts";

/** What of a host netdev decides whether a port is active. */
export interface LinkState {
  readonly ifindex: number;
  /** IFF_UP: set up by whoever plugged the guest, whatever the carrier says. */
  readonly up: boolean;
}

/** A port that is bound here and whose interface exists and is up: both halves of one fact. */
export interface ActivePort {
  readonly port: ComputePort;
  readonly ifindex: number;
}

/** Why a bound port is not served now. */
export type IdleReason =
  | { readonly kind: "no-interface" }
  | { readonly kind: "interface-down" }
  | { readonly kind: "no-fixed-address" }
  | { readonly kind: "interface-taken"; readonly byPortId: string };

export interface Activity {
  readonly active: readonly ActivePort[];
  readonly idle: ReadonlyMap<string, IdleReason>;
}

/**
 * Joins the bindings with the links. Two ports that claim one interface cannot both be right: the one that
 * holds it keeps it, so that a wrong binding cannot take over a running guest; among newcomers the lower
 * UUID wins, so that every run decides alike.
 *
 * @param holds Whether a port is served through that interface already, or was the last one that was.
 */
export function activity(
  ports: Iterable<ComputePort>,
  linkOf: (interfaceName: string) => LinkState | undefined,
  holds: (portId: string, interfaceName: string) => boolean,
): Activity {
  const idle = new Map<string, IdleReason>();
  const claims = new Map<string, ActivePort>();
  for (const port of ports) {
    const link = linkOf(port.interfaceName);
    if (link === undefined) idle.set(port.portId, { kind: "no-interface" });
    else if (!link.up) idle.set(port.portId, { kind: "interface-down" });
    else if (port.fixedAddresses.length === 0) idle.set(port.portId, { kind: "no-fixed-address" });
    else claim({ port, ifindex: link.ifindex });
  }
  return { active: [...claims.values()], idle };

  function claim(newcomer: ActivePort): void {
    const { interfaceName } = newcomer.port;
    const rival = claims.get(interfaceName);
    if (rival === undefined) {
      claims.set(interfaceName, newcomer);
      return;
    }
    const [winner, loser] = outranks(rival.port, newcomer.port) ? [rival, newcomer] : [newcomer, rival];
    claims.set(interfaceName, winner);
    idle.set(loser.port.portId, { kind: "interface-taken", byPortId: winner.port.portId });
  }

  function outranks(a: ComputePort, b: ComputePort): boolean {
    const aHolds = holds(a.portId, a.interfaceName);
    if (aHolds !== holds(b.portId, b.interfaceName)) return aHolds;
    return a.portId < b.portId;
  }
}

/**
 * Who was served through an interface last: it is its own also while that is down or is made anew, as long as the port
 * stays bound to it. Otherwise a wrong binding would only have to wait for a guest's reboot.
 */
export class Incumbents {
  readonly #portIdOf = new Map<string, string>();

  isIt(portId: string, interfaceName: string): boolean {
    return this.#portIdOf.get(interfaceName) === portId;
  }

  /** @param ports All that are bound. */
  learn(active: readonly ActivePort[], ports: ReadonlyMap<string, ComputePort>): void {
    for (const { port } of active) this.#portIdOf.set(port.interfaceName, port.portId);
    if (this.#portIdOf.size === active.length) return;
    for (const [interfaceName, portId] of this.#portIdOf) {
      if (ports.get(portId)?.interfaceName !== interfaceName) this.#portIdOf.delete(interfaceName);
    }
  }
}

/** The reason as a sentence for an operator. */
export function idleSentence(port: ComputePort, reason: IdleReason): string {
  switch (reason.kind) {
    case "no-interface":
      return `interface "${port.interfaceName}" does not exist on this host: the guest is not plugged in (yet), or the binding names another interface`;
    case "interface-down":
      return `interface "${port.interfaceName}" is down: ip link set ${port.interfaceName} up`;
    case "no-fixed-address":
      return "the Neutron port has no fixed address, so there is none that its guest could ask from";
    case "interface-taken":
      return `interface "${port.interfaceName}" already serves port ${reason.byPortId}: unbind one of the two`;
  }
}
