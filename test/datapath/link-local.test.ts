import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  isReservedNumber,
  linkLocalOf,
  METADATA_ADDRESS,
  NUMBER_COUNT,
  numberOf,
  numbersOfHost,
  twinPrefixOf,
} from "../../src/datapath/link-local.ts";

const numbers = fc.integer({ min: 1, max: NUMBER_COUNT });
const groups = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 4, maxLength: 4 });

describe("numbers and their addresses", () => {
  test("`numberOf()` undoes `linkLocalOf()`, for every number", () => {
    const seen = new Set<string>();
    for (let number = 1; number <= NUMBER_COUNT; number++) {
      const address = linkLocalOf(number);
      seen.add(address);
      if (numberOf(address) !== number) expect(numberOf(address)).toBe(number);
    }
    expect(seen.size).toBe(NUMBER_COUNT);
    for (const never of ["169.254.0.0", METADATA_ADDRESS, "169.254.255.255"])
      expect(seen.has(never)).toBe(false);
  });

  test("begin and end where they should", () => {
    expect([1, 43_517, 43_518, NUMBER_COUNT].map(linkLocalOf)).toEqual([
      "169.254.0.1",
      "169.254.169.253",
      "169.254.169.255",
      "169.254.255.254",
    ]);
    for (const none of [0, -1, 1.5, NUMBER_COUNT + 1, Number.NaN])
      expect(() => linkLocalOf(none)).toThrow(RangeError);
  });

  test("`numberOf()` knows the twin whatever the interface identifier, in each of its spellings", () => {
    fc.assert(
      fc.property(numbers, groups, fc.boolean(), (number, tail, upper) => {
        const words = [
          ...twinPrefixOf(number).split("::").slice(0, 1).join("").split(":"),
          ...tail.map((word) => word.toString(16)),
        ];
        const long = words.join(":");
        const canonical = new URL(`http://[${long}]/`).hostname.slice(1, -1);
        for (const spelling of [long, canonical, `${canonical}%mn-metadata`]) {
          expect(numberOf(upper ? spelling.toUpperCase() : spelling)).toBe(number);
        }
      }),
    );
  });

  test("`numberOf()` knows an IPv4 address inside an IPv6 one", () => {
    expect(numberOf("::ffff:169.254.0.5")).toBe(5);
    expect(numberOf("::FFFF:169.254.0.5")).toBe(5);
  });

  test("`numberOf()` knows nobody else", () => {
    const strangers = [
      ["", "169.254.169.254", "169.254.0.0", "169.254.255.255", "10.0.0.1", "169.254.0.256", "169.254.0.1.2"],
      [
        "169.254.00.1",
        "169.254.0",
        "fe80::a9fe:a9fe",
        "fd69:fe00::",
        "fd69:fe00:1:5::1",
        "fd69:fe00:0:a9fe::1",
      ],
      [
        "fd69:fe00:0:ffff::1",
        "fd69:fe00:0:5::1::2",
        "fd69:fe00:0:5",
        "fd69:fe00:0:5:0:0:0:0:1",
        "fd69:fe00:0:g::1",
      ],
    ].flat();
    for (const stranger of strangers) expect([stranger, numberOf(stranger)]).toEqual([stranger, undefined]);
    fc.assert(
      fc.property(fc.string(), (text) => text.startsWith("169.254.") || numberOf(text) === undefined),
    );
  });

  test("`numbersOfHost()` finds what the kernel keeps for itself", () => {
    const of = (address: string, prefixLength: number) =>
      [...numbersOfHost([{ address, prefixLength }])].map(linkLocalOf).sort();
    expect(of("169.254.0.1", 30)).toEqual(["169.254.0.1", "169.254.0.3"]);
    expect(of("169.254.7.9", 24)).toEqual(["169.254.7.0", "169.254.7.255", "169.254.7.9"]);
    expect(of("169.254.3.4", 16)).toEqual(["169.254.3.4"]);
    expect(of("169.254.3.4", 32)).toEqual(["169.254.3.4"]);
    expect(of("169.254.3.4", 31)).toEqual(["169.254.3.4"]);
    expect(of(METADATA_ADDRESS, 32)).toEqual([]);
    expect(of("10.0.0.1", 8)).toEqual([]);
  });

  test("`isReservedNumber()` skips whole ranges and single addresses", () => {
    const isReserved = isReservedNumber(["169.254.20.0/24", "169.254.1.1"]);
    const reserved = [0x1400, 0x14ff, 0x0101];
    expect(reserved.map(isReserved)).toEqual([true, true, true]);
    expect([0x13ff, 0x1500, 0x0100, 0x0102].map(isReserved)).toEqual([false, false, false, false]);
    for (const wrong of ["", "169.254.20.0/33", "169.254.300.0/24", "fe80::/64"]) {
      expect(() => isReservedNumber([wrong])).toThrow(`Cannot reserve "${wrong}"`);
    }
  });
});
