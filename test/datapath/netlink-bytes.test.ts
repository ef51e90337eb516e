import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addressBytes } from "../../src/datapath/netlink-bytes.ts";

/** Zeros and ones among them, as addresses that are shortened or have an IPv4 address inside have. */
const group = fc.oneof(fc.constant(0), fc.constant(0xffff), fc.integer({ min: 0, max: 0xffff }));
const groups = fc.array(group, { minLength: 8, maxLength: 8 });

describe("`addressBytes()`", () => {
  test.each([
    ["10.0.0.9", 2, "0a000009"],
    ["fd69:fe00:0:7::", 10, "fd69fe00000000070000000000000000"],
    ["::10.0.0.9", 10, "0000000000000000000000000a000009"],
    ["::ffff:10.0.0.9", 10, "00000000000000000000ffff0a000009"],
    ["64:ff9b::192.0.2.255", 10, "0064ff9b0000000000000000c00002ff"],
    ["::", 10, "00000000000000000000000000000000"],
  ])("of %s are its own", (address, family, hex) => {
    const { family: found, bytes } = addressBytes(address);
    expect([found, bytes.toString("hex")]).toEqual([family, hex]);
  });

  test("of every IPv6 address are its groups", () => {
    fc.assert(
      fc.property(groups, (words) => {
        const { bytes } = addressBytes(words.map((word) => word.toString(16)).join(":"));
        expect(bytes.toString("hex")).toBe(words.map((word) => word.toString(16).padStart(4, "0")).join(""));
      }),
      { numRuns: 2_000 },
    );
  });
});
