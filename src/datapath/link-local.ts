/**
 * The host-unique stand-ins of guests: a number from 1 to {@link NUMBER_COUNT}, its address in 169.254/16, and
 * its twin prefix in a private IPv6 range. Pure arithmetic: the kernel and the proxy meet only here.
 *
 * ```
 * number 1 ↔ 169.254.0.1 ↔ fd69:fe00:0:1::/64      (…169.254 and …255.255 are skipped, …0.0 is no number)
 * ```
 */

/** Where guests ask. @source nova and EC2: the address that every image knows. */
export const METADATA_ADDRESS = "169.254.169.254";
/** The same over IPv6. @source neutron-lib constants.py METADATA_V6_IP */
export const METADATA_ADDRESS_V6 = "fe80::a9fe:a9fe";
/** Where the proxy listens on both addresses. @source midonet.conf agent.openstack.metadata: its proxy's port */
export const METADATA_TCP_PORT = 9697;

/** 65,536 without .0.0, .169.254 and .255.255. */
export const NUMBER_COUNT = 65_533;
/** The twin prefixes of all numbers. */
export const TWIN_RANGE = "fd69:fe00::/32";

/** Low 16 bits of 169.254.169.254: no guest may be called so. */
const METADATA_LOW = 0xa9fe;

/**
 * 169.254.x.y of a number.
 *
 * @throws {RangeError} If it is none.
 */
export function linkLocalOf(number: number): string {
  const low = lowBitsOf(number);
  return `169.254.${low >> 8}.${low & 0xff}`;
}

/**
 * The IPv6 prefix of a number, without its length: the upper 64 bits of every address that stands for it.
 *
 * @throws {RangeError} If it is none.
 */
export function twinPrefixOf(number: number): string {
  return `fd69:fe00:0:${lowBitsOf(number).toString(16)}::`;
}

/**
 * The number behind a peer address as the kernel or Node spells it (`169.254.0.5`, `::ffff:169.254.0.5`,
 * `fd69:fe00:0:5::1`, with or without `%zone`), or undefined where it stands for no guest.
 */
export function numberOf(peerAddress: string): number | undefined {
  const low = peerAddress.includes(".") ? lowBitsOfIpv4(peerAddress) : lowBitsOfTwin(peerAddress);
  if (low === undefined || low === 0 || low === METADATA_LOW || low === 0xffff) return undefined;
  return low < METADATA_LOW ? low : low - 1;
}

/**
 * A test for numbers whose address the operator keeps for something else (node-local DNS and the like).
 *
 * @param reserved CIDRs inside 169.254/16, such as `169.254.20.0/24`; a bare address is a /32.
 * @throws {RangeError} If one is no IPv4 CIDR.
 */
export function isReservedNumber(reserved: readonly string[]): (number: number) => boolean {
  const ranges = reserved.map(parseCidr);
  return (number) => {
    const address = 0xa9fe0000 + lowBitsOf(number);
    return ranges.some(({ first, last }) => address >= first && address <= last);
  };
}

/**
 * The numbers whose address is the host's own: the kernel keeps what goes there, so no guest could be answered.
 *
 * @param addresses All IPv4 addresses of the host; a network's first and last address count as well.
 */
export function numbersOfHost(
  addresses: readonly { readonly address: string; readonly prefixLength: number }[],
): ReadonlySet<number> {
  const numbers = new Set<number>();
  for (const { address, prefixLength } of addresses) {
    if (!address.startsWith("169.254.")) continue;
    const { first, last } = parseCidr(`${address}/${prefixLength}`);
    const ends =
      prefixLength < 31 ? [first, last].map((end) => `169.254.${(end >> 8) & 255}.${end & 255}`) : [];
    for (const one of [address, ...ends]) {
      const number = numberOf(one);
      if (number !== undefined) numbers.add(number);
    }
  }
  return numbers;
}

function lowBitsOf(number: number): number {
  if (!Number.isInteger(number) || number < 1 || number > NUMBER_COUNT) {
    throw new RangeError(
      `Cannot make a link-local address of "${number}": it must be an integer from 1 to ${NUMBER_COUNT}`,
    );
  }
  return number < METADATA_LOW ? number : number + 1;
}

const MAPPED = "::ffff:";

function lowBitsOfIpv4(address: string): number | undefined {
  const dotted = address.slice(0, 7).toLowerCase() === MAPPED ? address.slice(7) : address;
  const match = /^169\.254\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/.exec(dotted);
  if (match === null) return undefined;
  const [third, fourth] = [Number(match[1]), Number(match[2])];
  return third > 255 || fourth > 255 ? undefined : third * 256 + fourth;
}

/** Both spellings of the third group occur: `fd69:fe00:0:5::1`, and `fd69:fe00::5:0:0:0:1` where `::` fell there. */
function lowBitsOfTwin(address: string): number | undefined {
  const zone = address.indexOf("%");
  const plain = (zone < 0 ? address : address.slice(0, zone)).toLowerCase();
  if (!plain.startsWith("fd69:fe00:")) return undefined;
  const groups = expandGroups(plain);
  if (groups === undefined || groups[2] !== 0) return undefined;
  return groups[3];
}

/** The eight groups of an IPv6 address without an embedded IPv4 one, or undefined where it is not one. */
function expandGroups(address: string): readonly number[] | undefined {
  const [head = "", tail, ...more] = address.split("::");
  if (more.length > 0) return undefined;
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const missing = 8 - left.length - right.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  const groups = [...left, ...Array.from({ length: missing }, () => "0"), ...right];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/.test(group))) return undefined;
  return groups.map((group) => Number.parseInt(group, 16));
}

function parseCidr(cidr: string): { readonly first: number; readonly last: number } {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\/(\d{1,2}))?$/.exec(cidr);
  const bytes = match?.slice(1, 5).map(Number) ?? [];
  const length = Number(match?.[5] ?? 32);
  if (match === null || bytes.some((byte) => byte > 255) || length > 32) {
    throw new RangeError(`Cannot reserve "${cidr}": it must be an IPv4 range such as 169.254.20.0/24`);
  }
  const address = bytes.reduce((sum, byte) => sum * 256 + byte, 0);
  const size = 2 ** (32 - length);
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1 };
}
