import { createHash } from "node:crypto";
import { linkLocalOf, NUMBER_COUNT, numberOf } from "../../datapath/link-local.ts";
import type { Plumbing } from "../../datapath/plumbing.ts";
import type { ComputePort } from "../topology/model.ts";
import type { ActivePort } from "./active.ts";
import type { Tenure, TenureLookup } from "./tenure.ts";
import { turnAt } from "./turn.ts";

/**
 * Who holds which number on this host. A row exists before the kernel lets a packet through for it
 * ({@link PortTable.open}) and until the kernel has stopped and every socket is gone ({@link PortTable.close});
 * a number that was given back rests before it is given again.
 *
 * ```
 * free ──open──► held ──(no longer wanted)──► leaving ──close──► resting ──quarantineMs──► free
 *   ▲ adopt: held by (port, address) of an earlier run, no row until the NSDB confirms it
 * ```
 */
export class PortTable implements TenureLookup {
  readonly #rows = new Map<number, Row>();
  readonly #numberOfHolder = new Map<string, number>();
  /** Numbers found in the kernel at start whose port is not known yet. */
  readonly #adopted = new Map<number, Adopted>();
  /** Number to the time at which it is free again. */
  readonly #resting = new Map<number, number>();
  /** What the last {@link open} made of each port; the same port on the same link gives the same again. */
  readonly #opened = new Map<string, Opened>();
  readonly #listeners = new Set<() => void>();
  readonly #options: PortTableOptions;
  #opens = 0;
  /** No turn before it is given again: a burst runs ahead of the clock, and a clock may be set back. */
  #nextTurn = 0;
  #inSync = false;
  #isExhausted = false;

  constructor(options: PortTableOptions) {
    this.#options = options;
  }

  get inSync(): boolean {
    return this.#inSync;
  }

  /** Says that the NSDB has been read whole once: from now on an unknown address is nobody's. */
  markInSync(): void {
    if (this.#inSync) return;
    this.#inSync = true;
    this.#changed();
  }

  /** Takes over the numbers that an earlier run left in the kernel, for the ports that held them. */
  adopt(observed: readonly Plumbing[]): void {
    for (const { portId, interfaceName, identities } of observed) {
      for (const { number, fixedAddress, heldFor } of identities) {
        const holder = holderKey(portId, fixedAddress);
        if (this.#rows.has(number) || this.#numberOfHolder.has(holder)) continue;
        this.#adopted.set(number, { holder, portId, interfaceName, heldFor });
        this.#numberOfHolder.set(holder, number);
      }
    }
  }

  /**
   * Makes a row for each fixed address of each active port, keeping the numbers of those that have one, and
   * marks all other rows as leaving. A port that now belongs to another instance gets new numbers, and so does one
   * whose number has become reserved. An address that no number is left for is left out, and its port refused.
   */
  open(active: readonly ActivePort[]): OpenedPorts {
    for (const row of this.#rows.values()) row.wanted = false;
    this.#opens += 1;
    this.#isExhausted = false;
    const refused = new Map<string, string>();
    const plumbings = active.map(({ port, ifindex }) => {
      const before = this.#opened.get(port.portId);
      if (before?.port === port && before.plumbing.ifindex === ifindex && this.#keep(before.plumbing)) {
        before.at = this.#opens;
        return before.plumbing;
      }
      const plumbing = this.#openPort(port, ifindex);
      if (plumbing.identities.length < port.fixedAddresses.length) refused.set(port.portId, EXHAUSTED);
      else this.#opened.set(port.portId, { port, plumbing, at: this.#opens });
      return plumbing;
    });
    if (this.#opened.size > active.length) this.#forgetOpened();
    this.#changed();
    return { want: plumbings.filter(({ identities }) => identities.length > 0), refused };
  }

  #forgetOpened(): void {
    for (const [portId, { at }] of this.#opened) if (at !== this.#opens) this.#opened.delete(portId);
  }

  /** Marks the rows of a plumbing as wanted; false where one is missing, or may not stay. */
  #keep({ identities }: Plumbing): boolean {
    for (const { number } of identities) {
      const row = this.#rows.get(number);
      if (row === undefined || this.#options.isReserved(number)) return false;
      row.wanted = true;
    }
    return true;
  }

  #openPort(port: ComputePort, ifindex: number): Plumbing {
    const { portId, interfaceName, mac, isIpv6Only } = port;
    const word = guestWord(port);
    const heldFor = word === undefined ? {} : { heldFor: word };
    const identities = port.fixedAddresses.flatMap((fixedAddress) => {
      const number = this.#openIdentity(port, fixedAddress, word);
      return number === undefined ? [] : [{ number, fixedAddress, ...heldFor }];
    });
    return { portId, interfaceName, ifindex, mac, identities, ...(isIpv6Only ? { isIpv6Only } : {}) };
  }

  /** @param word For whom it is to be held. */
  #openIdentity(port: ComputePort, fixedAddress: string, word: string | undefined): number | undefined {
    const holder = holderKey(port.portId, fixedAddress);
    let number = this.#numberOfHolder.get(holder);
    const row = number === undefined ? undefined : this.#rows.get(number);
    const adopted = number === undefined ? undefined : this.#adopted.get(number);
    if (row !== undefined && changesHands(row.tenure, port)) number = undefined;
    // Whoever ran before may have left sockets, and what they still send is for the guest of that time.
    if (adopted?.heldFor !== undefined && adopted.heldFor !== word) number = undefined;
    if (number !== undefined && this.#options.isReserved(number)) number = undefined;
    number ??= this.#freeNumber();
    if (number === undefined) return undefined;
    this.#adopted.delete(number);
    this.#numberOfHolder.set(holder, number);
    const kept = this.#rows.get(number);
    if (kept !== undefined && sameTenure(kept.tenure, port)) kept.wanted = true;
    else this.#rows.set(number, { tenure: newTenure(number, port, fixedAddress), holder, wanted: true });
    return number;
  }

  /** Rows that {@link open} no longer wanted; still found by {@link tenureOf} until they are closed. */
  leaving(): readonly Tenure[] {
    const leaving: Tenure[] = [];
    for (const { wanted, tenure } of this.#rows.values()) if (!wanted) leaving.push(tenure);
    return leaving;
  }

  /** Ends a tenure whose packets the kernel has stopped and whose sockets are gone; its number rests. */
  close(tenure: Tenure): void {
    const row = this.#rows.get(tenure.number);
    if (row?.tenure !== tenure) return;
    this.#rows.delete(tenure.number);
    if (this.#numberOfHolder.get(row.holder) === tenure.number) this.#numberOfHolder.delete(row.holder);
    this.#rest(tenure.number);
    this.#changed();
  }

  /** Gives back the adopted numbers that no port claimed, once the kernel no longer holds them. */
  releaseAdopted(): void {
    for (const [number, { holder }] of this.#adopted) {
      if (this.#numberOfHolder.get(holder) === number) this.#numberOfHolder.delete(holder);
      this.#rest(number);
    }
    this.#adopted.clear();
  }

  tenureOf(peerAddress: string): Tenure | undefined {
    const number = numberOf(peerAddress);
    return number === undefined ? undefined : this.#rows.get(number)?.tenure;
  }

  /** Whether a port is served, or was by an earlier run, through that interface. */
  holds(portId: string, interfaceName: string): boolean {
    const isIt = (held: Adopted | Tenure) => held.portId === portId && held.interfaceName === interfaceName;
    for (const { tenure } of this.#rows.values()) if (isIt(tenure)) return true;
    for (const adopted of this.#adopted.values()) if (isIt(adopted)) return true;
    return false;
  }

  tenures(): readonly Tenure[] {
    return [...this.#rows.values()].map((row) => row.tenure);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #rest(number: number): void {
    this.#resting.set(number, this.#options.now() + this.#options.quarantineMs);
  }

  /** Round robin, at least as fast as the clock: a number just given is the last to be given again, by another run as well. */
  #freeNumber(): number | undefined {
    // Looking at all of them once in a pass is enough.
    if (this.#isExhausted) return undefined;
    const now = this.#options.now();
    const first = Math.max(this.#nextTurn, this.#options.turn?.() ?? turnAt(Date.now()));
    for (let turn = first; turn < first + NUMBER_COUNT; turn++) {
      const number = (turn % NUMBER_COUNT) + 1;
      if (this.#rows.has(number) || this.#adopted.has(number)) continue;
      if ((this.#resting.get(number) ?? 0) > now) continue;
      if (this.#options.isReserved(number)) continue;
      this.#resting.delete(number);
      this.#nextTurn = turn + 1;
      return number;
    }
    this.#isExhausted = true;
    return undefined;
  }
}

/** What {@link PortTable.open} made of the active ports. */
export interface OpenedPorts {
  /** What the kernel should hold for them. */
  readonly want: readonly Plumbing[];
  /** Why a port is not served, or not at each of its addresses. */
  readonly refused: ReadonlyMap<string, string>;
}

const EXHAUSTED =
  "Cannot give it a link-local address: all of 169.254/16 are held, reserved (agent.openstack.metadata.reserved_ranges) or rest for two minutes after their last port";

export interface PortTableOptions {
  /** How long a number rests after its tenure ended. */
  readonly quarantineMs: number;
  /** Numbers whose address the operator reserved, or the host has itself; asked of each number on every change. */
  readonly isReserved: (number: number) => boolean;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** The turn that numbering has come to, where it is not that of the wall clock ({@link turnAt}); 0 is number 1's. */
  readonly turn?: () => number;
}

interface Adopted {
  readonly holder: string;
  readonly portId: string;
  readonly interfaceName: string;
  readonly heldFor: string | undefined;
}

interface Opened {
  readonly port: ComputePort;
  readonly plumbing: Plumbing;
  /** Which {@link PortTable.open} it was in last. */
  at: number;
}

interface Row {
  readonly tenure: Tenure;
  readonly holder: string;
  wanted: boolean;
}

function holderKey(portId: string, fixedAddress: string): string {
  return `${portId} ${fixedAddress}`;
}

/** What a port's guest is known by in the kernel, where it has a name. */
function guestWord({ instanceId }: ComputePort): string | undefined {
  return instanceId === "" ? undefined : createHash("sha256").update(instanceId).digest("hex").slice(0, 16);
}

function newTenure(number: number, port: ComputePort, fixedAddress: string): Tenure {
  const { portId, interfaceName, instanceId, projectId } = port;
  return {
    number,
    linkLocal: linkLocalOf(number),
    portId,
    interfaceName,
    fixedAddress,
    instanceId,
    projectId,
  };
}

function sameTenure(tenure: Tenure, port: ComputePort): boolean {
  return (
    tenure.interfaceName === port.interfaceName &&
    tenure.instanceId === port.instanceId &&
    tenure.projectId === port.projectId
  );
}

/** An instance that is named for the first time is the same guest, still booting; a second name is another guest. */
function changesHands(tenure: Tenure, port: ComputePort): boolean {
  return tenure.instanceId !== "" && tenure.instanceId !== port.instanceId;
}
