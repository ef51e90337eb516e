import { isIPv4 } from "node:net";
import { canonicalIpv6 } from "./fact.ts";

/** An address as netlink wants it. */
export interface AddressBytes {
  /** AF_INET or AF_INET6. */
  readonly family: number;
  readonly bytes: Buffer;
}

/** @source linux/socket.h AF_INET, AF_INET6 */
const [AF_INET, AF_INET6] = [2, 10];

/** The bytes of a valid address. */
export function addressBytes(address: string): AddressBytes {
  if (isIPv4(address)) return { family: AF_INET, bytes: Buffer.from(address.split(".").map(Number)) };
  const [head = "", tail] = canonicalIpv6(address)
    .replace(/[\d.]+\.\d+$/, twoGroups)
    .split("::");
  const words = (part: string) =>
    part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16));
  const [left, right] = [words(head), words(tail ?? "")];
  const groups = [...left, ...Array.from({ length: 8 - left.length - right.length }, () => 0), ...right];
  return { family: AF_INET6, bytes: Buffer.from(groups.flatMap((group) => [group >> 8, group & 0xff])) };
}

/** An IPv4 address inside an IPv6 one, as the rest of that is written. @source RFC 4291 §2.2 */
function twoGroups(dotted: string): string {
  const hex = Buffer.from(dotted.split(".").map(Number)).toString("hex");
  return `${hex.slice(0, 4)}:${hex.slice(4)}`;
}

/** Six bytes of `02:a9:…`. */
export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(":", ""), "hex");
}

/** `02:a9:…` of six bytes. */
export function macText(bytes: Buffer): string {
  return bytes.toString("hex").replaceAll(/(..)(?=.)/g, "$1:");
}

/** The attribute of a link's name. @source linux/if_link.h */
export const IFLA_IFNAME = 3;
/** `struct ifinfomsg`: family, type, index at 4, flags at 8. @source linux/rtnetlink.h */
export const IFINFOMSG_BYTES = 16;
/** @source linux/if_link.h IFLA_INFO_KIND, IFLA_INFO_DATA, linux/veth.h VETH_INFO_PEER */
const [INFO_KIND, INFO_DATA, VETH_INFO_PEER] = [1, 2, 1];

/** The IFLA_LINKINFO of a veth pair whose other end has that name; the package leaves it to us. */
export function vethInfo(peer: string): Buffer {
  const peerLink = Buffer.concat([Buffer.alloc(IFINFOMSG_BYTES), textAttribute(IFLA_IFNAME, peer)]);
  return Buffer.concat([
    attribute(INFO_KIND, Buffer.from("veth\0")),
    attribute(INFO_DATA, attribute(VETH_INFO_PEER, peerLink)),
  ]);
}

/** The kind in an IFLA_LINKINFO: `veth`, `tun`; empty where it names none. */
export function linkKindIn(linkInfo: Buffer | undefined): string {
  if (linkInfo === undefined || linkInfo.length < 4 || linkInfo.readUInt16LE(2) !== INFO_KIND) return "";
  return linkInfo.toString("utf8", 4, linkInfo.readUInt16LE(0)).replace("\0", "");
}

/** Netlink attribute: length, type, value, padded to four bytes. @source linux/netlink.h struct nlattr */
export function attribute(type: number, value: Buffer): Buffer {
  const padded = Buffer.alloc((4 + value.length + 3) & ~3);
  padded.writeUInt16LE(4 + value.length, 0);
  padded.writeUInt16LE(type, 2);
  value.copy(padded, 4);
  return padded;
}

/** An attribute that holds attributes. @source linux/netlink.h NLA_F_NESTED */
export function nested(type: number, ...attributes: readonly Buffer[]): Buffer {
  return attribute(type | 0x8000, Buffer.concat(attributes));
}

/** An attribute that holds a text, ended by NUL. */
export function textAttribute(type: number, text: string): Buffer {
  return attribute(type, Buffer.from(`${text}\0`));
}

/** An attribute of 32 bits in network order, as nf_tables has its own; rtnetlink's are in the host's. */
export function networkOrder(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return attribute(type, bytes);
}
