import { describe, expect, it } from "vitest";
import { linkIn, linkQuestion } from "../../src/datapath/link.ts";
import { attribute } from "../../src/datapath/netlink-bytes.ts";

/** The body of an RTM_NEWLINK: `struct ifinfomsg`, then attributes. */
function message(ifindex: number, flags: number, ...attributes: readonly Buffer[]): Buffer {
  const head = Buffer.alloc(16);
  head.writeInt32LE(ifindex, 4);
  head.writeUInt32LE(flags, 8);
  return Buffer.concat([head, ...attributes]);
}

const NAME = attribute(3, Buffer.from("tap1\0"));
const MAC = attribute(1, Buffer.from("fa163e000001", "hex"));
const NESTED = 0x8000;

describe("`linkIn()`", () => {
  it("reads what we know of a link, and passes over everything else", () => {
    const kind = attribute(18 | NESTED, attribute(1, Buffer.from("tun\0")));
    const other = attribute(51, Buffer.alloc(7));
    const mtu = attribute(4, Buffer.from([0xaa, 5, 0, 0]));
    const link = attribute(5, Buffer.from([8, 0, 0, 0]));
    const master = attribute(10, Buffer.from([9, 0, 0, 0]));
    expect(linkIn(message(7, 1, other, MAC, other, NAME, mtu, master, link, kind, other))).toEqual({
      name: "tap1",
      ifindex: 7,
      up: true,
      noArp: false,
      linkKind: "tun",
      mac: "fa:16:3e:00:00:01",
      mtu: 1450,
      master: 9,
      otherEnd: 8,
    });
    // Another namespace has numbers of its own.
    expect(linkIn(message(7, 1, NAME, link, attribute(37, Buffer.alloc(4))))).toMatchObject({ otherEnd: 0 });
    expect(linkIn(message(8, 0x80, NAME))).toMatchObject({
      up: false,
      noArp: true,
      mac: "",
      linkKind: "",
      master: 0,
    });
  });

  it("takes no link from what has no name or is cut off", () => {
    const whole = message(7, 1, MAC, NAME);
    expect(linkIn(message(7, 1, MAC))).toBeUndefined();
    for (let length = 0; length < whole.length - 3; length++) {
      expect(linkIn(whole.subarray(0, length))).toBeUndefined();
    }
    const endless = Buffer.from(whole);
    endless.writeUInt16LE(0, 16);
    expect(linkIn(endless)).toBeUndefined();
  });
});

describe("`linkQuestion()`", () => {
  it("names the link by its number or its name", () => {
    expect(linkQuestion({ ifindex: 7 }).readInt32LE(4)).toBe(7);
    expect(linkQuestion({ name: "tap1" }).includes(NAME)).toBe(true);
    expect(linkQuestion().readInt32LE(4)).toBe(0);
  });
});
