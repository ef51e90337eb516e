/** A UUID as MidoNet stores it: two unsigned 64-bit halves. @source MidoNet commons.proto */
export interface UuidHalves {
  readonly msb: bigint;
  readonly lsb: bigint;
}

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

/** The canonical UUID of two halves, each in 0 … 2^64-1. */
export function uuidFromHalves({ msb, lsb }: UuidHalves): string {
  const digits = msb.toString(16).padStart(16, "0") + lsb.toString(16).padStart(16, "0");
  return [
    digits.slice(0, 8),
    digits.slice(8, 12),
    digits.slice(12, 16),
    digits.slice(16, 20),
    digits.slice(20),
  ].join("-");
}
