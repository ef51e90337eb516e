import type { Datapath } from "./datapath.ts";
import { KernelDatapath } from "./kernel-datapath.ts";
import { NfTablesSocket } from "./nf-tables.ts";
import { NftProcess } from "./nft-process.ts";
import { RtnetlinkSocket } from "./rtnetlink-socket.ts";

/**
 * The datapath of the network namespace that this process is in.
 *
 * @throws {DatapathError} `failed` where no netlink socket can be had.
 */
export function openDatapath(): Datapath {
  return new KernelDatapath({
    nft: new NftProcess(),
    nfTables: new NfTablesSocket(),
    rtnetlink: new RtnetlinkSocket(),
  });
}
