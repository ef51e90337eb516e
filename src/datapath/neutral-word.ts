/**
 * The word that keeps a neighbour advertisement's checksum right, in hex. nft fixes none after a raw (`@`) write, so raw
 * writes must leave the sum as it was: this word, parked in the destination address that is rewritten next, makes up for
 * the type, the flags and our MAC.
 *
 * @source RFC 1071 §2; measured: "[icmp6 sum ok]" in tcpdump
 */
export function neutralWord(destination: string): string {
  const before = [...wordsOf(destination), 0x8700];
  const after = [0x8800, 0x6000, 0x0201, 0x02a9, 0xfea9, 0xfe01];
  return difference(before, after);
}

/** The same without an option to move: then only the lower half of the destination changes. */
export function bareNeutralWord(): string {
  return difference([0xa9fe, 0xa9fe, 0x8700], [0x8800, 0x6000]);
}

function difference(before: readonly number[], after: readonly number[]): string {
  const word = onesSum([onesSum(before), ~onesSum(after) & 0xffff]);
  return word.toString(16).padStart(4, "0");
}

function onesSum(words: readonly number[]): number {
  let sum = words.reduce((total, word) => total + word, 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

function wordsOf(address: string): readonly number[] {
  const [head = "", tail = ""] = address.split("::");
  return [...head.split(":"), ...tail.split(":")].map((group) => Number.parseInt(group, 16));
}
