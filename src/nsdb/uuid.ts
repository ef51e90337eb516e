/** A UUID as MidoNet stores it: two unsigned 64-bit halves. @source MidoNet commons.proto */
export interface UuidHalves {
  readonly msb: bigint;
  readonly lsb: bigint;
}

/** 2^64 - 1. */
export const LARGEST_HALF = 0xffff_ffff_ffff_ffffn;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The canonical lower-case spelling, or undefined for what is not a UUID of 8-4-4-4-12 digits. */
export function parseUuid(text: string): string | undefined {
  const lower = text.toLowerCase();
  return UUID.test(lower) ? lower : undefined;
}

/** The halves of a canonical UUID. */
export function uuidToHalves(uuid: string): UuidHalves {
  const digits = uuid.replaceAll("-", "");
  return { msb: BigInt(`0x${digits.slice(0, 16)}`), lsb: BigInt(`0x${digits.slice(16)}`) };
}

/** The canonical UUID of two halves, each in 0 … {@link LARGEST_HALF}. */
export function uuidFromHalves({ msb, lsb }: UuidHalves): string {
  const first = msb.toString(16).padStart(16, "0");
  const last = lsb.toString(16).padStart(16, "0");
  return `${first.slice(0, 8)}-${first.slice(8, 12)}-${first.slice(12)}-${last.slice(0, 4)}-${last.slice(4)}`;
}
